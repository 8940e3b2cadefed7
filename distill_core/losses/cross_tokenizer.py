"""A divergence for two models that cut the same text into different tokens.

In: both models' logits at their own supervised positions, and the spans of text that both cut at
the same characters. Out: one value per span, (S,), fp32. No masks, no averages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Spans:
    """The S spans of a micro-batch; all tensors (S,), positions counted in the rows of logits.

    A span is a piece of an answer that both tokenizers begin and end at the same characters:
    `student_tokens` rows of the student's logits from `student_first` on, and likewise the
    teacher's. `coincides`: one token on both sides, of the same text in both vocabularies.
    """

    student_first: Tensor
    student_tokens: Tensor
    teacher_first: Tensor
    teacher_tokens: Tensor
    coincides: Tensor
    student_ids: Tensor
    """(V_teacher,): the student's token with which each teacher's token begins; −1: none does."""

    def __len__(self) -> int:
        return len(self.coincides)

    def moved(self, move: Callable[[Tensor], Tensor]) -> Spans:
        """Return the spans with all tensors as `move` returns them, on a device perhaps."""
        return replace(self, **{name: move(getattr(self, name)) for name in self.__slots__})


def cross_tokenizer(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    student_targets: Tensor,
    teacher_targets: Tensor,
    spans: Spans,
    temperature: float = 1.0,
    hybrid: bool = True,
    uld_weight: float = 1.0,
) -> Tensor:
    """T² · divergence per span, (S,), of `student_logits[N, V]` and `teacher_logits[M, W]`; ≥ 0.

    Without `hybrid` every span gets uld_weight · ULD, the Universal Logit Distillation of Boizard
    et al. (arXiv 2402.12030): Σ |p↓ − q↓|, both models' probabilities sorted and the shorter list
    padded with zeros; in [0, 2], a probability. It needs no common vocabulary, and cannot tell
    which token is which.

    With `hybrid` a span that is the same single token on both sides gets KL(teacher ‖ student) over
    the student's vocabulary instead, in nats. The teacher's probability of each of its tokens goes
    to the student's token that its text begins with: both sides are distributions over the same
    ids. (What the student cannot write at all, such as the teacher's own special tokens, is left
    out, and the rest scaled up to 1.) All other spans get uld_weight · ULD, in which the one
    outcome that is known to be the same on both sides, the span itself, is compared with itself and
    the rest is sorted.

    A span of several tokens has the chain rule's outcomes: the whole span, with the product of its
    tokens' probabilities, or, at each of its tokens, any other token in its place, with the product
    of those before times its own probability. They add up to 1, as one token's do. (Multiplying the
    first token's whole distribution by the other tokens' probabilities, as GOLD in trl does, scales
    down alternatives that had no part in them, and no longer adds up.)

    0 for identical models with identical tokenizers, where the KL is `forward_kl`. The factor T²
    keeps the KL's gradient as T grows. In fp32 whatever the logits' dtype; gradients reach the
    student only.
    """
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    log_p = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    parts: list[Tensor] = []
    order: list[Tensor] = []
    if hybrid:
        same = spans.coincides.nonzero()[:, 0]
        order.append(same)
        parts.append(_kl(log_q[spans.student_first[same]], log_p[spans.teacher_first[same]], spans))
    for chosen, length, teacher_length in _by_length(spans, apart=hybrid):
        q, q_span = _outcomes(log_q, student_targets, spans.student_first[chosen], length)
        p, p_span = _outcomes(log_p, teacher_targets, spans.teacher_first[chosen], teacher_length)
        if hybrid:
            distance = (q_span - p_span).abs() + _sorted_distance(q, p)
        else:
            distance = _sorted_distance(_with(q, q_span), _with(p, p_span))
        order.append(chosen)
        parts.append(uld_weight * distance)
    if not parts:
        return log_q.sum(-1)[:0]  # no span, but part of the graph
    return temperature**2 * torch.cat(parts)[torch.cat(order).argsort()]


def _by_length(spans: Spans, *, apart: bool) -> list[tuple[Tensor, int, int]]:
    """Spans that have the same numbers of tokens; those that coincide left out if `apart`."""
    kept = ~spans.coincides if apart else torch.ones_like(spans.coincides)
    shapes = torch.stack([spans.student_tokens, spans.teacher_tokens], 1)
    return [
        ((kept & (shapes == shape).all(1)).nonzero()[:, 0], int(shape[0]), int(shape[1]))
        for shape in shapes[kept].unique(dim=0)
    ]


def _outcomes(log_p: Tensor, targets: Tensor, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Probabilities of all that may happen along G spans: (G, length · V) beside the span, (G,).

    The span's own tokens have probability 0 among the others: going on is no outcome yet.
    """
    places = first[:, None] + torch.arange(length, device=first.device)
    rows, own = log_p[places], targets[places][..., None]
    steps = rows.gather(-1, own)
    before = steps.cumsum(1) - steps
    others = (rows + before).scatter(-1, own, -torch.inf)
    return others.exp().flatten(1), steps.sum(1)[:, 0].exp()


def _with(others: Tensor, span: Tensor) -> Tensor:
    return torch.cat([others, span[:, None]], 1)


def _sorted_distance(q: Tensor, p: Tensor) -> Tensor:
    """Σ |p↓ − q↓| of `q[G, A]` and `p[G, B]`, the shorter ones padded with zeros, (G,)."""
    width = max(q.shape[1], p.shape[1])
    q, p = (
        functional.pad(x.sort(-1, descending=True).values, (0, width - x.shape[1])) for x in (q, p)
    )
    return (p - q).abs().sum(-1)


def _kl(log_q: Tensor, log_p: Tensor, spans: Spans) -> Tensor:
    """KL(teacher ‖ student) over the student's ids, (G,), of `log_q[G, V]` and `log_p[G, W]`."""
    ids = spans.student_ids[: log_p.shape[1]]
    known = (ids >= 0) & (ids < log_q.shape[1])
    p = torch.zeros_like(log_q).index_add(1, ids[known], log_p[:, known].exp())
    p = p / p.sum(-1, keepdim=True)
    return (torch.xlogy(p, p) - p * log_q).sum(-1)
