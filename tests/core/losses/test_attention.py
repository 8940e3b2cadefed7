"""Distances between attention maps: values by hand, heads, padding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from distill_core.losses.attention import attention


def maps(rows: int = 3, heads: int = 2, keys: int = 5, *, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, heads, keys, generator=random).mul(2).softmax(-1)


def reference(s: Any, t: Any, distance: str) -> float:
    """One query position, (H, T) lists, in plain Python."""
    total = 0.0
    for head_s, head_t in zip(s, t, strict=True):
        if distance == "kl":
            total += sum(b * math.log(b / a) for a, b in zip(head_s, head_t, strict=True) if b > 0)
        else:
            total += sum((a - b) ** 2 for a, b in zip(head_s, head_t, strict=True))
    return total / len(s)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_equals_the_reference(distance: Any) -> None:
    student, teacher = maps(seed=1), maps(seed=2)
    got = attention(student, teacher, distance=distance)
    expected = [
        reference(a, b, distance) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_other_numbers_of_heads_are_averaged_first(distance: Any) -> None:
    student, teacher = maps(heads=2, seed=1), maps(heads=6, seed=2)
    got = attention(student, teacher, distance=distance)
    means = (student.mean(1, keepdim=True), teacher.mean(1, keepdim=True))
    expected = [
        reference(a, b, distance) for a, b in zip(means[0].tolist(), means[1].tolist(), strict=True)
    ]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_c1_masked_keys_change_nothing_and_equal_maps_give_zero(distance: Any) -> None:
    student, teacher = maps(seed=1), maps(seed=2)
    plain = attention(student, teacher, distance=distance)
    padding = torch.zeros(3, 2, 4)
    padded = attention(
        torch.cat([padding, student], -1), torch.cat([padding, teacher], -1), distance=distance
    )
    torch.testing.assert_close(padded, plain, rtol=1e-6, atol=1e-7)
    assert attention(teacher, teacher, distance=distance).abs().max() < 1e-6


def test_c7_direction_is_teacher_to_student() -> None:
    teacher, student = torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0.5, 0.5]]])
    expected = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    assert attention(student, teacher).item() == pytest.approx(expected, abs=1e-6)
    assert attention(teacher, student).item() != pytest.approx(expected, abs=1e-2)


def test_a_key_that_the_student_never_sees_stays_finite() -> None:
    teacher, student = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
    student.requires_grad_()
    value = attention(student, teacher)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
