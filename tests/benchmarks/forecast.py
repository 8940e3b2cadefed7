"""Forecast and truth of short runs: `python tests/benchmarks/forecast.py [--only starter]`.

In: perhaps some of the cases, a file of rows for the larger model (`--rows FILE`, prompt and
response; else the starter's), a device. Out: a table, `forecast.json` beside this file, and with
`--readme` the README's table between its markers. For each case one process makes the forecast by
the formula and after a dry step, another one runs the recipe and measures: the most memory at any
moment from start to final scores (resident on a CPU; on CUDA what torch allocates, and the context
is left out of the forecast too), and the seconds of all optimiser steps together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from readme_part import into_readme

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STORE = HERE / "forecast.json"
STEPS = 16

_SHORT = [
    "evaluation={rows: 16, final_rows: 16, samples: 2, max_new_tokens: 16, every_steps: 1000}",
    "data.sources=[{kind: starter, split: labelled}]",
    f"stages.0.optim.max_steps={STEPS}",
]
_DROP = "stages.0.student={init: layer_drop, layers: 2}"
_SIX = [
    "stages.0.teacher=smollm2-135m-instruct",
    "stages.0.student={init: layer_drop, layers: 6}",
    "stages.0.optim.global_batch_size=16",
    "stages.0.optim.micro_batch_size=8",
    "data.max_seq_len=256",
]

CASES: dict[str, tuple[str, list[str]]] = {
    "starter: distil, scratch student": ("pocket_student", []),
    "starter: distil, two of its layers": ("pocket_student", [_DROP]),
    "starter: … with a teacher cache": (
        "pocket_student",
        [_DROP, "stages.0.teacher_cache={kind: hidden}"],
    ),
    "starter: … 256 rows at once": (
        "pocket_student",
        [
            _DROP,
            "stages.0.optim.global_batch_size=256",
            "stages.0.optim.micro_batch_size=256",
        ],
    ),
    "starter: … the loss not in chunks": (
        "pocket_student",
        [_DROP, "stages.0.optim.loss_chunk_rows=0"],
    ),
    "starter: … on-policy in half of the steps": (
        "pocket_student",
        [_DROP, "stages.0.on_policy_fraction=0.5"],
    ),
    "starter: fine-tune": ("fine_tune", []),
    "starter: fine-tune with LoRA": ("fine_tune_lora", []),
    "smollm2: distil six layers": ("pocket_student", _SIX),
    "smollm2: … with a teacher cache": (
        "pocket_student",
        [*_SIX, "stages.0.teacher_cache={kind: hidden}"],
    ),
    "smollm2: … an int8 teacher": ("pocket_student", [*_SIX, "stages.0.teacher_precision=int8"]),
    "smollm2: fine-tune with LoRA": (
        "fine_tune_lora",
        [
            "stages.0.model=smollm2-135m-instruct",
            "stages.0.optim.global_batch_size=16",
            "stages.0.optim.micro_batch_size=8",
            "data.max_seq_len=256",
        ],
    ),
}
"""By name: a ready recipe, and what is changed in it."""


WORDS = """*Forecast and truth* of short runs, each in a process of its own, one thread:
`python tests/benchmarks/forecast.py --rows gsm8k.jsonl --readme` (prompt and response, for the
larger model). Memory is the most at any moment from start to final scores, the seconds are those of
all optimiser steps; in brackets how far the forecast is off.

"""


def main() -> None:
    """Forecast, run, compare, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--rows", default=None, help="JSONL of prompt and response, for smollm2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, name, overrides = json.loads(options.one)
        sys.stdout.write(json.dumps(WAYS[way](name, overrides)))
        return
    found = []
    for name, (recipe, own) in CASES.items():
        if options.only not in name:
            continue
        overrides = [*_SHORT, *own, f"device={options.device}"]
        if options.rows and name.startswith("smollm2"):
            overrides += [
                f"data.sources=[{{kind: file, path: {options.rows}}}]",
                "data.held_out=0.05",
            ]
        case = {"name": name}
        for way in WAYS:
            case |= in_a_process(way, recipe, overrides, options.threads)
        found.append(case)
        sys.stderr.write(f"{line(case)}\n")
    found = with_earlier(found)
    STORE.write_text(json.dumps({"machine": machine(options), "cases": found}, indent=1) + "\n")
    written = table(found)
    sys.stdout.write(written + "\n")
    if options.readme:
        into_readme("forecast", WORDS + written)


