"""Curves: the newest value of each step, thinned without losing a peak, and quick."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_core.events import Event, event
from distill_core.runs import journal, series


def step(number: int, *, stage: int = 0, **metrics: float) -> Event:
    return event("step", stage=stage, step=number, metrics=metrics or {"loss": float(number)})


def score(number: int, value: float, *, stage: int = 0) -> Event:
    return event("evaluation", stage=stage, step=number, metrics={"held_out_forward_kl": value})


def read(folder: Path, happenings: list[Event], max_points: int = 1000) -> series.Series:
    with journal.Journal(folder) as log:
        for happening in happenings:
            log.append(happening)
    return series.read_series(folder, max_points=max_points)[0]


def test_one_series_per_stage_and_metric(tmp_path: Path) -> None:
    told = [step(1, loss=3.0, grad_norm=1.0), score(1, 0.5), step(2, loss=2.0)]
    found = read(tmp_path, [*told, step(1, stage=1, loss=9.0)])
    assert found == {
        "0/grad_norm": {"step": [1], "value": [1.0]},
        "0/held_out_forward_kl": {"step": [1], "value": [0.5]},
        "0/loss": {"step": [1, 2], "value": [3.0, 2.0]},
        "1/loss": {"step": [1], "value": [9.0]},
    }


def test_what_came_after_the_checkpoint_is_superseded(tmp_path: Path) -> None:
    """Killed at 6, resumed from 4: steps 5 and 6 and the score at 6 are of the past."""
    before = [step(n, loss=1.0) for n in range(1, 7)] + [score(4, 0.4), score(6, 0.6)]
    found = read(tmp_path, [*before, step(5, loss=2.0)])
    assert found["0/loss"] == {"step": [1, 2, 3, 4, 5], "value": [1, 1, 1, 1, 2]}
    assert found["0/held_out_forward_kl"] == {"step": [4], "value": [0.4]}


def test_going_back_a_stage_drops_the_later_one(tmp_path: Path) -> None:
    told = [step(1), step(2), step(1, stage=1), score(1, 0.5, stage=1), step(2)]
    found = read(tmp_path, told)
    assert set(found) == {"0/loss"}
    assert found["0/loss"]["step"] == [1, 2]


def test_a_score_told_again_replaces_the_old_one(tmp_path: Path) -> None:
    found = read(tmp_path, [score(0, 0.9), score(4, 0.5), score(4, 0.4)])
    assert found["0/held_out_forward_kl"] == {"step": [0, 4], "value": [0.9, 0.4]}


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, [step(1, loss=float("nan")), step(2, loss=1.0)])
    assert found["0/loss"] == {"step": [2], "value": [1.0]}


def test_a_later_read_gets_only_what_is_new(tmp_path: Path) -> None:
    read(tmp_path, [step(1)])
    first, offset = series.read_series(tmp_path)
    assert series.read_series(tmp_path, offset) == ({}, offset)
    read(tmp_path, [step(2)])
    later, _ = series.read_series(tmp_path, offset)
    assert first["0/loss"]["step"] == [1]
    assert later["0/loss"]["step"] == [2]


NUMBERS = st.one_of(st.integers(0, 9), st.floats(allow_infinity=True), st.none(), st.text("ab"))
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["step", "step", "step", "evaluation"]),
        st.integers(0, 1),
        st.integers(0, 6),
        st.dictionaries(st.sampled_from(["loss", "grad_norm"]), NUMBERS, min_size=1),
    ),
    max_size=40,
)


def one_by_one(happenings: list[tuple[str, int, int, dict[str, Any]]]) -> series.Series:
    """The rule of the module, event after event, point after point."""
    points: dict[tuple[int, str], dict[int, float]] = {}
    newest: dict[int, int] = {}
    for kind, stage, step, metrics in happenings:
        if kind == "step":
            if step <= newest.get(stage, -1) or any(later > stage for later in newest):
                for at, name in list(points):
                    kept = {s: v for s, v in points[at, name].items() if at < stage or s < step}
                    points[at, name] = kept if at <= stage else {}
                newest = {at: last for at, last in newest.items() if at <= stage}
            newest[stage] = step
        for name, value in metrics.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            old = points.get((stage, name), {})
            points[stage, name] = {s: v for s, v in old.items() if s < step} | {step: value}
    return {
        f"{stage}/{name}": {"step": [*found], "value": [*found.values()]}
        for (stage, name), found in sorted(points.items())
        if found
    }


@given(HAPPENINGS, st.integers(1, 5))
def test_many_lines_at_once_come_to_the_same_as_one_by_one(
    happenings: list[tuple[str, int, int, dict[str, Any]]], at_once: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(series, "LINES_AT_ONCE", at_once)
        told = [event(k, stage=a, step=n, metrics=m) for k, a, n, m in happenings]  # type: ignore[arg-type]
        assert read(Path(name), told) == one_by_one(happenings)


def test_a_damaged_line_costs_none_of_its_neighbours(tmp_path: Path) -> None:
    lines = [orjson.dumps(step(number)) for number in range(1, 4)]
    lines[1:1] = [
        b'{"metrics": torn',
        b'[{"metrics"}]',
        b'"metrics"',
        b'{"metrics":{},"type":"step"}',
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert series.read_series(tmp_path)[0]["0/loss"]["step"] == [1, 2, 3]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    st.integers(4, 60),
)
def test_thinning_keeps_ends_lowest_and_highest(values: list[float], max_points: int) -> None:
    steps = list(range(10, 10 + len(values)))
    kept_steps, kept = series.thin(steps, values, max_points)
    assert len(kept) <= max_points
    assert kept_steps == sorted(set(kept_steps))
    assert (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])
    assert (min(kept), max(kept)) == (min(values), max(values))
    assert all(values[s - 10] == v for s, v in zip(kept_steps, kept, strict=True))


@pytest.mark.parametrize("max_points", [1, 2, 3])
def test_thinning_to_a_handful(max_points: int) -> None:
    assert len(series.thin([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], max_points)[0]) == max_points


def test_a_hundred_thousand_steps_are_read_within_a_second(tmp_path: Path) -> None:
    names = ("loss", "forward_kl", "cross_entropy", "weighted_forward_kl", "learning_rate")
    names += ("weighted_cross_entropy", "grad_norm", "tokens_per_s", "memory_bytes")
    with open(tmp_path / "events.jsonl", "wb") as file:
        for number in range(100_000):
            metrics = {name: 0.123456789 + number % 97 for name in names}
            file.write(orjson.dumps(step(number, **metrics)) + b"\n")
    begin = time.process_time()
    found, offset = series.read_series(tmp_path, max_points=1000)
    first_s = time.process_time() - begin
    assert len(found) == len(names)
    assert max(len(points["step"]) for points in found.values()) <= 1000
    assert first_s < 1.0
    begin = time.process_time()
    series.read_series(tmp_path, offset)
    assert time.process_time() - begin < 0.02
