"""A probe as HTML: what it will do, how far it is, what it has found, with its curves.

In: what `api.probe_plan` and `api.probe` return. Out: HTML in which every text is escaped. Knows no
Gradio and starts nothing.
"""

from __future__ import annotations

from html import escape
from typing import Any

from distill_core import api
from ui import text, theme
from ui.advising import probe_curves

TITLE = "<h3>Measure instead of believing</h3>"
ACTIVE = ("queued", "running", "stopping")


def before(plan: dict[str, Any]) -> str:
    """What would be done, on which rows, for how long."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in plan["words"])
    return (
        f'{TITLE}<ul>{lines}</ul><p class="ds-small">It runs in the background like '
        "any run: pause it here or in Train, close the page, come back.</p>"
    )


def in_the_way(message: str) -> str:
    """Why nothing can be measured yet, and how to mend it."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in message.splitlines())
    return f'{TITLE}<p class="ds-muted">Not yet, with these answers:</p><ul>{lines}</ul>'


def card(found: dict[str, Any]) -> str:
    """A probe that was started: its state, what it has found so far, its curves."""
    parts = [TITLE, _state(found), _verdict(found), _scores(found)]
    parts += [f'<p class="ds-small">{escape(note)}</p>' for note in found["notes"]]
    parts += [probe_curves.interval(found), probe_curves.curves(found), _ahead(found)]
    return "".join(parts)


def _state(found: dict[str, Any]) -> str:
    state = found["state"]
    icon, tone = text.STATE_LOOKS[state]
    used, minutes = found["used_s"] / 60, found["minutes"]
    words = f"{used:.1f} of {minutes:g} minutes"
    if state == "running":
        step = f", step {found['step']:,} of {found['total_steps']:,}"
        training = found["phase"] == "training"
        doing = f"{found['stage_title']}{step}" if training else found["message"] or found["phase"]
        words = f"{doing} · {words}"
    if state in ("failed", "lost"):
        words = str((found["error"] or {}).get("message") or found["message"])
    chip = theme.chip(state, tone, icon)  # type: ignore[arg-type]
    bar = ""
    if state in ACTIVE or state == "paused":
        share = min(1.0, used / minutes)
        bar = theme.bar(share, label=f"Probe: {used:.1f} of {minutes:g} minutes used")
    return f'<div class="ds-row">{chip}<span class="ds-muted">{escape(words)}</span></div>{bar}'


def _verdict(found: dict[str, Any]) -> str:
    """What it says: in the end a verdict, before that what is seen so far."""
    if found["final"] and found["state"] == "finished":
        words = found["words"][:1].upper() + found["words"][1:]
        tone = "good" if found["winner"] else "neutral"
        seeds = "1 seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"
        return (
            f'<div class="ds-alert ds-{tone}" role="status"><b>{escape(words)}</b><div>{seeds}. '
            f"{escape(found['why'])}</div></div>"
        )
    if not found["seeds"]:
        return '<p class="ds-muted">No seed is finished yet.</p>'
    seeds = f"{found['seeds']} of at most {found['of_seeds']} seeds"
    return f'<p class="ds-muted">So far: {seeds}. A verdict needs three.</p>'


def _scores(found: dict[str, Any]) -> str:
    """Scores of all that were compared, seed by seed."""
    if not found["seeds"]:
        return ""
    heads = "".join(
        f'<th scope="col" class="ds-number">seed {seed + 1}</th>' for seed in range(found["seeds"])
    )
    rows = "".join(
        f'<tr><th scope="row">{probe_curves.mark(place)} {escape(arm["title"])}</th>'
        f'<td class="ds-number"><b>{_score(arm["score"], found)}</b></td>'
        + "".join(f'<td class="ds-number">{_score(one, found)}</td>' for one in arm["scores"])
        + "</tr>"
        for place, arm in enumerate(found["arms"])
    )
    blank = "<td></td>" * found["seeds"]
    untrained = (
        '<tr><th scope="row">Student before training</th>'
        f'<td class="ds-number">{_score(found["untrained_score"], found)}</td>{blank}</tr>'
    )
    title = api.SCORES[found["metric"]].title
    caption = f"{title} on {found['rows']:,} held-out rows, after {found['steps']:,} steps each"
    return (
        f'<p class="ds-small">{escape(caption)}</p><div class="ds-scroll" tabindex="0" '
        f'role="region" aria-label="{escape(caption)}"><table class="ds-table"><thead><tr>'
        f'<td></td><th scope="col" class="ds-number">mean</th>{heads}</tr></thead>'
        f"<tbody>{rows}{untrained}</tbody></table></div>"
    )


def _ahead(found: dict[str, Any]) -> str:
    """Where the curves lead, in words."""
    lines = []
    for arm in found["arms"]:
        ahead = arm["ahead"]
        if not found["seeds"]:
            continue
        words = f"{arm['title']}, full run of {ahead['steps']:,} steps: "
        if ahead["value"] is None:
            words += f"no forecast, {ahead['why']}"
        else:
            low, high = (_score(ahead[end], found) for end in ("low", "high"))
            words += f"about {_score(ahead['value'], found)} [{low}, {high}]"
        lines.append(f"<li>{escape(words)}</li>")
    if not lines:
        return ""
    return f'<p class="ds-small">Where the curves lead (a forecast)</p><ul>{"".join(lines)}</ul>'


def _score(value: float | None, found: dict[str, Any]) -> str:
    if value is None:
        return "–"
    share = api.SCORES[found["metric"] or "exact_match"].unit == "0–1"
    return text.percent_text(value) if share else f"{value:.3f}"
