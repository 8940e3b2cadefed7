"""Film reviews: what teaches a small student best? `python tests/benchmarks/sst2_students.py`.

In: rows of SST-2 as JSON lines (`text`, `label`), a family of models, seeds, steps. One teacher is
fine-tuned; then each way to teach has a run per seed, same student, same steps, same rows. Out: a
table and JSON; each score is a mean over seeds with its range, each difference is paired by row.

- `--family encoder`: MiniLM (22 M), two and three layers of it; probabilities alone against
  probabilities, hidden states and attention.
- `--family causal`: SmolLM2 (135 M), six layers of it; distilled, and fine-tuned on labels alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from distill_core import api, intervals

SOFT = "{name: forward_kl, weight: 0.9, temperature: 2.0}, {name: cross_entropy, weight: 0.1}"
FEATURES = (
    f"{SOFT}, {{name: hidden_states, weight: 0.5, layers: all}}, "
    "{name: attention, weight: 0.5, layers: all}"
)
WORDS = "{name: forward_kl, weight: 0.9}, {name: cross_entropy, weight: 0.1}"
FAMILIES: dict[str, dict[str, Any]] = {
    "encoder": {
        "recipe": "minilm_sst2",
        "columns": "{text: text, label: label}",
        "score": "accuracy",
        "teacher_steps": 300,
        "steps": 300,
        "ways": {
            f"{layers} layers, {name}": (layers, losses)
            for layers in (2, 3)
            for name, losses in (
                ("probabilities", SOFT),
                ("probabilities, hidden states, attention", FEATURES),
            )
        },
    },
    "causal": {
        "recipe": "smollm2_sst2",
        "columns": "{prompt: text, response: label}",
        "score": "exact_match",
        "teacher_steps": 80,
        "steps": 160,
        "ways": {"6 layers, fine-tune, then distil": (6, WORDS)},
    },
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="encoder")
    parser.add_argument("--train", required=True, help="JSON lines with text and label")
    parser.add_argument("--held-out", required=True, help="JSON lines with text and label")
    parser.add_argument("--rows", type=int, default=2000, help="held-out rows to score")
    parser.add_argument("--steps", type=int, help="of every student; the family's without")
    parser.add_argument("--teacher-steps", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs-dir", default="runs/sst2-students")
    options = parser.parse_args()
    family = FAMILIES[options.family]
    for name in ("steps", "teacher_steps"):
        setattr(options, name, getattr(options, name) or family[name])
    teacher = teacher_of(family, options)
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        for way, (layers, losses) in family["ways"].items():
            members = outcome(family, teacher, layers, losses, seed, options)
            found.setdefault("teacher, fine-tuned", []).append(members["teacher"])
            found.setdefault(way, []).append(members["student"])
            labels = f"{layers} layers, fine-tuned on labels alone"
            if len(found.setdefault(labels, [])) <= seed:
                found[labels].append(members["fine_tuned_on_labels"])
            score = members["student"][family["score"]]
            sys.stdout.write(f"seed {seed}: {way}: {score:.3f}\n")
            sys.stdout.flush()
    report = {
        "machine": api.machine()["name"],
        "steps": options.steps,
        "teacher_steps": options.teacher_steps,
        "seeds": options.seeds,
        "score": family["score"],
        "rows": {row: summary(runs, family["score"]) for row, runs in found.items()},
        "differences": differences(found),
    }
    sys.stdout.write(f"{table(report)}\n\n{json.dumps(report, indent=1, ensure_ascii=False)}\n")


def shared(family: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Overrides of every run: the data, and how much of it is scored."""
    return [
        f"data.sources=[{{kind: file, path: {options.train}}}]",
        f"data.held_out={{kind: file, path: {options.held_out}}}",
        f"data.columns={family['columns']}",
        f"evaluation.final_rows={options.rows}",
        "evaluation.every_steps=100000",
    ]


def run(name: str, recipe: Any, options: argparse.Namespace) -> Path:
    """The folder of a finished run with this name, run now unless it is there."""
    folder = Path(options.runs_dir) / name
    if not (folder / "evaluation.json").is_file():
        for _ in api.run_here(recipe, runs_dir=options.runs_dir):
            pass
        Path(api.runs(options.runs_dir)[0]["path"]).rename(folder)
    return folder


