"""Every loss term with a reference of its own, for tests that try them all.

In: settings of a term, logits of one position. Out: the term's value there, differentiable, written
with plain operations from the formula of its paper; the product lends nothing but the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill_core.recipe import (
    AttentionLoss,
    CrossEntropyLoss,
    CrossTokenizerLoss,
    ForwardKLLoss,
    HiddenStatesLoss,
    JSDLoss,
    ReverseKLLoss,
    SkewedForwardKLLoss,
    SkewedReverseKLLoss,
    TotalVariationLoss,
)

TERMS: dict[str, Any] = {
    "forward_kl": ForwardKLLoss(weight=1.0),
    "forward_kl at T = 3": ForwardKLLoss(weight=0.7, temperature=3.0),
    "reverse_kl": ReverseKLLoss(weight=1.0, temperature=2.0),
    "jsd": JSDLoss(weight=1.0, beta=0.3),
    "skewed_forward_kl": SkewedForwardKLLoss(weight=1.0, skew=0.2, temperature=2.0),
    "skewed_reverse_kl": SkewedReverseKLLoss(weight=1.0, skew=0.2),
    "total_variation": TotalVariationLoss(weight=1.0),
    "cross_tokenizer": CrossTokenizerLoss(weight=1.0, temperature=2.0),
    "cross_tokenizer by ULD alone": CrossTokenizerLoss(hybrid=False, uld_weight=0.7),
    "cross_entropy": CrossEntropyLoss(weight=1.0),
    "hidden_states": HiddenStatesLoss(weight=1.0),
    "hidden_states by angle, last layer": HiddenStatesLoss(distance="cosine", layers="last"),
    "attention maps": AttentionLoss(weight=1.0, layers="all"),
    "attention maps by mse": AttentionLoss(distance="mse"),
    "value relations": AttentionLoss(compares="values", layers="all"),
}
"""Settings of every term; what a test calls them."""

_OTHERS = ("hidden_states", "attention", "cross_tokenizer")
LOGIT_TERMS = {name: term for name, term in TERMS.items() if term.name not in _OTHERS}
"""Those that see the logits of one position alone: `reference` knows them."""


def reference(settings: Any, student: Tensor, teacher: Tensor, target: int) -> Tensor:
    """Value of a term at one position, in double precision: `student[V]`, `teacher[V]` logits."""
    if settings.name == "cross_entropy":
        return -torch.softmax(student.double(), -1)[target].log()
    t = settings.temperature
    p, q = torch.softmax(teacher.double() / t, -1), torch.softmax(student.double() / t, -1)
    return t * t * _DIVERGENCES[settings.name](p, q, settings)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum()


def _jsd(p: Tensor, q: Tensor, settings: Any) -> Tensor:
    beta = settings.beta
    middle = beta * p + (1 - beta) * q
    return beta * _kl(p, middle) + (1 - beta) * _kl(q, middle)


_DIVERGENCES: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "forward_kl": lambda p, q, settings: _kl(p, q),
    "reverse_kl": lambda p, q, settings: _kl(q, p),
    "jsd": _jsd,
    "skewed_forward_kl": lambda p, q, s: _kl(p, s.skew * p + (1 - s.skew) * q),
    "skewed_reverse_kl": lambda p, q, s: _kl(q, s.skew * q + (1 - s.skew) * p),
    "total_variation": lambda p, q, settings: (p - q).abs().sum() / 2,
}


def span_reference(
    settings: Any, student: Tensor, teacher: Tensor, own: list[int], their: list[int], known: Any
) -> Tensor:
    """Value of `cross_tokenizer` at one span: logits `student[k, V]`, `teacher[m, W]`, its tokens.

    `known`: for each teacher's id the student's id of the same text, or -1, where the span is one
    and the same token on both sides; None where it is not.
    """
    t = settings.temperature
    p, q = torch.softmax(teacher.double() / t, -1), torch.softmax(student.double() / t, -1)
    if settings.hybrid and known is not None:
        target = torch.zeros_like(q[0])
        for number, match in enumerate(known[: p.shape[1]]):
            if match >= 0:
                target[match] += p[0, number]
        target = target / target.sum()
        value = sum(a * (a / b).log() for a, b in zip(target, q[0], strict=True) if a > 0)
        return t * t * value
    others, spans = [], []
    for rows, tokens in ((q, own), (p, their)):
        reached, found = torch.ones((), dtype=torch.double), []
        for row, token in zip(rows, tokens, strict=True):
            found.append(reached * torch.cat([row[:token], row[token + 1 :]]))
            reached = reached * row[token]
        others.append(torch.cat(found))
        spans.append(reached)
    apart = torch.zeros((), dtype=torch.double)
    if settings.hybrid:
        apart = (spans[0] - spans[1]).abs()
    else:
        others = [torch.cat([o, s[None]]) for o, s in zip(others, spans, strict=True)]
    longest = max(map(len, others))
    first, second = (
        torch.cat([o.sort(descending=True).values, o.new_zeros(longest - len(o))]) for o in others
    )
    return t * t * settings.uld_weight * (apart + (first - second).abs().sum())
