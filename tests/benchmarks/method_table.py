"""Every way to distil on the starter, side by side: `python tests/benchmarks/method_table.py`.

In: steps, seeds, a runs folder that may hold earlier runs (they are not run again). Out:
`method_table.json` beside this file and the README's table between its markers. Same student size
unless a row says otherwise, same steps of the last stage, same rows; each score is a mean over
seeds with the lowest and highest, and the difference to the reference is paired by row.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from distill_core import api, intervals

HERE = Path(__file__).parent
STORE = HERE / "method_table.json"
README = HERE.parent.parent / "README.md"
REFERENCE = "forward_kl and labels"


def losses(text: str) -> list[str]:
    """Overrides that put other terms in the place of the default ones."""
    return [f"stages.0.losses=[{text}]"]


SOFT = "{name: forward_kl, weight: 0.9}"
LABELS = "{name: cross_entropy, weight: 0.1}"
METHODS: dict[str, tuple[str, list[str]]] = {
    # losses
    REFERENCE: ("pocket_student", ["evaluation.baselines=[fine_tuned_on_labels]"]),
    "labels only": ("pocket_student", ["evaluation.baselines=[fine_tuned_on_labels]"]),
    "forward_kl": ("pocket_student", losses("{name: forward_kl, weight: 1}")),
    "forward_kl at temperature 2": (
        "pocket_student",
        losses("{name: forward_kl, weight: 1, temperature: 2}"),
    ),
    "reverse_kl": ("pocket_student", losses("{name: reverse_kl, weight: 1}")),
    "jsd, β = ½": ("pocket_student", losses("{name: jsd, weight: 1}")),
    "skewed_forward_kl": ("pocket_student", losses("{name: skewed_forward_kl, weight: 1}")),
    "skewed_reverse_kl": ("pocket_student", losses("{name: skewed_reverse_kl, weight: 1}")),
    "total_variation": ("pocket_student", losses("{name: total_variation, weight: 1}")),
    "cross_tokenizer, sorted probabilities only": (
        "pocket_student",
        losses("{name: cross_tokenizer, weight: 1, hybrid: false}"),
    ),
    "the teacher's text and labels, no probabilities": (
        "pocket_student",
        losses("{name: cross_entropy, weight: 1, targets: labels_and_teacher_text}"),
    ),
    "feature-based: hidden_states beside them": ("feature_based", []),
    "attention transfer: maps beside them": ("attention_transfer", []),
    "attention transfer: value relations beside them": (
        "attention_transfer",
        losses(f"{SOFT}, {{name: attention, compares: values, weight: 0.1}}, {LABELS}"),
    ),
    # what the student starts from
    "width_prune to the same size": ("task_specific", []),
    **{
        f"layer_drop, two layers, {keep} (3.8 × larger)": (
            "pocket_student",
            [f"stages.0.student={{init: layer_drop, layers: 2, keep: {keep}}}"],
        )
        for keep in ("lower", "even", "first_and_last", "importance")
    },
    # ways to combine
    "unlabelled rows only": ("unlabelled_only", []),
    "fine-tune, then distil": ("fine_tune_then_distil", []),
    "distil, then fine-tune": ("distil_then_fine_tune", []),
    "progressive: an assistant in between": ("progressive", []),
    "on-policy in the last fifth": ("on_policy", []),
}
"""Row of the table → ready recipe and overrides; another method is another line."""

MEMBER = {"labels only": "fine_tuned_on_labels"}
"""Rows that show a baseline of the reference's runs; all others show the student."""


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", help="a row's name; may be given again")
    parser.add_argument("--runs-dir", default="runs/method-table")
    options = parser.parse_args()
    found = {}
    for seed in range(options.seeds):
        for row in options.only or METHODS:
            found.setdefault(row, []).append(outcome(row, seed, options))
            sys.stdout.write(f"seed {seed}: {row}: {found[row][-1]['exact_match']:.3f}\n")
            sys.stdout.flush()
    report = {
        "command": f"python tests/benchmarks/method_table.py --steps {options.steps}",
        "machine": api.machine()["name"],
        "steps": options.steps,
        "seeds": options.seeds,
        "rows": {row: summary(scores, found.get(REFERENCE)) for row, scores in found.items()},
    }
    sys.stdout.write(markdown(report) + "\n")
    if not options.only:
        STORE.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        put_into_readme(markdown(report))


