"""A teacher in this process's memory.

In: a loaded model. Out: its logits and answers, always in `eval()` and without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_core.errors import ModelError
from distill_core.forward.network import Network, View, Wanted
from distill_core.generate import Continuation, Stream, continuations
from distill_core.teachers.mixture import PROVIDES, Mixture

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch
    from distill_core.losses.logit_rows import LogitRows


class LocalTeacher:
    """A causal language model or a classifier that is only asked, never trained."""

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
        self.provides = PROVIDES[isinstance(model, Mixture)]
        self._network = Network(self.model, vocab_size=vocab_size)

    def look_into(self, wanted: Wanted) -> None:
        """From now on show these layers too; raises `ModelError` if they cannot be seen."""
        if wanted and "hidden_states" not in self.provides:
            raise ModelError(
                "Several teachers have no common inside: a mixture shows no hidden states and no "
                "attention.\nName one teacher, or leave out the terms that look inside."
            )
        self._network = Network(self.model, vocab_size=self.vocab_size, wanted=wanted)

    def known(self, batch: Batch) -> None:
        """Nothing: it is asked."""

    @torch.no_grad()
    def view(self, batch: Batch) -> View:
        """Rows of logits and wanted features of `batch`; two calls agree bit for bit.

        Where the batch has a teacher's side, that is what is read. The head works when its rows
        are asked for.
        """
        self.model.eval()
        with self._own_format():
            return self._network.eval().look(batch.for_teacher)

    @torch.no_grad()
    def longest_packed(self) -> int:
        """Tokens of the longest row that it reads without padding; 0: it pads all."""
        with self._own_format():
            return self._network.longest_packed()

    @property
    def bytes(self) -> int:
        """Bytes of its weights in memory."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def rows(self, batch: Batch) -> LogitRows:
        """Logits at the supervised positions of `batch`; the head makes them as they are asked."""
        self.model.eval()
        read, network = batch.for_teacher, self._network.supervised.eval()
        with self._own_format():
            return network.rows(network.outputs(read), read)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits (N, V) at the supervised positions of `batch`; two calls agree bit for bit."""
        self.model.eval()
        with self._own_format():
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
        with self._own_format():
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

    def _own_format(self) -> torch.autocast:
        """Compute in the format of the teacher's weights, whatever the student's autocast is."""
        return torch.autocast(self.device.type, enabled=False)
