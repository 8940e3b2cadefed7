"""C17, words: what the app says of a direction, of β and of skew is what is computed.

The sentences are those that the form, the command line and the README show: each recipe class's
own description and its settings' descriptions. Each claim is looked up, then measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import api
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
from tests.core.terms import TERMS

COVERS, SEEKS = "covers every mode", "seeks"
ROOT = Path(__file__).parents[3]


def value(term: Any, student: torch.Tensor, teacher: torch.Tensor) -> float:
    rows = SupervisedRows(student, teacher, torch.zeros(1).long(), torch.ones(1).bool())
    return float(LOSSES[term.name].values(rows, term))


def words(term: Any) -> str:
    return " ".join((type(term).__doc__ or "").split())


def setting(term: Any, name: str) -> str:
    return type(term).model_fields[name].description


def best_single_peak(term: Any) -> str:
    """What a student that can only have one peak does with a teacher of two: covers, or seeks."""
    places = torch.linspace(-4, 4, 81)
    teacher = torch.logsumexp(
        torch.stack([-((places - at) ** 2) / (2 * 0.35**2) for at in (-2.0, 2.0)]), 0
    )
    best = min(
        (value(term, (-((places - at) ** 2) / (2 * width**2))[None], teacher[None]), width, at)
        for width in (0.35, 0.7, 1.2, 2.0)
        for at in (-2.0, -1.0, 0.0, 1.0, 2.0)
    )
    _, width, at = best
    return "covers" if width >= 1.2 and at == 0 else "seeks" if abs(at) == 2 else "neither"


@pytest.mark.parametrize(
    "term", [ForwardKLLoss(), SkewedForwardKLLoss(skew=0.1)], ids=lambda term: term.name
)
def test_teacher_to_student_covers_every_mode(term: Any) -> None:
    assert "teacher → student" in words(term).lower()
    assert COVERS in words(term)
    assert best_single_peak(term) == "covers"


@pytest.mark.parametrize(
    "term", [ReverseKLLoss(), SkewedReverseKLLoss(skew=0.1)], ids=lambda term: term.name
)
def test_student_to_teacher_seeks_modes(term: Any) -> None:
    assert "student → teacher" in words(term).lower()
    assert SEEKS in words(term)
    assert best_single_peak(term) == "seeks"


def test_beta_is_the_teachers_share_and_its_ends_are_what_is_said() -> None:
    said = setting(JSDLoss(), "beta")
    assert "Share of the teacher in the mixture" in said
    assert "0 is teacher → student and covers every mode" in said
    assert "1 is student → teacher and seeks modes" in said
    assert "0.5 is symmetric" in said
    assert best_single_peak(JSDLoss(beta=0.0)) == "covers"
    assert best_single_peak(JSDLoss(beta=1.0)) == "seeks"
    a, b = torch.randn(1, 7), torch.randn(1, 7)
    assert value(JSDLoss(beta=0.5), a, b) == pytest.approx(value(JSDLoss(beta=0.5), b, a), abs=1e-6)
    p, q = b.double().softmax(-1), a.double().softmax(-1)
    m = 0.2 * p + 0.8 * q
    expected = 0.2 * (p * (p / m).log()).sum() + 0.8 * (q * (q / m).log()).sum()
    assert value(JSDLoss(beta=0.2), a, b) == pytest.approx(float(expected), abs=1e-6)


def test_skew_is_whose_share_it_says_and_fades_towards_one() -> None:
    assert "Share of the teacher in the mixture" in setting(SkewedForwardKLLoss(), "skew")
    assert "Share of the student in the mixture" in setting(SkewedReverseKLLoss(), "skew")
    a, b = torch.randn(1, 7), torch.randn(1, 7)
    p, q = b.double().softmax(-1), a.double().softmax(-1)
    forward = (p * (p / (0.3 * p + 0.7 * q)).log()).sum()
    reverse = (q * (q / (0.3 * q + 0.7 * p)).log()).sum()
    assert value(SkewedForwardKLLoss(skew=0.3), a, b) == pytest.approx(float(forward), abs=1e-6)
    assert value(SkewedReverseKLLoss(skew=0.3), a, b) == pytest.approx(float(reverse), abs=1e-6)
    for one, plain in (
        (SkewedForwardKLLoss, ForwardKLLoss()),
        (SkewedReverseKLLoss, ReverseKLLoss()),
    ):
        assert "0 is the plain KL, towards 1 the term fades" in setting(one(), "skew")
        assert value(one(skew=0.0), a, b) == pytest.approx(value(plain, a, b), abs=1e-6)
        faded = [value(one(skew=skew), a, b) for skew in (0.0, 0.5, 0.9, 0.99)]
        assert faded == sorted(faded, reverse=True)
        assert faded[-1] < 0.01 * faded[0]


def test_total_variation_is_half_the_differences() -> None:
    assert "Half the sum of all differences in probability: symmetric" in words(
        TotalVariationLoss()
    )
    assert value(
        TotalVariationLoss(), torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    ) == pytest.approx(0.4)


def test_every_soft_term_says_that_its_temperature_is_squared() -> None:
    for term in TERMS.values():
        if "temperature" in type(term).model_fields:
            assert "multiplied by its square" in setting(term, "temperature")


def test_the_app_the_command_line_and_the_readme_show_these_very_words() -> None:
    schema = api.recipe_schema()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = setting(JSDLoss(), "beta")
    shown = schema["$defs"]["JSDLoss"]
    assert shown["properties"]["beta"]["description"] == said
    assert COVERS in schema["$defs"]["ForwardKLLoss"]["description"]
    assert said in readme
