"""The formula after a dry step: a line through what was measured, and parts that add up to it."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.estimate.fitted import fitted, scaled, slope
from distill_core.estimate.memory_need import PARTS, highest

MB = 10**6
TRAINING = {
    "context": 500 * MB,
    "teacher": 100 * MB,
    "student": 80 * MB,
    "optimiser": 80 * MB,
    "activations": 300 * MB,
    "loss": 100 * MB,
    "features": 0,
}
SCORING = TRAINING | {"activations": 50 * MB, "loss": 20 * MB}
FORMULA = {"training": TRAINING, "scoring": SCORING}


def measured(*peaks: int, size: int = 8, held: int = 390) -> dict[str, Any]:
    """Peaks at 1,000, 2,000 … tokens in MB; 390 = a context of 250, and weights of 140."""
    points = [{"tokens": 1000 * n, "peak_bytes": one * MB} for n, one in enumerate(peaks, 1)]
    return {
        "points": points,
        "micro_batch_size": size,
        "held_bytes": held * MB,
        "loading_bytes": 400 * MB,
    }


def fit(
    found: dict[str, Any], *, tokens: int | None = None, on_cpu: bool = True
) -> dict[str, dict[str, int]]:
    tokens = tokens or found["points"][-1]["tokens"]
    return fitted(FORMULA, found, tokens=tokens, weights=140 * MB, on_cpu=on_cpu)


def test_what_was_measured_at_the_recipes_size_is_the_forecast() -> None:
    parts = highest(fit(measured(700, 900)))
    assert sum(parts.values()) == 900 * MB
    assert parts["context"] == 250 * MB
    for counted in ("teacher", "student", "optimiser"):
        assert parts[counted] == TRAINING[counted]
    assert parts["activations"] == pytest.approx(3 * parts["loss"], abs=1), "as the formula says"
    assert set(parts) == set(PARTS)


def test_a_step_with_fewer_rows_is_drawn_out_along_the_line() -> None:
    """200 MB for 1,000 tokens: the largest micro-batch has 2,000 more."""
    assert sum(fit(measured(700, 900), tokens=4000)["training"].values()) == 1300 * MB


def test_longer_rows_than_a_run_brings_together_are_reckoned_back() -> None:
    assert sum(fit(measured(700, 900), tokens=1500)["training"].values()) == 800 * MB
    steep = sum(fit(measured(100, 900), tokens=1500)["training"].values())
    assert steep == pytest.approx((900 - 500 * 400 / 1500) * MB), "as steep as the formula"


def test_two_points_that_are_one_take_the_formulas_slope() -> None:
    found = measured(900)
    twice = sum(fit(found, tokens=2000)["training"].values()) - 900 * MB
    assert twice == pytest.approx(400 * MB / 2, rel=1e-6)
    assert slope(found["points"], least=0.0, most=8.0) == 2.0


def test_noise_gives_no_slope_below_nothing() -> None:
    points = measured(910, 900)["points"]
    assert slope(points, least=0.0, most=1e9) == 0.0


def test_on_an_accelerator_the_context_comes_on_top() -> None:
    training = fit(measured(300, 400), on_cpu=False)["training"]
    assert training["context"] == 500 * MB
    assert sum(training.values()) == 900 * MB


def test_weights_that_are_not_all_in_memory_are_shown_smaller() -> None:
    training = fit(measured(300, 350))["training"]
    assert sum(training.values()) == 350 * MB
    assert 0 < training["teacher"] < TRAINING["teacher"]
    assert min(training.values()) == 0


def test_another_moment_may_be_the_highest() -> None:
    """Scoring by the formula: 330 without the context, and the one that was measured."""
    parts = highest(fit(measured(560, 570)))
    assert sum(parts.values()) == 250 * MB + 330 * MB
    assert parts["optimiser"] == TRAINING["optimiser"]


def test_loading_counts_too() -> None:
    found = measured(410, 420) | {"loading_bytes": 2000 * MB}
    assert sum(highest(fit(found)).values()) == 2000 * MB


def test_a_change_is_reckoned_by_the_formula_with_what_was_measured() -> None:
    found = scaled(FORMULA, context=250 * MB, working=0.5)
    assert found["training"]["activations"] == 150 * MB
    assert found["scoring"]["activations"] == SCORING["activations"]
    assert found["training"]["context"] == found["scoring"]["context"] == 250 * MB
    assert FORMULA["training"]["activations"] == 300 * MB, "left as it was"
