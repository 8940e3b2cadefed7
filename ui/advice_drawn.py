"""The advisor's answer as HTML: the card and the two roads.

In: what `api.advise` returns, and forecasts of recipes. Out: HTML in which every text is escaped.
Knows no question and starts nothing.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text, theme
from ui.theme import Tone

NO_EVIDENCE = "no evidence"
STRENGTHS = {
    "A": "read in the paper, the code or the official page",
    "B": "second-hand",
    "C": "our own inference",
}
_LEVELS: dict[str, tuple[Tone, str]] = {
    "high": ("good", "●●●"),
    "medium": ("warn", "●●○"),
    "low": ("neutral", "●○○"),
}
_EXPECTED = {
    "retention": ("Quality kept", " % of the teacher's score"),
    "speed": ("Speed", " × faster"),
    "size": ("Size", " × smaller, at least"),
}


# --- the card ---------------------------------------------------------------------------------


def card(told: dict[str, Any], titles: dict[str, str]) -> str:
    """The recommendation; `titles` holds the questions' titles by field."""
    parts = [_verdict(told), *(_reason(reason) for reason in told["reasons"])]
    parts += [_runner_up(told["runner_up"]), _open(told, titles)]
    parts += [_warning(warning) for warning in told["warnings"]]
    parts += [
        f'<p class="ds-small"><b>Sources disagree.</b> {escape(conflict["sentence"])}</p>'
        for conflict in told["conflicts"]
    ]
    return "".join([*parts, _next_steps(told)])


def outlook(told: dict[str, Any]) -> str:
    """What to expect, and what the teacher's licence says."""
    return _expected(told) + _licence(told)


def problem(message: str) -> str:
    """The card where an answer cannot be read."""
    return theme.alert("An answer cannot be used", message, "warn")


def _verdict(told: dict[str, Any]) -> str:
    tone, icon = _LEVELS[told["confidence"]["level"]]
    leaning = told["leaning"]
    state = "Recommended" if not leaning["open"] else "Leaning"
    words = f"{state}, {leaning['answered']} of {leaning['of']} answered"
    return (
        f'<div role="status"><div class="ds-muted">{words}</div>'
        f'<h2 class="ds-big">{escape(told["title"])}</h2>'
        f"{theme.chip(told['confidence']['level'] + ' confidence', tone, icon)}</div>"
        f'<p class="ds-muted">{escape(told["confidence"]["why"])}</p>'
        f"<p>{escape(told['summary'])}</p>"
    )


def _reason(reason: dict[str, Any]) -> str:
    return (
        f"<p><b>{escape(reason['headline'])}</b> {escape(reason['sentence'])} "
        f"{source(reason, reason['published'])}</p>"
    )


def _runner_up(rival: dict[str, Any]) -> str:
    flip = f" It would win {escape(rival['flips_when'])}." if rival["flips_when"] else ""
    return (
        f'<p class="ds-muted"><b>Runner-up: {escape(_lower(rival["title"]))}.</b> '
        f"{escape(rival['why_lost'])}{flip}</p>"
    )


def _open(told: dict[str, Any], titles: dict[str, str]) -> str:
    """What to answer to be surer: first what could turn the verdict."""
    asked = [entry["field"] for entry in told["leaning"]["open"] if entry["field"] in titles]
    if told["confidence"]["level"] == "high" or not asked:
        return ""
    names = " · ".join(escape(titles[field]) for field in asked[:3])
    return f'<p class="ds-ask"><b>To be surer, answer:</b> {names}</p>'


def _warning(warning: dict[str, Any]) -> str:
    return (
        f'<p class="ds-note ds-alert ds-warn"><span aria-hidden="true">⚠</span> '
        f"<span>{escape(warning['sentence'])}</span></p>"
    )


def _expected(told: dict[str, Any]) -> str:
    rows = []
    for field, (title, unit) in _EXPECTED.items():
        value = told["expected"][field]
        known = value != NO_EVIDENCE
        shown = f"{span(value)}{unit}" if known else "no evidence"
        cite = f"{escape(value['what'])} · {source(value)}" if known else ""
        rows.append(
            f'<tr><th scope="row">{title}</th><td><b>{escape(shown)}</b><br>'
            f'<span class="ds-cite">{cite}</span></td></tr>'
            if known
            else f'<tr><th scope="row">{title}</th><td class="ds-muted">{shown}</td></tr>'
        )
    if told["recipe"] is None and all(told["expected"][f] == NO_EVIDENCE for f in _EXPECTED):
        return "<h3>What to expect</h3><p class='ds-muted'>Nothing is trained.</p>"
    return (
        '<h3>What to expect</h3><p class="ds-muted">Published, not promised. Your own runs count '
        f'more.</p><table class="ds-table ds-expected"><tbody>{"".join(rows)}</tbody></table>'
    )


