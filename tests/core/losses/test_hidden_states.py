"""Distances between hidden states: values by hand, properties, finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from distill_core.losses.hidden_states import hidden_states

WAYS: dict[str, dict[str, Any]] = {
    "mse": {"distance": "mse", "normalize": False},
    "mse of unit vectors": {"distance": "mse", "normalize": True},
    "cosine": {"distance": "cosine"},
}


def reference(s: list[float], t: list[float], way: str) -> float:
    """One position, in plain Python."""
    if way == "cosine":
        dot = sum(a * b for a, b in zip(s, t, strict=True))
        return 1 - dot / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))
    if way == "mse of unit vectors":
        s, t = ([x / math.sqrt(sum(y * y for y in v) / len(v)) for x in v] for v in (s, t))
    return sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)


@pytest.mark.parametrize("way", WAYS)
def test_equals_the_reference(way: str) -> None:
    student, teacher = torch.randn(5, 6), torch.randn(5, 6) * 3
    got = hidden_states(student, teacher, **WAYS[way])
    expected = [
        reference(a, b, way) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_zero_when_equal_and_within_its_range(way: str) -> None:
    states = torch.randn(50, 8)
    assert hidden_states(states, states, **WAYS[way]).abs().max() < 1e-6
    opposite = hidden_states(states, -states, **WAYS[way])
    assert (opposite >= 0).all()
    if way != "mse":
        expected = 4.0 if way == "mse of unit vectors" else 2.0
        torch.testing.assert_close(opposite, torch.full((50,), expected))


@pytest.mark.parametrize("way", WAYS)
def test_gradient_by_finite_differences_and_none_for_the_teacher(way: str) -> None:
    student = torch.randn(3, 4, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(3, 4, requires_grad=True)
    hidden_states(student, teacher, **WAYS[way]).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None
    for place in range(4):
        moved = student.detach().clone()
        moved[0, place] += 1e-3
        up = hidden_states(moved, teacher, **WAYS[way]).sum()
        moved[0, place] -= 2e-3
        down = hidden_states(moved, teacher, **WAYS[way]).sum()
        assert student.grad[0, place].item() == pytest.approx(float(up - down) / 2e-3, abs=2e-3)


def test_scale_matters_only_where_vectors_are_not_normalised() -> None:
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    for way, changes in [("mse", True), ("mse of unit vectors", False), ("cosine", False)]:
        before = hidden_states(student, teacher, **WAYS[way])
        after = hidden_states(student, 7 * teacher, **WAYS[way])
        assert (not torch.allclose(before, after, atol=1e-5)) == changes


def test_c14_computes_in_fp32_whatever_comes_in() -> None:
    states = torch.randn(3, 512).bfloat16()
    assert hidden_states(states, states + 1).dtype == torch.float32
