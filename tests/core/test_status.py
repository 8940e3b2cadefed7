"""Where a run stands: a function of its file, its process and its heartbeat."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from distill_core.runs import status as run_status
from tests.core import pretend

RUNNING = {"state": "running"}
STALE = run_status.LOST_AFTER_S + 1


@pytest.mark.parametrize(
    ("status", "alive", "age_s", "state"),
    [
        (RUNNING, True, 0, "running"),
        (RUNNING, True, STALE, "running"),  # busy, but there: a second worker must not start
        (RUNNING, False, 0, "lost"),
        (RUNNING, None, 1, "running"),  # on another computer, or about to start
        (RUNNING, None, STALE, "lost"),
        (RUNNING | {"stop_asked": True}, True, 0, "stopping"),
        (RUNNING | {"pause_asked": True}, True, 0, "stopping"),
        (RUNNING | {"stop_asked": True}, False, 0, "lost"),
        ({"state": "queued", "stop_asked": True}, None, STALE, "queued"),
        ({"state": "finished"}, False, STALE, "finished"),
        ({"state": "failed"}, True, 0, "failed"),
        ({"state": "paused"}, None, STALE, "paused"),
        ({"state": "stopped"}, None, STALE, "stopped"),
        ({}, None, 0, "lost"),
    ],
)
def test_state(status: dict[str, Any], alive: bool | None, age_s: float, state: str) -> None:
    assert run_status.state_of(status, alive, age_s) == state


def test_this_process_is_alive() -> None:
    mine = run_status.EMPTY | run_status.this_process()
    assert run_status.is_alive(mine) is True


def test_a_reused_pid_is_not_taken_for_the_old_process() -> None:
    mine = run_status.EMPTY | run_status.this_process()
    assert run_status.is_alive(mine | {"process_start_time": 1.0, "heartbeat_time": 2.0}) is False


def test_a_clock_that_was_set_does_not_lose_a_beating_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        beating = run_status.EMPTY | run_status.this_process() | {"pid": child.pid}
        beating |= {"process_start_time": 1.0, "heartbeat_time": time.time()}
        assert run_status.is_alive(beating) is True
        assert run_status.is_alive(beating | {"heartbeat_time": time.time() - 60}) is False
    finally:
        child.communicate()


def test_a_process_that_ended_but_was_not_collected_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    status = run_status.EMPTY | run_status.this_process()
    status |= {"pid": child.pid, "process_start_time": run_status.start_time(child.pid)}
    pretend.until("the end", lambda: run_status.is_alive(status) is False)
    child.wait()
    assert run_status.is_alive(status) is False


def test_nobody_knows_about_another_computer() -> None:
    mine = run_status.EMPTY | run_status.this_process()
    assert run_status.is_alive(mine | {"host": "elsewhere"}) is None
    assert run_status.is_alive(run_status.EMPTY) is None


def test_lost_says_why_and_where_it_goes_on(tmp_path: Path) -> None:
    gone = run_status.this_process() | {"process_start_time": 1.0, "heartbeat_time": 2.0}
    at = {"step": 120, "stages": 1, "phase": "training", "eta_s": 9.0}
    saved = {"checkpoint": {"stage": 0, "step": 100}}
    run_status.write(tmp_path, run_status.EMPTY | RUNNING | gone | at | saved)
    status = run_status.current(tmp_path)
    assert status["state"] == "lost"
    assert "ended unexpectedly at step 120" in status["message"]
    assert "continues from step 100" in status["message"]
    assert status["eta_s"] is None


def test_without_a_checkpoint_it_goes_on_from_the_start() -> None:
    early = run_status.EMPTY | {"phase": "loading"}
    assert run_status.ended_unexpectedly(early).endswith("continues from the start.")
    assert "while loading" in run_status.ended_unexpectedly(early)
    second = run_status.EMPTY | {"stages": 2, "checkpoint": {"stage": 1, "step": 0}}
    assert run_status.ended_unexpectedly(second).endswith("from the start of stage 2.")


def test_a_process_without_a_pulse_is_told(tmp_path: Path) -> None:
    quiet = run_status.this_process() | {"heartbeat_time": time.time() - 90}
    run_status.write(tmp_path, run_status.EMPTY | RUNNING | quiet)
    status = run_status.current(tmp_path)
    assert status["state"] == "running"
    assert "No sign of life" in status["message"]


def test_a_request_is_read_from_its_file_and_never_stored(tmp_path: Path) -> None:
    run_status.write(tmp_path, run_status.EMPTY | RUNNING | run_status.this_process())
    (tmp_path / "pause").touch()
    status = run_status.current(tmp_path)
    assert status["state"] == "stopping"
    assert "pausing" in status["message"]
    run_status.write(tmp_path, status)
    assert "pause_asked" not in (tmp_path / "status.json").read_text()


def test_unreadable_is_lost(tmp_path: Path) -> None:
    assert run_status.current(tmp_path)["state"] == "lost"
    (tmp_path / "status.json").write_text("{ half")
    assert run_status.current(tmp_path)["state"] == "lost"


@pytest.mark.parametrize(
    ("changes", "progress"),
    [
        ({"step": 5, "total_steps": 10}, 0.5),
        ({"stage": 1, "step": 5, "total_steps": 10, "steps_per_stage": [30, 10]}, 35 / 40),
        ({"state": "finished", "total_steps": 0}, 1.0),
        ({"total_steps": 0}, 0.0),
    ],
)
def test_progress_counts_the_steps_of_all_stages(
    tmp_path: Path, changes: dict[str, Any], progress: float
) -> None:
    run_status.write(tmp_path, run_status.EMPTY | {"state": "paused"} | changes)
    assert run_status.current(tmp_path)["progress"] == pytest.approx(progress)
    assert os.listdir(tmp_path) == ["status.json"]
