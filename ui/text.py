"""Every sentence and number format that several tabs use.

In: numbers. Out: words. Knows nothing of Gradio.
"""

from __future__ import annotations

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
    """Write a duration: 8 s, 1 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if rest >= 60 else f"{hours} h"


def percent_text(share: float | None, digits: int = 1) -> str:
    """Write a share of 0–1 as a percentage: 96.5 %."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def factor_text(value: float | None) -> str:
    """Write a ratio: 9.5 ×."""
    return "–" if value is None else f"{value:.3g} ×"
