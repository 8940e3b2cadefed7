"""What may be done to a run in which state, and what is refused with a reason."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from distill_core import api, runs
from distill_core.errors import RunError
from distill_core.runs import journal, run_control
from distill_core.runs import status as run_status
from tests.core import pretend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return runs.create(pretend.recipe(), tmp_path)


def put(folder: Path, state: str, *, alive: bool = True) -> None:
    """Write a state; a running run's process is this one, or none that is there."""
    status = run_status.read(folder) | run_status.this_process() | {"state": state}
    if not alive:
        status["process_start_time"] = status["heartbeat_time"] = 1.0
    run_status.write(folder, status)


def state(folder: Path) -> str:
    return str(run_status.current(folder)["state"])


def test_a_waiting_run_is_stopped_at_once(folder: Path) -> None:
    api.stop(folder.name, runs_dir=folder.parent)
    assert state(folder) == "stopped"
    assert journal.read(folder)[0][-1]["reason"] == "stopped"
    assert run_control.asked(folder) is None


def test_a_waiting_run_is_paused_at_once(folder: Path) -> None:
    api.pause(folder.name, runs_dir=folder.parent)
    assert state(folder) == "paused"
    api.stop(folder.name, runs_dir=folder.parent)
    assert state(folder) == "stopped"


def test_a_running_run_is_asked_by_a_file(folder: Path) -> None:
    put(folder, "running")
    run_control.pause(folder)
    assert run_control.asked(folder) == "pause"
    assert state(folder) == "stopping"
    run_control.stop(folder)
    run_control.stop(folder)
    assert run_control.asked(folder) == "stop", "stopping weighs more than pausing"


@pytest.mark.parametrize("where", ["finished", "failed", "stopped"])
def test_what_has_ended_cannot_be_stopped_or_paused(folder: Path, where: str) -> None:
    put(folder, where)
    with pytest.raises(RunError, match=f"is {where}: there is nothing to stop"):
        run_control.stop(folder)
    with pytest.raises(RunError, match=f"is {where}: there is nothing to pause"):
        run_control.pause(folder)


@pytest.mark.parametrize("where", ["paused", "stopped", "failed", "lost"])
def test_resuming_puts_it_at_the_end_of_the_queue(folder: Path, where: str) -> None:
    put(folder, "running" if where == "lost" else where, alive=False)
    (folder / "stop").touch()
    later = runs.create(pretend.recipe(), folder.parent)
    api.resume(folder.name, runs_dir=folder.parent)
    assert state(folder) == "queued"
    assert run_control.asked(folder) is None
    assert api.show(folder.name, runs_dir=folder.parent)["status"]["queue_position"] == 2
    assert api.show(later.name, runs_dir=folder.parent)["status"]["queue_position"] == 1


@pytest.mark.parametrize(
    ("where", "asked", "words"),
    [
        ("queued", False, "is queued already"),
        ("running", False, "is running already"),
        ("running", True, "still saving"),
        ("finished", False, "has finished.\nStart a new one"),
    ],
)
def test_resuming_is_refused_with_the_reason(
    folder: Path, where: str, asked: bool, words: str
) -> None:
    put(folder, where)
    if asked:
        (folder / "stop").touch()
    with pytest.raises(RunError, match=re.escape(words)):
        run_control.resume(folder)


@pytest.mark.parametrize("where", ["queued", "running"])
def test_an_active_run_is_not_deleted(folder: Path, where: str) -> None:
    put(folder, where)
    with pytest.raises(RunError, match=f"is {where}.\nStop it before"):
        api.delete(folder.name, runs_dir=folder.parent)
    assert folder.exists()


def test_deleting_removes_the_folder_and_nothing_else(folder: Path) -> None:
    other = runs.create(pretend.recipe(), folder.parent)
    put(folder, "finished")
    (folder / "student").mkdir()
    (folder / "student" / "model.safetensors").touch()
    api.delete(folder.name, runs_dir=folder.parent)
    left = [name for name in os.listdir(folder.parent) if not name.startswith(".changes")]
    assert left == [other.name]


def test_a_lost_run_can_be_deleted(folder: Path) -> None:
    put(folder, "running", alive=False)
    api.delete(folder.name, runs_dir=folder.parent)
    assert not folder.exists()


def test_two_that_change_the_same_folder_wait_for_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_control.FileLock
    monkeypatch.setattr(run_control, "FileLock", lambda path, timeout: real(path, timeout=0.01))
    with (
        run_control.changing(folder.parent),
        pytest.raises(RunError, match="locked for 20 seconds"),
    ):
        run_control.stop(folder)
    assert state(folder) == "queued"
