"""The student of a stage as it goes into training: built, met with its teacher, watched.

In: a run, a planned stage, who teaches it, perhaps its rows. Out: a `Learner`. What it is may hang
on the rows, or not: then it can be looked at before the rows are there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_core import ranks
from distill_core.data.tokenize import pad_token_id
from distill_core.events import Event, progress
from distill_core.losses.matching import Matching, match
from distill_core.models import model_facts
from distill_core.models.classifiers import tasks_of
from distill_core.recipe import Student
from distill_core.recipe.plan import PlannedStage
from distill_core.stages import reading
from distill_core.students.adapters import with_adapter
from distill_core.students.build import build_student, choose_parts
from distill_core.students.calibration import Calibration
from distill_core.students.parts import Parts
from distill_core.students.trimmed_tokenizer import trimmed_tokenizer
from distill_core.teachers.trimmed import for_student

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.stages.class_watcher import ClassWatcher
    from distill_core.stages.stage import Run
    from distill_core.stages.watcher import Watcher
    from distill_core.teachers.base import Teacher


@dataclass(frozen=True)
class Learner:
    """A student that is ready to be trained."""

    network: torch.nn.Module
    """With its adapter, where it has one."""
    parameters: int
    """Of the student without an adapter."""
    parts: Parts
    tokenizer: PreTrainedTokenizerBase
    taught_by: Teacher | None
    """The teacher as it meets this student."""
    matching: Matching
    watcher: Watcher | ClassWatcher

    @property
    def facts(self) -> dict[str, int]:
        """For the `stage_started` event."""
        weights = self.network.parameters()
        trained = sum(value.numel() for value in weights if value.requires_grad)
        return {"parameters": self.parameters, "trained": trained}


def make_learner(
    this: Run,
    stage: PlannedStage,
    settings: Student,
    *,
    source: Path,
    parts_file: str,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Any],
    teacher: Teacher | None,
    teacher_tokenizer: PreTrainedTokenizerBase,
) -> Generator[Event, None, Learner]:
    """Build the student of a stage; `encoded` may be empty where nothing is chosen on the rows.

    `tokenizer`: the student's before its vocabulary is trimmed. Yields `progress`.

    Raises:
        ModelError: if the student cannot be made of `source`, or not compared with its teacher.
    """
    yield progress("preparing", "building the student")
    seed = this.recipe.seed
    parts = ranks.agree(
        lambda: choose_parts(
            settings,
            source=source,
            seed=seed,
            calibration=Calibration(encoded, pad_token_id(tokenizer), this.device),
            tokenizer=tokenizer,
            stored=this.folder / parts_file,
            labels=this.classes,
        )
    )
    student = build_student(settings, source=source, seed=seed, chosen=parts, labels=this.classes)
    if parts.tokens is not None:
        tokenizer = trimmed_tokenizer(tokenizer, parts.tokens)
    parameters = student.num_parameters()
    matching, taught_by = Matching(), None
    if teacher is not None:
        for_classes = this.classes is not None
        taught_by = for_student(teacher, teacher_tokenizer, tokenizer, classes=for_classes)
        matching = match(
            stage.losses,
            student.config,
            model_facts.config(str(source)),
            kept=parts.layers,
            seed=seed,
            causal=this.classes is None or "causal_lm" in tasks_of(student.config),
        )
    network = with_adapter(student, stage.settings.adapter, seed=seed, device=this.device)
    watcher = reading.watcher_of(
        this.recipe,
        this.classes,
        stage=stage.index,
        network=network.to(this.device),
        teacher=taught_by,
        held_out=this.data.held_out,
        tokenizer=tokenizer,
        teacher_tokenizer=teacher_tokenizer,
    )
    return Learner(network, parameters, parts, tokenizer, taught_by, matching, watcher)
