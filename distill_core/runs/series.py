"""Curves out of a run's events.

In: `events.jsonl` from a byte offset on. Out: one series of (step, value) per stage and metric,
thinned to what a plot can show. Knows nothing of plots or of what a metric means.

The rule after a resume: when a step arrives that is not beyond its stage's newest one, the run has
gone back to a checkpoint. What that stage had from this step on, and all that later stages had, is
superseded and dropped. Within one series a new value at a step also replaces the old one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from distill_core.runs import journal

Points = tuple[list[int], list[float]]
Series = dict[str, dict[str, list[float]]]

LINES_AT_ONCE = 2048
"""Lines that are decoded together: fewer cost more calls, more keep more objects in memory."""


class Curves:
    """Every series of a run so far; `add` events in the order in which they were written."""

    def __init__(self) -> None:
        self.points: dict[tuple[int, str], Points] = {}
        self._newest: dict[int, int] = {}

    def add_steps(self, stage: int, steps: list[int], metrics: list[dict[str, Any]]) -> None:
        """Take in `step` events of one stage that follow each other; `steps` rise."""
        if steps[0] <= self._newest.get(stage, -1) or any(s > stage for s in self._newest):
            self._go_back(stage, steps[0])
        self._newest[stage] = steps[-1]
        self._extend(stage, steps, metrics)

    def add_score(self, stage: int, step: int, metrics: dict[str, Any]) -> None:
        """Take in the metrics of one `evaluation` event."""
        self._extend(stage, [step], [metrics])

    def _extend(self, stage: int, steps: list[int], metrics: list[dict[str, Any]]) -> None:
        for name in set().union(*metrics):
            steps_told, values = _finite(steps, [each.get(name) for each in metrics])
            if not steps_told:
                continue
            series = self.points.setdefault((stage, name), ([], []))
            if series[0] and series[0][-1] >= steps_told[0]:
                _cut(series, steps_told[0])
            series[0].extend(steps_told)
            series[1].extend(values)

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


def _add_lines(curves: Curves, lines: list[bytes]) -> None:
    """Add steps that follow each other in one go: a long run is nearly all steps."""
    stage, steps, metrics = -1, list[int](), list[dict[str, Any]]()

    def add_waiting() -> None:
        if steps:
            curves.add_steps(stage, steps, metrics)

    for event in _told(lines):
        try:
            kind, at, step = event["type"], event["stage"], event["step"]
            found = event["metrics"]
            whole = isinstance(at, int) and isinstance(step, int) and isinstance(found, dict)
        except (KeyError, TypeError):
            continue  # a damaged line is skipped
        if not whole:
            continue
        if kind == "step":
            follows = steps and at == stage and step > steps[-1]
            if not follows or len(steps) == LINES_AT_ONCE:
                add_waiting()
                stage, steps, metrics = at, [], []
            steps.append(step)
            metrics.append(found)
        elif kind == "evaluation":
            add_waiting()
            steps, metrics = [], []
            curves.add_score(at, step, found)
    add_waiting()


def _told(lines: list[bytes]) -> Iterator[Any]:
    """The events that have metrics, many lines at a time; one that cannot be read is left out."""
    for start in range(0, len(lines), LINES_AT_ONCE):
        some = [line for line in lines[start : start + LINES_AT_ONCE] if b'"metrics"' in line]
        try:
            yield from orjson.loads(b"[" + b",".join(some) + b"]")
        except orjson.JSONDecodeError:
            for line in some:
                with contextlib.suppress(orjson.JSONDecodeError):
                    yield orjson.loads(line)


def _finite(steps: list[int], values: list[Any]) -> Points:
    """Leave out what is no number; nearly always that is nothing."""
    if set(map(type, values)) <= {int, float} and np.isfinite(values).all():
        return steps, values
    kept = [
        (step, value)
        for step, value in zip(steps, values, strict=True)
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return [step for step, _ in kept], [value for _, value in kept]


def _cut(series: Points, step: int) -> None:
    """Drop what a series has at `step` and beyond."""
    steps, values = series
    keep = len(steps)
    while keep and steps[keep - 1] >= step:
        keep -= 1
    del steps[keep:], values[keep:]
