"""A training row as the model will see it, and the facts of the data.

In: what `api.preview` returns. Out: HTML, every text escaped. Knows nothing of recipes or Gradio.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from ui import theme

VISIBLE = {"\n": "⏎\n", "\t": "⇥", "\r": "␍"}
"""Shown instead of characters that nobody would see; a line break still breaks the line."""

MOST_TOKENS = 600

ANSWERS = ("response", "label")
"""Columns that hold what is learnt; a source of prompts alone has nothing in them."""


def chips(facts: dict[str, Any]) -> str:
    """The data in one line: sources, rows, labelled, unlabelled, held out, shared."""
    parts = [_source(source) for source in facts.get("sources", [])]
    counts = [f"{facts.get(key, 0):,} {key}" for key in ("labelled", "unlabelled")]
    counts.append(f"{facts.get('held_out', 0):,} held out")
    parts.append(theme.chip(" · ".join(counts)))
    overlap = int(facts.get("overlap") or 0)
    shared = f"{overlap:,} row{'' if overlap == 1 else 's'} shared with held-out"
    parts.append(theme.chip(shared, "warn" if overlap else "good", "⚠" if overlap else "✓"))
    if classes := facts.get("classes"):
        shown = [f"{label} {count:,}" for label, count in list(classes.items())[:8]]
        more = f" · {len(classes) - 8} more" if len(classes) > 8 else ""
        parts.append(theme.chip(f"{len(classes)} classes: {' · '.join(shown)}{more}"))
    if facts.get("duplicates"):
        parts.append(theme.chip(f"{facts['duplicates']:,} repeated rows"))
    names = [name for source in facts.get("sources", []) for name in source.get("names", [])]
    return f'<div class="ds-chips">{"".join(parts)}</div>{column_names(names)}'


def column_names(names: Iterable[str]) -> str:
    """What the fields for columns offer to choose from; the browser shows it while one types."""
    options = "".join(f'<option value="{escape(name)}">' for name in dict.fromkeys(names))
    return f'<datalist id="ds-column-names">{options}</datalist>'


def _source(source: dict[str, Any]) -> str:
    columns = source.get("columns") or {}
    if source.get("unanswered") and source.get("unanswered") == source.get("rows"):
        columns = {role: name for role, name in columns.items() if role not in ANSWERS}
    named = ", ".join(f"{role} ← {column}" for role, column in columns.items() if column)
    guessed = " (guessed)" if named and source.get("guessed") else ""
    tail = f" · {named}{guessed}" if named else ""
    return theme.chip(f"{source.get('title', 'rows')}: {source.get('rows', 0):,}{tail}")


def row(preview: dict[str, Any]) -> str:
    """The row's tokens; those that are learnt from are underlined and shaded."""
    tokens = preview.get("tokens", [])
    shown = "".join(_token(token) for token in tokens[:MOST_TOKENS])
    more = f"<p>… and {len(tokens) - MOST_TOKENS:,} more</p>" if len(tokens) > MOST_TOKENS else ""
    return (
        f'<div class="ds-tokens" role="group" aria-label="Tokens of this row" tabindex="0">{shown}'
        f"{more}</div>{_class_of(preview)}{_legend(preview)}"
    )


def _class_of(preview: dict[str, Any]) -> str:
    """The class that the whole row is learnt to be, where the task is to say one."""
    if not _is_classification(preview):
        return ""
    label = preview.get("label")
    told = (
        f'<span class="ds-token ds-supervised">{escape(str(label))}</span>'
        if label
        else '<span class="ds-muted">not in the data</span>'
    )
    return f'<p class="ds-class">class of this row: {told}</p>'


def _is_classification(preview: dict[str, Any]) -> bool:
    return "classes" in (preview.get("facts") or {})


def _token(token: dict[str, Any]) -> str:
    words = str(token.get("text", ""))
    for character, shown in VISIBLE.items():
        words = words.replace(character, shown)
    kind = "ds-token ds-supervised" if token.get("supervised") else "ds-token"
    return f'<span class="{kind}">{escape(words)}</span>'


def _legend(preview: dict[str, Any]) -> str:
    total = len(preview.get("tokens", []))
    learnt = int(preview.get("supervised_tokens") or 0)
    notes = []
    is_class = _is_classification(preview)
    if not preview.get("labelled", True) and is_class:
        notes.append("Only the teacher's opinion of the classes is learnt here.")
    elif not preview.get("labelled", True):
        notes.append("No answer in the data: the teacher writes one before training.")
    if preview.get("truncated"):
        notes.append("⚠ Cut at the longest row allowed.")
    extra = f" {escape(' '.join(notes))}" if notes else ""
    origin = f" · {escape(str(preview['origin']))}" if preview.get("origin") else ""
    if is_class:
        return f'<p class="ds-token-note">{total:,} tokens{origin}.{extra}</p>'
    return (
        '<p class="ds-token-note"><span class="ds-token ds-supervised">underlined</span> = learnt '
        f"from: {learnt:,} of {total:,} tokens{origin}.{extra}</p>"
    )
