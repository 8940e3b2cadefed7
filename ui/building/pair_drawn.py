"""What was found about a pair of models: the verdict as a chip, the findings folded away.

In: a report of `api.pair_report`. Out: HTML, every text escaped. Knows nothing of Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import theme

TONES: dict[bool | None, tuple[theme.Tone, str]] = {
    True: ("good", "✓"),
    False: ("warn", "⚠"),
    None: ("neutral", "?"),
}
MARKS = {"good": "✓", "note": "i", "warning": "⚠", "error": "✕"}
STATE_TONES: dict[str, str] = {
    "good": "good",
    "note": "neutral",
    "warning": "warn",
    "error": "bad",
}


def draw(report: dict[str, Any], chips: list[str]) -> str:
    """Draw the verdict beside other `chips`, and what it rests on."""
    tone, mark = TONES[report["comparable"]]
    if any(finding["state"] == "error" for finding in report["findings"]):
        tone, mark = "bad", "✕"
    verdict = theme.chip(str(report["verdict"]).rstrip("."), tone, mark)
    rows = "".join(_row(finding) for finding in report["findings"])
    return (
        f'<div class="ds-chips" data-verdict>{verdict}{"".join(chips)}</div>'
        '<details class="ds-doctor"><summary>What the two have in common</summary>'
        f"<dl>{rows}</dl></details>"
    )


def _row(finding: dict[str, Any]) -> str:
    state = str(finding["state"])
    mark = f'<span aria-hidden="true">{MARKS[state]}</span><span class="ds-hidden">{state}: </span>'
    fix = f" <b>{escape(finding['fix'])}</b>" if finding["fix"] else ""
    return (
        f"<dt>{escape(finding['topic'])}</dt>"
        f'<dd class="ds-{STATE_TONES[state]}">{mark} {escape(finding["text"])}{fix}</dd>'
    )
