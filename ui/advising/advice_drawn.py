"""The advisor's answer as HTML: the card, why not the other, what to expect.

In: what `api.advise` returns. Out: HTML in which every text is escaped. Knows no question and
starts nothing; the two roads are drawn in `roads_drawn.py`.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text, theme
from ui.advising.roads_drawn import size_matters, span_text
from ui.theme import Tone

NO_EVIDENCE = "no evidence"
STRENGTHS = {
    "M": "measured in your own runs",
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
    "retention": ("Quality kept", " of the teacher's score"),
    "speed": ("Speed", " faster"),
    "size": ("Size", " smaller"),
    "memory": ("Memory", " while training"),
    "time": ("Time", " of training"),
    "cost": ("Cost", " the compute of fine-tuning"),
}


# --- the card ---------------------------------------------------------------------------------


def card(told: dict[str, Any], titles: dict[str, str], answered: str = "") -> str:
    """The recommendation; `titles` holds the questions' titles by field.

    `answered` says in words whose answers these are, or how many there are.
    """
    parts = [
        _verdict(told, answered),
        _measured(told),
        *(_reason(reason) for reason in told["reasons"]),
    ]
    parts += [_past_runs(told), _runner_up(told["runner_up"]), _why_not(told), _open(told, titles)]
    parts += [_warning(warning) for warning in told["warnings"]]
    parts += [
        f'<p class="ds-small"><b>Sources disagree.</b> {escape(conflict["sentence"])}</p>'
        for conflict in told["conflicts"]
    ]
    return "".join([*parts, _next_steps(told), letters()])


EXAMPLE = "by the answers of the built-in example; change what differs"


def letters() -> str:
    """What the letters beside sources mean."""
    told = "; ".join(f"{letter} {words}" for letter, words in STRENGTHS.items())
    return f'<p class="ds-small">Letters beside sources: {told}.</p>'


def outlook(told: dict[str, Any], *, waiting: bool = False) -> str:
    """What to expect, and what the teacher's licence says; `waiting` for a forecast."""
    return _expected(told, waiting=waiting) + _licence(told)


def problem(message: str) -> str:
    """The card where an answer cannot be read."""
    return theme.alert("An answer cannot be used", message, "warn")


def _verdict(told: dict[str, Any], answered: str) -> str:
    tone, icon = _LEVELS[told["confidence"]["level"]]
    state = "Recommended" if not told["leaning"]["open"] else "Leaning"
    words = escape(f"{state}{answered and ', '}{answered}")
    return (
        f'<div role="status"><div class="ds-muted">{words}</div>'
        f'<h2 class="ds-big">{escape(told["title"])}</h2>'
        f"{theme.chip(told['confidence']['level'] + ' confidence', tone, icon)}</div>"
        f'<p class="ds-muted">{escape(told["confidence"]["why"])}</p>'
        f"<p>{escape(told['summary'])}</p>"
    )


