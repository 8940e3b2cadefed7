"""When to stop: one look after each seed, and what a look may say.

In: scores row by row of two arms, seed by seed. Out: `Look`s with intervals that stay honest
however often one looks. Knows no files and no verdicts.

A look is taken after the third seed and after each further one, up to `MOST_SEEDS`. Whoever looks
several times is wrong more often, so 5 % are divided over all looks that are planned (Bonferroni):
1 % at three, five and six seeds, 2 % at four, which most probes reach. The chance that any of the
intervals of a whole probe misses the true difference is then at most 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill_core import intervals
from distill_core.scores import TASK_METRICS, higher_is_better

FIRST_LOOK = 3
"""Seeds before the first look: of two, nobody can tell how much seeds differ."""

MOST_SEEDS = 6

ERRORS = {3: 0.01, 4: 0.02, 5: 0.01, 6: 0.01}
"""What each look may err, by its number of seeds; 5 % together."""


@dataclass(frozen=True)
class Look:
    """The difference after some seeds, first arm minus second; above 0 the first is better."""

    seeds: int
    difference: float
    low: float
    high: float
    confidence: float

    @property
    def separated(self) -> bool:
        """Whether one arm is surely better."""
        return self.low > 0 or self.high < 0

    def surely_same(self, metric: str) -> bool:
        """Whether the difference surely is too small to matter."""
        margin = TASK_METRICS[metric].same_within
        return self.low > -margin and self.high < margin


def look(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, metric: str
) -> Look | None:
    """Compare two arms over all seeds so far, (S, R) each; None where no look is planned."""
    if len(first) not in ERRORS:
        return None
    way = 1 if higher_is_better(metric) else -1
    apart = way * (np.asarray(first, float) - np.asarray(second, float))
    sure = 1 - ERRORS[len(first)]
    low, high = intervals.crossed_mean(apart, confidence=sure)
    return Look(len(first), float(apart.mean()), low, high, sure)


def looks(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], *, metric: str
) -> list[Look]:
    """All looks up to the last seed, in order."""
    taken = (
        look(first[:seeds], second[:seeds], metric=metric) for seeds in range(1, len(first) + 1)
    )
    return [one for one in taken if one is not None]
