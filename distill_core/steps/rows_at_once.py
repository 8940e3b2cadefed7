"""How many rows of a step are computed at once: as many as the recipe says, or as memory allows.

In: a step that can be computed in larger or smaller micro-batches. Out: the step's result, and an
event for each time that memory ran out. A step that ran out is done again from the same weights,
optimiser and random numbers with half as many rows at once; the rows of the step, their order and
its gradient stay the same. The lower number is kept in the run's folder, for later steps and
stages, and for whoever resumes. Knows nothing of losses.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from distill_core import files, ranks
from distill_core.checkpoints import random_state, restore_random_state
from distill_core.data.batches import Batch
from distill_core.errors import OutOfMemory, is_out_of_memory
from distill_core.events import Event, event
from distill_core.halving import give_back
from distill_core.recipe import OptimSettings

FILE = "rows_at_once.json"
"""In a run's folder, once memory has run out in it."""

T = TypeVar("T")


class RowsAtOnce:
    """The largest micro-batch of a run; remembered in `file`, if there is one."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        kept = ranks.agree(lambda: files.read_json(file) if file else {})
        self._most: int | None = kept.get("micro_batch_size")

    def of(self, optim: OptimSettings) -> int:
        """Rows at once: what the recipe says, unless memory has run out with so many."""
        asked = min(optim.micro_batch_size, optim.global_batch_size)
        return asked if self._most is None else min(asked, self._most)

    def lower(self, size: int) -> None:
        """Take at most `size` rows at once from now on."""
        self._most = size
        if self._file is not None:
            files.replace_json(self._file, {"micro_batch_size": size})


def until_it_fits(
    compute: Callable[[list[Batch]], T],
    split: Callable[[int], list[Batch]],
    at_once: RowsAtOnce,
    *,
    optim: OptimSettings,
    device: torch.device,
    stage: int,
    step: int,
) -> Generator[Event, None, T]:
    """Compute a step, with fewer rows at once whenever memory runs out; yields what happened.

    Args:
        compute: forward, backward and the optimiser's step over all micro-batches, beginning
            with no gradients.
        split: the step's micro-batches, for so many rows at once.
        at_once: what is remembered.
        optim: the stage's settings.
        device: where memory runs out.
        stage: its index, for events.
        step: counted from 1, for events.

    Raises:
        OutOfMemory: if fewer rows at once are not possible. Where several processes train together
            the others wait for this one's gradients, so that it cannot begin again alone: the lower
            number is kept for the run to be resumed.
    """
    size = at_once.of(optim)
    before = random_state(device)
    batches = split(size)
    while True:
        try:
            return compute(batches)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # out here nothing holds on to the tensors of the try that failed
        give_back(device)
        restore_random_state(before, device)
        failed, tried = size, _rows(batches)
        while size > 1 and _rows(batches) == tried:  # rows may lie apart for their lengths' sake
            size //= 2
            batches = split(size)
        if _rows(batches) == tried:
            raise OutOfMemory(
                f"Memory ran out in step {step} with a single row of {_longest(batches):,} tokens "
                "at once: fewer are not possible.\nLower data.max_seq_len, train a LoRA adapter, "
                "keep what the teacher says in a cache, or take a smaller student.",
                field="data.max_seq_len",
            )
        at_once.lower(size)
        if ranks.count() > 1:
            raise OutOfMemory(
                f"Memory ran out in step {step} with {_counted(failed)} at once, in one of "
                f"{ranks.count()} processes; the others wait for it.\n"
                f"Resume the run: it goes on with {_counted(size)} at once, to the same result."
            )
        yield event(
            "warning",
            stage=stage,
            step=step,
            message=f"Memory ran out in step {step} with {_counted(failed)} at once. The step is "
            f"done again, and the run goes on, with {_counted(size)} at once: slower, to the same "
            "result.",
            micro_batch_size=size,
        )


def _longest(batches: Sequence[Batch]) -> int:
    """Tokens of the longest row."""
    return max(batch.input_ids.shape[1] for batch in batches)


def _rows(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.rows for batch in batches]


def _counted(rows: int) -> str:
    return f"{rows:,} row{'s' if rows != 1 else ''}"
