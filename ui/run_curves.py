"""One measure of several runs over their steps, for the overlay in Runs.

In: rows of `api.runs` and a measure. Out: curves. Knows nothing of Gradio or of charts.
"""

from __future__ import annotations

from typing import Any

from distill_core import api
from ui.follow import follow

OTHER_SCORES = ("held_out_accuracy", "held_out_rouge_l")
"""Shown in the place of exact match, where none of the runs is judged by that."""


def of_runs(
    runs: list[dict[str, Any]], measure: str, *, runs_dir: str
) -> tuple[str, list[dict[str, Any]]]:
    """The measure that is there, and its curve of each run that has it."""
    wanted = [measure, *(OTHER_SCORES if measure == "held_out_exact_match" else ())]
    for name in wanted:
        curves = [curve for run in runs if (curve := curve_of(run, name, runs_dir=runs_dir))]
        if curves:
            return name, curves
    return measure, []


def curve_of(run: dict[str, Any], measure: str, *, runs_dir: str) -> dict[str, Any] | None:
    """One measure over the steps of a run's last stage that is not a baseline."""
    try:
        series, _ = api.read_series(run["run"], runs_dir=runs_dir)
        stages = follow(run["run"], runs_dir=runs_dir).stages
    except (api.DistillError, OSError):
        return None
    baselines = {stage["index"] for stage in stages if stage.get("baseline")}
    for key in sorted(series, key=lambda key: int(key.split("/")[0]), reverse=True):
        stage, _, name = key.partition("/")
        if name == measure and int(stage) not in baselines and series[key]["step"]:
            return {"name": run["name"], **series[key]}
    return None
