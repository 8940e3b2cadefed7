"""The networks of each stage in numbers, before any of them is loaded.

In: a recipe. Out: for each stage the configuration of its teacher (or of the model that is trained)
and of its student; where a name or size is wrong, a problem in its place. `previous` is followed
from stage to stage.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import models
from distill_core.errors import DataError, ModelError, Problem
from distill_core.estimate.kept_tokens import kept_token_count
from distill_core.estimate.row_facts import data_facts
from distill_core.estimate.student_size import student_shape
from distill_core.models import Labels, model_facts
from distill_core.models.classifiers import tasks_of, with_labels
from distill_core.recipe import (
    PREVIOUS,
    DistillStage,
    FineTuneStage,
    LayerDropStudent,
    PretrainedStudent,
    Recipe,
    ScratchStudent,
    WidthPruneStudent,
    plan,
)
from distill_core.recipe.plan import teacher_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class TeacherShape:
    """One of a stage's teachers; `config` is None where it could not be found."""

    field: str
    name: str
    """The name that its tokenizer comes from; "" when unknown."""
    config: PretrainedConfig | None
    trimmed: bool = False
    """Whether an earlier stage has trimmed its vocabulary."""


@dataclass(frozen=True)
class StageShape:
    """One stage. What could not be found is None, and `problems` says why."""

    index: int
    stage: FineTuneStage | DistillStage
    source: PretrainedConfig | None
    """Of the first teacher, or of the model that a fine-tuning starts from."""
    student: PretrainedConfig | None
    source_name: str
    """The name that the source's tokenizer comes from; "" when unknown."""
    student_name: str
    problems: tuple[Problem, ...] = ()
    source_trimmed: bool = False
    """Whether an earlier stage has trimmed its vocabulary: its tokenizer is not yet there."""
    student_trimmed: bool = False
    teachers: tuple[TeacherShape, ...] = ()
    """All of them, in the recipe's order; none where a model is fine-tuned."""

    @property
    def field(self) -> str:
        """The stage's path in the recipe, such as `stages.0`."""
        return f"stages.{self.index}"

    @property
    def source_field(self) -> str:
        """The path of the setting that names the source."""
        return self.teachers[0].field if self.teachers else f"{self.field}.model"

    @property
    def is_distill(self) -> bool:
        """Whether a teacher is asked."""
        return isinstance(self.stage, DistillStage)

    @property
    def source_parameters(self) -> int:
        """Weights of the source; 0 when unknown."""
        return model_facts.parameters(self.source) if self.source is not None else 0

    @property
    def teacher_parameters(self) -> int:
        """Weights of the largest teacher; 0 when unknown."""
        configs = [one.config for one in self.teachers if one.config is not None]
        return max((model_facts.parameters(config) for config in configs), default=0)

    @property
    def student_parameters(self) -> int:
        """Weights of the student; 0 when unknown."""
        return model_facts.parameters(self.student) if self.student is not None else 0


def stage_shapes(recipe: Recipe) -> list[StageShape]:
    """Follow a recipe through its stages; raises nothing."""
    shapes: list[StageShape] = []
    labels = classes(recipe)
    for index, stage in enumerate(recipe.stages):
        shapes.append(_shape(index, stage, shapes[-1] if shapes else None, recipe, labels))
    return shapes


def tokenizer_folder(name: str) -> Path | None:
    """The folder of a model's tokenizer, if it is on this disk."""
    try:
        return models.local_folder(name) if name else None
    except ModelError:
        return None


