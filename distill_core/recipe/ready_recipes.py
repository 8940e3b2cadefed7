"""Recipes that come with the studio, and reading one from wherever it is.

In: a ready recipe's name, a file, YAML text or a mapping. Out: a `Recipe`, or `RecipeError` with
all problems. The comment that opens a ready recipe, "# Title: description", is what is shown.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NoReturn

import yaml

from distill_core.errors import Problem, RecipeError
from distill_core.recipe import DataSettings, Recipe, Student, recipe_yaml

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "recipes"


def listed() -> list[dict[str, Any]]:
    """Every ready recipe: `{"name", "title", "description", "yaml"}`, the default first."""
    found = [_describe(path) for path in sorted(FOLDER.glob("*.yaml"))]
    return sorted(found, key=lambda item: item["name"] != "pocket_student")


def read(source: str | Path | dict[str, Any], overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `a.b=c` overrides.

    Raises:
        RecipeError: with every problem found.
    """
    if isinstance(source, dict):
        return recipe_yaml.loads(yaml.safe_dump(source, sort_keys=False), overrides)
    text = str(source)
    if isinstance(source, str) and ("\n" in text or ": " in text):
        return recipe_yaml.loads(text, overrides)
    path = Path(source).expanduser()
    ready = FOLDER / f"{text.replace('-', '_')}.yaml"
    if not path.is_file() and path.name == text and ready.is_file():
        path = ready
    if not path.exists():
        _not_found(text)
    return recipe_yaml.load(path, overrides)


def parse_student(student: dict[str, Any]) -> Student:
    """Validate a student's settings alone; raises `RecipeError`."""
    stage = {"kind": "distill", "teacher": "previous", "student": student}
    recipe = recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": [stage]})
    return recipe.stages[0].student


def parse_data(data: dict[str, Any] | None, task: str) -> DataSettings | None:
    """Validate data settings alone; None where there are none, or they are not right yet."""
    stage = {"kind": "fine_tune", "model": "previous"}
    try:
        return recipe_yaml.parse({"task": task, "data": data, "stages": [stage]}).data
    except RecipeError:
        return None


def _describe(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").rstrip())
    title, colon, description = " ".join(comment).partition(": ")
    if not colon:
        title, description = path.stem.replace("_", " ").capitalize(), " ".join(comment)
    return {"name": path.stem, "title": title, "description": description, "yaml": text}


def _not_found(name: str) -> NoReturn:
    known = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else f"Ready recipes: {', '.join(known)}."
    message = f"There is no recipe file {name}, and no ready recipe of that name."
    raise RecipeError([Problem(severity="error", field="", message=message, fix=fix)])
