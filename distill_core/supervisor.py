"""Starts, watches and ends the workers of one runs folder.

In: the runs' status files. Out: worker processes, one at a time per device, and a recorded end for
those that died. One supervisor per folder at a time, whoever holds the lock; others wait for it.
Runs as a thread of the app, or alone: `python -m distill_core.supervisor RUNS_DIR`. Knows nothing
of training, and never imports torch.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from distill_core import processes, runs
from distill_core.errors import DiskFullError, RunError
from distill_core.runs import run_control
from distill_core.runs import status as run_status
from distill_core.runs.status import Status

LOCK = ".supervisor.lock"
TICK_S = 0.3
TERMINATE_AFTER_S = 60.0
"""A run that was asked to leave, and has not moved for so long, gets SIGTERM."""
KILL_AFTER_S = 15.0
"""After SIGTERM, SIGKILL follows when it is still there."""

Spawn = Callable[[Path], subprocess.Popen[bytes]]


@dataclass
class Leaving:
    """How far the patience with a run that was asked to stop has gone."""

    moved: object
    moved_at: float
    terminated_at: float | None = None
    killed: bool = False


class Supervisor:
    """Supervises one runs folder. `tick` does everything once; `start` calls it from a thread."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        spawn: Spawn | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs_dir = runs_dir
        self._spawn = spawn or processes.spawn_worker
        self._clock = clock
        self._lock = FileLock(str(runs_dir / LOCK), thread_local=False)
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._adopted: set[Path] = set()
        self._leaving: dict[Path, Leaving] = {}
        self._ended: dict[Path, tuple[object, Status]] = {}
        self._told = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)

    def start(self) -> None:
        """Look once, then go on looking in the background."""
        self.safe_tick()
        self._thread.start()

    def close(self) -> None:
        """Stop looking and free the lock; workers go on and can be adopted."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._lock.release()

    def tick(self) -> bool:
        """Look at every run once; returns whether any is queued or running."""
        if not self.lead():
            return True
        statuses = {folder: self._read(folder) for folder in runs.folders(self.runs_dir)}
        busy: set[str] = set()
        for folder, status in statuses.items():
            if status["state"] == "running":
                if self._watch(folder, status):
                    busy.add(processes.slot(status.get("device", "auto")))
            elif folder in self._children:
                if self._children[folder].poll() is None:  # saved, and about to leave
                    busy.add(processes.slot(status.get("device", "auto")))
                else:
                    self._forget(folder)
        queued = [(s.get("queued_time_s") or 0, f) for f, s in statuses.items() if _is_queued(s)]
        for _, folder in sorted(queued):
            place = processes.slot(statuses[folder].get("device", "auto"))
            if place not in busy and self._start(folder):
                busy.add(place)
        return bool(busy or queued)

    def lead(self) -> bool:
        """Take the folder's lock if it is free; returns whether this supervisor holds it."""
        if self._lock.is_locked:
            return True
        with contextlib.suppress(Timeout, OSError):
            self._lock.acquire(timeout=0)
        return self._lock.is_locked

    def _read(self, folder: Path) -> Status:
        """Read a run's status; that of one which has ended only when its file was replaced."""
        try:
            stat = os.stat(folder / run_status.FILE_NAME)
        except OSError:
            return run_status.read(folder)
        version = (stat.st_ino, stat.st_mtime_ns)
        known = self._ended.get(folder)
        if known and known[0] == version:
            return known[1]
        status = run_status.read(folder)
        if status["state"] not in ("queued", "running"):
            self._ended[folder] = (version, status)
        return status

    def _loop(self) -> None:
        while not self._closing.wait(TICK_S):
            self.safe_tick()

    def safe_tick(self) -> bool:
        """Supervising outlives a full disk, or a folder that somebody removes meanwhile."""
        try:
            return self.tick()
        except (OSError, DiskFullError, RunError) as error:
            if str(error) != self._told:
                self._told = str(error)
                sys.stderr.write(f"distill-studio, supervising {self.runs_dir}: {error}\n")
            return True

    def _start(self, folder: Path) -> bool:
        """Claim a queued run and start its worker."""
        with run_control.changing(self.runs_dir):
            status = run_status.read(folder)
            if status["state"] != "queued":
                return False  # stopped or deleted a moment ago
            run_control.forget_requests(folder)
            started = {"state": "running", "pid": None, "heartbeat_time": time.time()}
            started |= {"phase": "preparing", "message": "Starting the training process"}
            run_status.write(folder, status | started)
        try:
            self._children[folder] = self._spawn(folder)
        except OSError as error:
            why = f"The training process could not be started: {error.strerror or error}."
            with run_control.changing(self.runs_dir):
                run_control.end(folder, "failed", message=why, error=_error(why))
            return False
        return True

    def _watch(self, folder: Path, status: Status) -> bool:
        """Look after a run that its file calls running; returns whether its process is there."""
        child = self._children.get(folder)
        alive = child.poll() is None if child else run_status.is_alive(status)
        if alive or alive is None:
            if alive and not child:
                self._adopted.add(folder)
            if status["stop_asked"] or status["pause_asked"]:
                self._hurry(folder, status)
            beat = status["heartbeat_time"] or 0
            return bool(alive) or time.time() - beat < run_status.LOST_AFTER_S
        if child or folder in self._adopted:
            self._settle(folder, child)
        return False  # found dead: readers see that it is lost

    def _settle(self, folder: Path, child: subprocess.Popen[bytes] | None) -> None:
        """Record the end of a worker that could not do so itself."""
        leaving = self._leaving.get(folder)
        with run_control.changing(self.runs_dir):
            status = run_status.read(folder)
            if status["state"] == "running" and not run_status.is_alive(status):
                message = run_status.ended_unexpectedly(status, processes.how_it_ended(child))
                if leaving and leaving.terminated_at is not None:
                    state = "stopped" if status["stop_asked"] else "paused"
                    run_control.end(
                        folder, state, message="It did not answer, so its process was ended."
                    )
                else:
                    run_control.end(folder, "failed", message=message, error=_error(message))
        self._forget(folder)

    def _hurry(self, folder: Path, status: Status) -> None:
        """Signal a run that was asked to leave only after it has not moved for a long time."""
        if status.get("foreground"):
            return  # someone sits before it
        now = self._clock()
        moved = tuple(status[key] for key in ("phase", "message", "stage", "step", "done"))
        leaving = self._leaving.setdefault(folder, Leaving(moved, now))
        if moved != leaving.moved:
            leaving.moved, leaving.moved_at = moved, now
        if leaving.terminated_at is None:
            if now - leaving.moved_at >= TERMINATE_AFTER_S:
                leaving.terminated_at = now
                processes.signal_worker(status, kill=False)
        elif not leaving.killed and now - leaving.terminated_at >= KILL_AFTER_S:
            leaving.killed = True
            processes.signal_worker(status, kill=True)

    def _forget(self, folder: Path) -> None:
        self._children.pop(folder, None)
        self._adopted.discard(folder)
        self._leaving.pop(folder, None)


