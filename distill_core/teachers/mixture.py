"""Several teachers as one: a weighted mean of their probabilities.

In: models of one vocabulary, and weights. Out: a network that reads, answers and is scored like a
single causal language model. Its logits are the logarithms of the mixed probabilities, so that a
loss's temperature softens the mixture itself, as it would a single teacher's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.losses.logit_rows import LogitRows

PROVIDES = {
    False: frozenset({"dense", "hidden_states", "attention", "text"}),
    True: frozenset({"dense", "text"}),
}
"""What a teacher in memory can be asked for, by whether it is a mixture (`LossTerm.needs`)."""


def mixed(logits: Iterable[Tensor], weights: Sequence[float]) -> Tensor:
    """Log Σ_k w_k · softmax(z_k), (…, V), from each teacher's `logits[…, V]`; in fp32.

    The mixture of probabilities, not of logits: where one teacher is sure and another does not
    know, the sure one's token keeps its share of the mass, whereas the mean of logits (a product
    of the distributions) gives a veto to each. Weights sum to 1; the result is normalised: its
    softmax is the mixture. One teacher's table at a time is in memory.
    """
    total: Tensor | None = None
    for one, weight in zip(logits, weights, strict=True):
        share = one.float().log_softmax(-1) + math.log(weight)
        total = share if total is None else torch.logaddexp(total, share)
    assert total is not None, "a mixture has members"
    return total


@dataclass(frozen=True)
class MixedRows:
    """Log Σ_k w_k · softmax(z_k) of the members' rows z_k, as `mixed` has it."""

    members: Sequence[LogitRows]
    weights: Sequence[float]

    def __len__(self) -> int:
        return len(self.members[0])

    def all(self) -> Tensor:
        """The mixture of all rows; one member's table at a time is in memory."""
        return mixed((member.all() for member in self.members), self.weights)

    def in_chunks(self, size: int) -> Iterator[Tensor]:
        """The mixture of some rows, of every member the same ones."""
        for chunks in zip(*(member.in_chunks(size) for member in self.members), strict=True):
            yield mixed(chunks, self.weights)


class Mixture(nn.Module):
    """Teachers that answer together, with the interface of a causal language model.

    Args:
        members: The models, in eval mode.
        weights: Of each member; they sum to 1.
        vocab_size: Number of ids that the shared tokenizer has; rows beyond it are cut off before
            any softmax, since the members may be padded differently.
    """

    def __init__(
        self, members: Sequence[nn.Module], *, weights: Sequence[float], vocab_size: int
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = list(weights)
        self.vocab_size = vocab_size

    @property
    def config(self) -> Any:
        """Of the first member."""
        return self.members[0].config

    def forward(
        self, *, past_key_values: Sequence[Any] | None = None, **inputs: Any
    ) -> MixtureOutput:
        """Mixed log-probabilities (B, T, V) as logits, and each member's own cache.

        No cache at all where a member keeps none: it will have to read everything again.
        """
        caches = past_key_values or [None] * len(self.members)
        outputs = [
            member(past_key_values=cache, **inputs)
            for member, cache in zip(self.members, caches, strict=True)
        ]
        logits = mixed((one.logits[..., : self.vocab_size] for one in outputs), self.weights)
        kept = [getattr(one, "past_key_values", None) for one in outputs]
        return MixtureOutput(logits, None if None in kept else kept)

    def num_parameters(self) -> int:
        """Weights of all members together."""
        return sum(member.num_parameters() for member in self.members)  # type: ignore[operator]


class MixtureOutput:
    """What `Mixture` returns, under the names of a causal language model's output."""

    def __init__(self, logits: Tensor, past_key_values: list[Any] | None) -> None:
        self.logits = logits
        self.past_key_values = past_key_values
