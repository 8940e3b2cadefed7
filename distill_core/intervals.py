"""How sure a score is: intervals and paired tests.

In: one value per row, the same rows for every model. Out: 95 % intervals and p-values. Knows
nothing of models.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Values = Sequence[float] | Sequence[bool] | np.ndarray
"""One value, or right or wrong, for each row."""

RESAMPLES = 10_000
"""Of every bootstrap; seeded, so that the same rows give the same interval."""

_BLOCK = 500
_ROWS_KEPT = 2000
"""Draws of up to so many rows stay in memory (80 MB) for the next interval over them."""


def wilson(correct: Values) -> list[float]:
    """95 % Wilson interval [low, high] of the share of `correct`; 0–1."""
    from statsmodels.stats.proportion import proportion_confint

    if not len(correct):
        return [0.0, 1.0]
    low, high = proportion_confint(int(np.sum(correct)), len(correct), method="wilson")
    return [max(0.0, float(low)), min(1.0, float(high))]  # rounding leaves 1e-19 at the ends


def paired_bootstrap(
    columns: Sequence[Values], statistic: Callable[..., np.ndarray]
) -> list[float] | None:
    """95 % percentile bootstrap interval of `statistic(mean of each column)`, rows paired.

    The same rows are drawn for every column. None where there are no rows, or the statistic is
    finite for none of the samples.
    """
    table = np.stack([np.asarray(column, float) for column in columns], axis=1)
    if not len(table):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.asarray(statistic(*_resampled_means(table).T))
    values = values[np.isfinite(values)]
    return [float(v) for v in np.quantile(values, [0.025, 0.975])] if len(values) else None


def of_medians(
    columns: Sequence[Values], statistic: Callable[..., np.ndarray]
) -> list[float] | None:
    """As `paired_bootstrap`, of `statistic(median of each column)`; for a few dozen rows."""
    table = np.stack([np.asarray(column, float) for column in columns], axis=1)
    if not len(table):
        return None
    drawn = np.random.default_rng(0).integers(0, len(table), size=(RESAMPLES, len(table)))
    values = np.asarray(statistic(*np.median(table[drawn], axis=1).T))
    return [float(v) for v in np.quantile(values, [0.025, 0.975])]


def paired_ratio(numerator: Values, denominator: Values) -> list[float] | None:
    """95 % interval of mean(numerator) / mean(denominator), rows paired.

    None where the denominator's mean is zero: there is nothing to be a share of.
    """
    if not len(denominator) or np.mean(denominator) == 0:
        return None
    return paired_bootstrap([numerator, denominator], lambda top, bottom: top / bottom)


def paired_difference(first: Values, second: Values) -> list[float]:
    """95 % interval of mean(first − second), rows paired."""
    found = paired_bootstrap([first, second], lambda a, b: a - b)
    assert found is not None, "there are rows to compare"
    return found


def paired_share_difference(first: Values, second: Values) -> list[float]:
    """95 % interval of the difference of two shares of right answers, rows paired.

    It leaves out 0 exactly where `mcnemar` has p < .05: Clopper-Pearson's for the share of the
    discordant rows on which the first one is right, times Wilson's for the share of rows that are
    discordant. Both at their worst at once make it a little wider than a bootstrap's.
    """
    from statsmodels.stats.proportion import proportion_confint

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    wins, losses = int(np.sum(a & ~b)), int(np.sum(~a & b))
    apart = wins + losses
    if not apart:
        return [0.0, 0.0]
    low, high = (2 * side - 1 for side in proportion_confint(wins, apart, method="beta"))
    few, many = proportion_confint(apart, len(a), method="wilson")
    return [float(low * (few if low > 0 else many)), float(high * (few if high < 0 else many))]


def mean(values: Values) -> list[float] | None:
    """95 % percentile bootstrap interval of a mean."""
    return paired_bootstrap([values], lambda a: a)


def mcnemar(first: Values, second: Values) -> float:
    """Two-sided exact McNemar p-value that both are right equally often on the same rows."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    a, b = np.asarray(first, bool), np.asarray(second, bool)
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return float(test(table, exact=True).pvalue)


def sign_flip(first: Values, second: Values) -> float:
    """Two-sided p-value that two models score alike on the same rows, by a permutation test.

    Under that hypothesis each row's difference might as well have the other sign: how often is
    the mean then as far from 0 as it is? At least 1 / (1 + `RESAMPLES`).
    """
    apart = np.asarray(first, float) - np.asarray(second, float)
    seen = abs(apart.sum())
    if seen == 0:
        return 1.0
    random = np.random.default_rng(0)
    further = 0
    for start in range(0, RESAMPLES, _BLOCK):
        count = min(_BLOCK, RESAMPLES - start)
        signs = random.integers(0, 2, size=(count, len(apart)), dtype=np.int8) * 2 - 1
        # what rounding makes of equal sums counts as equal
        further += int(np.sum(abs(signs @ apart) >= seen * (1 - 1e-9)))
    return (1 + further) / (1 + RESAMPLES)


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


def _resampled_means(table: np.ndarray) -> np.ndarray:
    """Means (RESAMPLES, C) of `table[R, C]` over rows drawn again and again."""
    rows = len(table)
    blocks = _kept_draws(rows) if rows <= _ROWS_KEPT else _draws(rows)
    return np.concatenate([counts @ table / rows for counts in blocks])


def _draws(rows: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, (up to `_BLOCK`, R) at a time: `RESAMPLES` draws of R rows."""
    random = np.random.default_rng(0)
    for start in range(0, RESAMPLES, _BLOCK):
        count = min(_BLOCK, RESAMPLES - start)
        drawn = random.integers(0, rows, size=(count, rows))
        drawn += np.arange(count)[:, None] * rows
        counted = np.bincount(drawn.ravel(), minlength=count * rows)
        yield counted.reshape(count, rows).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _kept_draws(rows: int) -> list[np.ndarray]:
    return list(_draws(rows))


def crossed_mean(table: np.ndarray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of `table[S, R]`: S seeds by R rows, both drawn from many more.

    Rows are the same for every seed. With mean squares MS of a two-way layout without repetition,
    half the width is √(t²(S−1)·MS_seeds/SR + t²(R−1)·(MS_rows − MS_rest)/SR): each part of the
    variance has the t of its own degrees of freedom, which errs on the wide side (Graybill and
    Wang 1980, "modified large sample"). At least two seeds.
    """
    from scipy import stats

    seeds, rows = table.shape
    assert seeds > 1, "one seed tells nothing of seeds"
    mean = float(table.mean())
    of_seeds, of_rows = table.mean(1), table.mean(0)
    rest = table - of_seeds[:, None] - of_rows[None, :] + mean
    between_seeds = rows * float(np.var(of_seeds, ddof=1))
    between_rows = seeds * float(np.var(of_rows, ddof=1)) if rows > 1 else 0.0
    left_over = float((rest**2).sum()) / max(1, (seeds - 1) * (rows - 1))
    side = (1 + confidence) / 2
    variance = stats.t.ppf(side, seeds - 1) ** 2 * between_seeds
    if rows > 1:
        variance += stats.t.ppf(side, rows - 1) ** 2 * max(0.0, between_rows - left_over)
    half = float(np.sqrt(variance / (seeds * rows)))
    return mean - half, mean + half
