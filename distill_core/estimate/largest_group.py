"""The largest micro-batch that a stage will form, from the lengths of a sample of its rows.

In: the optimiser's settings, lengths of rows. Out: rows and tokens of the group that needs most. It
is found by forming the groups of some steps as training does: rows of unlike length do not come
together where they are padded, and `micro_batch_size` rows as long as the longest are seldom met.
Knows no models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from distill_core.estimate.row_facts import Lengths
from distill_core.recipe import OptimSettings

STEPS_DRAWN = 64
ROWS_DRAWN = 16_384
"""Steps are drawn, as far as the stage has so many, until these are used up; one always."""


@dataclass(frozen=True)
class Group:
    """Rows that are computed at once."""

    rows: int
    longest: int
    """Tokens of the longest."""
    tokens: int
    """Of all, with the padding that is computed."""


def largest_group(
    optim: OptimSettings, rows: Lengths, *, steps: int, device: str, packed: bool = False
) -> Group:
    """Form the groups of some steps; each of these has the longest row, which comes in some step.

    Where no row was measured, all of them may be as long as the longest. `packed`: nobody pads.
    """
    from distill_core.data.grouping import computed_tokens, parts_of

    count = optim.global_batch_size
    at_once = min(optim.micro_batch_size, count)
    if not rows.seen:
        return Group(at_once, rows.longest, at_once * rows.longest)
    chance = random.Random(0)
    found = []
    for _ in range(max(1, min(steps, STEPS_DRAWN, ROWS_DRAWN // count))):
        lengths = [rows.longest, *chance.choices(rows.seen, k=count - 1)]
        for part in parts_of(lengths, at_once, device=device, packed=packed):
            tokens = computed_tokens(part, lengths, packed=packed)
            found.append(Group(len(part), lengths[part[0]], tokens))
    return max(found, key=lambda group: group.tokens)
