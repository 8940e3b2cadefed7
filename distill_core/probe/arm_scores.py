"""What an arm has scored, put together when its pipeline has ended.

In: an arm's folder, its last evaluation, what was watched on the way. Out: `Trained`. Compares
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core import evaluate, files
from distill_core.comparing import lineup
from distill_core.device import pick_device
from distill_core.probe.probe_file import Arm, Trained


def trained(
    arm: Arm,
    seed: int,
    folder: Path,
    evaluation: Mapping[str, Any],
    watched: Mapping[str, float],
    took: Mapping[str, float],
) -> Trained:
    """Put together what is kept of an arm with one seed, while its weights are still there.

    Args:
        arm: which one.
        seed: the seed that it was trained with.
        folder: of its own pipeline.
        evaluation: the final one.
        watched: the newest of each score on the way.
        took: `seconds`, and `step_s` and `once_s` where it was not interrupted.
    """
    student = evaluation["models"][lineup.STUDENT]
    start = lineup.load(
        folder, lineup.member(folder, lineup.UNTRAINED), device=pick_device(arm.recipe.device)
    )
    metric = evaluation["metric"]["name"]
    return Trained(
        verdict=arm.verdict,
        seed=seed,
        metric=metric,
        steps=student["trained_steps"],
        tokens=student["trained_tokens"],
        supervised_tokens=student["supervised_tokens"],
        starts_from=start.fingerprint,
        parameters=student["parameters"],
        teacher_score=watched.get(f"held_out_teacher_{metric}"),
        rows=files.read_json(folder / evaluate.ROWS_FILE)["rows"],
        **took,
    )
