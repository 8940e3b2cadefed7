"""The README's generated tables: settings, metrics, scores, commands.

In: the recipe's schema, the tables of metrics and scores, the command line. Out: Markdown between
the README's markers: `python tests/readme_tables.py` writes it, `tests/test_readme.py` checks it.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from distill_core import cli
from distill_core.events import METRICS
from distill_core.recipe import Recipe
from distill_core.scores import SCORES

README = Path(__file__).parent.parent / "README.md"
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def settings_table() -> str:
    """One row per setting of a recipe."""
    lines = ["| setting | default | values | meaning |", "|---|---|---|---|"]
    for path, field, note in _settings(Recipe, "", {}):
        words = _cell(f"{field.description} {note}")
        lines.append(f"| `{path}` | {_default(field)} | {_values(field)} | {words} |")
    return "\n".join(lines)


def metrics_table() -> str:
    """One row per metric that an event can carry."""
    lines = ["| metric | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {m.unit} | {_cell(m.description)} |" for name, m in METRICS.items()]
    return "\n".join(lines)


def scores_table() -> str:
    """One row per score that an evaluation gives to a model."""
    lines = ["| score | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {m.unit} | {_cell(m.description)} |" for name, m in SCORES.items()]
    return "\n".join(lines)


def commands_table() -> str:
    """One row per sub-command, with its usage and the first sentence of its help."""
    group: Any = typer.main.get_command(cli.app)
    lines = ["| command | what it does |", "|---|---|"]
    for name, command in group.commands.items():
        arguments = [
            _argument(item) for item in command.params if item.param_type_name == "argument"
        ]
        usage = " ".join(["distill-studio", name, *arguments])
        lines.append(f"| `{usage}` | {_cell(command.get_short_help_str(200))} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "scores": scores_table,
    "commands": commands_table,
}


def filled(text: str) -> str:
    """Return the README's text with every generated table renewed."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        block = f"{start}\n{table()}\n{end}"
        text, count = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, b=block: b, text, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"README.md needs exactly one pair of {start} and {end}, has {count}.")
    return text


def _argument(item: Any) -> str:
    """Write an argument as the help does: RUN, [FILE]."""
    name = str(item.metavar or item.name).upper().strip("[]")
    return name if item.required else f"[{name}]"


# --- walking the schema ---------------------------------------------------------------------


def _settings(
    model: type[BaseModel], prefix: str, seen: dict[type[BaseModel], str]
) -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield path, field and a note; groups that stand in several places are told once."""
    for name, field in model.model_fields.items():
        if name in {"kind", "init", "name"} and typing.get_origin(field.annotation) is Literal:
            continue  # stands in the path of its group
        path = f"{prefix}{name}"
        models, is_list = _models(field.annotation)
        fresh = [inner for inner in models if inner not in seen]
        note = f"As `{seen[models[0]]}`." if models and not fresh else ""
        yield path, field, note
        for inner in fresh:
            seen[inner] = path
            yield from _settings(inner, f"{path}{' each ' if is_list else ''}{_tag(inner)}.", seen)


def _models(annotation: Any) -> tuple[list[type[BaseModel]], bool]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _models(typing.get_args(annotation)[0])
    if origin is list:
        return _models(typing.get_args(annotation)[0])[0], True
    if origin in {typing.Union, types.UnionType}:
        found = [_models(part) for part in typing.get_args(annotation)]
        return [m for models, _ in found for m in models], any(is_list for _, is_list in found)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], False
    return [], False


def _tag(model: type[BaseModel]) -> str:
    for name in ("kind", "init", "name"):
        field = model.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is Literal:
            return f"({typing.get_args(field.annotation)[0]})"
    return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default_factory is not None or isinstance(field.default, BaseModel):
        return ""
    value = field.default
    return "empty" if value is None or value is PydanticUndefined else f"`{value}`"


def _values(field: FieldInfo) -> str:
    choices = [
        str(choice)
        for part in _flat(field.annotation)
        if typing.get_origin(part) is Literal
        for choice in typing.get_args(part)
    ]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = [
        text.format(_number(getattr(item, name)))
        for item in [*field.metadata, *_limits(field.annotation)]
        for name, text in BOUNDS.items()
        if isinstance(getattr(item, name, None), int | float)
    ]
    return ", ".join(bounds)


def _limits(annotation: Any) -> Iterator[Any]:
    """Yield the limits of the plain numbers in a union."""
    if typing.get_origin(annotation) is Annotated:
        for note in typing.get_args(annotation)[1:]:
            yield from note.metadata if isinstance(note, FieldInfo) else ()
    elif typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        for part in typing.get_args(annotation):
            yield from _limits(part)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _flat(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is Literal or origin is None:
        yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _flat(part)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    before = README.read_text(encoding="utf-8")
    after = filled(before)
    README.write_text(after, encoding="utf-8")
    sys.stderr.write("README.md is current.\n" if before == after else "README.md renewed.\n")
