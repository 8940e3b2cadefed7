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


def ask_answers() -> dict[str, Any]:
    """Ask the questions one by one on stderr; an empty answer means unknown."""
    answers: dict[str, Any] = {}
    for question in api.advisor_questions():
        tell(f"\n{question['title']}\n  {question.get('help', '')}".rstrip())
        choices = question.get("choices") or []
        for number, choice in enumerate(choices, start=1):
            tell(f"  {number}. {choice['label']}")
        default = question.get("default")
        hint = "a number" if choices or question["kind"] == "number" else "yes, no"
        reply = typer.prompt(
            f"  {hint}, or Enter for {'unknown' if default is None else default}",
            default="",
            show_default=False,
            err=True,
        ).strip()
        value: Any = reply or default
        if choices and reply.isdigit() and 1 <= int(reply) <= len(choices):
            value = choices[int(reply) - 1]["value"]
        if value is None or value == "":
            continue
        target = answers
        *groups, last = question["field"].split(".")
        for group in groups:
            target = target.setdefault(group, {})
        target[last] = value
    return answers
