"""Every mistake in a recipe's settings, told as a problem.

In: what pydantic found wrong. Out: `Problem`s with the field as one writes it, the value seen, why
it is refused and what to do, the nearest known name included. Knows the recipe's types, no file.
"""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any, Literal

from pydantic import BaseModel

from distill_core.errors import Problem
from distill_core.recipe import Loss, Recipe, Source, Stage, Student, TeacherCache
from distill_core.recipe.losses import NUMBER, SCHEDULE

OTHER_TOOLS = {
    "lr": "learning_rate",
    "max_norm": "grad_clip_norm",
    "batch_size": "global_batch_size",
    "cutoff_len": "max_seq_len",
    "max_length": "max_seq_len",
    "kd_ratio": "weight",
    "alpha": "weight",
    "kl": "forward_kl",
    "kd": "forward_kl",
    "fkl": "forward_kl",
    "rkl": "reverse_kl",
    "js": "jsd",
    "skl": "skewed_forward_kl",
    "srkl": "skewed_reverse_kl",
    "tvd": "total_variation",
    "ce": "cross_entropy",
    "ce_loss": "cross_entropy",
    "nll": "cross_entropy",
}
"""What other tools call our settings."""

_UNIONS: dict[str, Any] = {
    "student": Student,
    "losses": Loss,
    "stages": Stage,
    "sources": Source,
    "held_out": Source,
    "teacher_cache": TeacherCache,
}
_LIMITS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


def tell(details: list[Any]) -> list[Problem]:
    """Make one problem of each of pydantic's error details."""
    return [_problem(detail) for detail in details if not _other_branch(detail)]


def takes_text(path: list[str]) -> bool:
    """Tell whether a setting, given by its keys, is free text in any of the variants around it."""
    return any(
        str in (annotation, *typing.get_args(annotation)) for annotation in _annotations(path)
    )


def takes_list(path: list[str]) -> bool:
    """Tell whether a setting, given by its keys, may be a list as well."""
    parts = [(one, *typing.get_args(one)) for one in _annotations(path)]
    return any(_holds_items(part) for some in parts for part in some)


def _annotations(path: list[str]) -> list[Any]:
    """The types that a setting has in the variants around it."""
    here: list[Any] = [Recipe]
    for key in path:
        groups = [group for annotation in here for group in _variants(annotation).values()]
        fields = [
            group.model_fields[key].annotation for group in groups if key in group.model_fields
        ]
        here = [_inner(annotation) for annotation in here] if key.isdigit() else fields
    return here


def _problem(detail: Any) -> Problem:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail.get("input")
    location, settings = _walk(detail["loc"])
    field = ".".join(str(part) for part in location)
    shown = repr(value) if not isinstance(value, dict | list) else f"a {_WORDS[type(value)]}"
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    if kind == "extra_forbidden":
        name = str(location[-1])
        return _error(field, f"There is no setting called {name!r} here.", _nearest(name, settings))
    if kind == "missing":
        return _error(field, "This setting is missing.", "Add it.")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(context["discriminator"]).strip("'")
        field = f"{field}.{tag}" if field else tag
        message = f"{tag} cannot be {context.get('tag')!r}."
        if kind == "union_tag_not_found" or value.get(tag) is None:
            message = f"{tag} is missing."
        return _error(field, message, _choices(location, str(context.get("tag", ""))))
    if kind == "string_pattern_mismatch" and location[-1] == "layer_map":
        why = "which layer learns from which is said in numbers"
        return _error(
            field, f"{shown} is not allowed: {why}.", "Write pairs of layers, such as 1:2, 2:4."
        )
    if kind in _KINDS:
        why, fix = _KINDS[kind]
        return _error(field, f"{shown} is not allowed: {why}.", fix)
    if kind == "literal_error":
        return _error(field, f"{shown} is not allowed.", f"Use one of {context['expected']}.")
    if kind == "too_short":
        return _error(field, "This list is empty.", "Give at least one item.")
    why = detail["msg"].replace("Input should", "it must").rstrip(".")
    fixes = [
        f"Choose a number {words} {context[key]:g}."
        for key, words in _LIMITS.items()
        if key in context
    ]
    return _error(field, f"{shown} is not allowed: {why[:1].lower()}{why[1:]}.", "".join(fixes))


_WHOLE = ("it must be a whole number", "Write it in digits, without a fraction.")
_NUMBER = ("it must be a number", "Write it in digits, such as 0.5 or 2.0e-4.")
_GROUP = ("a group of settings belongs here", "Indent them below it, such as `key: value`.")
_NAME = "Use letters, digits, dot, dash and underscore, starting with a letter or digit."
_KINDS = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": ("it must be a finite number", "Write it in digits."),
    "string_type": ("it must be text", "Put it in quotes."),
    "string_too_short": ("it must not be empty", "Give at least one character."),
    "string_pattern_mismatch": ("it has characters that a folder's name should not have", _NAME),
    "model_type": _GROUP,
    "model_attributes_type": _GROUP,
    "dict_type": _GROUP,
    "list_type": ("a list belongs here", "Begin each item with a dash, or put them in [ ]."),
    "invalid_key": ("settings have names", "Write them as `name: value`."),
}
_WORDS = {dict: "group of settings", list: "list"}