def outcome(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Scores and right-or-wrong per held-out row of one run, run now unless it is there."""
    shown = REFERENCE if row in MEMBER else row
    name = f"{re.sub('[^a-z0-9]+', '-', shown.lower()).strip('-')[:44]}-{options.steps}"
    ready, overrides = METHODS[row]
    changed = [*overrides, f"name={name}", f"seed={seed}"]
    if row != REFERENCE and row not in MEMBER:
        changed.append("evaluation.baselines=[]")
    stages = api.load_recipe(ready, changed).stages
    for place, steps in enumerate(steps_of(stages, options.steps)):
        if steps is not None:
            changed.append(f"stages.{place}.optim.max_steps={steps}")
    recipe = api.load_recipe(ready, changed)
    folder = Path(options.runs_dir) / f"{name}-seed-{seed}"
    if not (folder / "evaluation.json").is_file():
        for _ in api.run_here(recipe, runs_dir=options.runs_dir):
            pass
        Path(api.runs(options.runs_dir)[0]["path"]).rename(folder)
    member = MEMBER.get(row, "student")
    scores = json.loads((folder / "evaluation.json").read_text())["models"][member]
    rows = json.loads((folder / "evaluation_rows.json").read_text())["rows"][member]
    return {**scores, "rows": rows}


def steps_of(stages: list[Any], steps: int) -> list[int | None]:
    """Steps of each stage; a student's stages on one teacher share them, labels keep their own."""
    last = len(stages) - 1
    if stages[last].kind == "distill" and stages[last].on_policy_fraction:
        return [steps - steps // 5, steps // 5]
    return [steps if stage.kind == "distill" else None for stage in stages]


def summary(runs: list[dict[str, Any]], plain: list[dict[str, Any]] | None) -> dict[str, Any]:
    """Mean, lowest and highest over seeds; the paired difference to the reference."""
    found: dict[str, Any] = {"parameters": runs[0]["parameters"]}
    for name in ("exact_match", "kl_to_teacher", "top1_agreement"):
        values = [run[name] for run in runs]
        found[name] = [statistics.mean(values), min(values), max(values)]
    if plain is not None and len(plain) == len(runs):
        ours, theirs = (np.mean([run["rows"] for run in each], axis=0) for each in (runs, plain))
        found["difference"] = float(np.mean(ours - theirs))
        found["difference_ci95"] = intervals.paired_difference(ours, theirs)
    return found


def markdown(report: dict[str, Any]) -> str:
    """The README's table."""
    lines = [
        "| method | exact match | against the first row, points | KL to teacher | agrees |",
        "|---|---|---|---|---|",
    ]
    for row, found in report["rows"].items():
        difference = "–"
        if row != REFERENCE and "difference" in found:
            low, high = (100 * value for value in found["difference_ci95"])
            difference = f"{100 * found['difference']:+.1f} [{low:.1f}, {high:.1f}]"
        lines.append(
            f"| {row} | {percent(found['exact_match'])} | {difference} "
            f"| {found['kl_to_teacher'][0]:.3f} | {percent(found['top1_agreement'])} |"
        )
    return "\n".join(lines)


def percent(values: list[float]) -> str:
    """Mean and range over seeds, such as `96.4 % (95.9–96.8)`."""
    mean, low, high = (f"{100 * value:.1f}" for value in values)
    return f"{mean} % ({low}–{high})"


def put_into_readme(table: str) -> None:
    """Renew the table between its markers."""
    text = README.read_text(encoding="utf-8")
    start, end = "<!-- methods: start -->\n", "<!-- methods: end -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    assert rest, "the README has the table's markers"
    README.write_text(f"{before}{start}{table}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
