"""How long a run will still take, by how fast it has been in this process.

In: events as they come. Out: seconds left, of all steps or of another phase; None until there is
something to go by. Knows nothing of files.
"""

from __future__ import annotations

import time
from collections import deque

from distill_core.events import Event

MARKS = 30
"""Points of a phase that its pace is measured over: what comes later may take longer."""

APART_S = 1.0
"""Points lie so far apart; what is told before is what was there already."""


class Pace:
    """Seconds per step of the stage that is trained now."""

    def __init__(self) -> None:
        self._stage = -1
        self._first = (0, 0.0)

    def seconds_left(self, event: Event, steps_per_stage: list[int]) -> float | None:
        """Forecast from a `step` event; None until two steps of a stage have been seen."""
        now, stage, step = time.monotonic(), event["stage"], event["step"]
        if stage != self._stage:
            self._stage, self._first = stage, (step, now)
        taken = step - self._first[0]
        if taken <= 0:
            return None
        left = sum(steps_per_stage[stage:]) - step
        return max(0.0, left * (now - self._first[1]) / taken)


class PhasePace:
    """Seconds for each of what a phase counts, by its newest `progress`."""

    def __init__(self) -> None:
        self._what: tuple[str, int] = ("", 0)
        self._began = 0.0
        self._marks: deque[tuple[int, float]] = deque(maxlen=MARKS)

    def seconds_left(self, event: Event) -> float | None:
        """Forecast from a `progress` event; None where nothing is counted, and once it is over."""
        now, done, total = time.monotonic(), event["done"], event["total"]
        marks, what = self._marks, (event["phase"], total)
        if what != self._what or not marks or done < marks[-1][0]:
            marks.clear()
            self._what, self._began = what, now
        if now - self._began < APART_S:
            marks.clear()  # work that is stored already is passed over at once
        if not marks or (done > marks[-1][0] and now - marks[-1][1] >= APART_S):
            marks.append((done, now))
        (first, since), (last, at) = marks[0], marks[-1]
        if last == first:
            return None
        left = (total - last) * (at - since) / (last - first) - (now - at)
        return left if left >= 1 else None
