"""How good and how quick the default recipe is: `python tests/benchmarks/starter_quality.py`.

In: number of seeds (3), a runs folder (a new one). Out: a table and JSON of teacher, student,
baseline and untrained student, each score a mean over seeds with its range, and seconds by phase.
The first run includes the teacher's pass over the unlabelled rows; the others find it done.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from typing import Any

from distill_core import api

MODELS = ("teacher", "student", "fine_tuned_on_labels", "untrained_student")
SCORES = ("exact_match", "cross_entropy", "kl_to_teacher", "top1_agreement", "tokens_per_s")


def main() -> None:
    """Run the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="pocket_student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs-dir", default=None)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    options = parser.parse_args()
    runs_dir = options.runs_dir or tempfile.mkdtemp(prefix="starter-quality-")
    results = [one_run(options, seed, runs_dir) for seed in range(options.seeds)]
    final = api.evaluate(results[-1]["run"], runs_dir=runs_dir)
    report = {"machine": api.machine()["name"], "runs": results, "verdict": final["verdict"]}
    report["verdict_reason"] = final["verdict_reason"]
    report["summary"] = summary([result["evaluation"] for result in results])
    sys.stdout.write(table(report) + "\n\n" + json.dumps(report, indent=1) + "\n")


def one_run(options: argparse.Namespace, seed: int, runs_dir: str) -> dict[str, Any]:
    """Run the recipe with one seed; seconds by stage come from its events."""
    recipe = api.load_recipe(options.recipe, [*options.overrides, f"seed={seed}"])
    seconds: dict[str, float] = {}
    started = last = time.monotonic()
    phase, work, evaluation = "start", "training", {}
    for event in api.run_here(recipe, runs_dir=runs_dir):
        now = time.monotonic()
        seconds[phase] = seconds.get(phase, 0.0) + now - last
        last = now
        if event["type"] == "progress":
            phase = event["phase"]
        elif event["type"] == "stage_started":
            work = "baseline" if event["baseline"] else "training"
        elif event["type"] == "rows_ready":
            phase = work
        elif event["type"] == "run_finished":
            evaluation = event["evaluation"]
    return {
        "run": api.runs(runs_dir)[0]["run"],
        "seed": seed,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_s": round(time.monotonic() - started, 1),
        "evaluation": evaluation,
    }


def summary(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, lowest and highest of every score over the seeds."""
    table: dict[str, Any] = {}
    for model in MODELS:
        for score in SCORES:
            values = [e["models"][model].get(score) for e in evaluations if model in e["models"]]
            found = [value for value in values if value is not None]
            if found:
                table.setdefault(model, {})[score] = [
                    statistics.mean(found),
                    min(found),
                    max(found),
                ]
    for name in ("retention", "size_ratio", "speedup", "gap_closed"):
        found = [e[name] for e in evaluations if e.get(name) is not None]
        if found:
            table[name] = [statistics.mean(found), min(found), max(found)]
    return table


def table(report: dict[str, Any]) -> str:
    """The README's table."""
    lines = [
        "| | exact match | KL to teacher | agrees with teacher | tokens/s |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        scores = report["summary"].get(model, {})
        cells = [
            shown(scores.get("exact_match"), "%"),
            shown(scores.get("kl_to_teacher"), ".3f"),
            shown(scores.get("top1_agreement"), "%"),
            shown(scores.get("tokens_per_s"), ".0f"),
        ]
        lines.append(f"| {model.replace('_', ' ')} | {' | '.join(cells)} |")
    for name in ("retention", "size_ratio", "speedup"):
        style = "%" if name == "retention" else ".1f"
        lines.append(f"\n{name}: {shown(report['summary'].get(name), style)}")
    times = "; ".join(
        f"seed {r['seed']}: {r['total_s']:.0f} s {r['seconds']}" for r in report["runs"]
    )
    return "\n".join(lines) + f"\n\n{report['verdict']}: {report['verdict_reason']}\n{times}"


def shown(values: list[float] | None, style: str) -> str:
    """Mean and range, such as `96.4 % (95.9–96.8)`."""
    if values is None:
        return "–"
    if style == "%":
        mean, low, high = (f"{100 * value:.1f}" for value in values)
        return f"{mean} % ({low}–{high})"
    mean, low, high = (format(value, style) for value in values)
    return f"{mean} ({low}–{high})"


if __name__ == "__main__":
    main()
