"""Rules about a stage's teacher cache: what it keeps against what the terms ask for.

In: a stage with its networks' configurations, and the recipe. Out: problems. Reads tokenizers, no
weights; whether the disk has room is for `check_machine.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill_core.errors import Problem
from distill_core.estimate.shapes import StageShape
from distill_core.pair_doctor import examine
from distill_core.recipe import DistillStage, Loss, Recipe, SoftTerm, TeacherCache, TopKCache

_WORDS = {
    "hidden": "hidden states before the head",
    "top_k": "likeliest tokens",
    "sampled": "drawn tokens",
}


def unserved_terms(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A term that needs what is not kept."""
    from distill_core.losses.objective import lacking
    from distill_core.teachers.cached import PROVIDES

    cache = _cache(shape)
    for place, loss in _terms(shape) if cache else ():
        missing = lacking(loss, PROVIDES[cache.kind]) if cache else frozenset()
        field = f"{shape.field}.losses.{place}"
        if missing & {"hidden_states", "attention"}:
            words = " and ".join(sorted(missing)).replace("_", " ")
            yield Problem(
                severity="error",
                field=field,
                message=f"{loss.name} looks at the teacher's {words} in its layers, and a teacher "
                "cache keeps none of it.",
                fix=f"Leave teacher_cache empty, or leave {loss.name} out.",
            )
        elif missing and cache:
            yield Problem(
                severity="error",
                field=field,
                message=f"{loss.name} needs the teacher's whole distribution, and a teacher cache "
                f"of kind {cache.kind} keeps some of its tokens.",
                fix="Set the cache's kind to hidden, or use forward_kl.",
            )


def one_temperature(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Some of the tokens are taken at one temperature: what is left out has no other."""
    from distill_core.losses.objective import LOSSES

    cache = _cache(shape)
    if cache is None or cache.kind == "hidden":
        return
    first: float | None = None
    for place, loss in _terms(shape):
        if not isinstance(loss, SoftTerm) or not LOSSES[loss.name].takes_sparse:
            continue
        told = ""
        if not isinstance(loss.temperature, float):
            told = "a temperature that moves"
        elif first is not None and loss.temperature != first:
            told = f"temperatures {first:g} and {loss.temperature:g} in one stage"
        first = loss.temperature if isinstance(loss.temperature, float) else first
        if told:
            yield Problem(
                severity="error",
                field=f"{shape.field}.losses.{place}.temperature",
                message=f"A teacher cache of kind {cache.kind} is made at one temperature and "
                f"cannot serve {told}.",
                fix="Write one number for all terms, or set the cache's kind to hidden.",
            )


def own_answers(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """What the student will write cannot be asked about beforehand."""
    stage = shape.stage
    if _cache(shape) and isinstance(stage, DistillStage) and stage.on_policy_fraction:
        yield Problem(
            severity="error",
            field=f"{shape.field}.teacher_cache",
            message="The teacher must judge what the student writes as it writes it "
            f"(on_policy_fraction {stage.on_policy_fraction:g}), so it cannot be asked beforehand.",
            fix="Leave teacher_cache empty, or set on_policy_fraction to 0.",
        )


def few_classes(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Some of a handful of classes are no saving."""
    cache = _cache(shape)
    if cache and cache.kind != "hidden" and recipe.task == "text_classification":
        yield Problem(
            severity="error",
            field=f"{shape.field}.teacher_cache.kind",
            message=f"{cache.kind} keeps some of a large vocabulary, and these models tell a few "
            "classes apart.",
            fix="Use hidden, which keeps the logits of all classes: a few bytes a text.",
        )


def tokens_of_the_vocabulary(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """More tokens than there are, or some that the student lacks."""
    cache = _cache(shape)
    if cache is None or cache.kind == "hidden" or recipe.task == "text_classification":
        return
    trims = getattr(shape.stage.student, "vocab_trim", None) is not None
    if trims or (shape.student_trimmed and not shape.source_trimmed):
        yield Problem(
            severity="error",
            field=f"{shape.field}.teacher_cache.kind",
            message="vocab_trim leaves the student some of the tokens, and a cache of kind "
            f"{cache.kind} keeps some of them: not the same ones.",
            fix="Use hidden, which is cut to the tokens that the student keeps.",
        )
        return
    report = examine(shape)
    theirs, ours = (report.teacher.tokens, report.student.tokens) if report else (None, None)
    if report and report.match and report.match.kind == "extended" and (ours or 0) < (theirs or 0):
        yield Problem(
            severity="error",
            field=f"{shape.field}.teacher_cache.kind",
            message=f"The teacher has {theirs:,} tokens and the student {ours:,}: {cache.kind} "
            "may keep tokens that the student lacks.",
            fix="Use hidden, which is cut to the tokens that both have.",
        )
    if isinstance(cache, TopKCache) and theirs is not None and cache.k >= theirs:
        yield Problem(
            severity="warning",
            field=f"{shape.field}.teacher_cache.k",
            message=f"k = {cache.k:,} is all of the teacher's {theirs:,} tokens.",
            fix="Use hidden, which keeps the same in fewer bytes, or a smaller k.",
        )


def never_asked(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A cache of answers to no question."""
    cache = _cache(shape)
    terms = [loss for _, loss in _terms(shape)]
    if cache and terms and not any(loss.asks_teacher for loss in terms):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.teacher_cache",
            message=f"No term compares with the teacher, so its {_WORDS[cache.kind]} are not kept.",
            fix="Add forward_kl, or leave teacher_cache empty.",
        )


RULES: tuple[Callable[[StageShape, Recipe], Iterator[Problem]], ...] = (
    unserved_terms,
    one_temperature,
    own_answers,
    few_classes,
    tokens_of_the_vocabulary,
    never_asked,
)


def _cache(shape: StageShape) -> TeacherCache | None:
    return shape.stage.teacher_cache if isinstance(shape.stage, DistillStage) else None


def _terms(shape: StageShape) -> list[tuple[int, Loss]]:
    """The terms that have a weight, with their places."""
    if not isinstance(shape.stage, DistillStage):
        return []
    return [(place, one) for place, one in enumerate(shape.stage.losses) if one.is_active]
