"""Looks after each seed: intervals, when they are taken, and how often all of them err."""

from __future__ import annotations

import numpy as np
import pytest

from distill_core.intervals import crossed_mean
from distill_core.probe import looks


def drawn(
    random: np.random.Generator, *, seeds: int, rows: int, mean: float = 0.0, of_seeds: float
) -> np.ndarray:
    """A table (seeds, rows) of differences with effects of both, and noise."""
    return (
        mean
        + random.normal(0, of_seeds, (seeds, 1))
        + random.normal(0, 0.2, (1, rows))
        + random.normal(0, 0.4, (seeds, rows))
    )


def test_the_interval_is_that_of_the_seeds_means_where_rows_do_not_matter() -> None:
    means = np.array([0.1, 0.2, 0.6])
    table = np.repeat(means[:, None], 50, axis=1)
    low, high = crossed_mean(table)
    half = 4.302652729911275 * means.std(ddof=1) / np.sqrt(3)  # t of two degrees of freedom
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half))


def test_the_interval_is_that_of_the_rows_where_seeds_do_the_same() -> None:
    row = np.random.default_rng(0).normal(0, 1, 40)
    table = np.repeat(row[None, :], 4, axis=0)
    low, high = crossed_mean(table)
    half = 2.0226909200367604 * row.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((row.mean() - half, row.mean() + half))


def test_a_look_waits_for_the_third_seed_and_spends_its_share_of_the_error() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((6, 30)), random.random((6, 30))
    taken = looks.looks(first.tolist(), second.tolist(), metric="exact_match")
    assert [one.seeds for one in taken] == [3, 4, 5, 6]
    assert [one.confidence for one in taken] == pytest.approx([0.99, 0.98, 0.99, 0.99])
    assert sum(looks.ERRORS.values()) == pytest.approx(0.05)
    assert taken[0].difference == pytest.approx(float((first - second)[:3].mean()))


def test_where_less_is_better_the_sign_turns() -> None:
    first = [[1.0, 1.1, 0.9]] * 3
    second = [[2.0, 2.1, 1.8]] * 3
    (taken,) = looks.looks(first, second, metric="bits_per_byte")
    assert taken.difference == pytest.approx(29 / 30)


def test_equal_arms_are_surely_the_same_and_never_separated() -> None:
    rows = [[1.0, 0.0, 1.0, 1.0]] * 3
    (taken,) = looks.looks(rows, rows, metric="exact_match")
    assert not taken.separated
    assert taken.surely_same("exact_match")


@pytest.mark.parametrize("of_seeds", [0.0, 0.02, 0.2])
def test_all_looks_together_err_in_at_most_one_probe_of_twenty(of_seeds: float) -> None:
    random, probes, wrong = np.random.default_rng(2), 400, 0
    for _ in range(probes):
        table = drawn(random, seeds=6, rows=60, of_seeds=of_seeds)
        nothing = np.zeros_like(table)
        taken = looks.looks(table, nothing, metric="exact_match")  # type: ignore[arg-type]
        wrong += any(one.separated for one in taken)
    # 20 are expected at most; 33 or more would come in under 1 % of such tests
    assert wrong < 33


def test_a_difference_that_is_there_is_found() -> None:
    random = np.random.default_rng(3)
    table = drawn(random, seeds=6, rows=500, mean=0.3, of_seeds=0.02)
    taken = looks.looks(table, np.zeros_like(table), metric="exact_match")  # type: ignore[arg-type]
    assert taken[0].separated
    assert taken[0].low < 0.3 < taken[0].high
