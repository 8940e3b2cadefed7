"""Writes a plausible run folder in an instant, through the recorder that real runs use.

In: how far the run is and how it ended. Out: its id. Knows nothing of models: the curves are drawn.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill_core import runs
from distill_core.events import Event, event, progress
from distill_core.recipe import recipe_yaml
from distill_core.runs import status as run_status
from distill_core.runs.recorder import Recorder

RECIPE = Path(__file__).parents[2] / "assets" / "recipes" / "pocket_student.yaml"
PROMPTS = {
    "please kill the radio in the lounge at half past nine pm": (
        '{"do":"off","what":"music","where":"living room","at":"21:30"}',
        '{"do":"off","what":"tv","where":"living room","at":"09:30"}',
    ),
    "raise the blinds of the study by fifteen percent": (
        '{"do":"up","what":"blinds","where":"office","by":15}',
        '{"do":"up","what":"blinds","where":"garage"}',
    ),
    "is <b>the oven</b> still on": (
        '{"do":"status","what":"oven","where":"kitchen"}',
        "oven oven <i>",
    ),
}


def events_of_stage(
    index: int, *, steps: int, upto: int, baseline: bool = False, seed: int = 0
) -> Iterator[Event]:
    """Yield a stage's events up to a step: falling losses, rising exact match."""
    chance = random.Random(seed * 100 + index)
    every = max(1, steps // 10)
    for step in range(1, upto + 1):
        share = step / steps
        entropy = 2.6 * math.exp(-6 * share) + (0.5 if baseline else 0.3) + chance.gauss(0, 0.03)
        metrics = {"cross_entropy": entropy, "weighted_cross_entropy": 0.1 * entropy}
        if not baseline:
            kl = 3 * math.exp(-7 * share) + 0.02 + abs(chance.gauss(0, 0.02))
            metrics |= {"forward_kl": kl, "weighted_forward_kl": 0.9 * kl}
        metrics["loss"] = sum(v for k, v in metrics.items() if k.startswith("weighted_"))
        metrics |= {
            "learning_rate": 3e-3 * min(1, 20 * share) * (1 - 0.9 * share),
            "grad_norm": 0.3 + math.exp(-5 * share) + chance.random() * 0.1,
            "tokens_per_s": 9800 + chance.gauss(0, 150),
            "memory_bytes": 6.2e8,
        }
        yield event("step", stage=index, step=step, metrics=metrics)
        if step % every == 0 or step == steps:
            yield from _evaluation(index, step, share, baseline)


def _evaluation(index: int, step: int, share: float, baseline: bool) -> Iterator[Event]:
    top = 0.31 if baseline else 0.965
    metrics = {
        "held_out_exact_match": top * (1 - math.exp(-4 * share)),
        "held_out_teacher_exact_match": 0.991,
        "held_out_cross_entropy": 2.7 * math.exp(-6 * share) + (0.9 if baseline else 0.34),
    }
    if not baseline:
        metrics["held_out_forward_kl"] = 3.1 * math.exp(-6 * share) + 0.03
        metrics["held_out_top1_agreement"] = 1 - 0.6 * math.exp(-4 * share)
    yield event("evaluation", stage=index, step=step, metrics=metrics, rows=128, final=False)
    for prompt, (right, wrong) in PROMPTS.items():
        student = right if share > 0.5 and not baseline and "oven" not in prompt else wrong
        yield event(
            "sample", stage=index, step=step, prompt=prompt, teacher=right, student=student,
            reference=right, match=student == right,
        )  # fmt: skip


def evaluation(run: str, exact: float = 0.962) -> dict[str, Any]:
    """Content of `evaluation.json` as a finished run has it."""

    def score(value: float, parameters: int, speed: float) -> dict[str, Any]:
        return {
            "exact_match": value, "exact_match_ci95": [value - 0.012, min(1, value + 0.01)],
            "parameters": parameters, "bytes": 4 * parameters, "cross_entropy": 0.3,
            "perplexity": 1.35, "tokens_per_s": speed, "latency_p50_ms": 8.0,
            "latency_p95_ms": 11.0, "peak_memory_bytes": 6 * parameters,
        }  # fmt: skip

    student = score(exact, 178_000, 6900.0)
    return {
        "run": run, "data": {"name": "starter", "rows": 1000, "overlap_with_training": 0},
        "models": {
            "teacher": score(0.991, 1_690_000, 1300.0),
            "student": {**student, "kl_to_teacher": 0.03, "top1_agreement": 0.99},
            "untrained_student": score(0.0, 178_000, 6900.0),
            "fine_tuned_on_labels": score(0.31, 178_000, 6900.0),
        },
        "retention": exact / 0.991, "retention_ci95": [0.95, 0.98], "size_ratio": 9.49,
        "speedup": 5.3, "gap_closed": exact / 0.991, "verdict": "inconclusive",
        "verdict_against": "fine_tuned_on_labels", "paired_test_p": 1e-9,
    }  # fmt: skip


def write_run(
    runs_dir: Path,
    *,
    name: str = "pocket-student",
    ends: str = "running",
    upto: int = 64,
    steps: int = 120,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
) -> str:
    """Write a run and return its id.

    `ends`: running, caching, finished, paused, stopped, failed, lost, queued.
    """
    recipe = recipe_yaml.load(RECIPE, [f"name={name}", f"seed={seed}", *overrides])
    if ends == "queued":
        return runs.create(recipe, runs_dir).name
    folder = runs.create(recipe, runs_dir, state="running")
    (folder / "worker.log").write_text("loading pocket-teacher\nstep 1\nstep 2\n")
    stages = [
        {"index": 0, "title": "distill", "kind": "distill", "total_steps": steps,
         "baseline": False},
        {"index": 1, "title": "fine-tuned on labels", "kind": "fine_tune", "total_steps": steps,
         "baseline": True},
    ]  # fmt: skip
    with Recorder(folder) as recorder:
        recorder.record(event("run_started", recipe={}, stages=stages))
        recorder.record(event("stage_started", **_start(stages[0])))
        recorder.record(progress("caching teacher", "the teacher answers", done=3200, total=20000))
        if ends == "caching":
            return folder.name
        upto = steps if ends == "finished" else upto
        for found in events_of_stage(0, steps=steps, upto=upto, seed=seed):
            recorder.record(found)
        recorder.record(event("checkpoint", stage=0, step=upto, path="step"))
        if ends == "finished":
            recorder.record(event("stage_started", **_start(stages[1])))
            for found in events_of_stage(1, steps=steps, upto=steps, baseline=True, seed=seed):
                recorder.record(found)
            scores = evaluation(folder.name, 0.962 - 0.02 * seed)
            recorder.record(event("run_finished", seconds=231.0, evaluation=scores))
        elif ends in ("paused", "stopped"):
            recorder.record(event("run_stopped", reason=ends, stage=0, step=upto))
        elif ends == "failed":
            recorder.record_failure(
                event("run_failed", kind="DataError", field="data.sources",
                      message="rows.jsonl:12 is not JSON: a quote is missing.\n"
                              "Mend the line or remove it."),
            )  # fmt: skip
    if ends == "lost":
        dead = {"pid": 2**22 + 7, "process_start_time": 1.0}
        run_status.write(folder, run_status.read(folder) | dead)
    return folder.name


def _start(stage: dict[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in stage.items() if key != "index"}
    sizes = {"student": {"parameters": 178_000}, "teacher": {"parameters": 1_690_000}}
    return {"stage": stage["index"], "rows": 20500, **sizes, **facts}


def write_stages(runs_dir: Path, stages: list[dict[str, Any]], *, name: str) -> str:
    """Write a finished run of these stages (`title, total_steps`, a probe's `arm, seed` too)."""
    folder = runs.create(recipe_yaml.load(RECIPE, [f"name={name}"]), runs_dir, state="running")
    told = [
        {"index": index, "kind": "distill", "baseline": False, **stage}
        for index, stage in enumerate(stages)
    ]
    with Recorder(folder) as recorder:
        recorder.record(event("run_started", recipe={}, stages=told))
        for stage in told:
            recorder.record(event("stage_started", **_start(stage)))
            steps = stage["total_steps"]
            for found in events_of_stage(stage["index"], steps=steps, upto=steps):
                recorder.record(found)
        recorder.record(event("run_finished", seconds=9.0, evaluation={}))
    return folder.name
