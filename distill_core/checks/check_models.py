"""Rules that compare teacher, student and what they read: sizes, tokenizers, templates, licences.

In: a stage with its networks' configurations. Out: problems. Reads tokenizers, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from distill_core.errors import ModelError, Problem, Severity
from distill_core.estimate.shapes import StageShape
from distill_core.models import model_facts
from distill_core.models.licences import licence_note
from distill_core.pair_doctor import ACROSS_TOKENIZERS, TOKEN_BY_TOKEN, PairReport, examine
from distill_core.recipe import (
    AttentionLoss,
    DistillStage,
    HiddenStatesLoss,
    LayerDropStudent,
    PretrainedStudent,
    Recipe,
    ScratchStudent,
    WidthPruneStudent,
)
from distill_core.recipe.plan import named_models

WIDE_GAP = 10.0
"""Teacher this many times larger: a step in between may help (Mirzadeh 2020)."""


_POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"}
"""Their first two positions belong to padding."""


def larger_than_teacher(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A student is smaller than its teacher, or there is nothing to gain."""
    if not shape.is_distill or shape.source is None or shape.student is None:
        return
    student, teacher = shape.student_parameters, shape.source_parameters
    if student > teacher:
        yield Problem(
            severity="error",
            field=_size_field(shape),
            message=f"The student has {_count(student)} parameters, more than its teacher's "
            f"{_count(teacher)}.",
            fix="Choose fewer layers or a smaller width, or a larger teacher.",
        )
    elif student == teacher:
        yield Problem(
            severity="warning",
            field=_size_field(shape),
            message=f"The student is as large as its teacher ({_count(student)} parameters): it "
            "will be no faster.",
            fix="Choose fewer layers or a smaller width, unless this is meant.",
        )


