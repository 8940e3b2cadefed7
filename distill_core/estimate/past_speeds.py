"""How fast earlier runs on this machine were, stage by stage.

In: the runs folder. Out: tokens per second of each stage of the newest finished runs. Reads what
the runs wrote; knows nothing of forecasts.
"""

from __future__ import annotations

import functools
import platform
import statistics
from pathlib import Path
from typing import Any

from distill_core import environment, runs
from distill_core.errors import DistillError
from distill_core.estimate.time_need import stage_keys
from distill_core.recipe.plan import PlannedStage, plan
from distill_core.runs import series

_NEWEST = 8
_ENOUGH_STEPS = 40
"""The first steps of a stage are slower than the rest."""
_ALL_POINTS = 10**9
"""A thinned curve keeps the extremes, whose mean is not that of all."""


def past_speeds(runs_dir: Path) -> list[dict[str, Any]]:
    """Speeds, newest run first: `{"stage": key, "tokens_per_s"}`."""
    found: list[dict[str, Any]] = []
    finished = [item for item in runs.list_runs(runs_dir) if _is_ours(item["status"])]
    for item in finished[:_NEWEST]:
        folder = Path(item["path"])
        try:
            found += _speeds(folder, (folder / "events.jsonl").stat().st_mtime_ns)
        except (OSError, DistillError):
            continue  # a run that was deleted, or damaged
    return found


def _is_ours(status: dict[str, Any]) -> bool:
    return status["state"] == "finished" and status.get("host") in (None, "", platform.node())


@functools.lru_cache(maxsize=32)
def _speeds(folder: Path, stamp: int) -> list[dict[str, Any]]:
    recipe = runs.load_recipe(folder)
    told = {"device": recipe.device, "precision": recipe.precision}
    meant = environment.read(folder)
    told = {name: meant.get(name, own) if own == "auto" else own for name, own in told.items()}
    curves, _ = series.read_series(folder, max_points=_ALL_POINTS)
    stages = plan(recipe, labelled=1, unlabelled=0)
    speeds = []
    for stage, key in zip(stages, stage_keys(stages, **told), strict=True):
        curve = curves.get(f"{stage.index}/tokens_per_s")
        if curve and curve["step"][-1] >= _ENOUGH_STEPS:
            speeds.append({"stage": key, "tokens_per_s": _usual(stage, curve["value"])})
    return speeds


def _usual(stage: PlannedStage, speeds: list[float]) -> float:
    """The median; of two kinds of steps, some of them on-policy, what gives the time of all."""
    if 0 < getattr(stage.settings, "on_policy_fraction", 0.0) < 1:
        return statistics.harmonic_mean(speeds)
    return statistics.median(speeds)
