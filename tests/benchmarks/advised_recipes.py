"""Recipes that the advisor writes, run to the end: `python tests/benchmarks/advised_recipes.py`.

In: `starter` or `smollm2` (both), steps (4), a runs folder (a new one). Out: a line for each
verdict: its stages, how its run ended, seconds. Steps and rows are cut for time, nothing else is
changed. Exit code 1 if a verdict was not advised, or a run did not finish.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distill_core import api

ROWS = 96
PAIRS = (("turn on the lamp", "on"), ("turn off the radio", "off"), ("dim the lights", "dim"))

COMMON: dict[str, Any] = {"task": "extraction", "constraints.task_changes": "rarely"}
SOFT = COMMON | {"goal": "smaller_faster", "teacher.good_at_task": "yes"}
MANY = {"data.unlabelled_rows": 20_000, "data.label_quality": "mixed"}
"""What is said of the rows, whatever the file holds: the verdict is wanted, not the rows."""

CASES: dict[str, dict[str, Any]] = {
    "distill": SOFT | MANY | {"data.labelled_rows": 500, "data.held_out_rows": 600},
    "fine_tune": COMMON
    | {
        **{"goal": "better_at_task", "teacher.exists": "no", "data.labelled_rows": 20_000},
        **{"data.label_quality": "clean", "data.held_out_rows": 1000, "machine.memory_gib": 64},
    },
    "lora_fine_tune": COMMON
    | {
        **{"goal": "better_at_task", "teacher.exists": "no", "data.labelled_rows": 2000},
        **{"data.label_quality": "clean", "data.held_out_rows": 600},
        **{"constraints.keep_general_skills": "yes"},
    },
    "fine_tune_then_distill": SOFT
    | MANY
    | {
        **{"data.labelled_rows": 2000, "data.held_out_rows": 600},
        **{"teacher.good_at_task": "no", "teacher.serves_several_students": "yes"},
    },
    "distill_then_fine_tune": SOFT
    | {
        "goal": "both",
        **{"data.labelled_rows": 5000, "data.unlabelled_rows": 50_000},
        **{"data.label_quality": "clean", "data.held_out_rows": 1000},
    },
    "progressive_distill": SOFT
    | MANY
    | {"data.labelled_rows": 500, "data.held_out_rows": 600, "student.max_parameters": 20_000},
}


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", choices=["starter", "smollm2"], default=None)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", action="append", choices=list(CASES))
    parser.add_argument("--runs-dir", default=None)
    options = parser.parse_args()
    folder = Path(options.runs_dir or tempfile.mkdtemp(prefix="advised-recipes-"))
    failed = 0
    for model in options.models or ["starter", "smollm2"]:
        for verdict in options.only or CASES:
            started = time.monotonic()
            try:
                stages, end = outcome(model, verdict, folder, options.steps)
            except Exception as error:
                stages, end = "", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            failed += end != "run_finished"
            seconds = time.monotonic() - started
            sys.stdout.write(f"{model:<8} {verdict:<23} {stages:<32} {end} {seconds:.0f} s\n")
            sys.stdout.flush()
    sys.exit(1 if failed else 0)


def outcome(model: str, verdict: str, folder: Path, steps: int) -> tuple[str, str]:
    """Stages of the recipe that is advised, and the type of its run's last event."""
    told = api.advise(answers(model, verdict, folder), runs_dir=folder / "none")
    if told["verdict"] != verdict:
        return "", f"advised {told['verdict']} in its place"
    events = list(api.run_here(shortened(told["recipe"], steps), runs_dir=folder / "runs"))
    return ", ".join(stage["kind"] for stage in told["recipe"]["stages"]), events[-1]["type"]


def answers(model: str, verdict: str, folder: Path) -> dict[str, Any]:
    """The answers of a case, about the starter or about SmolLM2 and a file."""
    case = dict(CASES[verdict])
    teaches = case.get("teacher.exists") != "no"
    if model == "starter":
        named = {"data.source": "starter"} | ({"teacher.name": "pocket-teacher"} if teaches else {})
        size = {"student.max_parameters": 210_000}
    else:
        named = {"data.source": str(rows_file(folder))}
        base = {"teacher.name": "smollm2-135m-instruct", "student.published_checkpoint": "no"}
        own = {"student.name": "smollm2-135m-instruct"}
        named |= base if teaches else own
        size = {"student.max_parameters": 6e7 if teaches else 1.4e8}
    if verdict == "progressive_distill":
        size = {"student.max_parameters": 20_000 if model == "starter" else 1.5e6}
    return case | named | size


def rows_file(folder: Path) -> Path:
    """A file of short rows, a third of them without an answer."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    lines = []
    for number in range(ROWS):
        prompt, response = PAIRS[number % len(PAIRS)]
        row = {"prompt": f"{prompt} in room {number}"}
        lines.append(row | ({"response": response} if number % 3 or number < 60 else {}))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def shortened(recipe: dict[str, Any], steps: int) -> Any:
    """The same recipe with few steps and rows."""
    changes = [f"stages.{place}.optim.max_steps={steps}" for place in range(len(recipe["stages"]))]
    changes += [
        f"stages.{place}.optim.global_batch_size=8" for place in range(len(recipe["stages"]))
    ]
    for place, source in enumerate(recipe["data"]["sources"]):
        changes += [f"data.sources.{place}.limit={ROWS}"] if source["kind"] == "starter" else []
    changes += ["evaluation.rows=8", "evaluation.final_rows=8", "evaluation.max_new_tokens=8"]
    changes += ["evaluation.baselines=[]"]
    changes += [
        f"stages.{place}.teacher_answers.max_new_tokens=8"
        for place, stage in enumerate(recipe["stages"])
        if stage["kind"] == "distill"
    ]
    return api.load_recipe(recipe, changes)


if __name__ == "__main__":
    main()
