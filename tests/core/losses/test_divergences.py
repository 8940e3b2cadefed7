"""Divergences against plain Python, their properties, and their gradients by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


TEACHER, STUDENT = [0.9, 0.1], [0.5, 0.5]
BY_HAND = {
    "forward_kl": 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5),
    "reverse_kl": 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1),
    # the mixture of teacher and student is (0.6, 0.4) at beta 0.25
    "jsd": 0.25 * (0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4))
    + 0.75 * (0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4)),
    # 0.25 · (0.9, 0.1) + 0.75 · (0.5, 0.5) = (0.6, 0.4)
    "skewed_forward_kl": 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4),
    # 0.25 · (0.5, 0.5) + 0.75 · (0.9, 0.1) = (0.8, 0.2)
    "skewed_reverse_kl": 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2),
    "total_variation": 0.4,
}
OWN = {
    "jsd": {"beta": 0.25},
    "skewed_forward_kl": {"skew": 0.25},
    "skewed_reverse_kl": {"skew": 0.25},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_c7_direction_is_pinned_by_an_asymmetric_example(name: str) -> None:
    teacher, student = torch.tensor([TEACHER]).log(), torch.tensor([STUDENT]).log()
    function = getattr(divergences, name)
    got = function(student, teacher, **OWN.get(name, {})).item()
    assert got == pytest.approx(BY_HAND[name], abs=1e-6)
    turned = function(teacher, student, **OWN.get(name, {})).item()
    if name == "total_variation":
        assert turned == pytest.approx(got, abs=1e-6)
    else:
        assert turned != pytest.approx(got, abs=1e-3)


@pytest.mark.parametrize("name", REFERENCES)
@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12),
    noise=st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12),
    temperature=st.sampled_from(TEMPERATURES),
)
@settings(deadline=None, max_examples=30)
def test_c7_zero_when_equal_and_never_negative(
    name: str, logits: list[float], noise: list[float], temperature: float
) -> None:
    function, own, _ = REFERENCES[name]
    divergence = getattr(divergences, function)
    teacher = torch.tensor([logits])
    student = teacher + torch.tensor([noise[: len(logits)]])
    equal = divergence(teacher, teacher, temperature=temperature, **own)
    other = divergence(student, teacher, temperature=temperature, **own)
    assert equal.abs().item() <= 1e-6 * temperature**2
    assert other.item() >= -1e-6 * temperature**2


@given(
    scale=st.floats(0.125, 300, width=32),
    temperature=st.sampled_from(TEMPERATURES),
    share=st.floats(0.015625, 0.984375, width=32),
)
@settings(deadline=None, max_examples=40)
def test_c7_what_is_bounded_stays_below_its_bound(
    scale: float, temperature: float, share: float
) -> None:
    student, teacher = torch.randn(9, 8) * scale, torch.randn(9, 8) * scale
    square = temperature**2 * (1 + 1e-5)
    given_t: Any = {"temperature": temperature}
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    most = -math.log(share)
    assert divergences.jsd(student, teacher, beta=share, **given_t).max() <= square * entropy
    for skewed in (divergences.skewed_forward_kl, divergences.skewed_reverse_kl):
        assert skewed(student, teacher, skew=share, **given_t).max() <= square * most
    assert divergences.total_variation(student, teacher, **given_t).max() <= square


def test_c7_jsd_is_symmetric_at_one_half_alone() -> None:
    student, teacher = torch.randn(5, 9), torch.randn(5, 9)
    half = divergences.jsd(student, teacher, beta=0.5)
    torch.testing.assert_close(half, divergences.jsd(teacher, student, beta=0.5))
    for beta in (0.1, 0.4, 0.6, 0.9):
        there = divergences.jsd(student, teacher, beta=beta)
        assert not torch.allclose(there, divergences.jsd(teacher, student, beta=beta), atol=1e-3)
        # turning both around is the same thing
        torch.testing.assert_close(there, divergences.jsd(teacher, student, beta=1 - beta))


def test_c7_jsd_tends_to_the_kls_at_its_ends() -> None:
    student, teacher = torch.randn(5, 9), torch.randn(5, 9)
    forward = divergences.forward_kl(student, teacher)
    reverse = divergences.reverse_kl(student, teacher)
    near = 1e-3
    for beta, weight, end in ((near, near, forward), (1 - near, near, reverse)):
        got = divergences.jsd(student, teacher, beta=beta) / weight
        torch.testing.assert_close(got, end, rtol=2e-2, atol=2e-3)
    assert torch.equal(divergences.jsd(student, teacher, beta=0.0), forward)
    assert torch.equal(divergences.jsd(student, teacher, beta=1.0), reverse)


# --- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c3_gradient_is_t_squared_times_that_of_the_unscaled_divergence(
    pair: Any, temperature: float
) -> None:
    """d/dz of T² · D(z / T) = T · D'(z / T), whatever D is."""
    ours, _ = pair
    student, teacher = torch.randn(3, 6), torch.randn(3, 6)
    warm = student.clone().requires_grad_()
    ours(warm, teacher, temperature=temperature).sum().backward()
    cold = (student / temperature).requires_grad_()
    ours(cold, teacher / temperature).sum().backward()
    assert warm.grad is not None
    assert cold.grad is not None
    torch.testing.assert_close(warm.grad, temperature * cold.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_c3_gradient_of_the_forward_kl_is_t_times_the_difference(temperature: float) -> None:
    student = torch.randn(3, 6, requires_grad=True)
    teacher = torch.randn(3, 6)
    divergences.forward_kl(student, teacher, temperature=temperature).sum().backward()
    p, q = (teacher / temperature).softmax(-1), (student.detach() / temperature).softmax(-1)
    torch.testing.assert_close(student.grad, temperature * (q - p), rtol=1e-4, atol=1e-6)


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


# --- precision ----------------------------------------------------------------------------------


def test_c14_half_precision_logits_are_compared_in_fp32(pair: Any) -> None:
    """Over a large vocabulary a bf16 divergence goes negative; ours must equal the exact one."""
    ours, expected = pair
    teacher = torch.randn(2, 20_000).bfloat16()
    student = (teacher.float() + 0.05 * torch.randn(2, 20_000)).bfloat16()
    got = ours(student, teacher)
    wanted = [expected(a, b) for a, b in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert got.dtype == torch.float32
    assert (got >= 0).all()
    torch.testing.assert_close(got, torch.tensor(wanted), rtol=2e-3, atol=1e-6)


def test_c14_extreme_logits_give_finite_values_and_gradients(pair: Any) -> None:
    ours, _ = pair
    teacher = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0], [3e4, 3e4, -3e4]])
    student = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, -3e4, 3e4]])
    student.requires_grad_()
    for temperature in TEMPERATURES:
        student.grad = None
        values = ours(student, teacher, temperature=temperature)
        values.sum().backward()
        assert torch.isfinite(values).all()
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()
        assert abs(values[1].item()) <= 1e-6  # both are sure of the same token
