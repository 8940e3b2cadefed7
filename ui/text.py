"""Every sentence and number format that several tabs use.

In: numbers and a run's status. Out: words. Knows nothing of Gradio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from distill_core import api

APP_TITLE = "Distill Studio"

TAB_LABELS = {
    "advisor": "Advisor",
    "build": "Build",
    "train": "Train",
    "compare": "Compare",
    "runs": "Runs",
    "learn": "Learn",
}

ROLE_MARKS = {"teacher": "●", "student": "◆", "untrained": "○", "baseline": "○", "other": "◇"}
"""A shape beside each role's colour, so that no one depends on colour."""


def count_text(value: float | None) -> str:
    """Write a count: 950, 12,300, 1.69 M, 134.5 M, 7.2 B."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "B"), (1e5, "M")):
        if abs(value) >= limit:
            scaled = value / (1e9 if unit == "B" else 1e6)
            return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:,.1f} {unit}"
    return f"{value:,.0f}"


def bytes_text(value: float | None) -> str:
    """Write bytes in binary units: 512 B, 6.8 MiB, 23.4 GiB."""
    if value is None:
        return "–"
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"
    return f"{value:.0f} B"


def duration_text(seconds: float | None) -> str:
    """Write a duration: 8 s, 1 min 20 s, 2 h 5 min, 3 days 4 h, 1,200 days."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole, 3600)
    if hours >= 48:
        days, more = divmod(hours, 24)
        return f"{days} days {more} h" if more and days < 30 else f"{days:,} days"
    return f"{hours} h {rest // 60} min" if rest >= 60 else f"{hours} h"


def time_range(low: float | None, high: float | None) -> str:
    """Write two durations as a range: 2–4 min, 50 s – 2 min."""
    if low is None or high is None:
        return "not known"
    if low >= 60 and high < 7200:
        first, last = round(low / 60), max(1, round(high / 60))
        return f"{first}–{last} min" if first != last else f"about {last} min"
    first_words, last_words = duration_text(low), duration_text(high)
    return f"{first_words} – {last_words}" if first_words != last_words else f"about {last_words}"


def percent_text(share: float | None, digits: int = 1) -> str:
    """Write a share of 0–1 as a percentage: 96.5 %."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def number_text(value: float) -> str:
    """Write a number by three digits, never as a power: 0.00042, 0.5, 12.3, 1,187."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    digits = 2 if size == 0 else min(8, 2 - math.floor(math.log10(size)))
    written = f"{value:.{max(0, digits)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def factor_text(value: float | None) -> str:
    """Write a ratio: 9.5 ×, 1,190 ×."""
    return "–" if value is None else f"{number_text(value)} ×"


def unit_of(unit: str, score: str) -> str:
    """Write a metric's unit for a run judged by `score`: accuracy counts texts, not tokens."""
    return unit.replace("per token", "per text") if score == "accuracy" else unit


# --- runs -------------------------------------------------------------------------------------

ACTIVE_STATES = ("queued", "running", "stopping")
RESUMABLE_STATES = ("paused", "stopped", "failed", "lost")

STATE_LOOKS: dict[str, tuple[str, str]] = {
    "queued": ("◔", "neutral"),
    "running": ("▶", "student"),
    "stopping": ("■", "warn"),
    "paused": ("❚❚", "warn"),
    "finished": ("✓", "good"),
    "stopped": ("■", "neutral"),
    "failed": ("✕", "bad"),
    "lost": ("✕", "bad"),
}
"""Icon and tone of each state: never colour alone."""

STATE_NEXT = {
    "queued": "Waits for the run before it; starts by itself.",
    "paused": "Saved, and its memory is free. Resume goes on from there.",
    "stopped": "Saved and ended. Resume goes on from there.",
    "finished": "Done. Compare the student with its teacher, or export it from Runs.",
    "failed": "Mend what the message names, then resume: it goes on from the last checkpoint.",
    "lost": "Most often it was killed or memory ran out; the end of the log may tell.",
}

PROBE_NEXT = "Done. What it found is in the Advisor, beside what the published rules say."

READING_MACHINE = "Looking at processor and memory…"
NOTHING_RUNS = "Nothing is running. Press Start in Build: the default recipe works as it is."
NO_RUNS = "No runs yet"
NO_RUNS_NEXT = "Press Start in Build: the default recipe distils a pocket-sized student in minutes."


def phase(status: dict[str, Any]) -> str:
    """What a run is doing, in a word or two."""
    if status["state"] == "running":
        return str(status.get("phase") or "starting")
    return state(status)


def state(status: dict[str, Any]) -> str:
    """A run's state; one that is leaving is `pausing` or `stopping`, as it was asked."""
    pauses = status.get("pause_asked") and not status.get("stop_asked")
    return "pausing" if status["state"] == "stopping" and pauses else str(status["state"])


def look_of(status: dict[str, Any]) -> tuple[str, str]:
    """Icon and tone of a run's state."""
    return STATE_LOOKS["paused" if state(status) == "pausing" else status["state"]]


