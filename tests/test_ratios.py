"""What must stay fast and small, as ratios of two measurements taken side by side.

In: this checkout. Out: nothing. Absolute times are for `make bench`: here the machine may be busy,
so that processor time is compared with processor time, and the margins are wide.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core.data import spooled
from distill_core.data.formats import Row
from distill_core.data.spooled import Spooled
from tests.benchmarks.growth import add_steps, long_run
from ui import plots, tab_train

ROOT = Path(__file__).parent.parent

resource = pytest.importorskip("resource", reason="needs the processor time of a child process")


def child(*arguments: str) -> tuple[float, str]:
    """Processor seconds of a Python process, one thread, and what it printed."""

    def used() -> float:
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(now.ru_utime + now.ru_stime)

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = used()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return used() - began, done.stdout


def test_the_loss_in_chunks_is_no_slower_and_much_smaller() -> None:
    def told(way: str) -> dict[str, Any]:
        spec = {"terms": "jsd", "vocabulary": 8192, "rows": 1024, "way": way}
        spec |= {"threads": 1, "device": "cpu"}
        _, said = child("tests/benchmarks/loss_alone.py", "--one", json.dumps(spec))
        return dict(json.loads(said.splitlines()[-1]))

    plain, chunked = told("plain"), told("chunked")
    assert chunked["loss"] == pytest.approx(plain["loss"], rel=2e-3)
    assert chunked["seconds"] < 1.1 * plain["seconds"]
    if sys.platform == "linux":  # where a peak can be forgotten
        assert chunked["bytes"] < 0.5 * plain["bytes"]


def test_help_and_import_wait_for_no_heavy_library() -> None:
    heavy, _ = child("-c", "import torch")
    light, _ = child("-c", "import distill_core")
    shown, words = child("-m", "distill_core.cli", "--help")
    assert "evaluate" in words
    assert light < 0.5 * heavy
    assert shown < heavy


def test_a_refresh_reads_what_is_new_and_not_all_of_a_long_run(tmp_path: Path) -> None:
    steps = 100_000
    run = long_run(tmp_path, steps)

    def refreshed(since: int) -> tuple[float, int]:
        began = time.process_time()
        for draw in (tab_train.view, tab_train.header_of, tab_train.samples_of):
            draw(run, runs_dir=str(tmp_path))
        points = plots.read_points({"run": run, "since": since}, runs_dir=str(tmp_path))
        return time.process_time() - began, int(points["offset"])

    opened, offset = refreshed(0)
    took = []
    for number in range(20):
        add_steps(tmp_path / run, steps + 1 + number, 1)
        seconds, offset = refreshed(offset)
        took.append(seconds)
    assert sorted(took)[18] < 0.2 * opened


def test_ten_times_the_rows_are_not_ten_times_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(spooled, "IN_MEMORY", 1000)

    def rows(count: int) -> Iterator[Row]:
        for number in range(count):
            yield Row(None, f"the text of row {number}, which is not short", f"rows.txt:{number}")

    def held(make: Callable[[], Any]) -> int:
        tracemalloc.start()
        kept = make()
        now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) > 0
        return now

    few = held(lambda: Spooled(rows(1000)))
    many = held(lambda: Spooled(rows(10_000)))
    assert held(lambda: list(rows(10_000))) > 5 * few
    assert many < 5 * few
