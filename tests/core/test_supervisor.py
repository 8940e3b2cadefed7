"""Starts, watches and ends workers: in order, once, and with a reason when one dies.

The workers are real processes that pretend to train (`tests/core/pretend.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill_core import api, processes, runs, supervisor
from distill_core.runs import journal, run_control, series
from distill_core.runs import status as run_status
from distill_core.supervisor import Supervisor
from tests.core import pretend
from tests.core.pretend import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


class Workers:
    """Starts workers that pretend, and remembers them."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.children: list[subprocess.Popen[bytes]] = []

    def __call__(self, folder: Path) -> subprocess.Popen[bytes]:
        self.started.append(folder.name)
        self.children.append(pretend.spawn(folder))
        return self.children[-1]


@pytest.fixture
def workers() -> Iterator[Workers]:
    started = Workers()
    yield started
    for child in started.children:
        child.kill()
        child.wait()


class Clock:
    """A clock that goes only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def status(folder: Path) -> dict[str, Any]:
    return run_status.current(folder)


def state(folder: Path) -> str:
    return str(status(folder)["state"])


def at_step(folder: Path, step: int) -> Any:
    return until(f"step {step}", lambda: run_status.read(folder)["step"] >= step)


def tick_until(boss: Supervisor, what: str, holds: Any) -> Any:
    return until(what, lambda: (boss.tick(), holds())[1])


def create(tmp_path: Path, name: str = "quick", **settings: Any) -> Path:
    return runs.create(pretend.recipe(name, **settings), tmp_path)


def test_runs_go_one_at_a_time_in_the_order_of_the_queue(tmp_path: Path, workers: Workers) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    first, second, third = (create(tmp_path) for _ in range(3))
    run_control.pause(first)
    run_control.resume(first)  # to the end of the queue
    most = 0

    def done() -> bool:
        nonlocal most
        states = [run_status.read(folder)["state"] for folder in (first, second, third)]
        most = max(most, states.count("running"))
        return states == ["finished"] * 3

    tick_until(boss, "all three", done)
    assert workers.started == [second.name, third.name, first.name]
    assert most == 1
    until("an empty queue", lambda: not boss.tick())
    boss.close()


def test_a_cpu_run_goes_beside_one_on_the_accelerator(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_has_accelerator", lambda: True)
    boss = Supervisor(tmp_path, spawn=workers)
    on_gpu = create(tmp_path, "slow", steps=100_000)
    waits = create(tmp_path, "slow", steps=100_000)
    on_cpu = create(tmp_path, "slow", steps=100_000, device="cpu")
    boss.tick()
    assert workers.started == [on_gpu.name, on_cpu.name]
    assert state(waits) == "queued"
    boss.close()


def test_without_an_accelerator_all_runs_share_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_has_accelerator", lambda: False)
    assert {processes.slot(device) for device in ("auto", "cpu", "cuda")} == {"cpu"}


def test_a_stopped_run_is_never_started(tmp_path: Path, workers: Workers) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    folder = create(tmp_path)
    api.stop(folder.name, runs_dir=tmp_path)
    assert boss.tick() is False
    assert boss._start(folder) is False, "even when it was queued a moment ago"
    assert workers.started == []
    boss.close()


def test_two_supervisors_start_a_run_once(tmp_path: Path, workers: Workers) -> None:
    """As an app and a command line on the same folder; when one goes, the other takes over."""
    one, two = (Supervisor(tmp_path, spawn=workers) for _ in range(2))
    first = create(tmp_path)
    pair = [threading.Thread(target=boss.tick) for boss in (one, two)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    assert workers.started == [first.name]
    leader, waiting = (one, two) if one.lead() else (two, one)
    assert not waiting.lead()
    tick_until(leader, "the first", lambda: state(first) == "finished")
    second = create(tmp_path)
    assert waiting.tick() is True
    assert workers.started == [first.name], "the one that waits starts nothing"
    leader.close()
    tick_until(waiting, "the second", lambda: state(second) == "finished")
    assert workers.started == [first.name, second.name]
    waiting.close()


# --- deaths -------------------------------------------------------------------------------------


def test_kill_9_is_told_with_the_step_and_resuming_goes_on(
    tmp_path: Path, workers: Workers
) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    folder = create(tmp_path, "slow", steps=60)
    boss.tick()
    at_step(folder, 11)
    workers.children[0].kill()
    until("readers to see it", lambda: state(folder) == "lost")
    assert "ended unexpectedly" in status(folder)["message"]

    tick_until(boss, "the record", lambda: state(folder) == "failed")
    told = status(folder)["error"]["message"]
    step, saved = status(folder)["step"], status(folder)["checkpoint"]["step"]
    assert saved >= 10
    assert told.startswith("The training process ended unexpectedly (signal 9")
    assert f"at step {step}" in told
    assert f"continues from step {saved}" in told
    assert len(told.splitlines()) == 2
    last = journal.read(folder)[0][-1]
    assert (last["type"], last["message"]) == ("run_failed", told)

    run_control.resume(folder)
    tick_until(boss, "the end", lambda: state(folder) == "finished")
    curves, _ = series.read_series(folder)
    assert curves["0/loss"]["step"] == list(range(1, 61)), "each step once, none missing"
    boss.close()


def test_a_worker_that_breaks_off_is_told_with_its_exit_code(
    tmp_path: Path, workers: Workers
) -> None:
    def broken(folder: Path) -> subprocess.Popen[bytes]:
        workers.children.append(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]))
        return workers.children[-1]

    boss = Supervisor(tmp_path, spawn=broken)
    folder = create(tmp_path)
    tick_until(boss, "the record", lambda: state(folder) == "failed")
    assert "exit code 3; see worker.log" in status(folder)["error"]["message"]
    boss.close()


def test_a_worker_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    def refuse(folder: Path) -> subprocess.Popen[bytes]:
        raise OSError(12, "Cannot allocate memory")

    boss = Supervisor(tmp_path, spawn=refuse)
    folder = create(tmp_path)
    boss.tick()
    assert state(folder) == "failed"
    assert "could not be started: Cannot allocate memory" in status(folder)["message"]
    boss.close()


def test_training_goes_on_when_the_app_restarts(tmp_path: Path, workers: Workers) -> None:
    before = Supervisor(tmp_path, spawn=workers)
    folder = create(tmp_path, "slow", steps=100_000)
    waiting = create(tmp_path)
    before.tick()
    at_step(folder, 3)
    before.close()

    after = Supervisor(tmp_path, spawn=workers)
    after.tick()
    assert state(folder) == "running"
    assert state(waiting) == "queued", "the adopted run still holds the device"
    run_control.stop(folder)
    tick_until(after, "the next one", lambda: state(waiting) == "finished")
    assert state(folder) == "stopped"
    assert workers.started == [folder.name, waiting.name]
    after.close()


def test_an_adopted_worker_that_dies_is_recorded(tmp_path: Path, workers: Workers) -> None:
    before = Supervisor(tmp_path, spawn=workers)
    folder = create(tmp_path, "slow", steps=100_000)
    before.tick()
    at_step(folder, 3)
    before.close()
    after = Supervisor(tmp_path, spawn=workers)
    after.tick()
    workers.children[0].kill()
    tick_until(after, "the record", lambda: state(folder) == "failed")
    assert "ended unexpectedly at step" in status(folder)["error"]["message"]
    after.close()


def test_a_run_found_dead_is_lost_and_holds_nothing(tmp_path: Path, workers: Workers) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    dead, next_one = create(tmp_path), create(tmp_path)
    gone = run_status.this_process() | {"process_start_time": 1.0, "heartbeat_time": 1.0}
    run_status.write(dead, run_status.read(dead) | gone | {"state": "running"})
    tick_until(boss, "the next one", lambda: state(next_one) == "finished")
    assert state(dead) == "lost"
    boss.close()


def test_a_run_in_a_terminal_holds_the_device(tmp_path: Path, workers: Workers) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    runs.create(pretend.recipe(), tmp_path, state="running")  # by this process
    waiting = create(tmp_path)
    assert boss.tick() is True
    assert state(waiting) == "queued"
    boss.close()


# --- stopping -----------------------------------------------------------------------------------


def test_a_stop_that_is_obeyed_needs_no_signal(tmp_path: Path, workers: Workers) -> None:
    boss = Supervisor(tmp_path, spawn=workers)
    folder = create(tmp_path, "slow", steps=100_000)
    boss.tick()
    at_step(folder, 2)
    run_control.pause(folder)
    tick_until(boss, "the pause", lambda: state(folder) == "paused")
    assert workers.children[0].wait(30) == 0
    assert status(folder)["checkpoint"]["step"] == status(folder)["step"]
    boss.close()


def test_a_run_that_does_not_answer_is_ended_after_a_grace_time(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bool] = []
    really = processes.signal_worker

    def spy(found: dict[str, Any], *, kill: bool) -> None:
        sent.append(kill)
        really(found, kill=kill)

    monkeypatch.setattr(processes, "signal_worker", spy)
    clock = Clock()
    boss = Supervisor(tmp_path, spawn=workers, clock=clock)
    folder = create(tmp_path, "stuck")
    boss.tick()
    until("a quiet status", lambda: run_status.read(folder)["step"] == 3)
    run_control.stop(folder)
    boss.tick()
    clock.now = supervisor.TERMINATE_AFTER_S - 1
    boss.tick()
    assert sent == []
    clock.now = supervisor.TERMINATE_AFTER_S
    boss.tick()
    assert sent == [False]
    clock.now += supervisor.KILL_AFTER_S - 1
    boss.tick()
    assert sent == [False]
    assert state(folder) == "stopping", "SIGTERM asks politely once more"
    clock.now += 1
    boss.tick()
    assert sent == [False, True]
    tick_until(boss, "the end", lambda: state(folder) == "stopped")
    assert "did not answer" in status(folder)["message"]
    assert workers.children[0].returncode == -signal.SIGKILL
    boss.close()


def test_progress_while_saving_prolongs_the_grace_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bool] = []
    monkeypatch.setattr(processes, "signal_worker", lambda found, *, kill: sent.append(kill))
    clock = Clock()
    boss = Supervisor(tmp_path, clock=clock)
    folder = runs.create(pretend.recipe(), tmp_path, state="running")
    run_status.write(folder, run_status.read(folder) | {"foreground": False})
    run_control.stop(folder)
    for done in range(5):
        run_status.write(folder, run_status.read(folder) | {"phase": "saving", "done": done})
        boss.tick()
        clock.now += supervisor.TERMINATE_AFTER_S - 1
    assert sent == []
    boss.tick()
    clock.now += 2
    boss.tick()
    assert sent == [False]
    boss.close()


def test_a_run_in_a_terminal_is_never_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bool] = []
    monkeypatch.setattr(processes, "signal_worker", lambda found, *, kill: sent.append(kill))
    clock = Clock()
    boss = Supervisor(tmp_path, clock=clock)
    folder = runs.create(pretend.recipe(), tmp_path, state="running")
    run_control.stop(folder)
    for _ in range(4):
        boss.tick()
        clock.now += 1000
    assert sent == []
    assert state(folder) == "stopping"
    boss.close()


def test_a_signal_ends_the_worker_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()']).pid, flush=True); input()"  # noqa: E501
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    grandchild = psutil.Process(int(child.stdout.readline()))
    found = run_status.EMPTY | run_status.this_process()
    found |= {"pid": child.pid, "process_start_time": run_status.start_time(child.pid)}
    stranger = found | {"process_start_time": 1.0, "heartbeat_time": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil.Process, "kill", lambda process: pytest.fail("a reused pid"))
        processes.signal_worker(stranger, kill=True)
    processes.signal_worker(found, kill=True)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not psutil.wait_procs([grandchild], timeout=30)[1]


# --- the thread, and a process of its own -------------------------------------------------------


def test_the_thread_does_it_by_itself_once_per_folder(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "spawn_worker", workers)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    api.supervise(tmp_path)
    api.supervise(tmp_path)
    boss = supervisor.supervise(tmp_path)
    folder = create(tmp_path)
    until("the end", lambda: state(folder) == "finished")
    assert workers.started == [folder.name]
    boss.close()


def test_trouble_is_told_once_and_survived(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boss = Supervisor(tmp_path)

    def full(folder: Path) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "folders", full)
    assert boss.safe_tick() is True
    boss.safe_tick()
    assert capsys.readouterr().err.count("No space left") == 1
    boss.close()


def test_a_supervisor_apart_is_started_only_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(
        processes, "spawn_apart", lambda command, *, output: started.append(command)
    )
    boss = Supervisor(tmp_path / "runs")
    runs.make_runs_dir(tmp_path / "runs")
    boss.lead()
    api.supervise_apart(tmp_path / "runs")
    assert started == []
    boss.close()
    api.supervise_apart(tmp_path / "runs")
    assert started == [[sys.executable, "-m", "distill_core.supervisor", str(tmp_path / "runs")]]


def test_a_supervisor_apart_leaves_when_the_queue_is_empty(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "spawn_worker", workers)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    folder = create(tmp_path)
    assert supervisor.main([str(tmp_path)]) == 0
    assert state(folder) == "finished"
    assert supervisor.main([]) == 2


def test_a_run_queued_at_the_last_moment_is_not_forgotten(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look and the free lock somebody may rely on this supervisor."""
    monkeypatch.setattr(processes, "spawn_worker", workers)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    late: list[Path] = []
    close = Supervisor.close

    def close_late(boss: Supervisor) -> None:
        if not late:
            late.append(create(tmp_path))
        close(boss)

    monkeypatch.setattr(Supervisor, "close", close_late)
    assert supervisor.main([str(tmp_path)]) == 0
    assert state(late[0]) == "finished"


def test_a_worker_is_started_where_the_run_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        processes, "spawn_apart", lambda command, *, output, cwd: seen.update(cwd=cwd)
    )
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    folder = create(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(
        processes, "spawn_apart", lambda command, *, output, cwd: seen.update(cwd=cwd)
    )
    processes.spawn_worker(folder)
    assert seen["cwd"] == str(place)
    place.rmdir()
    processes.spawn_worker(folder)
    assert seen["cwd"] is None


def test_a_process_apart_has_its_own_session_and_finds_the_library(tmp_path: Path) -> None:
    code = "import os, distill_core; print(os.getsid(0), os.getpid())"
    with open(tmp_path / "out", "wb") as output:
        child = processes.spawn_apart(
            [sys.executable, "-c", code], output=output.fileno(), cwd=str(tmp_path)
        )
    assert child.wait(60) == 0
    session, pid = (tmp_path / "out").read_text().split()
    assert session == pid == str(child.pid)
    assert time.time() - run_status.start_time(os.getpid()) > 0
