"""int8 on a CPU: a model's linear layers multiplied in whole numbers.

In: a loaded model. Out: the same model, its layers replaced in place. Every row of an input is
scaled by itself, so that a token's result depends neither on padding nor on other rows, as a scale
for the whole batch would make it. Embeddings, norms, attention and head stay as they are.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from distill_core.errors import ModelError
from distill_core.halving import give_back

LEVELS = 127
REDUCED_LEVELS = 63
"""For weights, on a CPU that adds pairs of products in 16 bits: 2 · 255 · 63 still fits there."""

_FINE = 254
"""The second product's steps within one step of the first: its half, in 127 steps."""


class Int8Linear(nn.Module):
    """A linear layer (in → out) whose weights are int8, with one scale for each output.

    y = s_x · s_w · (q_x @ q_w) + b, with q = round(x / s) and s = max |x| / 127 for each row of x
    and each row of the weights. A layer that narrows (out < in) multiplies the rounding error of
    its input in a second product: its inputs are those with the widest range of magnitudes, and
    it costs least.

    Args:
        weight: (out, in).
        bias: (out,) or None.
        levels: Largest whole number of a weight.
    """

    whole: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, *, levels: int) -> None:
        super().__init__()
        scale = _scale(weight.float(), levels)
        whole = (weight.float() / scale).round().to(torch.int8)
        self.out_features, self.in_features = weight.shape
        self.register_buffer("whole", whole.t().contiguous())
        self.register_buffer("scale", scale[:, 0])
        self.bias = None if bias is None else nn.Parameter(bias.detach().float(), False)
        self.twice = self.out_features < self.in_features

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, out) from `inputs[…, in]`, in the inputs' dtype."""
        rows = inputs.reshape(-1, self.in_features).float()
        scale = _scale(rows, LEVELS)
        outputs = self._twice(rows / scale) if self.twice else self._once(rows / scale)
        outputs.mul_(scale).mul_(self.scale)
        if self.bias is not None:
            outputs += self.bias
        return outputs.view(*inputs.shape[:-1], self.out_features).to(inputs.dtype)

    def _once(self, steps: Tensor) -> Tensor:
        return torch._int_mm(steps.round_().to(torch.int8), self.whole).float()

    def _twice(self, steps: Tensor) -> Tensor:
        count = len(steps)
        both = torch.empty(2 * count, self.in_features, dtype=torch.int8)
        nearest = steps.round()
        both[:count] = nearest
        both[count:] = steps.sub_(nearest).mul_(_FINE).round_()
        product = torch._int_mm(both, self.whole)  # one product of both is quicker than two
        return product[:count].float().add_(product[count:], alpha=1 / _FINE)


def with_int8_layers(model: Any) -> Any:
    """Replace the linear layers of a model's body, in place; the head stays as it is.

    Raises:
        ModelError: if there is no such layer, or this CPU multiplies whole numbers wrongly.
    """
    from transformers.pytorch_utils import Conv1D

    levels = weight_levels()
    replaced = 0
    for parent in list(model.base_model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                weight = layer.weight
            elif isinstance(layer, Conv1D):  # GPT-2's linear layer, written the other way round
                weight = layer.weight.t()
            else:
                continue
            setattr(parent, name, Int8Linear(weight.detach(), layer.bias, levels=levels))
            replaced += 1
    if not replaced:
        raise ModelError(
            f"{type(model).__name__} has no linear layers of the usual kind, so int8 would change "
            "nothing.\nChoose fp32 or bf16 for this teacher.",
            field="teacher_precision",
        )
    for weight in model.parameters():
        weight.data = weight.data.clone()  # the file of all the others stays mapped no longer
    give_back(torch.device("cpu"))
    return model


@functools.cache
def weight_levels() -> int:
    """The largest whole number that weights may take here, by trying the worst case.

    x86 processors without VNNI add two products in 16 bits and cut what does not fit, silently.
    """
    for levels in (LEVELS, REDUCED_LEVELS):
        left = torch.full((2, 64), LEVELS, dtype=torch.int8)
        left[1] = -LEVELS
        right = torch.full((64, 16), levels, dtype=torch.int8)
        exact = LEVELS * levels * 64
        found = torch._int_mm(left, right)
        if bool((found[0] == exact).all() and (found[1] == -exact).all()):
            return levels
    raise ModelError(
        "This CPU's product of whole numbers is not exact, so an int8 teacher would be wrong.\n"
        "Choose fp32 or bf16 for this teacher.",
        field="teacher_precision",
    )


@functools.cache
def gain() -> float:
    """How many times faster than fp32 this CPU multiplies int8, measured once in some 20 ms."""
    left, right = torch.rand(256, 576), torch.rand(576, 576)
    whole = (left * 100).to(torch.int8), (right * 100).to(torch.int8)
    with torch.inference_mode():
        exact = _shortest(lambda: left @ right)
        return exact / _shortest(lambda: torch._int_mm(*whole))


def _shortest(work: Callable[[], object]) -> float:
    """The shortest of five timings, in seconds; of fewer where it takes long."""
    best, tries, stop = float("inf"), 0, time.perf_counter() + 0.1
    work()
    while tries < 5 and (tries == 0 or time.perf_counter() < stop):
        start = time.perf_counter()
        work()
        best, tries = min(best, time.perf_counter() - start), tries + 1
    return best


def _scale(rows: Tensor, levels: int) -> Tensor:
    """(N, 1) from `rows[N, K]`: the size of one step."""
    return rows.abs().amax(-1, keepdim=True).clamp(min=1e-12) / levels
