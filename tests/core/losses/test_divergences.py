"""Divergences against plain Python, and their gradients by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.losses import divergences

TEMPERATURES = [0.5, 1.0, 2.0, 4.0]
Probabilities = list[float]


# --- references, in plain Python ----------------------------------------------------------------


def softmax(logits: list[float], temperature: float = 1.0) -> Probabilities:
    top = max(logits)
    powers = [math.exp((value - top) / temperature) for value in logits]
    total = sum(powers)
    return [power / total for power in powers]


def kl(a: Probabilities, b: Probabilities) -> float:
    return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)


def mixed(a: Probabilities, b: Probabilities, share: float) -> Probabilities:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def reference_jsd(p: Probabilities, q: Probabilities, beta: float) -> float:
    m = mixed(p, q, beta)
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


REFERENCES: dict[str, tuple[str, dict[str, float], Callable[..., float]]] = {
    "forward_kl": ("forward_kl", {}, kl),
    "reverse_kl": ("reverse_kl", {}, lambda p, q: kl(q, p)),
    "jsd, beta 0.1": ("jsd", {"beta": 0.1}, lambda p, q: reference_jsd(p, q, 0.1)),
    "jsd, beta 0.5": ("jsd", {"beta": 0.5}, lambda p, q: reference_jsd(p, q, 0.5)),
    "jsd, beta 0.8": ("jsd", {"beta": 0.8}, lambda p, q: reference_jsd(p, q, 0.8)),
    "jsd, beta 0": ("jsd", {"beta": 0.0}, kl),
    "jsd, beta 1": ("jsd", {"beta": 1.0}, lambda p, q: kl(q, p)),
    "skewed_forward_kl": (
        "skewed_forward_kl",
        {"skew": 0.1},
        lambda p, q: kl(p, mixed(p, q, 0.1)),
    ),
    "skewed_reverse_kl": (
        "skewed_reverse_kl",
        {"skew": 0.3},
        lambda p, q: kl(q, mixed(q, p, 0.3)),
    ),
    "skewed_forward_kl, skew 0": ("skewed_forward_kl", {"skew": 0.0}, kl),
    "skewed_reverse_kl, skew 0": ("skewed_reverse_kl", {"skew": 0.0}, lambda p, q: kl(q, p)),
    "total_variation": (
        "total_variation",
        {},
        lambda p, q: sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2,
    ),
}
"""Name, own settings, and the divergence of p (teacher) and q (student) written from its paper."""

Divergence = Callable[..., Tensor]


@pytest.fixture(params=REFERENCES)
def pair(request: pytest.FixtureRequest) -> tuple[Divergence, Callable[..., float]]:
    """Ours, of logits, and the reference, of logits, temperature and its square included."""
    name, own, reference = REFERENCES[request.param]
    function = getattr(divergences, name)

    def ours(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        return function(student, teacher, temperature=temperature, **own)

    def expected(student: list[float], teacher: list[float], temperature: float = 1.0) -> float:
        return temperature**2 * reference(
            softmax(teacher, temperature), softmax(student, temperature)
        )

    return ours, expected


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c8_equals_the_reference(pair: Any, temperature: float) -> None:
    ours, expected = pair
    student, teacher = torch.randn(7, 11) * 3, torch.randn(7, 11) * 3
    wanted = [
        expected(a, b, temperature) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    got = ours(student, teacher, temperature=temperature)
    assert got.shape == (7,)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(wanted), rtol=1e-5, atol=1e-6)


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c3_the_value_shown_is_the_value_differentiated(pair: Any, temperature: float) -> None:
    ours, expected = pair
    student, teacher = [0.3, -1.2, 2.0, 0.1], [1.0, 0.0, -0.5, 0.7]
    tensor = torch.tensor([student], requires_grad=True)
    ours(tensor, torch.tensor([teacher]), temperature=temperature).sum().backward()
    assert tensor.grad is not None
    step = 1e-5
    for place in range(4):
        up, down = list(student), list(student)
        up[place] += step
        down[place] -= step
        slope = expected(up, teacher, temperature) - expected(down, teacher, temperature)
        assert tensor.grad[0, place].item() == pytest.approx(slope / (2 * step), abs=1e-4)


def test_c12_the_teacher_gets_no_gradient(pair: Any) -> None:
    ours, _ = pair
    student = torch.randn(2, 5, requires_grad=True)
    teacher = torch.randn(2, 5, requires_grad=True)
    ours(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
