"""Bad input through the command line: one or two lines at the right field, nothing half-written.

In: broken files, names, numbers, a full disk. Out: exit code 1, a message, an untouched disk.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.drive import Cli, environment, write_recipe


@dataclass(frozen=True)
class Case:
    """A mistake: how it is made, what is set, and the field and words of its message."""

    file: Callable[[Path], None]
    overrides: dict[str, Any]
    field: str
    words: tuple[str, ...]


def nothing(folder: Path) -> None:
    """Write no file."""


def file_of(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(text)

    return write


def source(name: str) -> dict[str, Any]:
    return {"kind": "file", "path": name}


CASES = {
    "empty file": Case(
        file_of("rows.jsonl", ""),
        {"data__sources": [source("rows.jsonl")]},
        "data.sources.0",
        ("rows.jsonl", "empty"),
    ),
    "a CSV without the named column": Case(
        file_of("rows.csv", "question,reply\nhi,hello\n"),
        {
            "data__sources": [source("rows.csv")],
            "data__columns": {"prompt": "question", "response": "answer"},
        },
        "data.columns",
        ("answer", "reply"),
    ),
    "a row that is not JSON": Case(
        file_of("rows.jsonl", '{"prompt": "a", "response": "b"}\n{"prompt": \n'),
        {"data__sources": [source("rows.jsonl")]},
        "data.sources.0",
        ("rows.jsonl", "2"),
    ),
    "a file that is not there": Case(
        nothing,
        {"data__sources": [source("gone.jsonl")]},
        "data.sources.0",
        ("gone.jsonl",),
    ),
    "a model that does not exist": Case(
        nothing,
        {"stages__0__teacher": "./no-such-folder"},
        "stages.0.teacher",
        ("no-such-folder",),
    ),
    "a built-in name with a slip": Case(
        nothing, {"stages__0__teacher": "pocket-techer"}, "stages.0.teacher", ("pocket-teacher",)
    ),
    "a model on a hub that cannot be reached": Case(
        nothing,
        {"stages__0__teacher": "some-org/some-model"},
        "stages.0.teacher",
        ("some-org/some-model", "reach"),
    ),
    "data on a hub that cannot be reached": Case(
        nothing,
        {"data__sources": [{"kind": "hub", "id": "some-org/some-data"}]},
        "data.sources.0",
        ("some-org/some-data", "reach"),
    ),
    "a student larger than its teacher": Case(
        nothing,
        {"stages__0__student": {"init": "scratch", "layers": 12, "hidden_size": 512}},
        "stages.0.student",
        ("larger",),
    ),
    "a negative temperature": Case(
        nothing,
        {"stages__0__losses__0__temperature": -1.0},
        "stages.0.losses.0.temperature",
        ("-1.0", "greater than 0"),
    ),
}


@pytest.fixture
def unreachable(tmp_path: Path) -> Cli:
    """A command line whose hub refuses every connection, as without a network."""
    return Cli(
        tmp_path,
        {
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HOME": str(tmp_path / "hf"),
        },
    )


@pytest.mark.parametrize("name", CASES)
def test_message_at_the_field_and_nothing_written(unreachable: Cli, name: str) -> None:
    case = CASES[name]
    case.file(unreachable.folder)
    recipe = write_recipe(unreachable.folder, **case.overrides)
    told = unreachable("run", recipe, code=1).stderr.strip()
    assert case.field in told
    for word in case.words:
        assert word in told
    assert len(told.splitlines()) <= 2, told
    assert not runs_left(unreachable.runs_dir), "something was half-written"


def runs_left(runs_dir: Path) -> list[str]:
    if not runs_dir.exists():
        return []
    return [path.name for path in runs_dir.iterdir() if not path.name.startswith(".changes")]


@pytest.mark.parametrize("command", ["show", "events", "resume", "delete", "stop", "evaluate"])
def test_a_run_that_is_not_there(cli: Cli, command: str) -> None:
    told = cli(command, "no-such-run", code=1).stderr.strip()
    assert "runs" in told
    assert len(told.splitlines()) <= 2
    assert not runs_left(cli.runs_dir)


def test_a_recipe_that_is_not_yaml_is_told_with_line_and_column(cli: Cli) -> None:
    (cli.folder / "broken.yaml").write_text("name: x\ndata: [unclosed\n")
    told = cli("check", "broken.yaml", code=1).stderr
    assert "line" in told


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a user namespace to mount a small disk")
@pytest.mark.parametrize("size", ["16k", "600k"])
def test_a_full_disk_is_told_and_the_run_can_go_on(tmp_path: Path, size: str) -> None:
    """16 kB: not even the run's folder fits; 600 kB: it fills up with a checkpoint."""
    recipe = write_recipe(tmp_path, stages__0__student__hidden_size=64)
    disk = tmp_path / "runs"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "{disk}" && '
        f'"{sys.executable}" -m distill_core.cli run "{recipe}"; code=$?; '
        f'find "{disk}" -name "*.json" -size 0 >&2; exit $code'
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-2:]
    assert any("room" in line or "full" in line or "space" in line for line in last), done.stderr
