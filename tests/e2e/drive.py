"""What the end-to-end tests drive: the command line and the app, as real processes.

In: the checkout and an empty folder. Out: `Cli`, `Studio`, and a recipe of seconds. Both see no
network. Knows nothing of the inside of either.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
GUARD = Path(__file__).parent / "guard"
PATIENCE_S = 120


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """Make the environment of a process under test: own runs folder, own caches, no network."""
    return {
        **os.environ,
        "PYTHONPATH": f"{GUARD}{os.pathsep}{ROOT}",
        "NETWORK_LOG": str(folder / "network.log"),
        "DISTILL_RUNS_DIR": str(folder / "runs"),
        "DISTILL_CACHE_DIR": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        **extra,
    }


def until(what: str, found: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Ask again and again until `found()` is true, and return it; fails after the patience."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"waited {patience_s} s for {what}")


# --- the command line -----------------------------------------------------------------------


@dataclass
class Cli:
    """Runs `distill-studio` in a folder of its own."""

    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def runs_dir(self) -> Path:
        return self.folder / "runs"

    def __call__(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; its exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "distill_core.cli", *map(str, arguments)],
            cwd=self.folder,
            env=environment(self.folder, **self.extra),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        report = f"{arguments}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert done.returncode == code, report
        assert "Traceback" not in done.stderr, report
        return done

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run a command with `--json`; its stdout must be one JSON document and nothing else."""
        return json.loads(self(*arguments, "--json", code=code).stdout)


def write_recipe(folder: Path, **overrides: Any) -> Path:
    """Write a recipe of seconds: a 1 × 32 student of the starter's teacher, six steps."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "data": {
            "sources": [
                {"kind": "starter", "split": "labelled", "limit": 48},
                {"kind": "starter", "split": "unlabelled", "limit": 32},
            ],
            "held_out": {"kind": "starter", "split": "held_out", "limit": 24},
            "max_seq_len": 128,
        },
        "stages": [
            {
                "kind": "distill",
                "teacher": "pocket-teacher",
                "student": {"init": "scratch", "layers": 1, "hidden_size": 32},
                "losses": [
                    {"name": "forward_kl", "weight": 0.9},
                    {"name": "cross_entropy", "weight": 0.1},
                ],
                "optim": {
                    "learning_rate": 3e-3,
                    "max_steps": 6,
                    "global_batch_size": 8,
                    "micro_batch_size": 8,
                },
            }
        ],
        "evaluation": {"every_steps": 3, "rows": 8, "final_rows": 16, "samples": 1},
        "checkpoints": {"every_steps": 2},
    }
    for path, value in overrides.items():
        *parents, last = path.split("__")
        target: Any = recipe
        for key in parents:
            target = target[int(key)] if key.isdigit() else target[key]
        target[last] = value
    file = folder / "tiny.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return file


# --- the app --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Studio:
    """The app as a process that can be killed and started again on the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def runs_dir(self) -> Path:
        return self.folder / "runs"

    @property
    def log(self) -> Path:
        return self.folder / "app.log"

    def start(self) -> None:
        """Start what `app.py` starts, on this studio's port, and wait until it answers."""
        launch = f"from ui.layout import launch; launch(port={self.port}, inbrowser=False)"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", launch],
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until("the app to answer", self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(self.url, timeout=10).status == 200)
        return False

    def kill(self) -> None:
        """End the app at once, as a power cut would; its workers live on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of this studio's runs that are still there."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "distill_core.worker" in words and str(self.runs_dir) in " ".join(words):
                found.append(process)
        return found
