"""Divergences from a teacher of whom only some tokens are known at each position.

In: student logits (N, V), and K of the teacher's tokens at each of the N positions. Out: one value
per position, (N,), fp32; gradients reach the student only. The student is never renormalised over
the known tokens: its logits go through the softmax of the whole vocabulary, and either the rest has
a bucket of its own or the tokens were drawn so that the mean over draws is the whole divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SparseRows:
    """What is known of a teacher's distributions p = softmax(logits / `temperature`).

    `ids` (N, K) tokens, different ones within a position; `log_p` (N, K), fp32: log p of each;
    `shares` (N, K): what each counts for in a mean over p, p itself or how often it was drawn, and
    0 in a place that is empty; `log_tail` (N,): log of the probability of all other tokens
    together, or None where `shares` stand for the whole distribution.
    """

    ids: Tensor
    log_p: Tensor
    shares: Tensor
    log_tail: Tensor | None
    temperature: float
    vocab_size: int

    @property
    def kept_mass(self) -> Tensor:
        """The teacher's probability of its known tokens together, (N,), 0–1."""
        return self.log_p.exp().where(self.shares > 0, 0.0).sum(-1)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """Positions, and ids of the vocabulary that the tokens are from."""
        return len(self.ids), self.vocab_size

    def __getitem__(self, rows: slice) -> SparseRows:
        tail = None if self.log_tail is None else self.log_tail[rows]
        return replace(
            self,
            ids=self.ids[rows],
            log_p=self.log_p[rows],
            shares=self.shares[rows],
            log_tail=tail,
        )

    def in_chunks(self, size: int) -> Iterator[SparseRows]:
        """Some positions at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def moved(self, move: Callable[[Tensor], Tensor]) -> SparseRows:
        """The rows with all tensors somewhere else."""
        return replace(
            self,
            ids=move(self.ids),
            log_p=move(self.log_p),
            shares=move(self.shares),
            log_tail=None if self.log_tail is None else move(self.log_tail),
        )


def forward_kl(
    student_logits: Tensor, teacher: SparseRows, *, temperature: float = 1.0, skew: float = 0.0
) -> Tensor:
    """T² · KL(teacher ‖ mixture) per position, (N,), from `logits[N, V]`; nats.

    T² · Σ over known tokens of share · (log p − log m), m = skew · p + (1 − skew) · q; at skew 0
    that is KL(teacher ‖ student). With a tail its bucket is one more token, with log p of the rest
    and log q of all that is not known: the KL of two coarser distributions, ≥ 0, at most the whole
    one, and least where the student gives every known token and the rest what the teacher does.
    Without one, shares are counts of draws from p by their number: the value, and its gradient, is
    the whole KL's on average over draws (random sampling distillation, arXiv 2503.16870), and a
    single value may be below 0.

    The temperature must be the one at which the teacher's tokens were taken.
    """
    assert temperature == teacher.temperature, "checks refuse another temperature than was kept"
    scaled = student_logits[:, : teacher.vocab_size].float() / temperature
    known, rest = _both_parts(scaled.log_softmax(-1), teacher)
    return temperature**2 * _value(teacher, known, rest, skew)


def with_slope(
    log_q: Tensor, teacher: SparseRows, *, skew: float = 0.0
) -> tuple[Tensor, Callable[[], Tensor]]:
    """As `forward_kl` without its T², from `log_q[n, V]`; and how to work out the slope, (n, V).

    By the student's softened logits: q · (Σ c + c_r), less c at the known tokens and less
    c_r · q / q_r at the others; c = share · (1 − skew) · q / m, and q_r, c_r those of the rest.
    """
    known, rest = _both_parts(log_q, teacher)

    def slope() -> Tensor:
        c = _counting(teacher.shares, teacher.log_p, known, skew)
        all_c = c.sum(-1, keepdim=True)
        if teacher.log_tail is None:
            return (log_q.exp() * all_c).scatter_add_(1, teacher.ids, -c)
        assert rest is not None, "what is not known has a probability too"
        c_rest = _counting(teacher.log_tail.exp(), teacher.log_tail, rest, skew)[:, None]
        # the others' shares of the rest; a known token is none of them
        found = (log_q - rest[:, None]).scatter_(1, teacher.ids, -torch.inf).exp_().mul_(-c_rest)
        found.addcmul_(log_q.exp(), all_c + c_rest)
        return found.scatter_add_(1, teacher.ids, -c)

    return _value(teacher, known, rest, skew), slope


def _both_parts(log_q: Tensor, teacher: SparseRows) -> tuple[Tensor, Tensor | None]:
    """Log q of the known tokens, (n, K), and of all others together, (n,)."""
    known = log_q.gather(1, teacher.ids)
    if teacher.log_tail is None:
        return known, None
    return known, log_q.scatter(1, teacher.ids, -torch.inf).logsumexp(-1)


def _value(teacher: SparseRows, known: Tensor, rest: Tensor | None, skew: float) -> Tensor:
    value = _share_of(teacher.shares, teacher.log_p, known, skew).sum(-1)
    if teacher.log_tail is None or rest is None:
        return value
    return value + _share_of(teacher.log_tail.exp(), teacher.log_tail, rest, skew)


def _share_of(shares: Tensor, log_p: Tensor, log_q: Tensor, skew: float) -> Tensor:
    """Share · (log p − log m); 0 where the share is."""
    counts = shares > 0
    log_p = log_p.where(counts, 0.0)
    return (shares * (log_p - _mixed(log_p, log_q, skew))).where(counts, 0.0)


def _counting(shares: Tensor, log_p: Tensor, log_q: Tensor, skew: float) -> Tensor:
    """Share · (1 − skew) · q / m: minus the slope of a summand by log q."""
    if skew == 0:
        return shares
    log_p = log_p.where(shares > 0, 0.0)
    return shares * (log_q + math.log1p(-skew) - _mixed(log_p, log_q, skew)).exp()


def _mixed(log_p: Tensor, log_q: Tensor, skew: float) -> Tensor:
    if skew == 0:
        return log_q
    return torch.logaddexp(log_p + math.log(skew), log_q + math.log1p(-skew))
