"""Rules that compare teacher, student and what they read: sizes, tokenizers, templates, licences.

In: a stage with its networks' configurations. Out: problems. Reads tokenizers, no weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError, Problem
from distill_core.estimate.shapes import StageShape, tokenizer_folder
from distill_core.models import model_facts
from distill_core.models.licences import licence_note
from distill_core.plan import named_models
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

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        limit = getattr(config, "max_position_embeddings", None)
        if limit and config is not None and config.model_type in _POSITIONS_AFTER_PADDING:
            limit -= 2
        if config is not None and limit and asked > limit:
            role = "student" if who == "student" else "teacher" if shape.is_distill else "model"
            yield Problem(
                severity="error",
                field="data.max_seq_len",
                message=f"max_seq_len {asked} is more than the {limit} tokens that the {role} of "
                f"stage {shape.index + 1} can read.",
                fix=f"Set it to {limit} or less.",
            )
            return


def tokenizers_differ(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Logits can only be compared where the same id means the same token."""
    pair = _pair(shape)
    if pair is None:
        return
    teacher, student = pair
    if teacher.get_vocab() == student.get_vocab():
        return
    shared = len(teacher.get_vocab().items() & student.get_vocab().items())
    yield Problem(
        severity="error",
        field=f"{shape.field}.student.model",
        message=f"{shape.student_name} and its teacher have different tokenizers: {shared:,} of "
        f"{len(teacher):,} tokens have the same id, so their probabilities cannot be compared.",
        fix="Choose a student of the same family, or a smaller copy of the teacher.",
    )


def templates_differ(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """The student would be shown prompts in its teacher's form."""
    pair = None if recipe.task == "text_classification" else _pair(shape)
    if pair is None or pair[0].get_vocab() != pair[1].get_vocab():
        return
    teacher, student = pair
    if (teacher.chat_template or "") != (student.chat_template or ""):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.student.model",
            message=f"{shape.student_name} has another chat template than its teacher; the "
            "student is trained, and saved, with the teacher's.",
            fix="Nothing to do if you use it from here; elsewhere use the saved template.",
        )


def padded_vocabulary(shape: StageShape, recipe: Recipe) -> Iterator[Problem]:
    """Embedding rows without a token: cut before any softmax, so only worth knowing."""
    tokenizer = _tokenizer(tokenizer_folder(shape.source_name))
    if tokenizer is None or shape.source is None or not shape.is_distill:
        return
    rows, tokens = shape.source.vocab_size, len(tokenizer)
    if rows > tokens and recipe.task == "causal_lm":
        yield Problem(
            severity="info",
            field=shape.source_field,
            message=f"The teacher's vocabulary is padded: {rows:,} rows for {tokens:,} tokens. "
            "Both sides are cut to the tokens before they are compared.",
        )
    elif rows < tokens:
        yield Problem(
            severity="error",
            field=shape.source_field,
            message=f"The teacher's tokenizer has {tokens:,} tokens, but the model only "
            f"{rows:,} rows for them.",
            fix="The folder mixes two models; copy or download it again.",
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
    tokenizers_differ,
    templates_differ,
    padded_vocabulary,
    layers_compared,
    licences,
)


def _pair(shape: StageShape) -> tuple[Any, Any] | None:
    """Tokenizers of teacher and student, where both are here and the student has its own."""
    own = isinstance(shape.stage.student, PretrainedStudent) and shape.stage.student.model
    if not shape.is_distill or not own or shape.source_name == shape.student_name:
        return None
    teacher = _tokenizer(tokenizer_folder(shape.source_name))
    student = _tokenizer(tokenizer_folder(shape.student_name))
    return (teacher, student) if teacher is not None and student is not None else None


def _tokenizer(folder: Path | None) -> PreTrainedTokenizerBase | None:
    if folder is None:
        return None
    try:
        return _loaded(folder, (folder / "config.json").stat().st_mtime_ns)
    except (ModelError, OSError):
        return None  # told when it is loaded


@functools.lru_cache(maxsize=8)
def _loaded(folder: Path, stamp: int) -> PreTrainedTokenizerBase:
    from distill_core.models.weights import load_tokenizer

    return load_tokenizer(folder)


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
