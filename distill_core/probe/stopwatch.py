"""What a few steps of an arm take: from its events to seconds for a step, a row, an answer.

In: the events of one short pipeline, as they come. Out: `Timing`. Knows no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from distill_core.events import Event
from distill_core.probe.pace import Timing


class Stopwatch:
    """Give it every event when it happens."""

    def __init__(
        self, steps: Sequence[int], *, own: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`steps`: of each stage; `own`: of all stages that train the student."""
        self.held_out = 0
        self.unlabelled = 0
        self._steps = steps
        self._own = own
        self._clock = clock
        self._began = self._before = clock()
        self._step_s: dict[int, list[float]] = {}
        self._row_s: list[float] = []
        self._scoring_s = 0.0
        self._answers_began: float | None = None
        self.answering_s = 0.0
        """Until the teacher has answered, or been asked what it says of each token."""
        self._answers = 0
        self._ended = self._began

    def take(self, happening: Event) -> None:
        """Note how long it took until this happened."""
        now = self._clock()
        took, self._before = now - self._before, now
        self._ended = now
        kind = happening["type"]
        if kind == "run_started":
            self.held_out = int(happening["data"]["held_out"])
            self.unlabelled = int(happening["data"]["unlabelled"])
        elif kind == "step":
            self._step_s.setdefault(happening["stage"], []).append(took)
        elif kind == "evaluation":
            self._scoring_s += took
            self._row_s.append(took / max(1, happening["rows"]))
        elif kind == "progress" and happening["phase"] == "caching teacher":
            if not happening["done"]:
                self._answers_began = now
            elif self._answers_began is not None and happening["done"] == happening["total"]:
                self.answering_s += now - self._answers_began
                self._answers += happening["total"]
                self._answers_began = None

    def timing(self) -> Timing:
        """Sum up; the first step of a stage is slower than the rest, and left out."""
        step_s = 0.0
        training_s = 0.0
        for stage, seconds in self._step_s.items():
            training_s += sum(seconds)
            usual = seconds[1:] or seconds
            step_s += sum(usual) / len(usual) * self._steps[stage] / self._own
        whole_s = self._ended - self._began
        other_s = training_s + self._scoring_s + self.answering_s
        return Timing(
            step_s=max(1e-6, step_s),
            row_s=max(1e-9, min(self._row_s, default=0.0)),
            fixed_s=max(0.0, whole_s - other_s),
            answer_s=self.answering_s / self._answers if self._answers else 0.0,
        )
