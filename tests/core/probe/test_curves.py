"""Learning curves followed to the full run: a known law is found, and ignorance is admitted."""

from __future__ import annotations

import numpy as np
import pytest

from distill_core.probe.curves import LEAST_STEPS, ahead

STEPS = [50, 100, 150, 200, 250, 300]


def law(steps: list[int]) -> np.ndarray:
    return 0.9 - 3.0 * np.array(steps, float) ** -0.5


def test_a_power_law_is_followed_to_where_it_leads() -> None:
    found = ahead([(STEPS, law(STEPS).tolist())], steps=2000, metric="exact_match")
    assert found.value == pytest.approx(law([2000])[0], abs=0.005)
    assert found.why == ""


def test_noise_widens_the_interval_and_it_mostly_holds_the_truth() -> None:
    random, held, wide = np.random.default_rng(0), 0, []
    for _ in range(40):
        noisy = [(STEPS, (law(STEPS) + random.normal(0, 0.02, 6)).tolist()) for _ in range(3)]
        found = ahead(noisy, steps=1000, metric="exact_match")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= law([1000])[0] <= found.high
        wide.append(found.high - found.low)
    assert held >= 32
    assert float(np.mean(wide)) > 0.01


def test_where_less_is_better_the_curve_falls() -> None:
    values = (1.0 + 3.0 * np.array(STEPS, float) ** -0.5).tolist()
    found = ahead([(STEPS, values)], steps=2000, metric="bits_per_byte")
    assert found.value == pytest.approx(1 + 3 * 2000**-0.5, abs=0.01)


def test_a_share_stays_between_0_and_1() -> None:
    found = ahead([(STEPS, [0.5, 0.7, 0.85, 0.95, 0.98, 1.0])], steps=3000, metric="exact_match")
    assert found.high == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("steps", "at", "why"),
    [
        (1000, STEPS[: LEAST_STEPS - 1], "not enough points: 3, not 4"),
        (300, STEPS, "the curve goes as far already"),
        (100_000, STEPS, "more than 30 times as far as the curve goes"),
    ],
)
def test_what_cannot_be_said_is_not_said(steps: int, at: list[int], why: str) -> None:
    found = ahead([([0, *at], [0.0, *law(at)])], steps=steps, metric="exact_match")
    assert (found.value, found.low, found.why) == (None, None, why)


def test_a_curve_that_rises_ever_faster_is_not_followed() -> None:
    found = ahead([(STEPS, [0.0, 0.0, 0.01, 0.03, 0.08, 0.2])], steps=2000, metric="exact_match")
    assert found.value is None
    assert "ever faster" in found.why
