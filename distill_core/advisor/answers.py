"""The answers: what the user told the advisor, as one validated document.

In: a mapping, as YAML gives it. Out: `Answers`, or `RecipeError` with a problem per wrong field.
Every field may be left out or be `unknown`. Knows no rule, no machine and no recipe.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from distill_core.errors import Problem, RecipeError


def _blank(value: object) -> object:
    """Unknown is no value."""
    if isinstance(value, str):
        text = value.strip()
        return None if text.lower() in {"", "unknown", "i don't know"} else text
    return value


def _number(value: object) -> object:
    """Numbers may be written with thousands separators; yes and no are none."""
    value = _blank(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.replace(",", "").replace("_", "") if isinstance(value, str) else value


def _yes_no(value: object) -> object:
    value = _blank(value)
    words = {"yes": True, "true": True, "no": False, "false": False}
    if isinstance(value, str):
        return words.get(value.lower(), value)
    return value


def _word(value: object) -> object:
    value = _blank(value)
    return value.lower() if isinstance(value, str) else value


Rows = Annotated[Annotated[int, Field(ge=0, le=10**12)] | None, BeforeValidator(_number)]
Amount = Annotated[Annotated[float, Field(ge=0, le=1e15)] | None, BeforeValidator(_number)]
Positive = Annotated[Annotated[float, Field(gt=0, le=1e15)] | None, BeforeValidator(_number)]
Share = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_number)]
YesNo = Annotated[bool | None, BeforeValidator(_yes_no)]
Text = Annotated[Annotated[str, Field(max_length=200)] | None, BeforeValidator(_blank)]


class Group(BaseModel):
    """Base of every group of answers: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataAnswers(Group):
    """How many rows there are, and how good."""

    labelled_rows: Rows = None
    unlabelled_rows: Rows = None
    held_out_rows: Rows = None
    label_quality: Annotated[Literal["clean", "mixed", "poor"] | None, BeforeValidator(_word)] = (
        None
    )
    source: Text = None
    """`starter`, a file, or a data set on the hub: what is there to see is read from it."""
    held_out_source: Text = None
    """A file of rows to score on, where these are kept apart."""
    mean_tokens: Positive = None
    longest_tokens: Positive = None
    """Of a row, its answer included."""
    answer_tokens: Positive = None
    """Of the longest answer."""
    duplicate_rows: Rows = None
    leaked_rows: Rows = None
    """Training rows that ask what a held-out row asks."""


class TeacherAnswers(Group):
    """Whether there is a teacher, what it gives and what it may be used for."""

    exists: YesNo = None
    name: Text = None
    access: Annotated[Literal["weights", "top_k", "text"] | None, BeforeValidator(_word)] = None
    good_at_task: YesNo = None
    held_out_score: Share = None
    parameters: Positive = None
    license: Text = None
    same_tokenizer: YesNo = None
    serves_several_students: YesNo = None
    context_tokens: Positive = None
    writes_text: YesNo = None
    """No for an encoder, which tells classes apart."""


class StudentAnswers(Group):
    """What the student may cost where it runs."""

    max_parameters: Positive = None
    device_memory_gib: Positive = None
    latency_ms: Positive = None
    published_checkpoint: YesNo = None
    name: Text = None
    untrained_score: Share = None


class ConstraintAnswers(Group):
    """What else has to hold."""

    keep_general_skills: YesNo = None
    will_share: YesNo = None
    calls_per_month: Amount = None
    task_changes: Annotated[
        Literal["rarely", "monthly", "weekly"] | None, BeforeValidator(_word)
    ] = None
    budget_gpu_hours: Amount = None


class MachineAnswers(Group):
    """The machine that trains; filled in by itself where the studio runs there."""

    device: Annotated[Literal["cpu", "cuda", "mps"] | None, BeforeValidator(_word)] = None
    memory_gib: Positive = None
    fast_bf16: YesNo = None


class Answers(Group):
    """All answers; any of them may be missing."""

    goal: Annotated[
        Literal["smaller_faster", "better_at_task", "both", "new_knowledge", "style"] | None,
        BeforeValidator(_word),
    ] = None
    task: Annotated[
        Literal["classification", "extraction", "open_generation", "chat", "reasoning"] | None,
        BeforeValidator(_word),
    ] = None
    data: DataAnswers = DataAnswers()
    teacher: TeacherAnswers = TeacherAnswers()
    student: StudentAnswers = StudentAnswers()
    constraints: ConstraintAnswers = ConstraintAnswers()
    machine: MachineAnswers = MachineAnswers()


