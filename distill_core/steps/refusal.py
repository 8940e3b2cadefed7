"""Why a step was refused: which term was not a finite number, and in which rows.

In: the batches of a step, looked at once more. Out: one sentence, the same in every process. Knows
nothing of the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from distill_core import ranks
from distill_core.data.batches import Batch
from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import LOSSES, Objective


def explain(
    objective: Objective,
    seen: Iterable[tuple[Batch, SupervisedRows]],
    *,
    origin: Callable[[int], str],
) -> str:
    """Say what was not finite in `seen`, this process's batches, or in those of another one.

    `origin` tells where a row of the data comes from.
    """
    found = (_not_finite(objective, batch, rows, origin) for batch, rows in seen)
    first = next(filter(None, found), None)
    unknown = "The loss is finite but its gradient is not; the step was not taken."
    return next(filter(None, ranks.gather([first])), unknown)


def _not_finite(
    objective: Objective, batch: Batch, rows: SupervisedRows, origin: Callable[[int], str]
) -> str | None:
    bad = objective.non_finite(rows)
    if bad is None:
        return None
    name, positions = bad
    row_of = batch.lines(LOSSES[name].applies_to).cpu()
    origins = sorted({batch.rows[int(row_of[place])] for place in positions.cpu()})
    shown = ", ".join(origin(row) for row in origins[:3])
    more = f" and {len(origins) - 3} more" if len(origins) > 3 else ""
    return f"{name} is not a finite number in {shown}{more}; the step was not taken."
