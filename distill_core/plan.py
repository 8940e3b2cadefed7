"""What a recipe comes down to: its stages with titles, numbers of steps and folders.

In: a recipe and how many rows there are. Out: `PlannedStage`s, baselines included. Loads nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    baseline: bool = False

    @property
    def source(self) -> str:
        """The model that the student is shaped from: the teacher, or the model to fine-tune."""
        settings = self.settings
        return settings.teacher if isinstance(settings, DistillStage) else settings.model

    @property
    def losses(self) -> list[Loss]:
        """The terms of the stage; fine-tuning has one."""
        if isinstance(self.settings, DistillStage):
            return list(self.settings.losses)
        return [CrossEntropyLoss(weight=1.0)]

    @property
    def uses_unlabelled(self) -> bool:
        """Whether rows without labels take part: only a term that asks a teacher can use them."""
        return any(not loss.needs_labels and loss.weight > 0 for loss in self.losses)

    def facts(self) -> dict[str, object]:
        """For the `run_started` event."""
        return {
            "index": self.index,
            "title": self.title,
            "kind": self.kind,
            "total_steps": self.total_steps,
            "baseline": self.baseline,
        }


def plan(recipe: Recipe, *, labelled: int, unlabelled: int) -> list[PlannedStage]:
    """List the stages of a recipe in order, then its baselines."""
    planned: list[PlannedStage] = []
    last = len(recipe.stages) - 1
    for index, settings in enumerate(recipe.stages):
        output = "student" if index == last else f"models/stage_{index}"
        stage = _stage(index, settings, output, _title(recipe, index), labelled, unlabelled)
        planned.append(stage)
    for _ in recipe.evaluation.baselines:
        planned.append(_labels_baseline(planned, labelled, unlabelled))
    return planned


def steps_of(optim: OptimSettings, rows: int) -> int:
    """Optimiser steps of a stage: `max_steps`, or the epochs' worth."""
    return optim.max_steps or max(1, math.ceil(optim.epochs * rows / optim.global_batch_size))


def student_origin(stages: list[PlannedStage]) -> tuple[Student, str, int]:
    """Settings, source and stage index from which the final student's first weights come."""
    for stage in reversed([stage for stage in stages if not stage.baseline]):
        student = stage.settings.student
        continues = (
            isinstance(student, PretrainedStudent)
            and student.model in (None, PREVIOUS)
            and stage.source == PREVIOUS
        )
        if not continues:
            return student, stage.source, stage.index
    return stages[0].settings.student, stages[0].source, 0


def _stage(
    index: int,
    settings: FineTuneStage | DistillStage,
    output: str,
    title: str,
    labelled: int,
    unlabelled: int,
    *,
    baseline: bool = False,
) -> PlannedStage:
    stage = PlannedStage(index, settings.kind, title, settings, output, 0, 0, baseline)
    rows = labelled + (unlabelled if stage.uses_unlabelled else 0)
    steps = steps_of(settings.optim, rows)
    return PlannedStage(index, settings.kind, title, settings, output, steps, rows, baseline)


def _labels_baseline(planned: list[PlannedStage], labelled: int, unlabelled: int) -> PlannedStage:
    """The final student's own start, the same total of steps, labels only."""
    student, source, origin = student_origin(planned)
    stages = planned[origin:]
    optim = stages[-1].settings.optim.model_copy(
        update={"max_steps": sum(stage.total_steps for stage in stages)}
    )
    settings = FineTuneStage(
        model=source, student=student, optim=optim, adapter=stages[-1].settings.adapter
    )
    return _stage(
        len(planned),
        settings,
        "baseline",
        "Baseline: the same student on labels alone",
        labelled,
        unlabelled,
        baseline=True,
    )


def _title(recipe: Recipe, index: int) -> str:
    settings = recipe.stages[index]
    if isinstance(settings, DistillStage):
        return "Distil the student"
    makes_teacher = any(
        isinstance(later, DistillStage) and later.teacher == PREVIOUS
        for later in recipe.stages[index + 1 : index + 2]
    )
    return "Fine-tune the teacher" if makes_teacher else "Fine-tune on labels"


def named_models(recipe: Recipe) -> dict[str, str]:
    """Every model that a recipe names, with the first field that names it; not `previous`."""
    named: dict[str, str] = {}
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, DistillStage):
            named.setdefault(stage.teacher, f"stages.{index}.teacher")
        else:
            named.setdefault(stage.model, f"stages.{index}.model")
        if isinstance(stage.student, PretrainedStudent) and stage.student.model:
            named.setdefault(stage.student.model, f"stages.{index}.student.model")
    named.pop(PREVIOUS, None)
    return named
