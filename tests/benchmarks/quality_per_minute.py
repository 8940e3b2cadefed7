"""What a minute of training is worth: `python tests/benchmarks/quality_per_minute.py`.

In: the default recipe. Out: for the teacher online, in int8, and cached (hidden states, sampled
tokens) the seconds until the student answers 50, 80, 90 and 95 % of the held-out commands exactly,
and what it reaches in the end; a table, `quality_per_minute.json` beside this file with every
point, and with `--readme` the README's table. Each way is a process of its own on the same seed;
the clock starts when the rows have been read and the teacher has answered the unlabelled commands,
which is told elsewhere; filling a cache and scoring count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from readme_part import into_readme

ROOT = Path(__file__).parent.parent.parent
STORE = Path(__file__).with_name("quality_per_minute.json")
WAYS = {
    "online": [],
    "int8 teacher": ["stages.0.teacher_precision=int8"],
    "cached, hidden": ["stages.0.teacher_cache={kind: hidden}"],
    "cached, sampled": ["stages.0.teacher_cache={kind: sampled}"],
}
WORDS = """*What a minute of training is worth*, on the starter: `python
tests/benchmarks/quality_per_minute.py --readme`. Seconds until so many of the held-out commands are
answered exactly, scoring and filling a cache included, the teacher's answers to the unlabelled
commands not.

"""
MARKS = (0.5, 0.8, 0.9, 0.95)


def main() -> None:
    """Train every way, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="pocket_student")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between two scores")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write("\n" + json.dumps(trained(json.loads(options.one))))
        return
    found: dict[str, list[Any]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as folder:
        asked = {"recipe": options.recipe, "folder": folder, "every": options.every}
        # one step each, so that the teacher's answers lie there; in int8 they are others
        for way in options.ways:
            alone({**asked, "set": [*options.overrides, *WAYS[way]], "only_answers": True})
        for turn in range(options.seeds):
            for way in options.ways if turn % 2 == 0 else options.ways[::-1]:
                shutil.rmtree(Path(folder) / "teacher_cache", ignore_errors=True)
                own = [*options.overrides, f"seed={turn}", *WAYS[way]]
                found[way].append(alone({**asked, "set": own}))
                sys.stderr.write(f"seed {turn} {way}: {found[way][-1][-1:]}\n")
    STORE.write_text(json.dumps(found, indent=1) + "\n")
    written = table(found)
    sys.stdout.write(written + "\n")
    if options.readme:
        into_readme("quality", WORDS + written)


def alone(asked: dict[str, Any]) -> list[tuple[float, float]]:
    """One run, in a process of its own: seconds and exact match of every score."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def trained(asked: dict[str, Any]) -> list[tuple[float, float]]:
    """Run the recipe's training and look at its scores."""
    from distill_core import api, pipeline

    settings = [
        *("evaluation.baselines=[]", f"evaluation.every_steps={asked['every']}"),
        *("evaluation.final_rows=1", *asked["set"]),
    ]
    if asked.get("only_answers"):
        settings.append("stages.0.optim.max_steps=1")
    recipe = api.load_recipe(asked["recipe"], settings)
    points: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(dir=asked["folder"]) as folder:
        began = None
        for happening in pipeline.run(recipe, Path(folder)):
            if happening["type"] == "progress" and happening["message"] == "tokenizing":
                began = time.perf_counter()
            if happening["type"] == "stage_finished":
                break
            if happening["type"] == "evaluation" and began is not None:
                metrics = happening["metrics"]
                points.append((time.perf_counter() - began, metrics["held_out_exact_match"]))
    return points


def table(found: dict[str, list[Any]]) -> str:
    """One line a way: when it passes each mark, and where it ends; the median over seeds."""
    marks = " | ".join(f"{mark:.0%}" for mark in MARKS)
    lines = [f"| teacher | {marks} | in the end |", "|" + "---|" * (len(MARKS) + 2)]
    for way, runs in found.items():
        cells = []
        for mark in MARKS:
            passed = [next((at for at, share in run if share >= mark), None) for run in runs]
            there = [at for at in passed if at is not None]
            cells.append(f"{statistics.median(there):.0f} s" if len(there) == len(runs) else "–")
        last = statistics.median(run[-1][1] for run in runs)
        whole = statistics.median(run[-1][0] for run in runs)
        lines.append(f"| {way} | {' | '.join(cells)} | {last:.1%} after {whole:.0f} s |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
