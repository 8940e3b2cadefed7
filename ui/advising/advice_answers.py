"""The advisor's answers between the form, the browser's draft and the engine.

In: the questions, values of fields. Out: flat answers (`{"data.labelled_rows": 500}`), values of
fields, words. Knows nothing of Gradio and of rules.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from distill_core import api

UNKNOWN = "unknown"

NAMING = ("teacher.name", "data.source", "data.held_out_source", "student.name")
"""Answers that name something which answers other questions by itself."""

_ANSWERED_BY = {
    "data.held_out_source": ("data.held_out_rows",),
    "student.name": ("student.max_parameters", "teacher.same_tokenizer"),
}
"""What a name answers beside the defaults that describe it."""


def flat_answers(questions: list[dict[str, Any]], values: tuple[object, ...]) -> dict[str, Any]:
    """Make answers of a form's values; what is empty is unknown."""
    return {
        question["field"]: _answer(value, question["scale"])
        for question, value in zip(questions, values, strict=True)
    }


def _answer(value: object, scale: float) -> Any:
    if isinstance(value, bool) or value is None:
        return UNKNOWN
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return UNKNOWN
        scaled = round(value * scale, 12)
        return int(scaled) if float(scaled).is_integer() else scaled
    text = value.strip() if isinstance(value, str) else ""
    return text or UNKNOWN


def usable(
    questions: list[dict[str, Any]], answers: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The answers, those that cannot be used left open; and by field what would mend these."""
    asked = {question["field"]: question for question in questions}
    wrong = {
        one.field: how_to_mend(asked[one.field], one)
        for one in api.advisor_problems(answers)
        if one.field in asked
    }
    return {**answers, **dict.fromkeys(wrong, UNKNOWN)}, wrong


def how_to_mend(question: dict[str, Any], problem: api.Problem) -> str:
    """What the field takes, in the unit of the form."""
    if question["unit"] == "%":
        return "Use a number from 0 to 100, or leave it empty."
    return problem.fix.replace("or unknown", "or leave it empty")


def form_values(questions: list[dict[str, Any]], draft: dict[str, Any]) -> list[Any]:
    """Values of the fields: the draft's where they are possible, else the defaults."""
    return [form_value(question, draft.get(question["field"])) for question in questions]


def form_value(question: dict[str, Any], kept: object) -> Any:
    """Value of one field: what was kept where it is possible, else the default."""
    value = question["default"] if kept is None else kept
    if question["kind"] == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        scaled = value / question["scale"]
        return int(scaled) if float(scaled).is_integer() else round(scaled, 6)
    if question["kind"] == "text":
        return value if isinstance(value, str) and value != UNKNOWN else ""
    known = {choice["value"] for choice in question["choices"]}
    possible = isinstance(value, str) and bool(value) and (value in known or question["custom"])
    return value if possible else question["default"]


def answered_by(questions: list[dict[str, Any]], named: str) -> list[dict[str, Any]]:
    """The questions that a name answers, in the form's order."""
    own = _ANSWERED_BY.get(named, ())
    return [one for one in questions if named in one["describes"] or one["field"] in own]


def after_naming(
    question: dict[str, Any], named: str, answers: dict[str, Any], seen: dict[str, Any]
) -> Any:
    """The answer to a question after something was named; None where it stays as it is.

    What was seen stands first. Counts of other rows and facts of another teacher are forgotten,
    other answers only where nobody has changed them.
    """
    field = question["field"]
    if field in seen:
        return seen[field]
    if named not in question["describes"]:
        return None
    about_it = len(question["describes"]) > 1 or field.split(".")[0] == named.split(".")[0]
    untouched = answers.get(field) in (question["default"], UNKNOWN)
    if not about_it and not untouched:
        return None
    return api.advisor_default(question, answers, {})


def label_text(question: dict[str, Any]) -> str:
    """The question, with the unit of its number."""
    said = question["unit"] in question["title"].lower()
    unit = "" if said else f" ({question['unit']})"
    return f"{question['title']}{unit}"


def titles(questions: list[dict[str, Any]]) -> dict[str, str]:
    """The questions' titles by field."""
    return {question["field"]: question["title"].rstrip("?") for question in questions}


def step_marks(questions: list[dict[str, Any]], answers: dict[str, Any]) -> dict[str, bool]:
    """Steps in order, and whether all that is asked there is answered.

    A text that may be left empty leaves nothing open.
    """
    marks: dict[str, bool] = {}
    for question in questions:
        step, field = question["step"], question["field"]
        open_here = (
            question["kind"] != "text"
            and field not in OPTIONAL
            and api.advisor_asks(question, answers)
            and answers.get(field, UNKNOWN) == UNKNOWN
        )
        marks[step] = marks.get(step, True) and not open_here
    return marks


def is_example(questions: list[dict[str, Any]], answers: dict[str, Any]) -> bool:
    """Whether nobody has changed the answers of the built-in example; the machine's aside."""
    return all(
        answers.get(question["field"], UNKNOWN) == question["default"]
        for question in questions
        if not question["field"].startswith("machine.")
    )


def count_answered(questions: list[dict[str, Any]], answers: dict[str, Any]) -> tuple[int, int]:
    """How many of the questions that are asked are answered, and how many are asked."""
    asked = [one["field"] for one in questions if api.advisor_asks(one, answers)]
    return sum(answers.get(field, UNKNOWN) != UNKNOWN for field in asked), len(asked)


def empty_values(questions: list[dict[str, Any]]) -> list[Any]:
    """Values of the fields where nothing is answered."""
    return form_values(questions, dict.fromkeys((one["field"] for one in questions), UNKNOWN))


OPTIONAL = ("teacher.held_out_score", "student.untrained_score", "student.latency_ms")
"""Numbers that many cannot know yet."""


def yaml_text(document: dict[str, Any]) -> str:
    """The document of answers as YAML, a group a line where it fits."""
    return yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=68, default_flow_style=None
    )
