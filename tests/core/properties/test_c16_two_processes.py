"""C16, two processes equal one: the same gradient for every term, only the wrapper is called.

Two real processes, joined by gloo, against one process; then the whole default recipe, shortened,
under `accelerate launch --num_processes 2`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import cli
from tests.core.properties.one_of_several import CASES, events_of, steps_of, take

ROOT = Path(__file__).parents[3]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has found out."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.core.properties.one_of_several", str(folder)],
            cwd=ROOT,
            env=environment(RANK=rank, LOCAL_RANK=rank, **meeting),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"process_{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize(("way", "terms"), CASES)
def test_both_have_the_gradient_and_the_losses_of_one(
    two: list[dict[str, Any]], tmp_path: Path, way: str, terms: str
) -> None:
    for size in steps_of(way):
        alone = take(tmp_path, way, terms, size)
        assert alone["gradient"]
        for process in two:
            found = process["steps"][way, terms, size]
            assert found["gradient"].keys() == alone["gradient"].keys()
            for name, value in alone["gradient"].items():
                torch.testing.assert_close(
                    found["gradient"][name], value, rtol=1e-4, atol=1e-5, msg=name
                )
            for name, value in alone["metrics"].items():
                if name not in {"tokens_per_s", "memory_bytes"}:
                    assert found["metrics"][name] == pytest.approx(value, abs=1e-5), name


def test_only_the_wrapped_model_is_called(two: list[dict[str, Any]]) -> None:
    assert [process["bare"] for process in two] == [[], []]


def test_the_first_one_alone_writes(two: list[dict[str, Any]]) -> None:
    assert {"cut 2", "whole 2", "whole 4"} <= set(two[0]["written"])
    assert two[1]["written"] == []


def test_resumed_together_they_lose_nothing_dropout_included(
    two: list[dict[str, Any]], tmp_path: Path
) -> None:
    def losses(events: list[dict[str, Any]]) -> dict[int, float]:
        return {e["step"]: e["metrics"]["loss"] for e in events if e["type"] == "step"}

    for process in two:
        assert len(losses(process["whole"])) == 6
        assert losses(process["cut"]) == losses(process["whole"])
    assert losses(two[0]["whole"]) == losses(two[1]["whole"])
    alone = losses(events_of(tmp_path))
    assert losses(two[0]["whole"]) != alone, "each process has dropout of its own"


def test_both_refuse_a_step_that_is_not_finite_in_one(two: list[dict[str, Any]]) -> None:
    told = two[0]["refused"]
    assert told == two[1]["refused"]
    assert len(told) == 6
    for message in told:
        assert "forward_kl is not a finite number in row 6;" in message


def test_the_first_one_is_asked_whether_to_stop(two: list[dict[str, Any]]) -> None:
    for process in two:
        steps = [event["step"] for event in process["wishes"] if event["type"] == "step"]
        assert steps == [1, 2, 3]
        assert process["wishes"][-1]["reason"] == "stopped"


# --- the default recipe -------------------------------------------------------------------------

SHORT = [
    "stages.0.optim.max_steps=5",
    "data.sources.1.limit=600",  # two groups that the teacher answers, one for each process
    "evaluation.rows=2",
    "evaluation.final_rows=2",
    "evaluation.samples=1",
    "evaluation.every_steps=5",
    "device=cpu",
]


@pytest.fixture(scope="module")
def runs_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of two processes, and of one; in each folder the teacher writes its answers once."""
    return {name: tmp_path_factory.mktemp(name) for name in ("together", "alone")}


@contextmanager
def new_run(runs_dir: Path) -> Iterator[list[Path]]:
    """Holds the folder of the run that is made meanwhile."""
    found: list[Path] = []
    before = set(runs_dir.glob("*/status.json"))
    yield found
    (made,) = set(runs_dir.glob("*/status.json")) - before
    found.append(made.parent)


def arguments(runs_dir: Path, more: Sequence[str]) -> list[str]:
    """The shortened default recipe on the command line."""
    sets = [word for one in (*SHORT, *more) for word in ("--set", one)]
    return ["run", "pocket_student", *sets, "--runs-dir", str(runs_dir)]


def run_together(runs_dir: Path, more: Sequence[str]) -> tuple[Path, str]:
    """Run it in two processes; returns its folder and what was printed."""
    launch = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]
    with new_run(runs_dir) as found:
        done = subprocess.run(
            [sys.executable, *launch, "-m", "distill_core.cli", *arguments(runs_dir, more)],
            cwd=runs_dir,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
    return found[0], done.stdout


def run_alone(runs_dir: Path, more: Sequence[str]) -> Path:
    """Run it in this process; returns its folder."""
    with new_run(runs_dir) as found:
        assert cli.main(arguments(runs_dir, more)) == 0
    return found[0]


def events_in(folder: Path) -> list[dict[str, Any]]:
    """What happened, but for progress, which is told in larger steps by several processes."""
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in found if event["type"] != "progress"]


@pytest.mark.parametrize(
    "more", [[], ["stages.0.teacher_cache={kind: top_k}"]], ids=["online", "cached"]
)
def test_accelerate_launch_trains_the_default_recipe_as_one_process_does(
    runs_dirs: dict[str, Path], more: list[str]
) -> None:
    together, printed = run_together(runs_dirs["together"], more)
    alone = run_alone(runs_dirs["alone"], more)
    ours, theirs = events_in(together), events_in(alone)
    assert [event["type"] for event in ours] == [event["type"] for event in theirs]
    kept = [e["cache"] for e in (*ours, *theirs) if e["type"] == "rows_ready" and e["cache"]]
    assert len(kept) == 2 * len(more)
    assert len({(one["folder"], one["rows"], one["asked"]) for one in kept}) == len(more)
    pairs = [pair for pair in zip(ours, theirs, strict=True) if pair[0]["type"] == "step"]
    assert len(pairs) == 10, "the student's, and its baseline's"
    for mine, other in pairs:
        for name in {"loss", "forward_kl", "cross_entropy", "grad_norm"} & set(other["metrics"]):
            assert mine["metrics"][name] == pytest.approx(other["metrics"][name], abs=1e-5)
    answered = [
        sorted((run.parent / "teacher_answers").glob("*.jsonl"))[0].read_text().splitlines()
        for run in (together, alone)
    ]
    assert sorted(answered[0]) == sorted(answered[1])
    assert len(answered[0]) == len(set(answered[0])) > 500
    assert printed.count("Verdict") == 1
    evaluated = [json.loads((run / "evaluation.json").read_text()) for run in (together, alone)]
    scores = [one["models"]["student"]["cross_entropy"] for one in evaluated]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
