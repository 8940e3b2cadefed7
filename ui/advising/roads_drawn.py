"""The two roads as a picture: what is learnt from, what is trained, what it costs, what comes out.

In: what `api.advise` returns, and forecasts of both recipes where there are any. Out: HTML in which
every text is escaped; shapes are drawn to scale and hidden from screen readers, since words say the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ui import text, theme

NO_EVIDENCE = "no evidence"
_SQUARE = 62.0
"""Pixels of the side of the largest model."""
_LEAST = 5.0

_WRONG = {"mixed": ", some of them wrong", "poor": ", many of them wrong"}
_TITLES = {"teacher": "With a teacher", "labels": "With labels alone"}


WAITING = "waiting"
"""Stands for a forecast that is still worked out."""

Forecast = dict[str, Any] | str | None
"""What `api.estimate` says of a road's recipe, `WAITING`, or None where nobody can tell."""

SIZE_GOALS = ("smaller_faster", "both", None)
"""Goals for which size and speed matter; one that is open may be such a one."""


def roads(told: dict[str, Any], forecasts: Mapping[str, Forecast]) -> str:
    """Both roads, one below the other."""
    lanes = "".join(_lane(road, told, forecasts[road]) for road in ("teacher", "labels"))
    return (
        "<h3>Two roads, with your numbers</h3>"
        f'<div class="ds-lanes">{lanes}</div>'
        '<p class="ds-small">Models and rows are drawn to scale. Times and memory are forecasts '
        "for this machine; quality is published, not promised.</p>"
    )


def _lane(road: str, told: dict[str, Any], forecast: Forecast) -> str:
    entry = told["roads"][road]
    advised = entry["verdict"] == told["verdict"]
    chip = f" {theme.chip('advised', 'good', '✓')}" if advised else ""
    if entry["ruled_out"]:
        chip = f" {theme.chip('ruled out: ' + entry['ruled_out'].rstrip('.'), 'neutral', '✕')}"
    steps = (
        ("Learns from", _learns(road, told)),
        ("Is trained", _trained(road, told)),
        ("Costs", _costs(entry, forecast)),
        ("Comes out", _comes_out(entry, with_size=size_matters(told))),
    )
    items = "".join(
        f'<li class="ds-stop"><b class="ds-stop-name">{name}</b>{body}</li>' for name, body in steps
    )
    name = f"{_TITLES[road]}: {entry['title']}"
    advised_class = " ds-advised" if advised else ""
    return (
        f'<section class="ds-lane ds-lane-{road}{advised_class}" aria-label="{escape(name)}">'
        f'<h4><span class="ds-muted">{_TITLES[road]}</span> {escape(entry["title"])}{chip}</h4>'
        f'<ol class="ds-stops">{items}</ol></section>'
    )


# --- the four stops ---------------------------------------------------------------------------


def _learns(road: str, told: dict[str, Any]) -> str:
    data = told["answers"].get("data", {})
    labelled, unlabelled = data.get("labelled_rows"), data.get("unlabelled_rows")
    wrong = _WRONG.get(str(data.get("label_quality")), "")
    most = max(labelled or 0, unlabelled or 0, 1)
    label_bar = _bar(
        "labels", labelled, most, f"{_count(labelled, 'labels', 'your labels')}{wrong}"
    )
    if road == "labels":
        return label_bar
    what = "text" if told["answers"].get("teacher", {}).get("access") == "text" else "probabilities"
    rows = _count(unlabelled, "rows", "unlabelled rows")
    if unlabelled == 0:
        return _bar("teacher", labelled, most, f"the teacher's {what} on the labelled rows")
    return _bar("teacher", unlabelled, most, f"the teacher's {what} on {rows}") + label_bar


def _count(value: float | None, noun: str, unknown: str) -> str:
    return unknown if value is None else f"{value:,.0f} {noun}"


def _bar(kind: str, value: float | None, most: float, words: str) -> str:
    width = 0.0 if not value else max(2.0, 100 * value / most)
    known = "" if value is not None else " ds-unknown"
    return (
        f'<div class="ds-amount ds-amount-{kind}{known}" aria-hidden="true">'
        f'<span style="width:{width:.1f}%"></span></div><p>{escape(words)}</p>'
    )


def size_matters(told: dict[str, Any]) -> bool:
    """Whether size or speed is the goal."""
    return told["answers"].get("goal") in SIZE_GOALS


