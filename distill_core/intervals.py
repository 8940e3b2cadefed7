"""How sure a score is: intervals and paired tests.

In: right or wrong per row, the same rows for every model. Out: 95 % intervals and p-values, from
statsmodels and scipy. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
"""Of every bootstrap; seeded, so that the same rows give the same interval."""


def wilson(correct: Sequence[bool]) -> list[float]:
    """95 % Wilson interval [low, high] of the share of `correct`; 0–1."""
    from statsmodels.stats.proportion import proportion_confint

    if not len(correct):
        return [0.0, 1.0]
    low, high = proportion_confint(int(np.sum(correct)), len(correct), method="wilson")
    return [float(low), float(high)]


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> list[float] | None:
    """95 % percentile bootstrap interval of mean(numerator) / mean(denominator), rows paired.

    None where the denominator's mean is zero: there is nothing to be a share of.
    """
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    if not len(bottom) or bottom.mean() == 0:
        return None
    means_top, means_bottom = _resampled_means(top, bottom)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means_top / means_bottom
    ratios = ratios[np.isfinite(ratios)]
    return [float(value) for value in np.quantile(ratios, [0.025, 0.975])]


def paired_difference(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """95 % percentile bootstrap interval of mean(first − second), rows paired."""
    means_first, means_second = _resampled_means(
        np.asarray(first, float), np.asarray(second, float)
    )
    return [float(value) for value in np.quantile(means_first - means_second, [0.025, 0.975])]


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Two-sided exact McNemar p-value that both are right equally often on the same rows."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return float(test(table, exact=True).pvalue)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence − accuracy| over equal-width bins; 0–1.

    Guo et al. 2017, arXiv 1706.04599, with 15 bins.
    """
    if not len(confidence):
        return 0.0
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for place in np.unique(places):
        inside = places == place
        gap = abs(confidence[inside].mean() - correct[inside].mean())
        error += inside.mean() * gap
    return float(error)


def _resampled_means(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of both over the same resampled rows, (RESAMPLES,) each."""
    random = np.random.default_rng(0)
    rows = len(first)
    counts = random.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)
    return counts @ first / rows, counts @ second / rows
