"""Intervals and tests against known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from distill_core import intervals


def test_wilson_equals_its_formula() -> None:
    n, k, z = 600, 540, 1.959963984540054
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    got = intervals.wilson([True] * k + [False] * (n - k))
    assert got == pytest.approx([centre - half, centre + half], abs=1e-9)
    assert intervals.wilson([]) == [0.0, 1.0]


def test_mcnemar_is_the_binomial_test_on_discordant_rows() -> None:
    first = [True] * 12 + [False] * 3 + [True] * 50
    second = [False] * 12 + [True] * 3 + [True] * 50
    expected = 2 * sum(math.comb(15, k) for k in range(4)) / 2**15
    assert intervals.mcnemar(first, second) == pytest.approx(expected)


def test_paired_ratio_covers_and_narrows() -> None:
    random = np.random.default_rng(1)
    teacher = random.random(1000) < 0.99
    student = teacher & (random.random(1000) < 0.96)
    low, high = intervals.paired_ratio(student, teacher) or [0, 0]
    assert low < student.mean() / teacher.mean() < high
    assert 0.01 < high - low < 0.04
    assert intervals.paired_ratio([1, 0], [0, 0]) is None


def test_the_interval_of_two_shares_agrees_with_mcnemar() -> None:
    for wins in range(9):
        for losses in range(9):
            first = [True] * wins + [False] * losses + [True] * 20
            second = [False] * wins + [True] * losses + [True] * 20
            low, high = intervals.paired_share_difference(first, second)
            assert low <= (wins - losses) / len(first) <= high
            surely = low > 0 or high < 0
            assert surely == (intervals.mcnemar(first, second) < 0.05), (wins, losses)


@pytest.mark.parametrize("shares", [(0.475, 0.002), (0.1, 0.05), (0.03, 0.02), (0.3, 0.3)])
def test_the_interval_of_two_shares_covers_the_truth(shares: tuple[float, float]) -> None:
    """Rows are drawn, also how many of them are discordant."""
    chance, covered = np.random.default_rng(0), 0
    for _ in range(300):
        kind = chance.choice(3, size=400, p=[*shares, 1 - sum(shares)])
        low, high = intervals.paired_share_difference(kind == 0, kind == 1)
        covered += low <= shares[0] - shares[1] <= high
    assert covered >= 0.94 * 300


def test_an_interval_of_medians_ignores_an_outlier() -> None:
    steady = [1.0, 1.1, 0.9, 1.0, 1.05] * 4
    low, high = intervals.of_medians([[*steady, 50.0], [*steady, 1.0]], lambda a, b: a / b)
    assert 0.9 < low <= 1 <= high < 1.15
    assert intervals.of_medians([[]], lambda a: a) is None


def test_paired_difference_is_zero_for_the_same_rows() -> None:
    rows = [True, False, True, True]
    assert intervals.paired_difference(rows, rows) == [0.0, 0.0]


def test_a_bootstrap_of_the_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(2).normal(3.0, 2.0, size=3000)  # too many rows to keep draws
    low, high = intervals.mean(values) or [0, 0]
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert [low, high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.01)
    assert intervals.mean(values) == [low, high], "the same every time"
    assert intervals.mean([]) is None


def test_the_sign_flip_test_equals_the_count_of_all_flips() -> None:
    first, second = [0.9, 0.4, 0.8, 0.7, 0.6, 0.9, 0.5], [0.5, 0.5, 0.3, 0.6, 0.2, 0.8, 0.1]
    apart = np.subtract(first, second)
    sums = [abs(np.dot(signs, apart)) for signs in itertools.product([-1, 1], repeat=7)]
    exact = np.mean([value >= abs(apart.sum()) - 1e-9 for value in sums])
    assert intervals.sign_flip(first, second) == pytest.approx(exact, abs=0.01)
    assert intervals.sign_flip(first, first) == 1.0


def test_calibration_error_of_a_small_example() -> None:
    confidence, correct = np.array([0.95, 0.95, 0.55, 0.55]), np.array([1, 1, 1, 0])
    expected = 0.5 * abs(0.95 - 1.0) + 0.5 * abs(0.55 - 0.5)
    assert intervals.calibration_error(confidence, correct) == pytest.approx(expected)