def teacher_of(family: dict[str, Any], options: argparse.Namespace) -> Path:
    """The folder of the fine-tuned teacher, made once."""
    name = f"{family['recipe']}-teacher-{options.teacher_steps}"
    stage = api.load_recipe(family["recipe"]).stages[0].model_dump(mode="json")
    stage["optim"]["max_steps"] = options.teacher_steps
    changed = [*shared(family, options), f"name={name}", f"stages=[{json.dumps(stage)}]"]
    return run(name, api.load_recipe(family["recipe"], changed), options) / "student"


def outcome(
    family: dict[str, Any],
    teacher: Path,
    layers: int,
    losses: str,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Scores and right-or-wrong by row of every member of one run."""
    kind = "features" if "hidden_states" in losses else "probabilities"
    name = f"{family['recipe']}-{layers}-{kind}-{options.steps}-seed-{seed}"
    stage = api.load_recipe(family["recipe"]).stages[-1].model_dump(mode="json")
    stage["teacher"] = str(teacher.resolve())
    stage["student"] = {"init": "layer_drop", "layers": layers}
    stage["optim"]["max_steps"] = options.steps
    del stage["losses"]
    text = json.dumps(stage)[:-1] + f', "losses": [{losses}]}}'
    baselines = "fine_tuned_on_labels" if kind == "probabilities" else ""
    changed = [
        *shared(family, options),
        f"name={name}",
        f"seed={seed}",
        f"stages=[{text}]",
        f"evaluation.baselines=[{baselines}]",
    ]
    folder = run(name, api.load_recipe(family["recipe"], changed), options)
    models = json.loads((folder / "evaluation.json").read_text())["models"]
    rows = json.loads((folder / "evaluation_rows.json").read_text())["rows"]
    return {member: {**scores, "rows": rows[member]} for member, scores in models.items()}


def summary(runs: list[dict[str, Any]], score: str) -> dict[str, Any]:
    """Mean, lowest and highest over seeds."""
    found: dict[str, Any] = {"parameters": runs[0]["parameters"]}
    for name in (score, "kl_to_teacher", "top1_agreement"):
        values = [each[name] for each in runs if each.get(name) is not None]
        if values:
            found[name] = [statistics.mean(values), min(values), max(values)]
    return found


def differences(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Every pair of ways with as many layers: mean difference, and its paired 95 % interval."""
    table = {}
    ways = [way for way in found if "layers" in way]
    for first in ways:
        for second in ways[ways.index(first) + 1 :]:
            if first.split()[0] != second.split()[0]:
                continue
            ours, theirs = (
                np.mean([each["rows"] for each in found[way]], axis=0) for way in (second, first)
            )
            low, high = intervals.paired_difference(ours, theirs)
            table[f"{second} minus {first}"] = [float(np.mean(ours - theirs)), low, high]
    return table


def table(report: dict[str, Any]) -> str:
    """The README's table."""
    score = report["score"]
    lines = [
        f"| | parameters | {score.replace('_', ' ')} | KL to the teacher | agrees with teacher |",
        "|---|---|---|---|---|",
    ]
    for row, found in report["rows"].items():
        kl = found.get("kl_to_teacher")
        cells = [
            f"{found['parameters']:,}",
            percent(found[score]),
            "–" if kl is None else f"{kl[0]:.3f}",
            percent(found["top1_agreement"]) if "top1_agreement" in found else "–",
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines.append("")
    for pair, (mean, low, high) in report["differences"].items():
        lines.append(f"{pair}: {100 * mean:+.1f} points [{100 * low:.1f}, {100 * high:.1f}]")
    return "\n".join(lines)


def percent(values: list[float]) -> str:
    """Mean and range over seeds, such as `96.4 % (95.9–96.8)`."""
    mean, low, high = (f"{100 * value:.1f}" for value in values)
    return f"{mean} % ({low}–{high})"


if __name__ == "__main__":
    main()
