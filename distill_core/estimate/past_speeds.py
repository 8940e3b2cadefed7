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

from distill_core import runs
from distill_core.errors import DistillError
from distill_core.estimate.time_need import stage_keys
from distill_core.recipe.plan import plan
from distill_core.runs import series

_NEWEST = 8
_ENOUGH_STEPS = 40
"""The first steps of a stage are slower than the rest."""


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
    curves, _ = series.read_series(folder, max_points=400)
    stages = plan(recipe, labelled=1, unlabelled=0)
    speeds = []
    for stage, key in zip(stages, stage_keys(stages), strict=True):
        curve = curves.get(f"{stage.index}/tokens_per_s")
        if curve and curve["step"][-1] >= _ENOUGH_STEPS:
            speeds.append({"stage": key, "tokens_per_s": statistics.median(curve["value"])})
    return speeds