def _measured(told: dict[str, Any]) -> str:
    """What a probe has found, beside what the published rules say without it."""
    found = told["measured"]
    if found is None:
        return ""
    words = found["words"][:1].upper() + found["words"][1:]
    tone = "good" if found["winner"] else "neutral"
    return (
        f'<div class="ds-alert ds-{tone} ds-measured"><b>{escape(words)}</b>'
        f"<div>On your rows, with {found['seeds']} seeds, in {escape(found['run'])}. "
        f"The published rules alone say: <b>{escape(found['rules_title'])}</b>.</div></div>"
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


def _past_runs(told: dict[str, Any]) -> str:
    """Your finished runs on these rows, by name; what they decided stands among the reasons."""
    if not told["past_runs"]:
        return ""
    first = sorted(told["past_runs"], key=lambda run: bool(run["not_counted"]))[:_MOST_RUNS]
    runs = "".join(f"<li>{_past_run(run)}</li>" for run in first)
    more = len(told["past_runs"]) - _MOST_RUNS
    rest = f'<p class="ds-small">and {more} more in Runs</p>' if more > 0 else ""
    return f'<div class="ds-past"><b>Your runs on these rows</b><ul>{runs}</ul>{rest}</div>'


_MOST_RUNS = 3


def _past_run(run: dict[str, Any]) -> str:
    if run["not_counted"]:
        return f"<b>{escape(run['name'])}</b>: {escape(run['not_counted'])}"
    facts = ["distilled" if run["road"] == "teacher" else "fine-tuned"]
    if run["retention"]:
        facts.append(f"{text.percent_text(run['retention'])} of the teacher's score kept")
    if run["size_ratio"]:
        facts.append(f"{text.factor_text(run['size_ratio'])} smaller")
    return f"<b>{escape(run['name'])}</b>: {escape(', '.join(facts))}"


def _why_not(told: dict[str, Any]) -> str:
    """The road that was not taken, in full: for, against, and what would turn the verdict."""
    other = told["other_road"]
    turn = (
        f"It would win {escape(other['flips_when'])}."
        if other["flips_when"]
        else "No one or two answers would turn the verdict to it."
    )
    return (
        f'<details class="ds-why"><summary>Why not {escape(_lower(other["title"]))}?</summary>'
        f"{_reasons_list('Against it', other['speaks_against'])}"
        f"{_reasons_list('For it', other['speaks_for'])}"
        f"<p>{turn}</p>{_head_to_head(told)}</details>"
    )


def _reasons_list(title: str, listed: list[dict[str, Any]]) -> str:
    if not listed:
        return f'<p><b>{title}</b>: <span class="ds-muted">nothing that is known</span></p>'
    items = "".join(
        f"<li><b>{escape(one['headline'])}</b> {escape(one['sentence'])} {source(one)}</li>"
        for one in listed
    )
    return f"<p><b>{title}</b></p><ul>{items}</ul>"


def _head_to_head(told: dict[str, Any]) -> str:
    """What others found who did both."""
    if not told["head_to_head"]:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(one["what"])} {source(one)}</th>'
        f"<td>{_better(one['distilled'], one['better'] == 'teacher')}</td>"
        f"<td>{_better(one['fine_tuned'], one['better'] == 'labels')}</td></tr>"
        for one in told["head_to_head"]
    )
    return (
        "<p><b>Others who did both</b></p><div class='ds-scroll' tabindex='0' role='region' "
        "aria-label='Others who did both'><table class='ds-table'><thead><tr><td></td>"
        "<th scope='col'>distilled</th><th scope='col'>fine-tuned</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _better(figure: str, better: bool) -> str:
    return f"<b>{escape(figure)} ✓</b>" if better else escape(figure)


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


def _expected(told: dict[str, Any], *, waiting: bool) -> str:
    if told["recipe"] is None and all(told["expected"][f] == NO_EVIDENCE for f in _EXPECTED):
        return "<h3>What to expect</h3><p class='ds-muted'>Nothing is trained.</p>"
    last = () if size_matters(told) else ("speed", "size")
    rows = "".join(
        _waiting_row(title)
        if waiting and told["recipe"] and field in {"memory", "time"}
        else _expected_row(title, told["expected"][field], words)
        for field, (title, words) in sorted(_EXPECTED.items(), key=lambda item: item[0] in last)
    )
    return (
        '<h3>What to expect</h3><p class="ds-muted">Published, not promised. Your own runs count '
        f'more.</p><table class="ds-table ds-expected"><tbody>{rows}</tbody></table>'
    )


def _waiting_row(title: str) -> str:
    return f'<tr><th scope="row">{title}</th><td class="ds-muted">working it out …</td></tr>'


def _expected_row(title: str, value: Any, words: str) -> str:
    if value == NO_EVIDENCE:
        return f'<tr><th scope="row">{title}</th><td class="ds-muted">{NO_EVIDENCE}</td></tr>'
    cite = f"{escape(value['what'])} · {source(value)}"
    published = value.get("published")
    if isinstance(published, dict):
        cite += f"<br>Published: {escape(span_text(published))}, {source(published)}"
    elif published == NO_EVIDENCE:
        cite += "<br>Published: no evidence"
    return (
        f'<tr><th scope="row">{title}</th><td><b>{escape(span_text(value))}{escape(words)}</b><br>'
        f'<span class="ds-cite">{cite}</span></td></tr>'
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


# --- small pieces -----------------------------------------------------------------------------


def source(cited: dict[str, Any], published: str = "") -> str:
    """A source in small type: what was published, where, and how strong it is."""
    said = "" if cited["strength"] == "C" else "Published: "
    words = f"{said}{escape(published)} · " if published else ""
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


def _lower(words: str) -> str:
    return words[:1].lower() + words[1:]


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]
