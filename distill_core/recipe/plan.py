"""What a recipe comes down to: its stages with titles, numbers of steps and folders.

In: a recipe and how many rows there are. Out: `PlannedStage`s, baselines included, and who plays
which part in them. Loads nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill_core.recipe import (
    PREVIOUS,
    CrossEntropyLoss,
    DistillStage,
    FineTuneStage,
    Loss,
    OptimSettings,
    PretrainedStudent,
    Recipe,
    Student,
)


@dataclass(frozen=True)
class PlannedStage:
    """One stage as it will be trained."""

    index: int
    kind: str
    title: str
    settings: FineTuneStage | DistillStage
    output: str
    """Folder inside the run where the trained model goes."""
    total_steps: int
    rows: int
    baseline: str = ""
    """Which baseline this is; empty for a stage of the recipe itself."""
    text_of: int | None = None
    """The stage whose teacher writes this baseline's labels."""

    @property
    def source(self) -> str:
        """The model that the student is shaped from: the first teacher, or the model to tune."""
        return self.sources[0]

    @property
    def sources(self) -> list[str]:
        """All teachers, or the model to tune."""
        settings = self.settings
        if isinstance(settings, DistillStage):
            return [one.model for one in settings.teachers]
        return [settings.model]

    @property
    def losses(self) -> list[Loss]:
        """The terms of the stage; fine-tuning has one."""
        if isinstance(self.settings, DistillStage):
            return list(self.settings.losses)
        return [CrossEntropyLoss(weight=1.0)]

    @property
    def learns_from_text(self) -> bool:
        """Whether a term takes the teacher's answers for labels."""
        return any(
            isinstance(loss, CrossEntropyLoss) and not loss.needs_labels and loss.is_active
            for loss in self.losses
        )

    @property
    def keeps_teacher(self) -> bool:
        """Whether what the teacher says of each row is kept, and the stage trained without it."""
        cache = self.settings.teacher_cache if isinstance(self.settings, DistillStage) else None
        return cache is not None and any(one.asks_teacher and one.is_active for one in self.losses)

    @property
    def uses_unlabelled(self) -> bool:
        """Whether rows without labels take part: only a term that asks a teacher can use them."""
        return self.text_of is not None or any(
            not loss.needs_labels and loss.is_active for loss in self.losses
        )

    def facts(self) -> dict[str, object]:
        """For the `run_started` event."""
        return {
            "index": self.index,
            "title": self.title,
            "kind": self.kind,
            "total_steps": self.total_steps,
            "baseline": bool(self.baseline),
        }


LABELS, TEACHER_TEXT = "fine_tuned_on_labels", "fine_tuned_on_teacher_text"
"""Baselines, by the names that recipes and evaluations give them."""

_BASELINE_TITLES = {
    LABELS: "Baseline: the same student on labels alone",
    TEACHER_TEXT: "Baseline: the same student on the teacher's text",
}
_BASELINE_OUTPUTS = {LABELS: "baseline", TEACHER_TEXT: "baseline_teacher_text"}


def plan(recipe: Recipe, *, labelled: int, unlabelled: int) -> list[PlannedStage]:
    """List the stages of a recipe in order, then its baselines."""
    planned: list[PlannedStage] = []
    last = len(recipe.stages) - 1
    for index, settings in enumerate(recipe.stages):
        output = "student" if index == last else f"models/stage_{index}"
        made = PlannedStage(index, settings.kind, "", settings, output, 0, 0)
        planned.append(_counted(made, labelled, unlabelled))
    parts = cast(planned)
    planned = [replace(stage, title=_title(planned, stage, parts)) for stage in planned]
    for name in dict.fromkeys(recipe.evaluation.baselines):
        if name == LABELS or parts.taught_in is not None:  # without a teacher there is no text
            made = _baseline(name, planned, parts)
            planned.append(_counted(made, labelled, unlabelled))
    return planned


def steps_of(optim: OptimSettings, rows: int) -> int:
    """Optimiser steps of a stage: `max_steps`, or the epochs' worth."""
    return optim.max_steps or max(1, math.ceil(optim.epochs * rows / optim.global_batch_size))


def student_origin(stages: list[PlannedStage]) -> tuple[Student, str, int]:
    """Settings, source and stage index from which the final student's first weights come."""
    start = stages[_origin([stage for stage in stages if not stage.baseline])]
    return start.settings.student, start.source, start.index


def _origin(stages: Sequence[PlannedStage]) -> int:
    """Index of the stage in which the network that the last stage leaves was begun."""
    return next((s.index for s in reversed(stages) if not _continues(s)), 0)


