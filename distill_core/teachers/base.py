"""What a teacher is to the training loop.

In: a `Batch`. Out: the teacher's logits and features at its positions, or answers in text. Each
teacher says what it provides; each loss what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from distill_core.data.batches import Batch
    from distill_core.forward.network import View, Wanted
    from distill_core.generate import Continuation, Stream
    from distill_core.losses.logit_rows import LogitRows
    from distill_core.losses.sparse import SparseRows


class Teacher(Protocol):
    """A teacher that can be asked."""

    @property
    def provides(self) -> frozenset[str]:
        """Of `dense` (all logits), `sparse` (some), `hidden_states`, `attention`, `text`."""
        ...

    def look_into(self, wanted: Wanted) -> None:
        """From now on show these layers too."""
        ...

    def view(self, batch: Batch) -> View:
        """Rows of logits, or what is known of them, and features of `batch`; no gradients."""
        ...

    def known(self, batch: Batch) -> Tensor | SparseRows | None:
        """What is known of `batch` without asking, before it is on a device; None: nothing is."""
        ...

    def longest_packed(self) -> int:
        """Tokens of the longest row that it reads without padding; 0: it pads all."""
        ...

    @property
    def device(self) -> torch.device:
        """Where batches must be to be asked about."""
        ...

    def rows(self, batch: Batch) -> LogitRows:
        """Logits at the supervised positions of a held-out `batch`, made as they are asked for."""
        ...

    def logits(self, batch: Batch) -> Tensor:
        """The same at once, (N, V), without gradients."""
        ...

    def answers(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        sampling_temperature: float = 0.0,
        seed: int = 0,
        streams: Sequence[Stream] | None = None,
    ) -> list[Continuation]:
        """The teacher's own continuation of each prompt, as token ids."""
        ...
