"""A pipeline that pretends: the events, checkpoints and pace of training without a model.

In: a recipe, whose name says how to behave. Out: events. Also a worker made of it, for tests that
need a process: `python -m tests.core.pretend RUN_DIR`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill_core import worker
from distill_core.events import Event, event, progress
from distill_core.recipe import Recipe, recipe_yaml

ROOT = Path(__file__).parent.parent.parent
SAVE_EVERY = 5


def recipe(name: str = "quick", *, steps: int = 12, device: str = "auto") -> Recipe:
    """`quick…` runs through, `slow…` takes its time, `stuck…` stops answering at step 3."""
    stage = {
        "kind": "distill",
        "teacher": "pocket-teacher",
        "student": {"init": "scratch"},
        "optim": {"max_steps": steps},
    }
    data = {"sources": [{"kind": "starter"}]}
    return recipe_yaml.parse({"name": name, "device": device, "data": data, "stages": [stage]})


def pipeline(
    recipe: Recipe, run_dir: Path, *, should_stop: Callable[[], str | None]
) -> Iterator[Event]:
    """Behave as `pipeline.run` does, from the last checkpoint on."""
    steps = recipe.stages[0].optim.max_steps or 1
    facts = {"index": 0, "title": "Distil", "kind": "distill", "total_steps": steps}
    yield event("run_started", stages=[facts])
    yield event("stage_started", stage=0, title="Distil", total_steps=steps)
    yield progress("caching teacher", "the teacher answers", done=3, total=4)
    saved = run_dir / "checkpoints" / "step"
    step = int(saved.read_text()) if saved.exists() else 0
    while step < steps:
        step += 1
        yield event("step", stage=0, step=step, metrics={"loss": 1 / step})
        asked = should_stop()
        if step % SAVE_EVERY == 0 or asked:
            saved.parent.mkdir(exist_ok=True)
            saved.write_text(str(step))
            yield event("checkpoint", stage=0, step=step, path=str(saved))
        if asked:
            yield event("run_stopped", reason=worker.REASONS[asked], stage=0, step=step)
            return
        while recipe.name.startswith("stuck") and step == 3:
            time.sleep(0.01)
        if recipe.name.startswith("slow"):
            time.sleep(0.01)
    yield event("sample", stage=0, step=step, prompt="lights on", student="{}")
    scores: dict[str, Any] = {"student": {"parameters": 7, "exact_match": 0.9}}
    evaluation = {"models": scores, "retention": 0.95, "size_ratio": 9.0}
    yield event("run_finished", seconds=0.1, evaluation=evaluation)


def spawn(run_dir: Path) -> subprocess.Popen[bytes]:
    """Start a worker process that pretends."""
    with open(run_dir / "worker.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.core.pretend", str(run_dir)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def until(what: str, holds: Callable[[], Any], patience_s: float = 60) -> Any:
    """Ask again and again until `holds()` is true, and return it."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if value := holds():
            return value
        time.sleep(0.005)
    raise AssertionError(f"waited {patience_s} s for {what}")


if __name__ == "__main__":
    sys.exit(worker.main(pipeline=pipeline))
