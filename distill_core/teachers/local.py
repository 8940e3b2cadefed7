"""A teacher in this process's memory.

In: a loaded model. Out: its logits and answers, always in `eval()` and without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_core.generate import Continuation, Stream, continuations
from distill_core.network import Network, View, Wanted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch


class LocalTeacher:
    """A causal language model that is only asked, never trained."""

    provides = frozenset({"dense", "hidden_states", "attention", "text"})

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        vocab_size: int,
        stop_ids: set[int],
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.stop_ids = stop_ids
        self.vocab_size = vocab_size
        self._network = Network(self.model, vocab_size=vocab_size)

    def look_into(self, wanted: Wanted) -> None:
        """From now on show these layers too; raises `ModelError` if they cannot be seen."""
        self._network = Network(self.model, vocab_size=self.vocab_size, wanted=wanted)

    @torch.no_grad()
    def view(self, batch: Batch) -> View:
        """Logits (N, V) and wanted features of `batch`; two calls agree bit for bit.

        Where the batch has a teacher's side, that is what is read.
        """
        self.model.eval()
        view: View = self._network.eval()(batch.for_teacher)
        return view

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits (N, V) at the supervised positions of `batch`; two calls agree bit for bit."""
        self.model.eval()
        return self._network.supervised.eval()(batch.for_teacher)

    @torch.no_grad()
    def answers(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        sampling_temperature: float = 0.0,
        seed: int = 0,
        streams: Sequence[Stream] | None = None,
    ) -> list[Continuation]:
        """Continue each prompt until a stop token, batched (`generate.continuations`)."""
        self.model.eval()
        return continuations(
            self.model,
            prompts,
            stop_ids=self.stop_ids,
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            seed=seed,
            streams=streams,
            vocab_size=self.vocab_size,
        )
