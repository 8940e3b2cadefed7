"""Recipes before they are run: read, written, checked, forecast, and one row of their data.

In: recipes in any form. Out: `Recipe`, problems, plain data. Starts no run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_core import runs as run_folders
from distill_core.errors import Problem
from distill_core.recipe import Recipe


def ready_recipes() -> list[dict[str, Any]]:
    """List the recipes that come with the studio: `{"name", "title", "description", "yaml"}`."""
    from distill_core.recipe import ready_recipes

    return ready_recipes.listed()


def load_recipe(source: str | Path | dict[str, Any], overrides: list[str] | None = None) -> Recipe:
    """Make a recipe of a ready recipe's name, a file, YAML text or a mapping.

    Raises `RecipeError` with all problems.
    """
    from distill_core.recipe import ready_recipes

    return ready_recipes.read(source, overrides)


def with_assistants(recipe: Recipe, count: int) -> Recipe:
    """Put `count` students of middle size, 0 to 4, between a recipe's teacher and its student.

    Their sizes fall by equal factors; assistants that the recipe has are replaced. Raises
    `RecipeError` where nothing lies between.
    """
    from distill_core import progressive

    return progressive.with_assistants(recipe, count)


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML."""
    from distill_core.recipe import recipe_yaml

    return recipe_yaml.dumps(recipe)


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe: every setting with type, default, description and range."""
    return Recipe.model_json_schema()


def check(recipe: Recipe) -> list[Problem]:
    """Find everything that is wrong or doubtful, across fields and pairs; loads no weights."""
    from distill_core import checks

    return checks.check(recipe)


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Forecast memory and time.

    `{"memory_bytes": {"context", "teacher", "student", "optimiser", "activations", "loss",
    "features"}, "memory_basis": "formula | measured by a dry step", "total_memory_bytes",
    "available_memory_bytes", "fits": bool, "savings": where it does not fit, [{"field", "value",
    "change": in words, "saves_bytes", "fits": bool}], the largest first, "time_s": [low, high],
    "time_parts": what it goes into, in words, such as ["2,000 steps", "scoring"],
    "training_s": of the optimiser's steps alone, "time_basis": "measured on an earlier run |
    measured by a dry step | formula", "steps",
    "download_bytes", "disk_bytes", "caches": [{"stage", "kind", "bytes_per_token", "tokens",
    "bytes", "at_most": bool}]: what is kept of teachers, where a stage keeps it}`
    """
    from distill_core import estimate
    from distill_core.estimate import dry_process
    from distill_core.estimate.past_speeds import past_speeds

    return estimate.estimate(
        recipe,
        history=past_speeds(run_folders.default_runs_dir()),
        dry=dry_process.remembered(recipe),
    )


def take_dry_step(recipe: Recipe) -> None:
    """Measure a few optimiser steps in a process of its own; `estimate` rests on them from then on.

    Takes some seconds to a minute, mostly for loading the models; writes nothing that stays, and
    downloads nothing. Remembered while this process lives and the recipe's models, data, losses and
    sizes stay the same. Raises `DistillError` where no step can be taken.
    """
    from distill_core.estimate import dry_process

    dry_process.dry_steps(recipe)


def preview(recipe: Recipe, *, index: int = 0) -> dict[str, Any]:
    """Show one training row as the model will see it, and the facts of the data.

    `{"facts": {"sources": [{"title", "rows", "columns": {"prompt": …}, "names": of all columns,
    "guessed": bool, "skipped": empty texts, "unanswered": rows without an answer where others may
    have one}],
    "rows", "labelled", "unlabelled", "held_out", "overlap", "duplicates"},
    "index", "rows", "origin": "rows.jsonl:12", "labelled": bool, "truncated": bool,
    "label": its class | None, "tokens": [{"text", "supervised": bool}], "supervised_tokens"}`; of
    text_classification the facts have `"classes"` and `"held_out_classes"` too: rows by class.
    Raises `DataError`, `ModelError`.
    """
    from distill_core.data import preview

    return preview.preview(recipe, index=index)