def _shape(
    index: int,
    stage: FineTuneStage | DistillStage,
    before: StageShape | None,
    recipe: Recipe,
    labels: Labels | None,
) -> StageShape:
    problems: list[Problem] = []
    teachers: list[TeacherShape] = []
    if isinstance(stage, DistillStage):
        for number, one in enumerate(stage.teachers):
            field = teacher_field(index, stage, number)
            config, known_as = _named(problems, one.model, field, before, labels)
            teachers.append(TeacherShape(field, known_as, config, _trimmed(one.model, before)))
        name, source, source_name = stage.teachers[0].model, teachers[0].config, teachers[0].name
    else:
        name, field = stage.model, f"stages.{index}.model"
        source, source_name = _named(problems, name, field, before, labels)
    settings = stage.student
    own = settings.model if isinstance(settings, PretrainedStudent) else None
    student, student_name, made_by = source, source_name, name
    if own:
        own_field = f"stages.{index}.student.model"
        student, student_name = _named(problems, own, own_field, before, labels)
        made_by = own
    vocabulary = None
    whole = f"stages.{index}.student"
    trim = settings.vocab_trim
    if trim is not None and student is not None:
        place = f"{whole}.vocab_trim"
        count = functools.partial(
            kept_token_count, recipe.data, student_name, trim, task=recipe.task, field=place
        )
        vocabulary = _try(problems, count, place)
    field = _student_field(stage, index)
    if student is not None and not (own and vocabulary is None):
        shape = functools.partial(
            student_shape, student, settings, vocabulary=vocabulary, field=whole
        )
        student = _try(problems, shape, field)
    countable = student is None or _try(
        problems, lambda: model_facts.parameters(student, field=field), field
    )
    return StageShape(
        index=index,
        stage=stage,
        source=source,
        student=student if countable else None,
        source_name=source_name,
        student_name=student_name,
        source_trimmed=_trimmed(name, before),
        student_trimmed=trim is not None or _trimmed(made_by, before),
        problems=tuple(problems),
        teachers=tuple(teachers),
    )


def _named(
    problems: list[Problem], name: str, field: str, before: StageShape | None, labels: Labels | None
) -> tuple[Any, str]:
    """Configuration of a named model or of the stage before, and where its tokenizer is from."""
    if name != PREVIOUS:
        return _try(problems, lambda: _suited(name, field, labels), field), name
    if before is not None:
        return before.student, before.student_name
    problems.append(
        Problem(
            severity="error",
            field=field,
            message="`previous` means the stage before, and this is the first stage.",
            fix="Name a model: a built-in name, a hub id or a folder.",
        )
    )
    return None, ""


def _trimmed(name: str, before: StageShape | None) -> bool:
    """Whether a stage before has trimmed what a stage calls `name`."""
    return name == PREVIOUS and before is not None and before.student_trimmed


def classes(recipe: Recipe) -> Labels | None:
    """The classes that the recipe's networks tell apart, in order; None where they write text.

    Two stand in where they cannot be found out yet: `checks` says why.
    """
    if recipe.task != "text_classification":
        return None
    from distill_core.data.classes import settle_classes

    data, head = data_facts(recipe.data, recipe.task), head_of_classes(recipe)
    try:
        return settle_classes(recipe.data, data.classes, data.held_out_classes, head)
    except DataError:
        return ("LABEL_0", "LABEL_1")


def head_of_classes(recipe: Recipe) -> PretrainedConfig | None:
    """The configuration of the model that orders the classes; None where it cannot be read."""
    name = plan.model_that_orders_classes(recipe)
    try:
        return None if name == PREVIOUS else model_facts.config(name)
    except ModelError:
        return None  # told at its own field


def _suited(name: str, field: str, labels: Labels | None) -> PretrainedConfig:
    """A named model's configuration; raises `ModelError` if it cannot do the recipe's task."""
    config = model_facts.config(name, field=field)
    able = tasks_of(config)
    if labels is None and "causal_lm" not in able:
        raise ModelError(
            f"{name} is an encoder ({config.model_type}): it reads whole texts and writes none.\n"
            "Choose a causal language model such as Llama, Qwen, Mistral or GPT-2, or set task to "
            "text_classification.",
            field=field,
        )
    if labels is not None and "text_classification" not in able:
        raise ModelError(
            f"{name} ({config.model_type}) has no form that tells classes apart.\n"
            "Choose an encoder such as BERT, or a model such as Llama, Qwen or GPT-2.",
            field=field,
        )
    return config if labels is None else with_labels(config, labels)


def _try(problems: list[Problem], look: Any, field: str) -> Any:
    """What `look` finds, or None and a problem."""
    try:
        return look()
    except ModelError as error:
        message, _, fix = str(error).partition("\n")
        problems.append(
            Problem(severity="error", field=error.field or field, message=message, fix=fix)
        )
        return None


def _student_field(stage: FineTuneStage | DistillStage, index: int) -> str:
    """Where a student's wrong size is shown."""
    student = stage.student
    field = f"stages.{index}.student"
    if isinstance(student, LayerDropStudent):
        return f"{field}.{'layers' if student.keep_layers is None else 'keep_layers'}"
    if isinstance(student, WidthPruneStudent):
        return f"{field}.hidden_size"
    if isinstance(student, ScratchStudent):
        return f"{field}.attention_heads" if student.attention_heads else f"{field}.hidden_size"
    return f"{field}.model"
