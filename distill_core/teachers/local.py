"""A teacher in this process's memory.

In: a loaded model. Out: its logits and answers, always in `eval()` and without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_core.generate import generate
from distill_core.supervised import SupervisedLogits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch


class LocalTeacher:
    """A causal language model that is only asked, never trained."""

    provides = frozenset({"dense", "text"})

    def __init__(self, model: PreTrainedModel, *, vocab_size: int, stop_ids: set[int]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.stop_ids = stop_ids
        self._supervised = SupervisedLogits(self.model, vocab_size=vocab_size)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits (N, V) at the supervised positions of `batch`; two calls agree bit for bit."""
        self.model.eval()
        return self._supervised.eval()(batch)

    @torch.no_grad()
    def answers(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        sampling_temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continue each prompt until a stop token, batched; ids without the stop token."""
        self.model.eval()
        return generate(
            self.model,
            prompts,
            stop_ids=self.stop_ids,
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            seed=seed,
        )
