"""The training rows on which a student's parts are chosen.

In: encoded training rows. Out: a seeded handful of them as batches, and all tokens that occur.
Knows nothing of models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distill_core.data.batches import Batch, collate
from distill_core.data.tokenize import Encoded

ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class Calibration:
    """Training rows in the tokens of the model that the student is made from."""

    rows: Sequence[Encoded]
    pad_token_id: int
    device: torch.device | str = "cpu"
    """Where the model is run to measure."""

    def batches(self, count: int, *, seed: int) -> list[Batch]:
        """At most `count` rows, drawn by `seed`, padded on the right, a few at once."""
        chosen = random.Random(seed).sample(range(len(self.rows)), min(count, len(self.rows)))
        chosen.sort(key=lambda row: (len(self.rows[row].input_ids), row))
        return [
            collate(
                [self.rows[row] for row in group],
                pad_token_id=self.pad_token_id,
                rows=group,
            ).to(self.device)
            for group in (
                chosen[start : start + ROWS_AT_ONCE]
                for start in range(0, len(chosen), ROWS_AT_ONCE)
            )
        ]

    def used_tokens(self) -> set[int]:
        """Every token id that occurs in any row."""
        return {token for row in self.rows for token in row.input_ids}