_SUPERVISORS: dict[Path, Supervisor] = {}
_STARTING = threading.Lock()


def supervise(runs_dir: Path) -> Supervisor:
    """Start this process's supervisor of a folder, once."""
    with _STARTING:
        if runs_dir not in _SUPERVISORS:
            runs.make_runs_dir(runs_dir)
            _SUPERVISORS[runs_dir] = Supervisor(runs_dir)
            _SUPERVISORS[runs_dir].start()
        return _SUPERVISORS[runs_dir]


def ensure(runs_dir: Path) -> None:
    """Start a supervisor of its own for the folder, unless somebody supervises it already."""
    runs.make_runs_dir(runs_dir)
    lock = FileLock(str(runs_dir / LOCK), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    lock.release()
    with open(runs_dir / ".supervisor.log", "ab") as log:
        processes.spawn_apart(
            [sys.executable, "-m", "distill_core.supervisor", str(runs_dir)], output=log.fileno()
        )


def _error(message: str) -> dict[str, str]:
    return {"message": message, "field": "", "kind": "process"}


def _is_queued(status: Status) -> bool:
    return status["state"] == "queued"


def main(arguments: list[str] | None = None) -> int:
    """Supervise a folder until nothing is queued or running in it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m distill_core.supervisor RUNS_DIR\n")
        return 2
    supervisor = Supervisor(Path(arguments[0]).absolute())
    while True:
        if not supervisor.lead():
            return 0  # somebody else does it
        while supervisor.safe_tick():
            time.sleep(TICK_S)
        supervisor.close()
        # a run that was queued while the lock was still held would wait for ever
        if not any(_is_queued(run_status.read(f)) for f in runs.folders(supervisor.runs_dir)):
            return 0


if __name__ == "__main__":
    sys.exit(main())