def next_of(status: dict[str, Any]) -> str:
    """What a run's state comes to, or what to do then."""
    if status["state"] != "stopping":
        return STATE_NEXT.get(status["state"], "")
    saves = status.get("phase") == "training"
    kept = "Saves a checkpoint" if saves else "Keeps what is done so far"
    return f"{kept}, then {'gives its memory back' if state(status) == 'pausing' else 'ends'}."


def share_of(status: dict[str, Any]) -> float | None:
    """How far a run is, 0–1: in all steps, or in a phase that counts something else; None: unknown.

    One that was left in such a phase still stands there.
    """
    if status.get("phase") in (None, "", "training"):
        return float(status.get("progress") or 0.0)
    if status.get("total"):
        return float((status.get("done") or 0) / status["total"])
    works = status["state"] in ("running", "stopping")
    return None if works else float(status.get("progress") or 0.0)


def step_of(status: dict[str, Any]) -> str:
    """How far: `step 640 of 1,200`, `3,200 of 20,000`, or nothing yet."""
    if status.get("phase") not in (None, "", "training") and status.get("total"):
        return f"{status.get('done') or 0:,} of {status['total']:,}"
    if status.get("total_steps"):
        return f"step {status.get('step') or 0:,} of {status['total_steps']:,}"
    return ""


def stage_of(status: dict[str, Any]) -> str:
    """Which stage: `stage 1 of 2`, counted from one, with its title where it has one."""
    count, title = status.get("stages"), status.get("stage_title")
    if not count:
        return ""
    return f"stage {(status.get('stage') or 0) + 1} of {count}" + (f": {title}" if title else "")


def time_left(status: dict[str, Any]) -> str:
    """`1 min 20 s left`, or nothing when it is not known or no longer matters.

    Only training knows how long all of it takes; another phase tells its own time.
    """
    if status["state"] != "running" or status.get("eta_s") is None:
        return ""
    whole = status.get("phase") in (None, "", "training")
    return f"{duration_text(status['eta_s'])} left{'' if whole else ' in this phase'}"


def paused(names: Sequence[str]) -> str:
    """`1 paused: pocket-student`, or nothing; of many, the first two are named."""
    more = ", …" if len(names) > 2 else ""
    return f"{len(names)} paused: {', '.join(names[:2])}{more}" if names else ""


def queued(count: int) -> str:
    """`2 queued`, or nothing."""
    return f"{count} queued" if count else ""


def result_of(summary: dict[str, Any]) -> str:
    """What came out: `96.2 % right · 97.1 % kept · 8.16 × smaller · 5.3 × faster · 3 min 51 s`."""
    known = (
        ("retention", percent_text, "of the teacher kept"),
        ("size_ratio", factor_text, "smaller"),
        ("speedup", factor_text, "faster"),
        ("seconds", duration_text, ""),
    )
    found = [score_text(summary)] if summary.get("score") is not None else []
    found += [
        f"{write(summary[key])} {word}".strip()
        for key, write, word in known
        if summary.get(key) is not None
    ]
    return " · ".join(found)


def score_text(summary: dict[str, Any], key: str = "score") -> str:
    """Write what a run reached by the score that its task is judged by: `96.2 % exact match`."""
    score = api.SCORES.get(str(summary.get("metric") or "exact_match"))
    value = summary.get(key)
    if score is None or value is None:
        return "–"
    return f"{percent_text(value) if score.unit == '0–1' else number_text(value)} {score.title}"


def queue_place(status: dict[str, Any]) -> str:
    """`2nd in the queue` for a run that waits."""
    place = status.get("queue_position")
    if status["state"] != "queued" or not place:
        return ""
    return "next in the queue" if place == 1 else f"number {place} in the queue"


def when_text(time_s: float | None, *, now_s: float) -> str:
    """When something was: `just now`, `5 min ago`, `3 h ago`, then the date."""
    if time_s is None:
        return "–"
    age = now_s - time_s
    if age < 60:
        return "just now"
    if age < 3600:
        return f"{age // 60:.0f} min ago"
    if age < 24 * 3600:
        return f"{age // 3600:.0f} h ago"
    return f"{datetime.fromtimestamp(time_s):%Y-%m-%d %H:%M}"


def warnings_title(count: int) -> str:
    """Head of the newest warning."""
    return "A warning" if count == 1 else f"{count} warnings, the newest"


ERROR_TITLES = {
    "failed": "This run has failed",
    "lost": "This run has lost its training process",
}
RUN_GONE = "This run is not there any more; it may have been deleted. Choose another one."
NOT_READABLE = "This run cannot be read"
NO_SAMPLES = "The first answers appear with the first evaluation."
NO_ANSWER = "(no answer)"
SAMPLES_LEGEND = (
    "<del>Struck out</del>: the student wrote it, the teacher did not. "
    "<ins>Dotted</ins>: the teacher wrote it, the student did not. ✓: the same."
)
NO_LOG = "Nothing has been logged yet."


# --- charts -----------------------------------------------------------------------------------

NO_CURVES = "The first points appear once the untrained student has been scored."
BAD_QUESTION = "The page asked for curves in a form that this app does not know; reload the page."
