"""A worker that is killed: the run says so, resumes, and learns exactly what it would have learnt.

In: one recipe, run twice. Out: equal losses, bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.drive import Cli, until, write_recipe


def losses(cli: Cli, run: str) -> dict[int, dict[str, float]]:
    """Return the last word on each step: what was done again after a resume counts."""
    exact = ("loss", "forward_kl", "cross_entropy", "grad_norm", "learning_rate")
    return {
        event["step"]: {name: event["metrics"][name] for name in exact}
        for event in cli.json("events", run)
        if event["type"] == "step"
    }


def steps_done(folder: Path) -> int:
    file = folder / "events.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return sum('"type":"step"' in line.replace(": ", ":") for line in lines if line.endswith("\n"))


def test_a_killed_run_resumes_to_the_same_losses(cli: Cli) -> None:
    recipe = write_recipe(
        cli.folder,
        stages__0__optim__max_steps=60,
        checkpoints__every_steps=7,
        evaluation__final_rows=4,
    )
    whole = cli.json("run", recipe)["run"]

    run = cli("start", recipe).stdout.split()[-1]
    folder = cli.runs_dir / run
    until("ten steps", lambda: steps_done(folder) >= 10)
    worker = psutil.Process(status_file(folder)["pid"])
    worker.kill()
    psutil.wait_procs([worker], timeout=30)

    told = until("the run to be seen as dead", lambda: dead(cli, run))
    assert told["error"] or told["message"]
    assert steps_done(folder) < 60

    cli("resume", run)
    until("the end", lambda: status_file(folder)["state"] == "finished")
    assert cli.json("show", run)["status"]["state"] == "finished"
    assert losses(cli, run) == losses(cli, whole)
    assert scores(cli, run) == scores(cli, whole)


def status_file(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def dead(cli: Cli, run: str) -> dict[str, Any] | None:
    status = cli.json("show", run)["status"]
    return status if status["state"] in {"failed", "lost"} else None


def scores(cli: Cli, run: str) -> tuple[float, float]:
    student = cli.json("show", run)["evaluation"]["models"]["student"]
    return student["cross_entropy"], student["exact_match"]
