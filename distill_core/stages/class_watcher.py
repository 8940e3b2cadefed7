"""What is looked at while a classifier is trained: held-out scores, and fixed texts told apart.

In: the network in training, perhaps its teacher, held-out texts. Out: `evaluation` and `sample`
events, as `watcher.py` gives for models that write. Changes nothing of the training.
"""

from __future__ import annotations

from collections.abc import Generator

import torch

from distill_core.events import Event, event, progress
from distill_core.scoring.classes import ClassScores, HeldOutTexts, score_classes, score_teacher
from distill_core.stages.watcher import UNTRAINED
from distill_core.teachers.base import Teacher
from distill_core.teachers.cache_pass import Questions
from distill_core.teachers.trimmed import whole


class ClassWatcher:
    """Scores the same held-out texts, and shows the first of them with both classes, each time."""

    def __init__(
        self,
        stage: int,
        network: torch.nn.Module,
        teacher: Teacher | None,
        held_out: HeldOutTexts,
        *,
        samples: int,
        teacher_held_out: HeldOutTexts | None = None,
    ) -> None:
        """`teacher_held_out`: the same texts in the teacher's tokens, where it has others."""
        self.stage = stage
        self.network = network
        self.teacher = teacher
        self.held_out = held_out
        self.teacher_held_out = teacher_held_out or held_out
        self.shown = held_out.rows[:samples]
        self.last: dict[str, float] = {}
        self._theirs: ClassScores | None = None

    def asks(self) -> Questions:
        """What the teacher is asked; a classifier answers no prompts."""
        return Questions(compared=self.held_out.encoded, own=self.teacher_held_out.encoded)

    def look(self, step: int) -> Generator[Event, None, None]:
        """Yield one `evaluation` event, then one `sample` event for each fixed text.

        Before the first step `progress` comes before them.
        """
        if not self.held_out.rows:
            return
        if step == 0:
            yield progress("evaluating", UNTRAINED)
        ours = score_classes(self.network, self.held_out, teacher=self.teacher)
        metrics = ours.as_metrics()
        if self.teacher is not None:
            if self._theirs is None:  # the same every time: asked once a stage
                self._theirs = score_teacher(whole(self.teacher), self.teacher_held_out)
            metrics["held_out_teacher_accuracy"] = float(self._theirs.correct.mean())
        self.last = {name: float(f"{value:.9g}") for name, value in metrics.items()}
        yield event(
            "evaluation",
            stage=self.stage,
            step=step,
            metrics=self.last,
            rows=len(self.held_out.rows),
            final=False,
        )
        for place, row in enumerate(self.shown):
            teacher, teacher_probability = self._said(self._theirs, place)
            student, student_probability = self._said(ours, place)
            yield event(
                "sample",
                stage=self.stage,
                step=step,
                prompt=row.prompt_text,
                teacher=teacher,
                teacher_probability=teacher_probability,
                student=student,
                student_probability=student_probability,
                reference=row.response,
                match=student == row.response,
            )

    def _said(self, scores: ClassScores | None, place: int) -> tuple[str | None, float | None]:
        """The likeliest class of a row, and its probability."""
        if scores is None:
            return None, None
        chosen = int(scores.chosen[place])
        probability = float(scores.probabilities[place, chosen])
        return self.held_out.classes[chosen], round(probability, 6)