def _licence(told: dict[str, Any]) -> str:
    licence = told["license"]
    if licence is None:
        return ""
    name = escape(licence["name"])
    if licence["url"]:
        name = link(licence["url"], licence["name"])
    return (
        f'<p class="ds-small"><b>Licence: {name}.</b> {escape(_upper(licence["text"]))} '
        f"{escape(licence['note'])}</p>"
    )


def _next_steps(told: dict[str, Any]) -> str:
    if not told["next_steps"]:
        return ""
    title = "Before it runs" if told["recipe"] else "What to do now"
    steps = "".join(f"<li>{escape(step)}</li>" for step in told["next_steps"])
    return f'<div class="ds-steps"><b>{title}</b><ol>{steps}</ol></div>'


# --- two roads --------------------------------------------------------------------------------


def roads(told: dict[str, Any], forecasts: dict[str, dict[str, Any]], answers: Any) -> str:
    """The two roads side by side.

    `forecasts` holds per road what is known of its recipe: `{"student": words, "time": words,
    "memory": words}`; `answers` the flat answers.
    """
    columns = {road: told["roads"][road] for road in ("teacher", "labels")}
    head = "".join(
        f'<th scope="col" class="ds-ink-{"teacher" if road == "teacher" else "other"}">'
        f"{escape(entry['title'])}"
        + (f" {theme.chip('advised', 'good', '✓')}" if entry["verdict"] == told["verdict"] else "")
        + "</th>"
        for road, entry in columns.items()
    )
    rows = {
        "What is trained": [forecasts[road]["student"] for road in columns],
        "Learns from": [_from_teacher(answers), _from_labels(answers)],
        "Training here": [forecasts[road]["time"] for road in columns],
        "Memory while training": [forecasts[road]["memory"] for road in columns],
        "Teacher needed while training": ["yes, or its answers kept beforehand", "no"],
        "Expected quality kept": [_kept(entry) for entry in columns.values()],
    }
    if any(entry["ruled_out"] for entry in columns.values()):
        rows["Ruled out because"] = [entry["ruled_out"] or "–" for entry in columns.values()]
    body = "".join(
        f'<tr><th scope="row">{title}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for title, cells in rows.items()
    )
    return (
        "<h3>Two roads, with your numbers</h3>"
        '<div class="ds-scroll" tabindex="0" role="region" aria-label="Two roads">'
        f'<table class="ds-table ds-roads"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        '<p class="ds-small">Times and memory are forecasts for this machine; quality is '
        "published, not promised.</p>"
    )


def _from_teacher(answers: dict[str, Any]) -> str:
    rows = answers.get("data.unlabelled_rows")
    what = "text" if answers.get("teacher.access") == "text" else "probabilities"
    if not isinstance(rows, int | float):
        return f"the teacher's {what} on unlabelled rows"
    return f"the teacher's {what} on {rows:,.0f} rows, and the labels"


def _from_labels(answers: dict[str, Any]) -> str:
    rows = answers.get("data.labelled_rows")
    quality = {"mixed": ", some of them wrong", "poor": ", many of them wrong"}
    wrong = quality.get(str(answers.get("data.label_quality")), "")
    count = f"{rows:,.0f} labels" if isinstance(rows, int | float) else "your labels"
    return f"{count}{wrong}"


def _kept(entry: dict[str, Any]) -> str:
    kept = entry["expected"]["retention"]
    return "no evidence" if kept == NO_EVIDENCE else f"{span(kept)} %"


# --- small pieces -----------------------------------------------------------------------------


def source(cited: dict[str, Any], published: str = "") -> str:
    """A source in small type: what was published, where, and how strong it is."""
    words = f"Published: {escape(published)} · " if published else ""
    name = link(cited["url"], cited["source"]) if cited["url"] else escape(cited["source"])
    letter = escape(cited["strength"])
    meaning = STRENGTHS.get(cited["strength"], "")
    return (
        f'<span class="ds-cite">{words}{name} '
        f'<abbr title="{escape(meaning)}">{letter}</abbr></span>'
    )


def link(url: str, words: str) -> str:
    """A link out of the app, opened only when clicked."""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">{escape(words)}</a>'


def span(value: dict[str, Any]) -> str:
    """A range: 80–96.8, or one number where both ends are the same."""
    low, high = f"{value['low']:.3g}", f"{value['high']:.3g}"
    return low if low == high else f"{low}–{high}"


def forecast_words(forecast: dict[str, Any] | None) -> dict[str, str]:
    """What `api.estimate` says, in words; a dash where nothing can be said yet."""
    if forecast is None:
        return {"time": "–", "memory": "–"}
    low, high = forecast["time_s"]
    needed = text.bytes_text(forecast["total_memory_bytes"])
    fits = "" if forecast["fits"] else ", more than there is"
    return {
        "time": f"{text.duration_text(low)} to {text.duration_text(high)}",
        "memory": f"{needed}{fits}",
    }


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]
