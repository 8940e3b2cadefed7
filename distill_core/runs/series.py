"""Curves out of a run's events.

In: `events.jsonl` from a byte offset on. Out: one series of (step, value) per stage and metric,
thinned to what a plot can show. Knows nothing of plots or of what a metric means.

The rule after a resume: when a step arrives that is not beyond its stage's newest one, the run has
gone back to a checkpoint. What that stage had from this step on, and all that later stages had, is
superseded and dropped. Within one series a new value at a step also replaces the old one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import orjson

from distill_core.runs import journal

Points = tuple[list[int], list[float]]
Series = dict[str, dict[str, list[float]]]


class Curves:
    """Every series of a run so far; `add` events in the order in which they were written."""

    def __init__(self) -> None:
        self.points: dict[tuple[int, str], Points] = {}
        self._newest: dict[int, int] = {}

    def add(self, kind: str, stage: int, step: int, metrics: dict[str, object]) -> None:
        """Take in the metrics of one `step` or `evaluation` event."""
        if kind == "step":
            if step <= self._newest.get(stage, -1) or any(s > stage for s in self._newest):
                self._go_back(stage, step)
            self._newest[stage] = step
        points = self.points
        for name, value in metrics.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            series = points.get((stage, name))
            if series is None:
                series = points[stage, name] = ([], [])
            elif series[0][-1] >= step:
                _cut(series, step)
            series[0].append(step)
            series[1].append(value)

    def thinned(self, max_points: int) -> Series:
        """Return `{"<stage>/<metric>": {"step": […], "value": […]}}`."""
        series: Series = {}
        for (stage, name), (steps, values) in sorted(self.points.items()):
            kept_steps, kept_values = thin(steps, values, max_points)
            series[f"{stage}/{name}"] = {"step": kept_steps, "value": kept_values}
        return series

    def _go_back(self, stage: int, step: int) -> None:
        for (other, name), series in list(self.points.items()):
            if other == stage:
                _cut(series, step)
            if other > stage or not series[0]:
                del self.points[other, name]
        self._newest = {s: newest for s, newest in self._newest.items() if s <= stage}


def read_series(run_dir: Path, offset: int = 0, *, max_points: int = 1000) -> tuple[Series, int]:
    """Read the curves written after byte `offset`; returns them with the offset to go on from."""
    lines, offset = journal.read_lines(run_dir, offset)
    curves = Curves()
    _add_lines(curves, lines)
    return curves.thinned(max_points), offset


def thin(steps: list[int], values: list[float], max_points: int) -> tuple[list, list]:
    """Keep at most `max_points`: the lowest and the highest of each bucket, and both ends."""
    if len(steps) <= max_points:
        return steps, values
    if max_points < 4:
        return steps[-max_points:], values[-max_points:]
    buckets = (max_points - 2) // 2
    array = np.asarray(values)
    edges = np.linspace(1, len(steps) - 1, buckets + 1).astype(int)
    kept = {0, len(steps) - 1}
    for start, end in itertools.pairwise(edges):
        kept.add(start + int(array[start:end].argmin()))
        kept.add(start + int(array[start:end].argmax()))
    index = sorted(kept)
    return [steps[i] for i in index], [values[i] for i in index]


def _add_lines(curves: Curves, lines: Iterable[bytes]) -> None:
    for line in lines:
        if b'"metrics"' not in line:
            continue
        try:
            event = orjson.loads(line)
            kind = event["type"]
            if kind in ("step", "evaluation"):
                curves.add(kind, event["stage"], event["step"], event["metrics"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue  # a damaged line is skipped


def _cut(series: Points, step: int) -> None:
    """Drop what a series has at `step` and beyond."""
    steps, values = series
    keep = len(steps)
    while keep and steps[keep - 1] >= step:
        keep -= 1
    del steps[keep:], values[keep:]
