"""The next step's rows, made ready while a step computes.

In: what makes a step ready, a function of its number; the steps. Out: one after the other, each
made by a thread that is never more than one step ahead, and that ends when nobody takes any more.
What a step gets does not depend on when it was made. Knows nothing of models and losses.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from distill_core.data.batches import Batch
from distill_core.data.classes import EncodedText
from distill_core.data.tokenize import Encoded

__all__ = ["Ready", "prepared_ahead"]

T = TypeVar("T")

THREAD = "the-next-step"
"""What the thread is called."""


@dataclass(frozen=True)
class Ready:
    """A step's rows as they were read, and its micro-batches if they are made already."""

    rows: list[int]
    given: Sequence[Encoded | EncodedText]
    make: Callable[..., list[Batch]]
    """Makes the micro-batches, from `rows`, `given`, `device` and how many rows come at once."""
    device: torch.device
    size: int = 0
    batches: list[Batch] = field(default_factory=list)

    def made(self, size: int) -> Ready:
        """With the micro-batches for `size` rows at once, pinned where CUDA will read them."""
        batches = self.make(self.rows, self.given, self.device, size)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):  # a thread begins with the first one
                batches = [batch.pinned() for batch in batches]
        return replace(self, size=size, batches=batches)

    def split(self, size: int) -> list[Batch]:
        """The micro-batches for `size` rows at once, made now unless they have been."""
        if size == self.size:
            return self.batches
        return self.make(self.rows, self.given, self.device, size)


def prepared_ahead(prepare: Callable[[int], T], steps: Iterable[int]) -> Generator[T, None, None]:
    """Yield what `prepare` makes of each step; whoever takes one computes beside the next.

    An error of `prepare` is raised where its step is taken. Close the generator to end the thread:
    it then waits for what is being made, and forgets it.
    """
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=THREAD)
    try:
        waiting: Future[T] | None = None
        for step in steps:
            following = executor.submit(prepare, step)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
