"""Processes of the operating system: start one that outlives this one, signal it, tell its end.

In: a command or a run's status. Out: processes and words about them. Knows nothing of queues.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from distill_core.runs import status as run_status
from distill_core.runs.status import Status

_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept while they run, so that the system's record of them is collected when they end."""


def spawn_worker(run_dir: Path) -> subprocess.Popen[bytes]:
    """Start a run's worker in its own session, its output in `worker.log`."""
    status = run_status.read(run_dir)
    cwd = status.get("cwd")
    with open(run_dir / "worker.log", "ab") as log:
        return spawn_apart(
            [sys.executable, "-m", "distill_core.worker", str(run_dir)],
            output=log.fileno(),
            cwd=cwd if cwd and Path(cwd).is_dir() else None,
        )


def signal_worker(status: Status, *, kill: bool) -> None:
    """End a worker and its own children, after making sure that the pid is still its."""
    if not run_status.is_alive(status):
        return
    with contextlib.suppress(psutil.Error, ProcessLookupError):
        process = psutil.Process(status["pid"])
        if not kill:
            process.terminate()
            return
        for child in process.children(recursive=True):
            child.kill()
        process.kill()


def slot(device: str) -> str:
    """Name what a run occupies: `cpu`, or `accelerator` when it may use one and there is one."""
    return "accelerator" if device != "cpu" and _has_accelerator() else "cpu"


def _has_accelerator() -> bool:
    """Tell without torch whether this machine has a GPU that torch would take."""
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def spawn_apart(
    command: list[str], *, output: int, cwd: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one; nobody has to drain its output."""
    source = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("TQDM_DISABLE", "1")  # bars are for terminals
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        creationflags=flags,
    )
    _STARTED[:] = [other for other in _STARTED if other.poll() is None] + [child]
    return child


def how_it_ended(child: subprocess.Popen[bytes] | None) -> str:
    """Say how a child ended; nothing when it was adopted, whose exit code nobody gets."""
    code = child.returncode if child else None
    if code is None:
        return ""
    if code >= 0:
        return f"exit code {code}; see worker.log"
    if code == -getattr(signal, "SIGKILL", 9):
        return "signal 9: killed, often because memory ran out"
    return f"signal {-code}"