def with_earlier(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All cases in their order; those that were left out this time as they were stored."""
    stored = json.loads(STORE.read_text())["cases"] if STORE.is_file() else []
    known = {case["name"]: case for case in [*stored, *found]}
    return [known[name] for name in CASES if name in known]


def in_a_process(way: str, recipe: str, overrides: list[str], threads: int) -> dict[str, Any]:
    """One forecast or one run, in a process of its own."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps([way, recipe, overrides])],
        env=os.environ | limits | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def forecast(name: str, overrides: list[str]) -> dict[str, Any]:
    """By the formula, and after a dry step; how long that took."""
    from distill_core import api

    recipe = api.load_recipe(name, overrides)
    before = api.estimate(recipe)
    started = time.perf_counter()
    api.take_dry_step(recipe)
    seconds = time.perf_counter() - started
    return {
        "formula": _told(before),
        "dry": _told(api.estimate(recipe)),
        "dry_step_s": seconds,
    }


def _told(estimate: dict[str, Any]) -> dict[str, Any]:
    return {
        "parts": estimate["memory_bytes"],
        "bytes": estimate["total_memory_bytes"],
        "training_s": estimate["training_s"],
    }


def run(name: str, overrides: list[str]) -> dict[str, Any]:
    """The recipe from start to final scores; the most memory, and the seconds of its steps."""
    from distill_core import api, peak, pipeline
    from distill_core.device import pick_device

    recipe = api.load_recipe(name, overrides)
    device = pick_device(recipe.device)
    seconds, highest, at = 0.0, 0, ""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "runs" / "one"
        run_dir.mkdir(parents=True)
        asked = time.perf_counter()
        for event in pipeline.run(recipe, run_dir):
            if event["type"] == "step":
                seconds += time.perf_counter() - asked
            seen = peak.peak_bytes(device)
            if seen > 1.01 * highest:
                highest, at = seen, event["type"]
            highest = max(highest, seen)
            asked = time.perf_counter()
    found = {"bytes": highest, "training_s": seconds, "grew_last_at": at}
    return {"measured": found, "context_counts": device.type == "cpu"}


WAYS = {"forecast": forecast, "run": run}


# --- what is shown ------------------------------------------------------------------------------


def needed(case: dict[str, Any], way: str) -> float:
    """Bytes as they can be compared: on an accelerator nobody measures the context."""
    told = case[way]
    apart = 0 if case["context_counts"] or way == "measured" else told["parts"]["context"]
    return float(told["bytes"] - apart)


def line(case: dict[str, Any]) -> str:
    """One row of the table."""
    cells = [case["name"]]
    for key, show in (("bytes", lambda x: f"{x / 1e6:,.0f} MB"), ("s", lambda x: f"{x:.1f} s")):
        truth = needed(case, "measured") if key == "bytes" else case["measured"]["training_s"]
        for way in ("formula", "dry"):
            value = needed(case, way) if key == "bytes" else case[way]["training_s"]
            cells.append(f"{show(value)} ({100 * (value / truth - 1):+.0f} %)")
        cells.append(show(truth))
    cells.append(f"{case['dry_step_s']:.0f} s")
    return f"| {' | '.join(cells)} |"


def table(cases: list[dict[str, Any]]) -> str:
    """A line a case: memory and time by the formula, after a dry step, and as measured."""
    heads = ["run of 16 steps", "memory: formula", "after a dry step", "measured"]
    heads += ["steps: formula", "after a dry step", "measured", "the dry step itself"]
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*rows, *map(line, cases)])


def machine(options: Any) -> dict[str, Any]:
    """What was measured on."""
    import torch

    from distill_core.device import device_name

    return {
        "device": device_name(torch.device(options.device)),
        "threads": options.threads,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
