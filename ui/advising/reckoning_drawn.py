"""The advisor's whole reckoning as HTML: how to do it, how the votes fell, the same in a terminal.

In: what `api.advise` returns, and the answers as YAML. Out: HTML in which every text is escaped.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import theme
from ui.advising.advice_drawn import letters, source

METHOD_WORDS = {
    "signal": "Learns from",
    "loss": "Loss",
    "temperature": "Temperature",
    "cross_entropy_weight": "Weight of cross-entropy",
    "top_k": "Tokens kept",
    "initialisation": "Starts from",
    "vocabulary": "Vocabulary",
    "features": "Feature losses",
    "on_policy": "Share of own samples",
    "lora_rank": "LoRA rank",
    "epochs": "Epochs",
    "cache": "Teacher cache",
    "teacher_precision": "Teacher's number format",
    "precision": "Number format",
    "traces": "Reasoning traces",
    "held_out": "Test rows",
}


def reckoning(told: dict[str, Any], yaml_text: str, titles: dict[str, str]) -> str:
    """How to do it, how the votes fell, what was read, and the same answers for a terminal."""
    return (
        f"{_method(told)}{_votes(told)}{_filled(told, titles)}<h3>The same in a terminal</h3>"
        '<p class="ds-muted">Save as <code>answers.yaml</code>, then '
        "<code>distill-studio advise answers.yaml</code></p>"
        f'<pre class="ds-mono ds-yaml" tabindex="0" role="region" aria-label="Answers as YAML">'
        f"{escape(yaml_text)}</pre>"
    )


def _method(told: dict[str, Any]) -> str:
    if not told["method"]:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(METHOD_WORDS.get(setting, setting))}</th>'
        f"<td><b>{escape(_value(entry['value']))}</b></td>"
        f"<td>{escape(entry['why'])} {source(entry, entry['published'])}"
        + (f"<br><i>{escape(entry['conflict'])}</i>" if entry["conflict"] else "")
        + "</td></tr>"
        for setting, entry in told["method"].items()
    )
    return (
        '<h3>How to do it</h3><div class="ds-scroll" tabindex="0" role="region" '
        f'aria-label="How to do it"><table class="ds-table"><tbody>{rows}</tbody></table></div>'
    )


def _filled(told: dict[str, Any], titles: dict[str, str]) -> str:
    """Answers that nobody gave: read from the machine, the rows, the models."""
    rows = "".join(
        f'<tr><th scope="row">{escape(titles.get(one["field"], _words(one["field"])))}</th>'
        f"<td>{escape(_value(one['value']))}</td><td>{escape(one['words'])}</td></tr>"
        for one in told["filled"]
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in told["notes"])
    if not rows and not notes:
        return ""
    return (
        '<h3>Read by itself</h3><div class="ds-scroll" tabindex="0" role="region" '
        f'aria-label="Read by itself"><table class="ds-table"><tbody>{rows}</tbody></table></div>'
        f"{notes}"
    )


def _words(field: str) -> str:
    """A field without a question, in words: tokens of the longest row, and the like."""
    return field.rpartition(".")[2].replace("_", " ").capitalize()


def _votes(told: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(row["title"])}</th>'
        f'<td class="ds-number">{row["score"]:g}</td>'
        f"<td>{_contributions(row)}</td></tr>"
        for row in told["votes"]
    )
    return (
        '<h3>How the votes fell</h3><div class="ds-scroll" tabindex="0" role="region" '
        'aria-label="Votes"><table class="ds-table"><thead><tr><th scope="col">verdict</th>'
        '<th scope="col" class="ds-number">votes</th><th scope="col">rules</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{letters()}"
    )


def _contributions(row: dict[str, Any]) -> str:
    votes = " · ".join(f"{escape(clause)} {vote:+g}" for clause, vote in row["votes"].items())
    if not row["vetoed"]:
        return votes or '<span class="ds-muted">–</span>'
    ids = ", ".join(row["vetoed_by"])
    veto = theme.chip(f"ruled out: {row['vetoed']}", "neutral", "✕")
    return f'{veto} <span class="ds-muted">{escape(ids)}</span>'


def _value(value: object) -> str:
    if isinstance(value, int | float):
        return f"{value:,.10g}"
    return str(value)
