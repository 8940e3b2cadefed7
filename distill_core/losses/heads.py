"""What a head does to hidden states: one matrix, and perhaps a scale and a cap.

In: the module or the configuration of a model. Out: `LinearHead`, for those who make logits a few
rows at a time and differentiate them by hand. Knows nothing of losses, and does not tell whether a
model has more on its logits than its configuration says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Bend(NamedTuple):
    """What is made of a product x: the logit z = cap · tanh(scale · x / cap)."""

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_none(self) -> bool:
        """Whether z = x."""
        return self == Bend()

    def apply_(self, products: Tensor) -> Tensor:
        """Put the logits in the products' place."""
        if self.scale != 1.0:
            products.mul_(self.scale)
        if self.cap is not None:
            products.div_(self.cap).tanh_().mul_(self.cap)
        return products

    def slopes(self, logits: Tensor) -> Tensor | float:
        """dz/dx, (n, V) or one for all, from `logits[n, V]`: scale · (1 − (z / cap)²)."""
        if self.cap is None:
            return self.scale
        return (logits / self.cap).square_().neg_().add_(1.0).mul_(self.scale)


class Head(nn.Module):
    """A head that scales or caps its logits: cap · tanh(scale · (W h + b) / cap)."""

    def __init__(self, linear: nn.Module, bend: Bend) -> None:
        super().__init__()
        self.linear, self.bend = linear, bend

    def forward(self, states: Tensor) -> Tensor:
        """Logits (N, V) from `states[N, d]`."""
        logits: Tensor = self.linear(states) * self.bend.scale
        cap = self.bend.cap
        return logits if cap is None else torch.tanh(logits / cap) * cap


class LinearHead(NamedTuple):
    """A head of one matrix."""

    linear: nn.Linear
    bend: Bend = Bend()


def linear_head(head: nn.Module) -> LinearHead | None:
    """The head's parts, if it is one matrix with a bend and no more: no adapter, no hook."""
    bend, linear = (head.bend, head.linear) if isinstance(head, Head) else (Bend(), head)
    if _watched(head) or _watched(linear) or type(linear) is not nn.Linear:
        return None
    return LinearHead(linear, bend)


def _watched(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks
    return bool(hooks) or "forward" in vars(module)


def bend_of(config: Any) -> Bend:
    """How a model with this configuration bends its logits, as far as families are known here."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)  # Cohere
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite
    return Bend(scale, getattr(config, "final_logit_softcapping", None))  # Gemma
