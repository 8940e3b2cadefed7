"""Pictures of a probe: the interval against zero, and both learning curves.

In: what `api.probe` returns. Out: SVG with words for those who do not see it. Knows no Gradio.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any

from distill_core import api

INKS = ("var(--student)", "var(--teacher)")
DASHES = ("", "5 4")
MARKS = ("◆", "●")

WIDTH, HEIGHT = 340, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 10, 30


def mark(place: int) -> str:
    """The mark of an arm: shape and colour."""
    return f'<span aria-hidden="true" style="color:{INKS[place]}">{MARKS[place]}</span>'


def _share(found: dict[str, Any]) -> bool:
    return api.SCORES[found["metric"] or "exact_match"].unit == "0–1"


# --- the interval -------------------------------------------------------------------------------


def interval(found: dict[str, Any]) -> str:
    """The difference after the newest look: a bar, and where zero is."""
    if found["low"] is None:
        return ""
    scale = 100 if _share(found) else 1
    low, value, high = (scale * found[name] for name in ("low", "difference", "high"))
    unit = "points" if scale == 100 else api.SCORES[found["metric"]].unit
    reach = 1.15 * max(abs(low), abs(high), 1e-9)

    def at(one: float) -> float:
        return WIDTH * (one + reach) / (2 * reach)

    arms = found["arms"]
    other = arms[1]["doing"] if len(arms) > 1 else "leaving it untrained"
    words = (
        f"difference {value:.1f} {unit}, interval {low:.1f} to {high:.1f}, zero for no difference"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} 62" role="img" aria-label="{escape(words)}">'
        f'<line x1="0" x2="{WIDTH}" y1="26" y2="26" stroke="var(--ds-line)"/>'
        f'<line x1="{at(0):.1f}" x2="{at(0):.1f}" y1="8" y2="44" stroke="var(--ds-muted)" '
        'stroke-dasharray="3 3"/>'
        f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="26" y2="26" stroke="{INKS[0]}" '
        'stroke-width="6" stroke-linecap="round"/>'
        f'<circle cx="{at(value):.1f}" cy="26" r="6" fill="var(--ds-card)" stroke="{INKS[0]}" '
        'stroke-width="3"/>'
        f"{_text(2, 58, '◂ ' + other.rstrip(',') + ' better', 'start')}"
        f"{_text(WIDTH - 2, 58, arms[0]['doing'].rstrip(',') + ' better ▸', 'end')}</svg>"
    )


# --- the curves ---------------------------------------------------------------------------------


def curves(found: dict[str, Any]) -> str:
    """Scores on held-out rows as training goes, a line for each seed, and where they lead."""
    arms = found["arms"]
    points = [
        (step, value)
        for arm in arms
        for curve in arm["curves"]
        for step, value in zip(curve["step"], curve["value"], strict=True)
    ]
    if len(points) < 2:
        return ""
    ahead = [arm["ahead"] for arm in arms if arm["ahead"]["value"] is not None]
    most = max([step for step, _ in points] + [one["steps"] for one in ahead])
    ends = [value for _, value in points] + [one[end] for one in ahead for end in ("low", "high")]
    low, high = min(ends), max(ends)
    share = _share(found)
    room = 0.08 * (high - low or 1)
    bottom = max(0.0, low - room) if share else low - room  # there is no share below none
    axes = _Axes(most, bottom, high + room, share=share)
    lines = "".join(
        f'<polyline points="{axes.path(curve)}" fill="none" stroke="{INKS[place]}" '
        f'stroke-width="2" stroke-dasharray="{DASHES[place]}" opacity=".85"/>'
        for place, arm in enumerate(arms)
        for curve in arm["curves"]
    )
    lines += "".join(
        axes.forecast(arm["ahead"], place)
        for place, arm in enumerate(arms)
        if arm["ahead"]["value"] is not None
    )
    names = " · ".join(f"{mark(place)} {escape(arm['title'])}" for place, arm in enumerate(arms))
    title = api.SCORES[found["metric"] or "exact_match"].title
    words = f"{title} on held-out rows against steps, a line for each seed of each way"
    return (
        f'<p class="ds-small">{escape(title)} as training goes: {names}; hollow: forecast</p>'
        f'<svg class="ds-probe-curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(words)}">{axes.drawn()}{lines}</svg>'
    )


class _Axes:
    """Steps to the right, by their square root, so that the first ones are seen; scores up."""

    def __init__(self, most: float, low: float, high: float, *, share: bool) -> None:
        self.most, self.low, self.high, self.share = most, low, high, share

    def x(self, step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * math.sqrt(step / self.most)

    def y(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * part

    def path(self, curve: dict[str, list[float]]) -> str:
        pairs = zip(curve["step"], curve["value"], strict=True)
        return " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in pairs)

    def forecast(self, ahead: dict[str, Any], place: int) -> str:
        """A hollow mark at the full run, with its interval."""
        x = self.x(ahead["steps"]) - 6 * place
        low, value, high = (self.y(ahead[name]) for name in ("low", "value", "high"))
        return (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" '
            f'stroke="{INKS[place]}" stroke-width="2"/>'
            f'<circle cx="{x:.1f}" cy="{value:.1f}" r="4.5" fill="var(--ds-card)" '
            f'stroke="{INKS[place]}" stroke-width="2"/>'
        )

    def drawn(self) -> str:
        """Grid, numbers, and what the steps are."""
        parts = []
        for part in (0.1, 0.5, 0.9):
            value = self.low + part * (self.high - self.low)
            shown = f"{100 * value:.0f} %" if self.share else f"{value:.2f}"
            parts.append(
                f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{self.y(value):.1f}" '
                f'y2="{self.y(value):.1f}" stroke="var(--ds-grid)"/>'
                + _text(_LEFT - 6, self.y(value) + 4, shown, "end")
            )
        for step in (0, self.most / 4, self.most):
            anchor = "end" if step == self.most else "middle"
            words = f"{step:,.0f}" + (" steps" if step == self.most else "")
            parts.append(_text(self.x(step), HEIGHT - 10, words, anchor))
        return "".join(parts)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11.5" '
        f'fill="var(--ds-muted)">{escape(words)}</text>'
    )
