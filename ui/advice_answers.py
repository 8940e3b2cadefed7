"""The advisor's answers between the form, the browser's draft and the engine.

In: the questions, values of fields. Out: flat answers (`{"data.labelled_rows": 500}`), values of
fields, words. Knows nothing of Gradio and of rules.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

UNKNOWN = "unknown"

COUNT_FIELDS = (
    "data.labelled_rows",
    "data.label_quality",
    "data.unlabelled_rows",
    "data.held_out_rows",
)
"""What is known when the rows are known."""

TEACHER_FIELDS = (
    "teacher.name",
    "teacher.good_at_task",
    "teacher.access",
    "teacher.held_out_score",
    "teacher.parameters",
    "teacher.license",
    "teacher.same_tokenizer",
)
"""What only a teacher could answer."""

SCALES = {
    "teacher.parameters": 1e6,
    "student.max_parameters": 1e6,
    "teacher.held_out_score": 0.01,
    "student.untrained_score": 0.01,
}
"""What a form's number is multiplied by; the questions say the same as `scale`."""


def flat_answers(fields: list[str], values: tuple[object, ...]) -> dict[str, Any]:
    """Make answers of a form's values; what is empty is unknown."""
    return {field: _answer(field, value) for field, value in zip(fields, values, strict=True)}


def _answer(field: str, value: object) -> Any:
    if isinstance(value, bool) or value is None:
        return UNKNOWN
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return UNKNOWN
        scaled = value * SCALES.get(field, 1)
        return int(scaled) if float(scaled).is_integer() else scaled
    text = value.strip() if isinstance(value, str) else ""
    return text or UNKNOWN


def form_values(questions: list[dict[str, Any]], draft: dict[str, Any]) -> list[Any]:
    """Values of the fields: the draft's where they are possible, else the defaults."""
    return [_form_value(question, draft.get(question["field"])) for question in questions]


def _form_value(question: dict[str, Any], kept: object) -> Any:
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


def label_text(question: dict[str, Any]) -> str:
    """The question, with the unit of its number."""
    said = question["unit"] in question["title"].lower()
    unit = "" if said else f" ({question['unit']})"
    return f"{question['title']}{unit}"


def titles(questions: list[dict[str, Any]]) -> dict[str, str]:
    """The questions' titles by field."""
    return {question["field"]: question["title"].rstrip("?") for question in questions}


def yaml_text(answers: dict[str, Any]) -> str:
    """The document of answers as YAML; what is unknown is left out."""
    document: dict[str, Any] = {}
    for field, value in answers.items():
        if value == UNKNOWN:
            continue
        group, _, last = field.rpartition(".")
        target = document.setdefault(group, {}) if group else document
        target[last] = _plain(value)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=96)


def _plain(value: Any) -> Any:
    """Yes and no as YAML's own."""
    return {"yes": True, "no": False}.get(value, value) if isinstance(value, str) else value
