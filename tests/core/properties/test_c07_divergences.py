"""C7, divergences: 0 for equal models, never negative, and in the direction that they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import LOSSES
from distill_core.recipe import (
    ForwardKLLoss,
    JSDLoss,
    ReverseKLLoss,
    SkewedForwardKLLoss,
    SkewedReverseKLLoss,
    TotalVariationLoss,
)
from distill_core.trainer import train
from tests.core.nets import tiny_llama
from tests.core.terms import TERMS as EVERY
from tests.core.ways import stage_of

TEMPERATURES = [0.5, 1.0, 2.0, 4.0]

VARIANTS: dict[str, Any] = {
    "forward_kl": ForwardKLLoss(),
    "reverse_kl": ReverseKLLoss(),
    "jsd, beta 0": JSDLoss(beta=0.0),
    "jsd, beta 0.1": JSDLoss(beta=0.1),
    "jsd, beta 0.5": JSDLoss(beta=0.5),
    "jsd, beta 0.8": JSDLoss(beta=0.8),
    "jsd, beta 1": JSDLoss(beta=1.0),
    "skewed_forward_kl": SkewedForwardKLLoss(skew=0.1),
    "skewed_forward_kl, skew 0": SkewedForwardKLLoss(skew=0.0),
    "skewed_reverse_kl": SkewedReverseKLLoss(skew=0.3),
    "skewed_reverse_kl, skew 0": SkewedReverseKLLoss(skew=0.0),
    "total_variation": TotalVariationLoss(),
}


def values(term: Any, student: Tensor, teacher: Tensor, **changes: Any) -> Tensor:
    every = torch.ones(len(student), dtype=torch.bool)
    rows = SupervisedRows(student, teacher, torch.zeros(len(student), dtype=torch.long), every)
    return LOSSES[term.name].values(rows, term.model_copy(update=changes))


# --- whole models -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in EVERY if not n.startswith("cross_")])
def test_a_student_that_equals_its_teacher_has_no_loss(tmp_path: Path, name: str) -> None:
    same, other = (tiny_llama(layers=3, seed=seed) for seed in (1, 2))
    losses = []
    for student in (same, other):
        made = stage_of(
            tmp_path / str(id(student)), student, tiny_llama(layers=3, seed=1), [EVERY[name]]
        )
        first = next(event for event in train(made) if event["type"] == "step")
        losses.append(first["metrics"][EVERY[name].name])
    assert abs(losses[0]) <= 2e-6
    assert losses[1] > 1e-5


# --- the terms alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@given(
    logits=st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12),
    noise=st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12),
    temperature=st.sampled_from(TEMPERATURES),
)
@settings(deadline=None, max_examples=30)
def test_zero_when_equal_and_never_negative(
    name: str, logits: list[float], noise: list[float], temperature: float
) -> None:
    teacher = torch.tensor([logits])
    student = teacher + torch.tensor([noise[: len(logits)]])
    equal = values(VARIANTS[name], teacher, teacher, temperature=temperature)
    other = values(VARIANTS[name], student, teacher, temperature=temperature)
    assert equal.abs().item() <= 1e-6 * temperature**2
    assert other.item() >= -1e-6 * temperature**2


@given(
    scale=st.floats(0.125, 300, width=32),
    temperature=st.sampled_from(TEMPERATURES),
    share=st.floats(0.015625, 0.984375, width=32),
)
@settings(deadline=None, max_examples=40)
def test_what_is_bounded_stays_below_its_bound(
    scale: float, temperature: float, share: float
) -> None:
    pair = torch.randn(9, 8) * scale, torch.randn(9, 8) * scale
    square = temperature**2 * (1 + 1e-5)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    bounds = {
        JSDLoss(beta=share, temperature=temperature): entropy,
        SkewedForwardKLLoss(skew=share, temperature=temperature): -math.log(share),
        SkewedReverseKLLoss(skew=share, temperature=temperature): -math.log(share),
        TotalVariationLoss(temperature=temperature): 1.0,
    }
    for term, most in bounds.items():
        assert values(term, *pair).max() <= square * most


TEACHER, STUDENT = [0.9, 0.1], [0.5, 0.5]
BY_HAND = [
    (ForwardKLLoss(), 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)),
    (ReverseKLLoss(), 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)),
    (  # the mixture of teacher and student is (0.6, 0.4) at beta 0.25
        JSDLoss(beta=0.25),
        0.25 * (0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4))
        + 0.75 * (0.5 * math.log(0.5 / 0.6) + 0.5 * math.log(0.5 / 0.4)),
    ),
    (  # 0.25 · (0.9, 0.1) + 0.75 · (0.5, 0.5) = (0.6, 0.4)
        SkewedForwardKLLoss(skew=0.25),
        0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4),
    ),
    (  # 0.25 · (0.5, 0.5) + 0.75 · (0.9, 0.1) = (0.8, 0.2)
        SkewedReverseKLLoss(skew=0.25),
        0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2),
    ),
    (TotalVariationLoss(), 0.4),
]


@pytest.mark.parametrize(("term", "expected"), BY_HAND, ids=[term.name for term, _ in BY_HAND])
def test_direction_is_pinned_by_an_asymmetric_example(term: Any, expected: float) -> None:
    teacher, student = torch.tensor([TEACHER]).log(), torch.tensor([STUDENT]).log()
    assert values(term, student, teacher).item() == pytest.approx(expected, abs=1e-6)
    turned = values(term, teacher, student).item()
    if term.name == "total_variation":
        assert turned == pytest.approx(expected, abs=1e-6)
    else:
        assert turned != pytest.approx(expected, abs=1e-3)


def test_jsd_is_symmetric_at_one_half_alone() -> None:
    student, teacher = torch.randn(5, 9), torch.randn(5, 9)
    half = JSDLoss(beta=0.5)
    torch.testing.assert_close(values(half, student, teacher), values(half, teacher, student))
    for beta in (0.1, 0.4, 0.6, 0.9):
        there = values(half, student, teacher, beta=beta)
        assert not torch.allclose(there, values(half, teacher, student, beta=beta), atol=1e-3)
        # turning both around is the same thing
        torch.testing.assert_close(there, values(half, teacher, student, beta=1 - beta))


def test_jsd_tends_to_the_kls_at_its_ends() -> None:
    student, teacher = torch.randn(5, 9), torch.randn(5, 9)
    forward = values(ForwardKLLoss(), student, teacher)
    reverse = values(ReverseKLLoss(), student, teacher)
    near = 1e-3
    for beta, weight, end in ((near, near, forward), (1 - near, near, reverse)):
        got = values(JSDLoss(beta=beta), student, teacher) / weight
        torch.testing.assert_close(got, end, rtol=2e-2, atol=2e-3)
    assert torch.equal(values(JSDLoss(beta=0.0), student, teacher), forward)
    assert torch.equal(values(JSDLoss(beta=1.0), student, teacher), reverse)
