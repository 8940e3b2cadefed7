"""Work in groups of rows, in smaller groups where memory runs out.

In: groups of rows, and what is computed of a group. Out: what was computed, in the order of the
rows. A group that does not fit is cut in halves, and no later one is larger than these: slower, to
the same result where a row's does not depend on its neighbours. Steps of training, which have
gradients and random numbers to begin again with, are `rows_at_once`'s. Knows nothing of models.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch

from distill_core.errors import OutOfMemory, is_out_of_memory

__all__ = ["Room", "give_back", "in_halves"]

R = TypeVar("R")


@dataclass
class Room:
    """What memory has room for, where the same work comes again and again."""

    tokens: int | None = None
    """Of a group, padding included; None: memory has not run out yet."""


def in_halves(
    groups: Iterable[Sequence[int]],
    compute: Callable[[list[int]], R],
    *,
    lengths: Sequence[int],
    device: torch.device,
    doing: str,
    ran_out: Callable[[int], None] = lambda rows: None,
    room: Room | None = None,
) -> Iterator[tuple[list[int], R]]:
    """Yield each group, or the parts that it had to be cut into, with what `compute` made of it.

    Args:
        groups: Places of rows that are to be computed together.
        compute: Makes something of the rows at some places; after a try that failed it is asked
            again about each half.
        lengths: Tokens of the row at each place. Later groups have no more of them, padding
            included, than the halves of the group that did not fit.
        device: Where memory runs out.
        doing: What a message calls it, such as "scoring held-out rows".
        ran_out: Is told how many rows did not fit together; nobody is, unless it is given.
        room: What is known of memory from earlier calls; lowered here. None: nothing is.

    Raises:
        OutOfMemory: if a single row does not fit.
    """
    room = room or Room()
    for group in groups:
        waiting = [list(group)]
        while waiting:
            part = waiting.pop()
            fits = room.tokens is None or _padded(part, lengths) <= room.tokens
            if fits or len(part) == 1:
                try:
                    found = compute(part)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                else:
                    yield part, found
                    del found  # it would lie beside what the next part computes
                    continue
                # out here nothing holds on to the tensors of the try that failed
                give_back(device)
                if len(part) == 1:
                    raise OutOfMemory(
                        f"Memory ran out in {doing}, with a single row of "
                        f"{lengths[part[0]]:,} tokens: fewer are not possible.\nLower "
                        "data.max_seq_len, take a smaller model, or close what else needs memory.",
                        field="data.max_seq_len",
                    )
                ran_out(len(part))
                room.tokens = max(_padded(half, lengths) for half in _halves(part))
            waiting += reversed(_halves(part))


def give_back(device: torch.device) -> None:
    """Return what is held no longer: what refers to itself, and what the allocator keeps."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        with suppress(AttributeError):  # glibc keeps pages, other C libraries do not
            ctypes.CDLL(None).malloc_trim(0)


def _halves(part: list[int]) -> list[list[int]]:
    middle = (len(part) + 1) // 2
    return [part[:middle], part[middle:]]


def _padded(part: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens, padding included."""
    return len(part) * max(lengths[place] for place in part)
