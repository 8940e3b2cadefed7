"""A student of the size that was asked for, made of its teacher.

In: what is known of the teacher, the most parameters the student may have, and what it starts from.
Out: the student's settings as a recipe holds them. Sizes are counted where the teacher's
configuration is at hand, else worked out by how parameters go with depth and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Facts = dict[str, Any]
Student = dict[str, Any]
Kind = Literal["layer_drop", "width_prune", "scratch"]

_WIDTH_STEP = 8


@dataclass(frozen=True)
class Known:
    """What can be found out about named models without asking anyone else."""

    facts: Callable[[str], Facts | None] = lambda name: None
    """A model's `layers`, `parameters`, …; None where it is not on this machine."""
    size: Callable[[str, Student], int | None] = lambda teacher, student: None
    """Parameters of a student made of a teacher; None where that cannot be counted or built."""


NOTHING = Known()


def shaped(teacher: str, kind: Kind, ratio: float, known: Known) -> Student:
    """The largest student that is `ratio` times smaller than its teacher, or the smallest one."""
    facts = known.facts(teacher) or {}
    tries = _TRIES[kind](facts)
    if not facts.get("parameters"):
        return _by_rule(kind, facts, ratio)
    most = facts["parameters"] / ratio
    return _largest(tries, lambda one: known.size(teacher, one), most) or _by_rule(
        kind, facts, ratio
    )


def _largest(
    tries: Sequence[Student], size: Callable[[Student], int | None], most: float
) -> Student | None:
    """The largest of ever larger students that has at most `most` parameters, by halving.

    Those that the architecture refuses are passed over. Without one that fits, the smallest that
    can be built; None where none can.
    """
    low, high = 0, len(tries) - 1
    best: Student | None = None
    smallest: Student | None = None
    while low <= high:
        place = (low + high) // 2
        count = size(tries[place])
        while count is None and place > low:
            place -= 1
            count = size(tries[place])
        if count is None:
            low = (low + high) // 2 + 1
        elif count <= most:
            best = tries[place]
            low = (low + high) // 2 + 1
        else:
            smallest = tries[place]
            high = place - 1
    return best or smallest


def _layers(facts: Facts) -> Sequence[Student]:
    return [
        {"init": "layer_drop", "layers": layers}
        for layers in range(1, max(2, int(facts.get("layers") or 2)))
    ]


def _narrower(facts: Facts) -> Sequence[Student]:
    width, inner = int(facts.get("hidden_size") or 0), int(facts.get("intermediate_size") or 0)
    return [
        {
            "init": "width_prune",
            "hidden_size": hidden,
            "intermediate_size": max(8, round(inner * hidden / width / 8) * 8),
        }
        for hidden in _widths(width)
    ] or [{"init": "width_prune"}]


def _new(facts: Facts) -> Sequence[Student]:
    """Depth and width shrunk alike."""
    width, layers = int(facts.get("hidden_size") or 0), int(facts.get("layers") or 1)
    return [
        {"init": "scratch", "layers": max(1, round(layers * hidden / width)), "hidden_size": hidden}
        for hidden in _widths(width)
    ] or [{"init": "scratch"}]


def _widths(width: int) -> list[int]:
    """Widths below the teacher's, in steps that are computed well."""
    return list(range(_WIDTH_STEP, width, _WIDTH_STEP))


_TRIES: dict[Kind, Callable[[Facts], Sequence[Student]]] = {
    "layer_drop": _layers,
    "width_prune": _narrower,
    "scratch": _new,
}


def _by_rule(kind: Kind, facts: Facts, ratio: float) -> Student:
    """Parameters go with depth times width squared; a middling model stands in for an unknown."""
    layers, width = int(facts.get("layers") or 24), int(facts.get("hidden_size") or 1024)
    head = max(8, width // int(facts.get("attention_heads") or 16))
    if kind == "layer_drop":
        return {"init": kind, "layers": max(1, min(layers - 1, int(layers / ratio)))}
    if kind == "width_prune":
        hidden = max(head, int(width / ratio**0.5) // head * head)
        return {"init": kind, "hidden_size": hidden}
    shrink = ratio ** (1 / 3)
    return {
        "init": kind,
        "layers": max(1, int(layers / shrink)),
        "hidden_size": max(head, int(width / shrink) // head * head),
    }
