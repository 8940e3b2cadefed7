"""Learning curves: what a longer run would reach, with how sure that is.

In: scores at growing numbers of steps, seed by seed. Out: `Ahead`, or why nothing can be said.
Knows no files.

A power law, score = a − b·steps^(−c), is fitted by least squares: for each c of a grid, a and b are
a linear fit. The interval is a bootstrap over the points' distances from the curve, drawn again and
again, with c chosen anew each time. It does not know that the learning rate falls towards the end
of a run, which lifts the last points: it is a forecast, not a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill_core.scores import SCORES, higher_is_better

LEAST_STEPS = 4
"""So many different numbers of steps a curve has to have been looked at."""

FURTHEST = 30.0
"""So many times its last step a curve may be followed."""

RESAMPLES = 400
_POWERS = np.linspace(0.1, 2.0, 39)


@dataclass(frozen=True)
class Ahead:
    """What the full run would reach; no numbers where `why` says that nothing can be said."""

    steps: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def ahead(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]], *, steps: int, metric: str
) -> Ahead:
    """Follow the curves of all seeds, (steps, values) each, to a number of `steps`."""
    points = [(s, v) for at, values in curves for s, v in zip(at, values, strict=True) if s > 0]
    different = {s for s, _ in points}
    if len(different) < LEAST_STEPS:
        return Ahead(steps, why=f"not enough points: {len(different)}, not {LEAST_STEPS}")
    if steps > FURTHEST * max(different):
        return Ahead(steps, why=f"more than {FURTHEST:.0f} times as far as the curve goes")
    at, values = np.array(points, float).T
    if steps <= max(different):
        return Ahead(steps, why="the curve goes as far already")
    way = 1.0 if higher_is_better(metric) else -1.0
    if _bends_upwards(at, way * values):
        return Ahead(
            steps, why="it still rises ever faster, so nobody can tell where it levels off"
        )
    fitted, forecast = _fit(at, way * values[None, :], float(steps))
    apart = way * values - fitted[0]
    apart *= np.sqrt(len(at) / max(1, len(at) - 3))  # three numbers were fitted
    drawn = np.random.default_rng(0).choice(apart, size=(RESAMPLES, len(at)))
    _, again = _fit(at, fitted + drawn, float(steps))
    ends = way * np.quantile(again, [0.025, 0.975])
    bounded = SCORES[metric].unit == "0–1"
    low, value, high = (
        float(np.clip(one, 0.0, 1.0 if bounded else np.inf))
        for one in (ends.min(), way * forecast[0], ends.max())
    )
    return Ahead(steps, value, min(low, value), max(high, value))


def _bends_upwards(at: np.ndarray, values: np.ndarray) -> bool:
    """Whether the later half rises faster than the earlier one: no power law does."""
    middle = np.median(at)
    earlier, later = at <= middle, at >= middle
    first, second = (np.polyfit(at[half], values[half], 1)[0] for half in (earlier, later))
    return bool(second > max(first, 0.0))


def _fit(at: np.ndarray, values: np.ndarray, steps: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit B sets of values (B, P) at steps (P,); returns the curves (B, P) and B forecasts.

    A curve that would fall is held level: training longer is not taken to make things worse.
    """
    best = np.full(len(values), np.inf)
    curves, forecasts = np.zeros(values.shape), np.zeros(len(values))
    middle = values.mean(1)
    for power in _POWERS:
        falling = at**-power
        apart = falling - falling.mean()
        slope = np.minimum(0.0, (values - middle[:, None]) @ apart / (apart @ apart))
        start = middle - slope * falling.mean()
        curve = start[:, None] + slope[:, None] * falling
        error = ((values - curve) ** 2).sum(1)
        better = error < best
        best[better], curves[better] = error[better], curve[better]
        forecasts[better] = (start + slope * steps**-power)[better]
    return curves, forecasts
