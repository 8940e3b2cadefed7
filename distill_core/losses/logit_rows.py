"""Rows of logits that need not all be in memory at once.

In: hidden states and the head that reads them, or logits themselves. Out: logits, all (N, V) or a
few rows at a time. Knows nothing of losses; gradients flow through `all` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from distill_core.losses.heads import linear_head

MEASURED_AT_ONCE = 256
"""Rows of logits at once where only their dropped mass is wanted."""


class LogitRows(Protocol):
    """Logits of N positions over V ids."""

    def __len__(self) -> int:
        """N."""
        ...

    def all(self) -> Tensor:
        """Every row: (N, V)."""
        ...

    def in_chunks(self, size: int) -> Iterator[Tensor]:
        """(n, V) at a time, n = `size` but for the last; a chunk may overwrite the one before."""
        ...


@dataclass(frozen=True)
class DenseRows:
    """Logits (N, V) that are there already."""

    logits: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    def all(self) -> Tensor:
        """The logits themselves."""
        return self.logits

    def in_chunks(self, size: int) -> Iterator[Tensor]:
        """Views of them."""
        yield from self.logits.split(size)


@dataclass(frozen=True)
class HeadRows:
    """Hidden states (N, d) and the head that turns them into logits when they are asked for."""

    states: Tensor
    head: nn.Module
    vocab_size: int
    """Rows of the head beyond it stand for no token and are cut off."""

    def __len__(self) -> int:
        return len(self.states)

    def all(self) -> Tensor:
        """The head's logits, differentiable."""
        return self.head(self.states)[:, : self.vocab_size]

    @torch.no_grad()
    def in_chunks(self, size: int) -> Iterator[Tensor]:
        """One chunk of logits in memory; a head of one matrix writes all into the same place."""
        known = linear_head(self.head)
        if known is None:
            for states in self.states.split(size):
                yield self.head(states)[:, : self.vocab_size]
            return
        weight, bias = (
            known.linear.weight[: self.vocab_size],
            bias_of(known.linear, self.vocab_size),
        )
        room = self.states.new_empty(min(size, len(self)), len(weight))
        for states in self.states.split(size):
            yield known.bend.apply_(projected(states, weight, bias, out=room))


class TrimmedRows:
    """Rows over some of the ids, for a student that has no others.

    Logits are gathered before any softmax: a distribution given that one of these ids comes.
    """

    def __init__(self, whole: LogitRows, ids: Tensor) -> None:
        self.whole, self.ids = whole, ids
        self._dropped: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.whole)

    def all(self) -> Tensor:
        """The kept ids of all rows."""
        (kept,) = self._measured([self.whole.all()])
        return kept

    def in_chunks(self, size: int) -> Iterator[Tensor]:
        """The kept ids of some rows."""
        yield from self._measured(self.whole.in_chunks(size))

    @property
    def dropped_mass(self) -> Tensor:
        """Probability (N,) of the ids that are left out, measured while the rows are gone over."""
        if not self._dropped:  # nobody has asked for logits
            for _ in self.in_chunks(MEASURED_AT_ONCE):
                pass
        return torch.cat([*self._dropped, self.ids.new_zeros(0, dtype=torch.float32)])

    def _measured(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        self._dropped = []
        for logits in chunks:
            kept, dropped = without_dropped(logits, self.ids)
            self._dropped.append(dropped)
            yield kept


def without_dropped(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K) of the kept tokens, and the mass (N,) on all others, from `logits[N, V]`.

    The mass is 1 − Σ softmax(logits)[ids], 0–1, in fp32.
    """
    kept = logits.index_select(-1, ids)
    whole = logits.float().logsumexp(-1)
    dropped = -torch.expm1(kept.float().logsumexp(-1) - whole)
    return kept, dropped.clamp(min=0.0)


def bias_of(head: nn.Linear, vocab_size: int) -> Tensor | None:
    """Bias (V,) of a head that has one."""
    return None if head.bias is None else head.bias[:vocab_size]


def projected(states: Tensor, weight: Tensor, bias: Tensor | None, *, out: Tensor) -> Tensor:
    """states[n, d] · weight[V, d]ᵀ + bias[V], (n, V), in the first rows of `out`."""
    room = out[: len(states)]
    if bias is None:
        return torch.mm(states, weight.T, out=room)
    return torch.addmm(bias, states, weight.T, out=room)
