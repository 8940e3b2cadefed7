"""One measure of several runs over their steps, for the overlay in Runs.

In: rows of `api.runs` and a measure. Out: curves. Knows nothing of Gradio or of charts.
"""

from __future__ import annotations

from typing import Any

from distill_core import api
from ui.training.follow import follow

OTHER_SCORES = ("held_out_accuracy", "held_out_rouge_l")
"""Shown in the place of exact match, where none of the runs is judged by that."""

Series = dict[str, dict[str, list[float]]]
Stages = list[dict[str, Any]]


def of_runs(
    runs: list[dict[str, Any]], measure: str, *, runs_dir: str
) -> tuple[str, list[dict[str, Any]]]:
    """The measure that is there, and the curves of each run that has it."""
    wanted = [measure, *(OTHER_SCORES if measure == "held_out_exact_match" else ())]
    for name in wanted:
        curves = [curve for run in runs for curve in curves_of(run, name, runs_dir=runs_dir)]
        if curves:
            return name, curves
    return measure, []


def curves_of(run: dict[str, Any], measure: str, *, runs_dir: str) -> list[dict[str, Any]]:
    """One measure over a run's steps: `{"name", "lines": [{"name", "step", "value"}]}` each.

    Of a probe every arm is a curve, with a line for each of its seeds. Of any other run there is
    one curve of one line: its last stage that is not a baseline.
    """
    try:
        series, _ = api.read_series(run["run"], runs_dir=runs_dir)
        stages = follow(run["run"], runs_dir=runs_dir).stages
    except (api.DistillError, OSError):
        return []
    if any("arm" in stage for stage in stages):
        return _arms(run["name"], stages, series, measure)
    baselines = {stage["index"] for stage in stages if stage.get("baseline")}
    for key in sorted(series, key=lambda key: int(key.split("/")[0]), reverse=True):
        stage, _, name = key.partition("/")
        if name == measure and int(stage) not in baselines and series[key]["step"]:
            return [{"name": run["name"], "lines": [{"name": run["name"], **series[key]}]}]
    return []


def _arms(name: str, stages: Stages, series: Series, measure: str) -> list[dict[str, Any]]:
    """A probe's arms, each by its name."""
    trained: dict[str, dict[int, Stages]] = {}
    for stage in stages:
        trained.setdefault(stage["arm"], {}).setdefault(stage["seed"], []).append(stage)
    curves = []
    for arm, seeds in trained.items():
        lines = [
            {"name": f"{name}: {arm}, seed {seed}", **line}
            for seed, own in seeds.items()
            if (line := _joined(own, series, measure))["step"]
        ]
        if lines:
            curves.append({"name": f"{name}: {arm}", "lines": lines})
    return curves


def _joined(stages: Stages, series: Series, measure: str) -> dict[str, list[float]]:
    """Stages of one student, one after the other."""
    line: dict[str, list[float]] = {"step": [], "value": []}
    before = 0
    for stage in stages:
        part = series.get(f"{stage['index']}/{measure}", {"step": [], "value": []})
        line["step"] += [before + step for step in part["step"]]
        line["value"] += part["value"]
        before += stage.get("total_steps") or 0
    return line
