"""What may be done to a run from outside: stop, pause, resume, delete, record its end.

In: a run's folder. Out: request files, and changed states, under one lock per runs folder, so that
two processes never start the same run. Knows nothing of recipes, workers or torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill_core import files
from distill_core.errors import RunError
from distill_core.events import event
from distill_core.runs import journal
from distill_core.runs import status as run_status
from distill_core.runs.status import Status

STOP, PAUSE = "stop", "pause"
_LOCK = ".changes.lock"


@contextlib.contextmanager
def changing(runs_dir: Path) -> Iterator[None]:
    """Hold the lock under which a run's state is changed by anyone but its own process."""
    lock = FileLock(str(runs_dir / _LOCK), timeout=20)
    try:
        with lock:
            yield
    except Timeout:
        raise RunError(
            f"Another process has kept {runs_dir / _LOCK} locked for 20 seconds.\n"
            "Close other copies of Distill Studio that use this runs folder, then try again."
        ) from None


def stop(run_dir: Path) -> None:
    """Ask a run to save and end; one that waits or is paused is stopped at once."""
    _ask(run_dir, STOP, at_once={"queued", "paused"}, then="stopped")


def pause(run_dir: Path) -> None:
    """Ask a run to save and give its memory back; one that waits is paused at once."""
    _ask(run_dir, PAUSE, at_once={"queued"}, then="paused")


def resume(run_dir: Path) -> None:
    """Put a run that has ended early back in the queue; raises `RunError` for any other."""
    with changing(run_dir.parent):
        take_over(run_dir, {"state": "queued", "queued_time_s": time.time(), "pid": None})


def take_over(run_dir: Path, changes: Status) -> Status:
    """Make a run that has ended early ready to go on, with `changes`; hold `changing`."""
    status = run_status.current(run_dir)
    if status["state"] not in run_status.RESUMABLE:
        raise RunError(_why_not_resumable(run_dir.name, status["state"]))
    forget_requests(run_dir)
    blank = {"error": None, "message": "", "phase": "", "eta_s": None, "heartbeat_time": None}
    status |= blank | changes
    run_status.write(run_dir, status)
    return status


def delete(run_dir: Path) -> None:
    """Delete a run's folder; raises `RunError` while it is active."""
    with changing(run_dir.parent):
        state = run_status.current(run_dir)["state"]
        if state in run_status.ACTIVE:
            raise RunError(f"The run {run_dir.name} is {state}.\nStop it before deleting it.")
        going = run_dir.with_name(f".deleted-{run_dir.name}-{time.monotonic_ns()}")
        os.rename(run_dir, going)
    shutil.rmtree(going, ignore_errors=True)


def forget_requests(run_dir: Path) -> None:
    """Remove the files that ask a run to stop or to pause."""
    for name in (STOP, PAUSE):
        (run_dir / name).unlink(missing_ok=True)


def asked(run_dir: Path) -> str | None:
    """Return what the run has been asked to do: `stop`, `pause`, or None."""
    for name in (STOP, PAUSE):
        if (run_dir / name).exists():
            return name
    return None


def end(run_dir: Path, state: str, *, message: str, error: dict[str, Any] | None = None) -> None:
    """Record the end of a run that has no process to do it; hold `changing`."""
    status = run_status.read(run_dir)
    with journal.Journal(run_dir) as log:
        if error:
            log.append(event("run_failed", message=message, field="", kind="process"))
        else:
            log.append(
                event("run_stopped", reason=state, stage=status["stage"], step=status["step"])
            )
    forget_requests(run_dir)
    status |= {"state": state, "message": message, "error": error, "pid": None, "eta_s": None}
    run_status.write(run_dir, status)


def _ask(run_dir: Path, request: str, *, at_once: set[str], then: str) -> None:
    with changing(run_dir.parent):
        state = run_status.current(run_dir)["state"]
        if state in at_once:
            end(run_dir, then, message="")
        elif state in ("running", "stopping"):
            with files.disk_full_told(run_dir):
                (run_dir / request).touch()
        else:
            raise RunError(f"The run {run_dir.name} is {state}: there is nothing to {request}.")


def _why_not_resumable(run: str, state: str) -> str:
    if state == "finished":
        return f"The run {run} has finished.\nStart a new one from its recipe to train again."
    if state == "stopping":
        return f"The run {run} is still saving.\nResume it as soon as it has stopped."
    return f"The run {run} is {state} already."