def _continues(stage: PlannedStage) -> bool:
    """Whether a stage trains on the very network that the stage before has left."""
    student = stage.settings.student
    return isinstance(student, PretrainedStudent) and (student.model or stage.source) == PREVIOUS


# --- who plays which part ---------------------------------------------------------------------


@dataclass(frozen=True)
class Cast:
    """Who takes part in a run, by the index of a stage; None: nobody."""

    origin: int
    """Where the final student begins."""
    teacher_of: int | None
    """The stage whose teacher the student is compared with: the first of a chain of assistants."""
    taught_in: int | None
    """The last stage in which the student itself is taught."""
    assistants: tuple[int, ...]
    """Stages that leave a student which then teaches."""


def cast(stages: Sequence[PlannedStage]) -> Cast:
    """Follow a recipe's stages back from its student to its first teacher."""
    own = [stage for stage in stages if not stage.baseline]
    origin = _origin(own)
    taught = [stage.index for stage in own if isinstance(stage.settings, DistillStage)]
    taught_in = next((index for index in reversed(taught) if index >= origin), None)
    teacher_of, assistants = taught_in, []
    while teacher_of is not None and own[teacher_of].sources == [PREVIOUS]:
        begun = _origin(own[:teacher_of])
        earlier = [index for index in taught if begun <= index < teacher_of]
        if not earlier:
            break  # the stage before has made the teacher itself, from labels
        assistants.append(teacher_of - 1)
        teacher_of = earlier[-1]
    return Cast(origin, teacher_of, taught_in, tuple(reversed(assistants)))


def _counted(stage: PlannedStage, labelled: int, unlabelled: int) -> PlannedStage:
    """The stage with its rows and steps."""
    rows = labelled + (unlabelled if stage.uses_unlabelled else 0)
    return replace(stage, rows=rows, total_steps=steps_of(stage.settings.optim, rows))


def _baseline(name: str, planned: list[PlannedStage], parts: Cast) -> PlannedStage:
    """The final student's own start and the same total of steps, on other labels."""
    student, source, origin = student_origin(planned)
    stages = [stage for stage in planned[origin:] if not stage.baseline]
    optim = stages[-1].settings.optim.model_copy(
        update={"max_steps": sum(stage.total_steps for stage in stages)}
    )
    settings = FineTuneStage(
        model=source, student=student, optim=optim, adapter=stages[-1].settings.adapter
    )
    return PlannedStage(
        index=len(planned),
        kind=settings.kind,
        title=_BASELINE_TITLES[name],
        settings=settings,
        output=_BASELINE_OUTPUTS[name],
        total_steps=0,
        rows=0,
        baseline=name,
        text_of=parts.taught_in if name == TEACHER_TEXT else None,
    )


def _title(stages: list[PlannedStage], stage: PlannedStage, parts: Cast) -> str:
    follows = stages[stage.index + 1] if stage.index + 1 < len(stages) else None
    teaches_next = (
        follows is not None
        and isinstance(follows.settings, DistillStage)
        and PREVIOUS in follows.sources
        and not _continues(follows)
    )
    if isinstance(stage.settings, DistillStage):
        helps = teaches_next or stage.index < parts.origin
        return "Distil an assistant" if helps else "Distil the student"
    return "Fine-tune the teacher" if teaches_next else "Fine-tune on labels"


def teacher_field(index: int, stage: DistillStage, place: int) -> str:
    """The setting that names a stage's teacher, the `place`th where there are several."""
    own = f"stages.{index}.teacher"
    return own if isinstance(stage.teacher, str) else f"{own}.{place}.model"


def named_models(recipe: Recipe) -> dict[str, str]:
    """Every model that a recipe names, with the first field that names it; not `previous`."""
    named: dict[str, str] = {}
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, DistillStage):
            for place, one in enumerate(stage.teachers):
                named.setdefault(one.model, teacher_field(index, stage, place))
        else:
            named.setdefault(stage.model, f"stages.{index}.model")
        if isinstance(stage.student, PretrainedStudent) and stage.student.model:
            named.setdefault(stage.student.model, f"stages.{index}.student.model")
    named.pop(PREVIOUS, None)
    return named


def model_that_orders_classes(recipe: Recipe) -> str:
    """The model whose head says in which order the classes come: the first teacher, or model."""
    for stage in recipe.stages:
        named = [one.model for one in stage.teachers] if isinstance(stage, DistillStage) else []
        for name in named:
            if name != PREVIOUS:
                return name
    first = recipe.stages[0]
    return first.teachers[0].model if isinstance(first, DistillStage) else first.model
