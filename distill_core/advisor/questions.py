"""The questions: as few as decide, in plain words, with defaults that describe the starter.

In: `questions.yaml`, facts of this machine. Out: plain dictionaries in the order in which they are
asked. Knows no rule. A question that nobody answers counts as unknown.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import yaml

from distill_core.starter import loader

PATH = Path(__file__).with_name("questions.yaml")
UNKNOWN = {"value": "unknown", "label": "I don't know"}
YES_NO = {"yes": "Yes", "no": "No"}
GIB = 2**30


def questions(machine: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """List the questions; `machine` (as `api.machine` tells it) fills in what it knows.

    Each: `{"field", "step", "title", "help", "kind": "choice|number|yes_no|text", "choices":
    [{"value", "label"}], "default": value or "unknown", "unit", "scale": what a form divides the
    number by, "custom": whether other text is welcome, "when": {field: values} that other answers
    must have for it to be worth asking, "describes": the answers whose defaults this default is
    about}`.
    """
    seen = {
        field: (value, " Read from this machine.")
        for field, value in _machine_answers(machine or {}).items()
    }
    measured = " Measured for the built-in teacher, on rows that it has not seen."
    notes = {"teacher.held_out_score": measured}
    seen |= {field: (value, notes.get(field, "")) for field, value in starter_facts().items()}
    listed = []
    for step in _read():
        for item in step["questions"]:
            question = _complete(item, step["step"])
            if question["field"] in seen:
                question["default"], note = seen[question["field"]]
                question["help"] += note
            listed.append(question)
    return listed


def default_answers(machine: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answers that the defaults give, by dotted name: the starter, on this machine."""
    return {item["field"]: item["default"] for item in questions(machine)}


@functools.cache
def _read() -> list[dict[str, Any]]:
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def _complete(item: dict[str, Any], step: str) -> dict[str, Any]:
    known = YES_NO if item["kind"] == "yes_no" else item.get("choices", {})
    choices = [{"value": value, "label": label} for value, label in known.items()]
    return {
        "field": item["field"],
        "step": step,
        "title": item["title"],
        "help": item["help"],
        "kind": item["kind"],
        "choices": [*choices, dict(UNKNOWN)] if choices else [],
        "default": item["default"],
        "unit": item.get("unit", ""),
        "scale": item.get("scale", 1),
        "custom": item.get("custom", False),
        "when": item.get("when", {}),
        "describes": _described(item["field"]),
    }


_OF_BOTH = ("teacher.good_at_task", "teacher.held_out_score", "student.untrained_score")
_OF_ROWS = ("student.max_parameters", "student.device_memory_gib")


def _described(field: str) -> list[str]:
    """Whose default a default is about: the starter's rows, its teacher, or both."""
    group, _, last = field.rpartition(".")
    if field in _OF_BOTH:
        return ["teacher.name", "data.source"]
    if field in _OF_ROWS or (group == "data" and last != "source"):
        return ["data.source"]
    about_teacher = group == "teacher" and last not in {"exists", "name", "serves_several_students"}
    return ["teacher.name"] if about_teacher else []


def default_for(question: dict[str, Any], answers: dict[str, Any], seen: dict[str, Any]) -> Any:
    """What to offer: what was seen, else the default where it still describes what was chosen."""
    if question["field"] in seen:
        return seen[question["field"]]
    whose = {item["field"]: item["default"] for step in _read() for item in step["questions"]}
    changed = any(answers.get(name, whose[name]) != whose[name] for name in question["describes"])
    return "unknown" if changed else question["default"]


def is_asked(question: dict[str, Any], answers: dict[str, Any]) -> bool:
    """Whether a question is worth asking, given the answers so far by dotted name."""
    return all(
        answers.get(field, "unknown") in values for field, values in question["when"].items()
    )


@functools.cache
def starter_facts() -> dict[str, Any]:
    """Size and score of the built-in teacher by answer, as its build wrote them down."""
    try:
        facts = json.loads((loader.teacher_dir() / "build.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # an incomplete checkout: the starter says so itself when it is used
    score = facts.get("held_out_exact_match", facts.get("development_exact_match"))
    known = {"teacher.parameters": facts.get("parameters"), "teacher.held_out_score": score}
    return {field: value for field, value in known.items() if value is not None}


def _machine_answers(machine: dict[str, Any]) -> dict[str, Any]:
    """What this machine answers by itself; empty where nothing is known of it."""
    memory = machine.get("device_memory_total_bytes") or machine.get("memory_total_bytes")
    answers: dict[str, Any] = {}
    if machine.get("device"):
        answers["machine.device"] = machine["device"]
        fast = machine.get("fast_bf16", machine.get("dtype") == "bf16")
        answers["machine.fast_bf16"] = "yes" if fast else "no"
    if memory:
        answers["machine.memory_gib"] = round(memory / GIB, 1)
    return answers