def parse(document: object) -> Answers:
    """Validate a document of answers; raises `RecipeError` with one problem per wrong field."""
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise RecipeError(
            [
                _problem(
                    "",
                    f"The answers are a YAML mapping, this is {type(document).__name__}.",
                    "Start from `goal: smaller_faster`; every field may be left out.",
                )
            ]
        )
    try:
        return Answers.model_validate(_grouped(document))
    except ValidationError as error:
        raise RecipeError([_explain(detail) for detail in error.errors()]) from None


def _grouped(document: dict[Any, Any]) -> dict[str, Any]:
    """Put dotted names into their groups; an unknown group has no answers."""
    grouped: dict[str, Any] = {}
    for key, value in document.items():
        group, dot, last = str(key).partition(".")
        is_group = isinstance(getattr(Answers.model_fields.get(group), "default", None), Group)
        if dot and is_group and isinstance(grouped.setdefault(group, {}), dict):
            grouped[group] = {**grouped[group], last: value}
        elif is_group and (value is None or value == "unknown"):
            grouped.setdefault(group, {})
        elif is_group and isinstance(value, dict):
            grouped[group] = {**grouped.get(group, {}), **value}
        else:
            grouped[str(key)] = value
    return grouped


def document(answers: Answers) -> dict[str, Any]:
    """Write answers as the document that `parse` reads; what is unknown is left out."""
    whole = answers.model_dump(mode="json", exclude_none=True)
    return {key: _plain(value) for key, value in whole.items() if value != {}}


def _plain(value: Any) -> Any:
    """Whole numbers without a point."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fields() -> list[str]:
    """Dotted names of all answers, such as `data.labelled_rows`."""
    names: list[str] = []
    for name, field in Answers.model_fields.items():
        if isinstance(field.default, Group):
            names += [f"{name}.{inner}" for inner in type(field.default).model_fields]
        else:
            names.append(name)
    return names


def get(answers: Answers, field: str) -> Any:
    """Read one answer by its dotted name; None when it is unknown."""
    value: Any = answers
    for part in field.split("."):
        value = getattr(value, part)
    return value


def replace(answers: Answers, changes: dict[str, Any]) -> Answers:
    """Change some answers, given by dotted name; the values are ours and not validated again."""
    for field, value in changes.items():
        group, _, last = field.rpartition(".")
        if group:
            inner = getattr(answers, group).model_copy(update={last: value})
            answers = answers.model_copy(update={group: inner})
        else:
            answers = answers.model_copy(update={last: value})
    return answers


# --- from pydantic's errors to problems -----------------------------------------------------------


def _problem(field: str, message: str, fix: str) -> Problem:
    return Problem(severity="error", field=field, message=message, fix=fix)


def _explain(detail: Any) -> Problem:
    location = [part for part in detail["loc"] if isinstance(part, str)]
    known = set(Answers.model_fields) | {name.rpartition(".")[2] for name in fields()}
    kind, context, field = detail["type"], detail.get("ctx", {}), ".".join(location)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], sorted(known), n=1, cutoff=0.5)
        return _problem(
            field,
            f"There is no answer called {location[-1]!r} here.",
            f"Did you mean {near[0]!r}?" if near else "Remove it.",
        )
    if kind in {"model_type", "model_attributes_type"}:
        return _problem(field, "This is a group of answers, not one value.", "Indent them below.")
    shown = repr(detail["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    words = {"ge": "of at least", "gt": "above", "le": "of at most"}
    limits = [f"{word} {context[key]:g}" for key, word in words.items() if key in context]
    if kind == "literal_error":
        fix = f"Use one of {context['expected']}, or unknown."
    elif kind.startswith("bool"):
        fix = "Use yes, no or unknown."
    elif limits:
        fix = f"Use a number {limits[0]}, or unknown."
    elif kind.startswith("string"):
        fix = "Use a short text, or unknown."
    else:
        fix = "Use a number, or unknown."
    return _problem(field, f"{shown} is no answer to this question.", fix)
