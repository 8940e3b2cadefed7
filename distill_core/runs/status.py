"""Where a run stands: `status.json`, and the state that follows from it.

In: what the worker last wrote, whether its process is there, how old its heartbeat is. Out: one of
eight states and the numbers that a progress bar needs. Knows nothing of recipes or of training.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any, Literal

import psutil

from distill_core import files
from distill_core.errors import DiskFullError

State = Literal["queued", "running", "paused", "stopping", "finished", "stopped", "failed", "lost"]

Status = dict[str, Any]
"""`state, phase, message, stage, stages, step, total_steps, done, total, eta_s, error, pid, host,
process_start_time, heartbeat_time, queued_time_s, created_time_s, device, checkpoint, …`."""

ACTIVE: frozenset[str] = frozenset({"queued", "running", "stopping"})
"""States in which a run may not be deleted, nor put in the queue again."""

RESUMABLE: frozenset[str] = frozenset({"paused", "stopped", "failed", "lost"})

FILE_NAME = "status.json"
LOST_AFTER_S = 30.0
"""A run whose process cannot be looked up is given up when its heartbeat is older than this."""
FRESH_S = 5.0

EMPTY: Status = {
    "state": "queued",
    "phase": "",
    "message": "",
    "stage": 0,
    "stages": 0,
    "stage_title": "",
    "step": 0,
    "total_steps": 0,
    "done": 0,
    "total": 0,
    "eta_s": None,
    "error": None,
    "pid": None,
    "host": "",
    "process_start_time": None,
    "heartbeat_time": None,
    "checkpoint": None,
    "queue_position": None,
}


def state_of(status: Status, pid_alive: bool | None, heartbeat_age_s: float) -> State:
    """Derive the state of a run.

    `pid_alive` is None where nobody can tell: no process yet, or one on another computer; then
    the heartbeat alone decides. `stop_asked` and `pause_asked` in `status` say that such a file
    lies in the run's folder.
    """
    state: State = status.get("state", "lost")
    if state != "running":
        return state
    gone = not pid_alive if pid_alive is not None else heartbeat_age_s > LOST_AFTER_S
    if gone:
        return "lost"
    return "stopping" if status.get("stop_asked") or status.get("pause_asked") else "running"


def read(run_dir: Path) -> Status:
    """Read `status.json`, every key present; unreadable files make a `lost` run."""
    found = files.read_json(run_dir / FILE_NAME)
    status = {**EMPTY, **(found or {"state": "lost"})}
    status["stop_asked"] = (run_dir / "stop").exists()
    status["pause_asked"] = (run_dir / "pause").exists()
    return status


def write(run_dir: Path, status: Status) -> None:
    """Replace `status.json` in one step; raises `DiskFullError`."""
    files.replace_json(run_dir / FILE_NAME, _stored(status))


def write_somehow(run_dir: Path, status: Status) -> None:
    """As `write`, but on a full disk into the room that the file has already."""
    try:
        write(run_dir, status)
    except DiskFullError:
        with contextlib.suppress(OSError):
            files.overwrite_json(run_dir / FILE_NAME, _stored(status))


def _stored(status: Status) -> Status:
    return {key: value for key, value in status.items() if key not in _DERIVED}


_DERIVED = {"stop_asked", "pause_asked", "progress", "queue_position"}


def current(run_dir: Path) -> Status:
    """Read a run's status with its derived state, a message that says why, and `progress` (0–1)."""
    status = read(run_dir)
    beat = status["heartbeat_time"]
    age_s = time.time() - beat if beat else float("inf")
    written = status["state"]
    status["state"] = state_of(status, is_alive(status), age_s)
    if status["state"] == "stopping":
        kept = "Saving" if status["phase"] == "training" else "Keeping what is done"
        status["message"] = f"{kept}, then {'stopping' if status['stop_asked'] else 'pausing'}"
    elif status["state"] == "lost" and written == "running":
        status["message"] = ended_unexpectedly(status)
    elif status["state"] == "running" and age_s > LOST_AFTER_S:
        status["message"] = f"No sign of life for {age_s:.0f} s; the process is still there."
    if status["state"] not in ("running", "stopping"):
        status["eta_s"] = None
    status["progress"] = _progress(status)
    return status


def ended_unexpectedly(status: Status, how: str = "") -> str:
    """Say that the process is gone, where it was, and where resuming goes on from."""
    saved = status.get("checkpoint") or {"stage": 0, "step": 0}
    resume = f"from step {saved['step']}" if saved["step"] else "from the start"
    if status["stages"] > 1:
        resume += f" of stage {saved['stage'] + 1}"
    where = f" at step {status['step']}" if status["step"] else ""
    where += f" while {status['phase']}" if status["phase"] and not where else ""
    detail = f" ({how})" if how else ""
    return f"The training process ended unexpectedly{detail}{where}.\nResuming continues {resume}."


def _progress(status: Status) -> float:
    """Share of all optimiser steps that have been taken."""
    if status["state"] == "finished":
        return 1.0
    totals = status.get("steps_per_stage") or [status["total_steps"]]
    everything = sum(totals)
    if not everything:
        return 0.0
    taken = sum(totals[: status["stage"]]) + status["step"]
    return min(1.0, taken / everything)


# --- processes ----------------------------------------------------------------------------------


def this_process() -> dict[str, Any]:
    """Identify this process, so that a reused pid is not mistaken for it."""
    return {
        "pid": os.getpid(),
        "process_start_time": start_time(os.getpid()),
        "host": platform.node(),
        "heartbeat_time": time.time(),
    }


def start_time(pid: int) -> float:
    """When a process started, in seconds since the epoch."""
    return psutil.Process(pid).create_time()


def is_alive(status: Status) -> bool | None:
    """Tell whether the process of `status` still runs; None where that cannot be known."""
    if not status["pid"] or status["host"] != platform.node():
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(status["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if abs(process.create_time() - status["process_start_time"]) < 2:
            return True
        # a clock that was set shifts start times: a fresh heartbeat says it is ours all the same
        beat = status["heartbeat_time"] or 0.0
        return abs(time.time() - beat) < FRESH_S and process.pid != os.getpid()
    return False
