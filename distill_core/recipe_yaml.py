"""Recipes as YAML text: read, override, write, and every mistake told as a problem.

In: a mapping, text or a file, and `a.b=c` overrides. Out: `Recipe`, or `RecipeError` with all
problems at once. Knows nothing of torch, of models on disk or of this machine.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from distill_core.errors import Problem, RecipeError
from distill_core.recipe import Recipe


def parse(data: object) -> Recipe:
    """Validate a mapping; raises `RecipeError` with one problem for every field that is wrong."""
    if not isinstance(data, dict):
        raise RecipeError(
            [
                Problem(
                    severity="error",
                    field="",
                    message=f"A recipe is a YAML mapping, this is {type(data).__name__}.",
                    fix="Start from `distill-studio init`.",
                )
            ]
        )
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        details = [detail for detail in error.errors() if not _other_branch(detail)]
        raise RecipeError([_problem(detail) for detail in details]) from None


def loads(text: str, overrides: list[str] | None = None) -> Recipe:
    """Read YAML text and apply `a.b=c` overrides; raises `RecipeError`, with line and column."""
    data = _yaml(text)
    for override in overrides or []:
        data = _override(data, override)
    return parse(data)


def load(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML file and apply `a.b=c` overrides; raises `RecipeError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(
            [
                Problem(
                    severity="error",
                    field="",
                    message=f"Cannot read the recipe {path}: {reason}.",
                    fix="Give the path of a YAML file; `distill-studio init` writes one.",
                )
            ]
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


def _yaml(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(
            [
                Problem(
                    severity="error",
                    field="",
                    message=f"The recipe is not valid YAML{where}: "
                    f"{getattr(error, 'problem', None) or 'cannot be parsed'}.",
                    fix="Check indentation, colons and quotes there.",
                )
            ]
        ) from None


def _override(data: object, override: str) -> object:
    """Apply one `a.b.0.c=value`; the value is read as YAML."""
    path, equals, raw = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise _override_problem(override, "it is not of the form a.b=c")
    value = _yaml(raw) if raw.strip() else None
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        value = float(value)  # YAML 1.1 reads 2e-4 as text
    target: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            if not key.isdigit() or int(key) >= len(target):
                raise _override_problem(override, f"`{key}` is no index of a list of {len(target)}")
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


_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def _override_problem(override: str, why: str) -> RecipeError:
    return RecipeError(
        [
            Problem(
                severity="error",
                field=override.partition("=")[0],
                message=f"Cannot apply --set {override}: {why}.",
                fix="Write it like --set stages.0.optim.learning_rate=2e-4.",
            )
        ]
    )


# --- from pydantic's errors to problems ---------------------------------------------------------


def _problem(detail: Any) -> Problem:
    tags = {"starter", "file", "hub", "fine_tune", "distill"}
    tags |= {"pretrained", "scratch", "layer_drop", "forward_kl", "cross_entropy"}
    tags |= {"float", "constrained-float", "lora", "LoraSettings"}
    tags |= {"function-after", "StarterSource", "FileSource", "HubSource"}
    location = [part for part in detail["loc"] if not _is_tag(part, tags)]
    field = ".".join(str(part) for part in location)
    value, kind, context = detail.get("input"), detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), sorted(known_keys()), n=1, cutoff=0.5)
        return Problem(
            severity="error",
            field=field,
            message=f"There is no setting called {location[-1]!r} here.",
            fix=f"Did you mean {near[0]!r}?" if near else "Remove it.",
        )
    if kind == "missing":
        return Problem(
            severity="error", field=field, message="This setting is missing.", fix="Add it."
        )
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        known = str(context.get("expected_tags") or "")
        tag = str(context.get("discriminator", "kind")).strip("'")
        if kind == "union_tag_invalid":
            message = f"{tag} cannot be {context.get('tag')!r}."
        else:
            message = f"{tag} is missing."
        return Problem(
            severity="error",
            field=f"{field}.{tag}" if field else tag,
            message=message,
            fix=f"Use one of {known}." if known else "",
        )
    shown = repr(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return Problem(
        severity="error",
        field=field,
        message=f"{_short(shown)} is not allowed: {_lower_first(detail['msg'])}.",
        fix=_fix(kind, context),
    )


def _other_branch(detail: Any) -> bool:
    """Held-out rows are a source or a share: tell what is wrong with the one meant."""
    location, given = detail["loc"], detail["input"]
    if location[:2] != ("data", "held_out") or len(location) < 3:
        return False
    meant_share = len(location) == 3 and not isinstance(given, dict)
    is_share = str(location[2]).startswith(("constrained", "float"))
    if len(location) == 3 and isinstance(given, dict):
        return is_share
    return meant_share and not is_share


def _is_tag(part: object, tags: set[str]) -> bool:
    return isinstance(part, str) and (part in tags or part.startswith(("constrained-", "tagged-")))


def _fix(kind: str, context: dict[str, Any]) -> str:
    limits = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    for key, words in limits.items():
        if key in context:
            return f"Choose a number {words} {context[key]}."
    if kind == "literal_error":
        return f"Use one of {context.get('expected')}."
    if kind == "string_pattern_mismatch":
        return "Use letters, digits, dot, dash and underscore, starting with a letter or digit."
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def known_keys() -> set[str]:
    """Every setting's name, anywhere in a recipe."""
    names: set[str] = set()
    queue: list[Any] = [Recipe]
    seen: set[Any] = set()
    while queue:
        item = queue.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            if item in seen:
                continue
            seen.add(item)
            names |= set(item.model_fields)
            queue += [field.annotation for field in item.model_fields.values()]
        elif typing.get_origin(item) in {typing.Union, types.UnionType, list, Annotated}:
            queue += list(typing.get_args(item))
    return names
