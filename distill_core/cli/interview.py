"""The advisor's questions in a terminal, or their answers from a file.

In: a YAML file, or what somebody types. Out: a document of answers. Knows no rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from distill_core import api
from distill_core.cli.command_line import tell
from distill_core.errors import DistillError


def read_answers(file: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file answers nothing."""
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DistillError(f"Cannot read the answers {file}: {reason}.") from None
    except yaml.YAMLError as error:
        raise DistillError(f"{file} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(found, dict):
        raise DistillError(f"{file} holds no answers: write them like `goal: smaller_faster`.")
    return found


_NAMES = ("teacher.name", "data.source", "data.held_out_source", "student.name")
"""Answers that name something which answers other questions by itself."""


def ask_answers() -> dict[str, Any]:
    """Ask the questions one by one on stderr; what can be seen is offered, or else is unknown."""
    flat: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    step = ""
    for question in api.advisor_questions():
        if not api.advisor_asks(question, flat):
            continue
        if question["step"] != step:
            step = question["step"]
            tell(f"\n— {step} —")
        value = _ask(question, api.advisor_default(question, flat, seen))
        flat[question["field"]] = value
        if question["field"] in _NAMES:
            seen = _look(flat)
    answers: dict[str, Any] = {}
    for field, value in flat.items():
        if value in (None, "", "unknown"):
            continue
        group, _, last = field.rpartition(".")
        (answers.setdefault(group, {}) if group else answers)[last] = value
    return answers


def _look(flat: dict[str, Any]) -> dict[str, Any]:
    """What names answer; a slip in an answer is told at the end, by the advice itself."""
    try:
        found = api.observed_answers(flat, hub=True)
    except DistillError:
        return {}
    for note in found["notes"]:
        tell(f"  {note}")
    return {one["field"]: one["value"] for one in found["filled"]}


def _ask(question: dict[str, Any], default: Any) -> Any:
    tell(f"\n{question['title']}\n  {question['help']}".rstrip())
    choices = question["choices"]
    for number, choice in enumerate(choices, start=1):
        tell(f"  {number}. {choice['label']}")
    hint = "a number" if choices or question["kind"] == "number" else "a text"
    reply = typer.prompt(
        f"  {hint}, or Enter for {_shown(default, question)}",
        default="",
        show_default=False,
        err=True,
    ).strip()
    if not reply:
        return default
    if choices and reply.isdigit() and 1 <= int(reply) <= len(choices):
        return choices[int(reply) - 1]["value"]
    if question["kind"] == "number" and question["scale"] != 1:
        return _scaled(reply, question["scale"])
    return reply


def _scaled(reply: str, scale: float) -> Any:
    """Millions become parameters, percent shares; what is no number is told by the advice."""
    try:
        return float(reply.replace(",", "")) * scale
    except ValueError:
        return reply


def _shown(default: Any, question: dict[str, Any]) -> str:
    """A default as it would be typed."""
    named = {choice["value"]: choice["label"] for choice in question["choices"]}
    if default in named:
        return str(named[default])
    if isinstance(default, int | float) and not isinstance(default, bool):
        return f"{default / question['scale']:g} {question['unit']}".rstrip()
    return str(default)
