"""Divergences against plain Python, their properties, and their gradients by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.losses.divergences import forward_kl

TEMPERATURES = [0.5, 1.0, 2.0, 4.0]


def softmax(logits: list[float], temperature: float) -> list[float]:
    top = max(logits)
    powers = [math.exp((value - top) / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


def reference_forward_kl(student: list[float], teacher: list[float], temperature: float) -> float:
    """T² · KL(teacher ‖ student), written with loops."""
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_forward_kl_equals_the_reference(temperature: float) -> None:
    student, teacher = torch.randn(7, 11) * 3, torch.randn(7, 11) * 3
    expected = [
        reference_forward_kl(a, b, temperature)
        for a, b in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    got = forward_kl(student, teacher, temperature=temperature)
    assert got.shape == (7,)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_c7_direction_is_pinned_by_an_asymmetric_example() -> None:
    teacher = torch.tensor([[0.9, 0.1]]).log()
    student = torch.tensor([[0.5, 0.5]]).log()
    teacher_to_student = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert forward_kl(student, teacher).item() == pytest.approx(teacher_to_student, abs=1e-6)
    assert forward_kl(teacher, student).item() != pytest.approx(teacher_to_student, abs=1e-2)


@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12),
    noise=st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12),
    temperature=st.sampled_from(TEMPERATURES),
)
@settings(deadline=None, max_examples=60)
def test_c7_zero_when_equal_and_never_negative(
    logits: list[float], noise: list[float], temperature: float
) -> None:
    teacher = torch.tensor([logits])
    student = teacher + torch.tensor([noise[: len(logits)]])
    assert forward_kl(teacher, teacher, temperature=temperature).abs().item() <= 1e-6
    assert forward_kl(student, teacher, temperature=temperature).item() >= -1e-5


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c3_gradient_is_t_squared_times_that_of_the_unscaled_divergence(temperature: float) -> None:
    student = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 6, dtype=torch.float64)
    forward_kl(student, teacher, temperature=temperature).sum().backward()
    p, q = (teacher / temperature).softmax(-1), (student.detach() / temperature).softmax(-1)
    # d KL(p ‖ softmax(z / T)) / dz = (q − p) / T, so with T²: T · (q − p)
    torch.testing.assert_close(student.grad, temperature * (q - p), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c3_the_value_shown_is_the_value_differentiated(temperature: float) -> None:
    student, teacher = [0.3, -1.2, 2.0, 0.1], [1.0, 0.0, -0.5, 0.7]
    tensor = torch.tensor([student], requires_grad=True)
    forward_kl(tensor, torch.tensor([teacher]), temperature=temperature).sum().backward()
    assert tensor.grad is not None
    step = 1e-5
    for place in range(4):
        up, down = list(student), list(student)
        up[place] += step
        down[place] -= step
        slope = (
            reference_forward_kl(up, teacher, temperature)
            - reference_forward_kl(down, teacher, temperature)
        ) / (2 * step)
        assert tensor.grad[0, place].item() == pytest.approx(slope, abs=1e-4)


def test_the_teacher_gets_no_gradient() -> None:
    student = torch.randn(2, 5, requires_grad=True)
    teacher = torch.randn(2, 5, requires_grad=True)
    forward_kl(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_c14_half_precision_logits_are_compared_in_fp32() -> None:
    """Over a large vocabulary a bf16 divergence goes negative; ours must equal the fp32 one."""
    teacher = torch.randn(4, 50_000).bfloat16()
    student = (teacher.float() + 0.01 * torch.randn(4, 50_000)).bfloat16()
    got = forward_kl(student, teacher)
    p = teacher.double().softmax(-1)
    expected = (p * (teacher.double().log_softmax(-1) - student.double().log_softmax(-1))).sum(-1)
    assert got.dtype == torch.float32
    assert (got >= 0).all()
    torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-6)