def wide_gap(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """A far smaller student may not be able to follow."""
    if not shape.is_distill or shape.source is None or shape.student is None:
        return
    ratio = shape.source_parameters / max(1, shape.student_parameters)
    if ratio > WIDE_GAP:
        yield Problem(
            severity="warning",
            field=_size_field(shape),
            message=f"The teacher is {ratio:.0f} times larger than the student; above about "
            f"{WIDE_GAP:.0f} times small students often follow badly (arXiv 1902.03393).",
            fix="Add a stage in between, or a larger student. Sources conflict: MiniLLM "
            "(arXiv 2306.08543) still gains from larger teachers.",
        )


def context_too_short(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Positions that a model has never seen."""
    asked = recipe.data.max_seq_len
    for who, config in (("source", shape.source), ("student", shape.student)):
        limit = readable_tokens(config)
        if limit and asked > limit:
            role = "student" if who == "student" else "teacher" if shape.is_distill else "model"
            yield Problem(
                severity="error",
                field="data.max_seq_len",
                message=f"max_seq_len {asked} is more than the {limit} tokens that the {role} of "
                f"stage {shape.index + 1} can read.",
                fix=f"Set it to {limit} or less.",
            )
            return


def readable_tokens(config: Any) -> int | None:
    """The longest text that a network can read; None where it does not say."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit and config.model_type in _POSITIONS_AFTER_PADDING:
        limit -= 2
    return limit or None


def losses_for_the_pair(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Probabilities are compared id by id only where the same id means the same token."""
    report = examine(shape)
    if report is None or not isinstance(shape.stage, DistillStage):
        return
    for place, loss in enumerate(shape.stage.losses):
        field = f"{shape.field}.losses.{place}"
        if not loss.is_active:
            continue
        if report.tells_classes_apart:
            if loss.name == ACROSS_TOKENIZERS:
                yield Problem(
                    severity="error",
                    field=field,
                    message=f"{loss.name} compares pieces of written text, and these models tell "
                    "classes apart.",
                    fix=f"Use {TOKEN_BY_TOKEN}, which compares their classes.",
                )
        elif report.comparable is False and not loss.across_tokenizers:
            yield Problem(
                severity="error",
                field=field,
                message=f"{loss.name} compares the two models token by token, but "
                f"{_difference(report)}.",
                fix="Use cross_tokenizer in its place, or choose a student of the same family.",
            )
        elif report.comparable and loss.name == ACROSS_TOKENIZERS:
            yield Problem(
                severity="info",
                field=field,
                message="Teacher and student have the same tokenizer, so that all their "
                "probabilities can be compared; cross_tokenizer is made for those that have not.",
                fix=f"{TOKEN_BY_TOKEN} does so directly.",
            )


def attention_across_templates(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Attention is compared over the same keys: both must read the same text."""
    report = examine(shape)
    if report is None or not isinstance(shape.stage, DistillStage) or not report.other_template:
        return
    for place, loss in enumerate(shape.stage.losses):
        if isinstance(loss, AttentionLoss) and loss.is_active and report.comparable:
            yield Problem(
                severity="error",
                field=f"{shape.field}.losses.{place}",
                message="attention compares where both look in the same text, but teacher and "
                "student read each row in chat templates of their own.",
                fix="Leave attention out, or give the student's tokenizer its teacher's template.",
            )


def pair_as_found(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """What is worth knowing about the pair's tokens and templates."""
    report = examine(shape)
    if report is None:
        return
    own = f"{shape.field}.student.model"
    for finding in report.findings:
        wanted = finding.topic == "padded vocabulary" or finding.state in {"warning", "error"}
        other = finding.topic == "chat template" and report.other_template
        if not (wanted or other):
            continue
        severity: Severity = "error" if finding.state == "error" else "info"
        field = shape.source_field if finding.about == "teacher" else own
        told = f"{report.verdict} " if finding.topic == "token → id map" else ""
        # a loss that does not fit is told at the loss; where all do, there is nothing to mend
        about_losses = report.comparable is False and (finding.about, finding.state)
        fix = "" if about_losses == ("pair", "warning") else finding.fix
        yield Problem(severity=severity, field=field, message=told + finding.text, fix=fix)


def slow_tokenizer(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Spans are found by where tokens stand in the text."""
    report = examine(shape)
    if report is None or not isinstance(shape.stage, DistillStage) or report.tells_classes_apart:
        return
    for place, loss in enumerate(shape.stage.losses):
        if loss.name != ACROSS_TOKENIZERS or not loss.is_active:
            continue
        for role, side in (("teacher", report.teacher), ("student", report.student)):
            if side.tokenizer is not None and not side.tokenizer.is_fast:
                yield Problem(
                    severity="error",
                    field=f"{shape.field}.losses.{place}",
                    message=f"The {role}'s tokenizer cannot tell where its tokens stand in a text, "
                    "so they cannot be matched.",
                    fix="Save it as a fast tokenizer (tokenizer.json), or learn from the teacher's "
                    "text.",
                )


def layers_compared(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Which layer learns from which, or why that cannot be."""
    stage = shape.stage
    if not isinstance(stage, DistillStage) or shape.source is None or shape.student is None:
        return
    from distill_core.losses.matching import match
    from distill_core.students.shape import kept_layers

    for place, term in enumerate(stage.losses):
        if not isinstance(term, HiddenStatesLoss | AttentionLoss) or not term.is_active:
            continue
        field = f"{shape.field}.losses.{place}"
        kept = None
        if isinstance(stage.student, LayerDropStudent | WidthPruneStudent):
            kept = kept_layers(shape.source.num_hidden_layers, stage.student)
            if kept is None and term.layers == "all" and not term.layer_map:
                yield Problem(
                    severity="info",
                    field=f"{field}.layer_map",
                    message=f"{term.name}: which layers stay is measured first; each then learns "
                    "from the one it was copied from, the last from the last.",
                )
                continue
        try:
            found = match([term], shape.student, shape.source, kept=kept)
        except ModelError as error:
            message, _, fix = str(error).partition("\n")
            setting = "layer_map" if "layer_map" in message else "relation_heads"
            yield Problem(severity="error", field=f"{field}.{setting}", message=message, fix=fix)
            continue
        bridged = " Learnt projectors bridge the widths; they are not saved with the student."
        yield Problem(
            severity="info",
            field=f"{field}.layer_map",
            message=f"{term.name}: {found.words[term.name]}."
            + (bridged if len(found.projectors) else ""),
        )


def licences(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """What a family's licence asks of students."""
    if shape.index:
        return  # told once, for all models of the recipe
    for name, field in named_models(recipe).items():
        note = _licence(name)
        if note is not None and note.binding:
            yield Problem(
                severity="info",
                field=field,
                message=note.text,
                fix=f"Read it before sharing the student: {note.source}",
            )


RULES: tuple[Callable[[StageShape, Recipe], Iterator[Problem]], ...] = (
    larger_than_teacher,
    wide_gap,
    context_too_short,
    losses_for_the_pair,
    slow_tokenizer,
    attention_across_templates,
    pair_as_found,
    layers_compared,
    licences,
)


def _difference(report: PairReport) -> str:
    match, teacher, student = report.match, report.teacher, report.student
    assert match is not None, "the two have been compared"
    if match.comparable:
        return f"they end an answer with {teacher.turn_end} and {student.turn_end}"
    return (
        f"they have different tokenizers ({match.shared:,} of {teacher.tokens:,} tokens have the "
        "same id)"
    )


def _licence(name: str) -> Any:
    try:
        return licence_note(name, model_facts.facts(name)["license"])
    except ModelError:
        return licence_note(name)


def _size_field(shape: StageShape) -> str:
    """The setting that makes a student too large."""
    student = shape.stage.student
    field = f"{shape.field}.student"
    if isinstance(student, PretrainedStudent):
        return f"{field}.model"
    if isinstance(student, WidthPruneStudent):
        return f"{field}.hidden_size"
    if isinstance(student, ScratchStudent):
        wider = shape.source is not None and student.hidden_size > shape.source.hidden_size
        deeper = shape.source is not None and student.layers > shape.source.num_hidden_layers
        return f"{field}.layers" if deeper and not wider else f"{field}.hidden_size"
    return f"{field}.layers"


def _count(parameters: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g} {unit}"
    return str(parameters)