def _trained(road: str, told: dict[str, Any]) -> str:
    teacher = _teacher_size(told)
    sizes = [told["roads"][name]["student"]["parameters"] for name in told["roads"]]
    largest = max([teacher or 0, 1, *(size or 0 for size in sizes)])
    own, asked = told["roads"][road]["student"], road == "teacher"
    shapes = _square("teacher", teacher, largest) + _ARROW if asked else ""
    shapes += _square("student", own["parameters"], largest)
    words = student_words(own, with_ratio=size_matters(told))
    helper = (
        "The teacher is asked along the way, or has answered before."
        if asked
        else ("No teacher is needed.")
    )
    stages = len(told["roads"][road]["recipe"]["stages"])
    several = f" In {stages} stages." if stages > 1 else ""
    return (
        f'<div class="ds-models" aria-hidden="true">{shapes}</div><p>{escape(words)}'
        f'{"" if asked else ", on labels"}.{several}</p><p class="ds-muted">{helper}</p>'
    )


def _teacher_size(told: dict[str, Any]) -> float | None:
    teacher = told["answers"].get("teacher", {})
    return None if teacher.get("exists") is False else teacher.get("parameters")


def student_words(student: dict[str, Any], *, with_ratio: bool) -> str:
    """The student that a road trains: its size, and how many times smaller than the teacher."""
    if not student["parameters"]:
        return "a student"
    limit = "" if student["counted"] else "up to "
    words = f"a student of {limit}{text.count_text(student['parameters'])} parameters"
    ratio = student["ratio"]
    if not with_ratio or not ratio or ratio <= 1:
        return words
    least = "" if student["counted"] else "at least "
    return f"{words}, {least}{text.factor_text(ratio)} smaller"


_ARROW = '<span class="ds-arrow">→</span>'


def _square(role: str, parameters: float | None, largest: float) -> str:
    """A square whose area goes with the model's parameters."""
    if not parameters:
        return f'<span class="ds-square ds-square-{role} ds-unknown">?</span>'
    side = max(_LEAST, _SQUARE * math.sqrt(parameters / largest))
    return f'<span class="ds-square ds-square-{role}" style="--side:{side:.0f}px"></span>'


def _costs(entry: dict[str, Any], forecast: Forecast) -> str:
    lines = []
    if isinstance(forecast, dict):
        lines.append(f"{text.time_range(*forecast['time_s'])} here")
        needed = text.bytes_text(forecast["total_memory_bytes"])
        fits = "" if forecast["fits"] else ", more than there is"
        lines.append(f"{needed} of memory{fits}")
    elif forecast == WAITING:
        lines.append("working out time and memory …")
    else:
        for field in ("time", "memory"):
            value = entry["expected"][field]
            if value != NO_EVIDENCE:
                lines.append(f"{span_text(value)} by arithmetic")
    cost = entry["expected"]["cost"]
    if cost != NO_EVIDENCE:
        lines.append(f"{span_text(cost)} the compute of fine-tuning on as many rows")
    return "".join(f"<p>{escape(line)}</p>" for line in lines or ["not known yet"])


_BASIS = {
    "M": "measured by you",
    "A": "published",
    "B": "published",
    "C": "by studies and a rule of thumb of ours",
}


def _comes_out(entry: dict[str, Any], *, with_size: bool) -> str:
    kept, speed, size = (entry["expected"][name] for name in ("retention", "speed", "size"))
    if kept == NO_EVIDENCE:
        gauge = '<div class="ds-gauge ds-unknown" aria-hidden="true"></div>'
        words = "quality: no evidence for such a case"
    else:
        low, high = min(kept["low"], 100.0), min(kept["high"], 100.0)
        gauge = (
            '<div class="ds-gauge" aria-hidden="true"><span style="margin-left:'
            f'{low:.1f}%;width:{max(1.0, high - low):.1f}%"></span></div>'
        )
        words = f"{span_text(kept)} of the teacher's quality, {_BASIS[kept['strength']]}"
    rest = [
        f"{span_text(value)} {word}"
        for value, word in ((size, "smaller"), (speed, "faster"))
        if value != NO_EVIDENCE and with_size
    ]
    more = f"<p>{escape(', '.join(rest))}</p>" if rest else ""
    return f"{gauge}<p>{escape(words)}</p>{more}"


# --- numbers ----------------------------------------------------------------------------------


def span_text(value: dict[str, Any]) -> str:
    """A range in its unit: 80–96.8 %, 2 h to 3 d, 14–24.8 GiB."""
    ends = value["low"], value["high"]
    if value["unit"] == "s":
        return _time_text(*ends)
    if value["unit"] == "bytes":
        low, high = (text.bytes_text(end) for end in ends)
        return low if low == high else f"{low} to {high}"
    low, high = (f"{end:.3g}" for end in ends)
    return f"{low if low == high else f'{low}–{high}'} {value['unit']}"


def _time_text(low: float, high: float) -> str:
    """As `text.time_range`, with days where hours are no longer read: 9–2,000 days."""
    day = 86_400
    if low >= 2 * day:
        return f"{low / day:,.0f}–{high / day:,.0f} days"
    if high >= 2 * day:
        return f"{text.duration_text(low)} – {high / day:,.0f} days"
    return text.time_range(low, high)
