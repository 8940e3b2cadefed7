"""Forecasts of recipes and data out of the common: always numbers, and a range that is one.

In: recipes on the starter's models and small files. Knows nothing of what is right, which
`test_estimate.py` and the benchmarks say; here nothing may break.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from distill_core import device, estimate
from distill_core.estimate import memory_need
from distill_core.recipe import Recipe

OPTIM = {"max_steps": 3, "global_batch_size": 4, "micro_batch_size": 2}
FINE_TUNE = {"kind": "fine_tune", "model": "pocket-teacher", "optim": OPTIM}
MIXTURE = [{"model": "pocket-teacher", "weight": weight} for weight in (0.25, 0.75)]

INSIDE = [{"name": "forward_kl"}, {"name": "hidden_states"}, {"name": "attention"}]
KL, TEXT = {"name": "forward_kl"}, {"name": "cross_entropy", "targets": "labels_and_teacher_text"}


def distil(**changed: Any) -> dict[str, Any]:
    student = {"init": "layer_drop", "layers": 2}
    stage = {"kind": "distill", "teacher": "pocket-teacher", "student": student, "optim": OPTIM}
    return stage | changed


def taught_by_the_last(**changed: Any) -> dict[str, Any]:
    return distil(teacher="previous", student={"init": "layer_drop", "layers": 1}, **changed)


def optim(**changed: int) -> dict[str, Any]:
    return {"optim": OPTIM | changed}


ROWS = {
    "one": [{"prompt": "turn on the light", "response": "on"}],
    "two": [{"prompt": f"turn on light {n}", "response": "on"} for n in range(2)],
    "no answers": [{"prompt": f"turn on light {n}"} for n in range(3)],
    "texts": [{"text": f"a line of text number {n} " * 5} for n in range(5)],
    "classes": [{"text": f"nice {n}", "label": n % 3} for n in range(20)],
}

CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "one row": ("one", [distil()]),
    "one row, cached": ("one", [distil(teacher_cache={"kind": "hidden"})]),
    "one row at once": ("two", [distil(**optim(global_batch_size=1, micro_batch_size=64))]),
    "more at once than there are": ("one", [distil(**optim(global_batch_size=4096))]),
    "no answers": ("no answers", [distil(losses=[KL])]),
    "no answers, best of four": (
        "no answers",
        [distil(losses=[TEXT], teacher_answers={"best_of": 4})],
    ),
    "no answers, cached": ("no answers", [distil(losses=[KL], teacher_cache={"kind": "top_k"})]),
    "texts": ("texts", [distil()]),
    "texts, on-policy": ("texts", [distil(losses=[KL], on_policy_fraction=0.5)]),
    "a chain": ("two", [FINE_TUNE, distil(teacher="previous"), taught_by_the_last()]),
    "a cached chain": (
        "two",
        [
            FINE_TUNE,
            distil(teacher="previous", teacher_cache={"kind": "hidden"}),
            taught_by_the_last(losses=[KL], teacher_cache={"kind": "sampled"}),
        ],
    ),
    "an on-policy chain": (
        "two",
        [distil(on_policy_fraction=0.3), taught_by_the_last(on_policy_fraction=1, losses=[KL])],
    ),
    "a mixture": ("two", [distil(teacher=MIXTURE)]),
    "a cached mixture": ("two", [distil(teacher=MIXTURE, teacher_cache={"kind": "hidden"})]),
    "on-policy": ("two", [distil(losses=[{"name": "reverse_kl"}], on_policy_fraction=1)]),
    "on-policy, with an adapter and int8": (
        "two",
        [distil(on_policy_fraction=0.5, teacher_precision="int8", adapter={"kind": "lora"})],
    ),
    "looks inside": ("two", [distil(losses=INSIDE)]),
    "classes": ("classes", [FINE_TUNE, distil(teacher="previous")]),
    "classes, cached": (
        "classes",
        [FINE_TUNE, distil(teacher="previous", teacher_cache={"kind": "hidden"})],
    ),
}


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "matmul_flops_per_s", lambda *a: 1e11)


@pytest.fixture(params=CASES)
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Recipe:
    rows, stages = CASES[request.param]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[rows]))
    held_out: Any = {"kind": "starter", "split": "held_out", "limit": 3}
    return Recipe.model_validate(
        {
            "device": "cpu",
            "task": "text_classification" if rows == "classes" else "causal_lm",
            "data": {
                "sources": [{"kind": "file", "path": str(path)}],
                "held_out": 0.3 if rows == "classes" else held_out,
                "max_seq_len": 64,
            },
            "stages": stages,
        }
    )


def is_sensible(told: dict[str, Any]) -> None:
    parts = told["memory_bytes"]
    assert tuple(parts) == memory_need.PARTS
    low, high = told["time_s"]
    numbers = [*parts.values(), told["training_s"], low, high, told["disk_bytes"], told["steps"]]
    numbers += [value for cache in told["caches"] for value in (cache["tokens"], cache["bytes"])]
    assert all(math.isfinite(value) and value >= 0 for value in numbers)
    assert told["total_memory_bytes"] == sum(parts.values())
    assert 3e8 < told["total_memory_bytes"] < 3e9, "libraries, and networks of a few megabytes"
    assert 0 < low <= high < 10 * low
    assert 0 < told["training_s"] < high
    json.dumps(told, allow_nan=False)


def test_the_formula_says_something_sensible(recipe: Recipe) -> None:
    is_sensible(estimate.estimate(recipe))


def test_so_does_a_forecast_after_dry_steps(recipe: Recipe) -> None:
    points = [{"tokens": tokens, "peak_bytes": 480_000_000} for tokens in (64, 128)]
    measured = {
        "points": points,
        "micro_batch_size": 1,
        "loading_bytes": 450_000_000,
        "held_bytes": 440_000_000,
        "tokens_per_s": 5000.0,
        "start_s": 4.0,
    }
    own = {"own_answers_s": 0.2, "own_row_tokens": 40.0}
    stages = [
        measured | {"stage": index} | (own if getattr(stage, "on_policy_fraction", 0) else {})
        for index, stage in enumerate(recipe.stages)
    ]
    is_sensible(estimate.estimate(recipe, dry={"device": "cpu", "stages": stages}))
