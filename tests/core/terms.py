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
    "cross_entropy": CrossEntropyLoss(weight=1.0),
    "hidden_states": HiddenStatesLoss(weight=1.0),
    "hidden_states by angle, last layer": HiddenStatesLoss(distance="cosine", layers="last"),
    "attention maps": AttentionLoss(weight=1.0, layers="all"),
    "attention maps by mse": AttentionLoss(distance="mse"),
    "value relations": AttentionLoss(compares="values", layers="all"),
}
"""Settings of every term; what a test calls them."""

LOGIT_TERMS = {
    name: term for name, term in TERMS.items() if term.name not in ("hidden_states", "attention")
}
"""Those that see logits alone: `reference` knows them."""


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
