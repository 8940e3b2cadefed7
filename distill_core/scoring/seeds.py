"""What runs that differ in their seed alone have scored, row by row.

In: a run's folder. Out: the task metric of each row and model, and that of the runs beside it, so
that a verdict can be given over several seeds. Scores nothing itself.
"""

from __future__ import annotations

from pathlib import Path

from distill_core import files, runs
from distill_core.errors import DistillError
from distill_core.recipe import Recipe

ROWS_FILE = "evaluation_rows.json"
"""The task metric per row and model, so that other runs can be compared on the same rows."""


def row_results(run_dir: Path) -> tuple[str, dict[str, list[float]]]:
    """A run's task metric and its rows' values."""
    found = files.read_json(run_dir / ROWS_FILE)
    if isinstance(found.get("metric"), str):
        return found["metric"], found["rows"]
    return "exact_match", found  # as it was written before there were several metrics


def other_seeds(run_dir: Path, recipe: Recipe, metric: str) -> list[dict[str, list[float]]]:
    """Row results of finished runs beside this one that differ in name and seed only."""
    found, seeds = [], {recipe.seed}
    for folder in sorted(run_dir.parent.iterdir()):
        if folder == run_dir or not (folder / ROWS_FILE).is_file():
            continue
        try:
            other = runs.load_recipe(folder)
        except DistillError:
            continue
        same = other.model_copy(update={"seed": recipe.seed, "name": recipe.name}) == recipe
        measured, rows = row_results(folder)
        if same and other.seed not in seeds and measured == metric:
            seeds.add(other.seed)
            found.append(rows)
    return found