def _error(field: str, message: str, fix: str) -> Problem:
    return Problem(severity="error", field=field, message=message, fix=fix)


def _other_branch(detail: Any) -> bool:
    """Held-out rows are a source or a share, a teacher one or several: tell of the one meant."""
    location, given = detail["loc"], detail["input"]
    if len(location) == 5 and location[0] == "stages" and location[3] == "teacher":
        return str(location[4]).startswith("list") != isinstance(given, list)
    if location[:2] != ("data", "held_out") or len(location) < 3:
        return False
    is_share = str(location[2]).startswith(("constrained", "float"))
    if len(location) == 3:
        return is_share == isinstance(given, dict)
    return False


# --- names: here, near, elsewhere -----------------------------------------------------------------


def _nearest(name: str, settings: type[BaseModel] | None) -> str:
    """Advise on an unknown name: one that is near here, or where it belongs."""
    here = sorted(settings.model_fields) if settings else []
    meant = OTHER_TOOLS.get(name, name)
    near = [meant] if meant in here else difflib.get_close_matches(name, here, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    homes = _homes()
    elsewhere = meant if meant in homes else ""
    if not elsewhere:
        elsewhere = next(iter(difflib.get_close_matches(name, sorted(homes), n=1, cutoff=0.75)), "")
    if elsewhere:
        return f"Did you mean {elsewhere!r}? It belongs at {homes[elsewhere]}."
    return f"Known here: {', '.join(here)}." if here else "Remove it."


def _choices(location: list[Any], given: str) -> str:
    """Say what the tag of a variant may be; the nearest first, if one is near."""
    group = next((str(part) for part in reversed(location) if str(part) in _UNIONS), "")
    tags = sorted(_variants(_UNIONS[group])) if group else []
    meant = OTHER_TOOLS.get(given, given)
    near = [meant] if meant in tags else difflib.get_close_matches(given, tags, n=1, cutoff=0.6)
    listed = f"Use one of {', '.join(tags)}." if tags else ""
    return f"Did you mean {near[0]!r}? {listed}" if near else listed


def _walk(location: tuple[Any, ...]) -> tuple[list[Any], type[BaseModel] | None]:
    """Follow pydantic's location: the path as one writes it, and the settings it ends in."""
    path: list[Any] = []
    here: Any = Recipe
    settings: type[BaseModel] | None = Recipe
    for part in location:
        if part in (NUMBER, SCHEDULE):
            continue
        fields = here.model_fields if _is_settings(here) else {}
        if isinstance(part, int) or part in fields:
            here = _inner(here) if isinstance(part, int) else fields[part].annotation
            path.append(part)
        elif not _is_settings(here) and part in (variants := _variants(here)):
            here = variants[part]  # pydantic names the variant; nobody writes that
        elif _is_settings(here):
            path.append(part)  # unknown, or a key that is no text
            break
        if len(only := list(_variants(here).values())) == 1:
            here = only[0]  # settings, or none
        settings = here if _is_settings(here) else settings
    return path, settings


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inner(annotation: Any) -> Any:
    """What a list holds; of a union, the list in it."""
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        lists = [part for part in arguments if _holds_items(part)]
        return _inner(lists[0]) if lists else arguments[0]
    return arguments[0] if arguments else None


def _holds_items(annotation: Any) -> bool:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return typing.get_origin(annotation) is list


def _variants(annotation: Any) -> dict[str, type[BaseModel]]:
    """The settings that an annotation may stand for, by tag."""
    found: dict[str, type[BaseModel]] = {}
    if _is_settings(annotation):
        for name in ("kind", "init", "name"):
            field = annotation.model_fields.get(name)
            if field and typing.get_origin(field.annotation) is Literal:
                found[typing.get_args(field.annotation)[0]] = annotation
        return found or {annotation.__name__: annotation}
    if typing.get_origin(annotation) in (Annotated, typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            found |= _variants(argument)
    return found


def _homes() -> dict[str, str]:
    """Where each setting is written, the first place it has."""
    homes: dict[str, str] = {}
    queue: list[tuple[str, Any]] = [("", Recipe)]
    while queue:
        path, here = queue.pop(0)
        for name, field in here.model_fields.items():
            homes.setdefault(name, f"{path}{name}")
            inner, place = field.annotation, f"{path}{name}."
            if typing.get_origin(inner) is list:
                inner, place = _inner(inner), f"{place}0."
            known = {place for place, _ in queue}
            if place not in known:
                queue += [(place, variant) for variant in _variants(inner).values()]
    return homes
