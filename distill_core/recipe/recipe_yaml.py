"""Recipes as YAML text: read, override, write, and every mistake told as a problem.

In: a mapping, text or a file, and `a.b=c` overrides. Out: `Recipe`, or `RecipeError` with all
problems at once. Knows nothing of torch, of models on disk or of this machine.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from distill_core.errors import Problem, RecipeError
from distill_core.recipe import Recipe, recipe_problems


def parse(data: object) -> Recipe:
    """Validate a mapping; raises `RecipeError` with one problem for every field that is wrong."""
    if not isinstance(data, dict):
        words = {list: "a list", str: "text", type(None): "empty"}
        raise _refused(
            f"A recipe is a group of settings, this is {words.get(type(data), repr(data))}.",
            "Start from the one that `distill-studio init` writes.",
        )
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(recipe_problems.tell(error.errors())) from None


def loads(text: str, overrides: list[str] | None = None) -> Recipe:
    """Read YAML text and apply `a.b=c` overrides; raises `RecipeError`, with line and column."""
    data = _yaml(text)
    for override in (overrides or []) if isinstance(data, dict) else []:
        data = _override(data, override)
    return parse(data)


def load(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file and apply `a.b=c` overrides; raises `RecipeError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise _refused(
            f"Cannot read the recipe {path}: {reason}.",
            "Give the path of a YAML file; `distill-studio init` writes one.",
        ) from None
    return loads(text, overrides)


def dumps(recipe: Recipe) -> str:
    """Write YAML that `loads` reads back to an equal recipe; unset settings are left out."""
    data = recipe.model_dump(mode="json")
    return yaml.safe_dump(
        _without_defaults(recipe, data), sort_keys=False, allow_unicode=True, width=96
    )


def _without_defaults(settings: BaseModel, data: dict[str, Any]) -> dict[str, Any]:
    """Leave out what nobody set and equals its default; discriminators stay."""
    kept: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        is_tag = typing.get_origin(field.annotation) is Literal and name in {"kind", "init", "name"}
        default = field.get_default(call_default_factory=True)
        implied = value == default and name not in settings.model_fields_set
        if implied and not is_tag and not field.is_required():
            continue
        kept[name] = _dump_value(value, data[name])
    return kept


def _dump_value(value: Any, raw: Any) -> Any:
    if isinstance(value, BaseModel):
        return _without_defaults(value, raw)
    if isinstance(value, list):
        return [_dump_value(item, item_raw) for item, item_raw in zip(value, raw, strict=True)]
    return raw


class _Loader(yaml.SafeLoader):
    """Plain data only; a setting that is written twice is a mistake, not a choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag.endswith(":str")]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                twice = f"{key.value!r} is set twice in the same group"
                raise yaml.constructor.ConstructorError(None, None, twice, key.start_mark)
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> object:
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = getattr(error, "problem", None) or "it cannot be parsed"
    except (ValueError, RecursionError) as error:  # a date that is none; brackets without end
        where, why = "", str(error) if isinstance(error, ValueError) else "it is nested too deeply"
    raise _refused(
        f"The recipe is not valid YAML{where}: {why}.",
        "Check indentation, colons and quotes there.",
    )


def _override(data: object, override: str) -> object:
    """Apply one `a.b.0.c=value`; the value is read as YAML."""
    path, equals, raw = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise _override_problem(override, "it is not of the form a.b=c")
    value = _override_value(
        override,
        raw.strip(),
        text=recipe_problems.takes_text(keys),
        lists=recipe_problems.takes_list(keys),
    )
    target: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise _override_problem(
                    override, f"there is no `{key}` in a list of {len(target)}, counted from 0"
                )
            index: Any = int(key)
        elif isinstance(target, dict):
            index = key
            if not last and not isinstance(target.get(key), dict | list):
                target[key] = {}
        else:
            raise _override_problem(override, f"`{'.'.join(keys[:depth])}` holds no settings")
        if last:
            target[index] = value
        else:
            target = target[index]
    return data


def _override_value(override: str, raw: str, *, text: bool, lists: bool) -> Any:
    """Read a value as YAML; where text is wanted, what YAML takes for something else is text."""
    try:
        value = _yaml(raw) if raw else None
    except RecipeError:
        if text:
            return raw
        raise _override_problem(override, f"{raw!r} is not valid YAML") from None
    if text:
        return value if isinstance(value, str | None) or (lists and type(value) is list) else raw
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        return float(value)  # YAML 1.1 reads 2e-4 as text
    return value


_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _override_problem(override: str, why: str) -> RecipeError:
    return _refused(
        f"Cannot apply --set {override}: {why}.",
        "Write it like --set stages.0.optim.learning_rate=2e-4.",
        field=override.partition("=")[0],
    )


def _refused(message: str, fix: str, *, field: str = "") -> RecipeError:
    return RecipeError([Problem(severity="error", field=field, message=message, fix=fix)])
