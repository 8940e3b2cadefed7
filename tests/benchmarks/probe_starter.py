"""Does a probe find what full runs find? `python tests/benchmarks/probe_starter.py`.

In: minutes (10), a runs folder (a new one), whether minutes are those of the clock or of the
processor, where others use the machine as well. Out: what the probe says of the starter, where full
runs of 2,000 steps found distilling far better (README); and of a task on which both ways are equal
because they are the same one, fine-tuning on the same rows in another order. Exit code 1 if the
first is not found, or the second is not inconclusive.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distill_core import api, runs, starter, worker
from distill_core.probe import measuring, probe_file
from distill_core.probe.probe_file import Arm, Probe
from distill_core.recipe import recipe_yaml
from distill_core.recipe.plan import plan

ANSWERS = {
    "goal": "smaller_faster",
    "task": "extraction",
    "data.source": "starter",
    "teacher.name": "pocket-teacher",
    "teacher.good_at_task": "yes",
    "student.max_parameters": 210_000,
    "student.published_checkpoint": "no",
}
KEPT = ("words", "why", "winner", "same", "seeds", "steps", "rows", "used_s", "minutes", "notes")


def main() -> None:
    """Measure both, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs-dir", default=None)
    parser.add_argument("--only", choices=["starter", "equal"])
    parser.add_argument("--clock", choices=["wall", "processor"], default="wall")
    options = parser.parse_args()
    if options.clock == "processor":
        measuring.CLOCK = time.process_time
    runs_dir = Path(options.runs_dir or tempfile.mkdtemp(prefix="probe-starter-"))
    found: dict[str, Any] = {"machine": api.machine()["name"], "clock": options.clock}
    if options.only != "equal":
        run = api.start_probe(ANSWERS, minutes=options.minutes, runs_dir=runs_dir)
        found["starter"] = measured(runs_dir / run)
        advice = api.advise(ANSWERS, runs_dir=runs_dir)
        found["starter"]["advice"] = advice["verdict"]
        found["starter"]["first_reason"] = advice["reasons"][0]["sentence"]
    if options.only != "starter":
        found["equal"] = measured(equal(runs_dir, options.minutes))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    right = found.get("starter", {"winner": "distill"})["winner"] == "distill"
    right &= found.get("equal", {"winner": None})["winner"] is None
    sys.exit(0 if right else 1)


def measured(folder: Path) -> dict[str, Any]:
    """Run a probe here, to its end."""
    worker.claim(folder)
    for event in worker.follow(folder):
        if event["type"] in ("stage_started", "run_finished"):
            sys.stderr.write(f"{event.get('title', 'finished')}\n")
    told = api.probe(str(folder))
    arms = {
        arm["verdict"]: {
            key: arm[key] for key in ("score", "scores", "supervised_tokens", "seconds", "ahead")
        }
        for arm in told["arms"]
    }
    same_start = [
        one == other
        for one, other in zip(*(arm["starts_from"] for arm in told["arms"]), strict=True)
    ]
    kept = {key: told[key] for key in (*KEPT, "looks", "untrained_score")}
    return {**kept, "same_start": all(same_start), "arms": arms}


def equal(runs_dir: Path, minutes: float) -> Path:
    """A probe of one way against itself, with the same rows in another order."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    rows = starter.rows("labelled")
    arms = []
    for place, verdict in enumerate(("fine_tune", "lora_fine_tune")):
        path = runs_dir / f"rows-{place}.jsonl"
        shuffled = random.Random(place).sample(rows, len(rows))
        path.write_text("".join(json.dumps(row) + "\n" for row in shuffled), encoding="utf-8")
        arms.append(arm(path, verdict, ("fine-tuning", "fine-tuning in another order")[place]))
    folder = runs.create(arms[0].recipe, runs_dir)
    probe_file.write(folder, Probe(arms=arms, fingerprint={"task": "equal"}, minutes=minutes))
    return folder


def arm(path: Path, verdict: str, doing: str) -> Arm:
    """Fine-tune the starter's student on the rows of a file."""
    default = api.load_recipe("pocket_student").stages[0]
    recipe = recipe_yaml.parse(
        {
            "name": "probe-equal",
            "data": {
                "sources": [{"kind": "file", "path": str(path)}],
                "held_out": {"kind": "starter", "split": "held_out"},
                "max_seq_len": 128,
            },
            "stages": [
                {
                    "kind": "fine_tune",
                    "model": "pocket-teacher",
                    "student": default.student.model_dump(mode="json"),
                    "optim": default.optim.model_dump(mode="json"),
                }
            ],
        }
    )
    steps = [stage.total_steps for stage in plan(recipe, labelled=500, unlabelled=0)]
    return Arm(
        verdict=verdict,
        title=doing.capitalize(),
        doing=doing,
        recipe=recipe,
        stage_steps=steps,
        origin=0,
    )


if __name__ == "__main__":
    main()
