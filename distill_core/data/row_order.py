"""Which rows each step takes: a pure function of seed and step.

In: how many rows there are, how many a step takes. Out: their numbers. Knows nothing of what is in
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """`order[step]`: the rows of a step. A function of seed and step, so resuming needs no state.

    Every epoch is a permutation of all rows of its own; a batch may cross from one to the next.
    """

    n_rows: int
    global_batch_size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def visited(self) -> list[int]:
        """The different rows that the steps take, in the order of the data."""
        taken = min(self.n_rows, self.steps * self.global_batch_size)
        return sorted(_permutation(self.n_rows, self.seed, 0)[:taken].tolist())

    def __getitem__(self, step: int) -> list[int]:
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        rows: list[int] = []
        place = step * self.global_batch_size
        while len(rows) < self.global_batch_size:
            epoch, start = divmod(place + len(rows), self.n_rows)
            wanted = self.global_batch_size - len(rows)
            rows += _permutation(self.n_rows, self.seed, epoch)[start : start + wanted].tolist()
        return rows


def batch_order(n_rows: int, *, global_batch_size: int, steps: int, seed: int) -> BatchOrder:
    """Return the rows of each step, lazily; memory: two permutations of the rows."""
    assert n_rows > 0, "there are rows to learn from"
    return BatchOrder(n_rows, global_batch_size, steps, seed)


@lru_cache(maxsize=2)
def _permutation(n_rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(n_rows)
