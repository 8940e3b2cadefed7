"""The history of runs and the difference of their settings, as HTML tables.

In: rows of `api.runs` and `api.show`. Out: HTML. Knows nothing of Gradio or of files.
"""

from __future__ import annotations

import time
from html import escape
from typing import Any

from distill_core import api
from ui import text, theme
from ui.comparing import scores_drawn
from ui.history import runs_words

MISSING = object()

# Ticking a box sends all ticked runs; the run's name opens it. Boxes follow what the server drew.
TABLE_SCRIPT = """
const boxes = () => [...element.querySelectorAll('input[data-run]')];
element.addEventListener('change', (event) => {
  if (!event.target.matches('input[data-run]')) return;
  trigger('pick', {runs: boxes().filter((box) => box.checked).map((box) => box.dataset.run)});
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-open]');
  if (button) trigger('open', {run: button.dataset.open});
});
watch('value', () => boxes().forEach((box) => { box.checked = box.hasAttribute('checked'); }));
"""


def history_html(runs: list[dict[str, Any]], picked: list[str]) -> str:
    """Draw all runs, newest first; boxes of `picked` are ticked."""
    if not runs:
        return ""
    heads = (
        '<th scope="col"><span class="ds-hidden">select</span></th><th scope="col">run</th>'
        '<th scope="col">state</th><th scope="col">when</th>'
        '<th scope="col"><span class="ds-ink-teacher">● teacher</span> → '
        '<span class="ds-ink-student">◆ student</span>, times smaller</th>'
        '<th scope="col" class="ds-number">score (teacher)</th>'
        '<th scope="col" class="ds-number">quality kept</th>'
        '<th scope="col" class="ds-number">faster</th>'
        '<th scope="col" class="ds-number">time</th>'
    )
    now = time.time()
    rows = "".join(_row(run, run["run"] in picked, now) for run in runs)
    return (
        '<div class="ds-scroll" tabindex="0" role="region" aria-label="History of runs">'
        f'<table class="ds-table ds-history"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(run: dict[str, Any], ticked: bool, now_s: float) -> str:
    key, name, status = escape(run["run"]), escape(run["name"]), run["status"]
    summary = run.get("summary") or {}
    icon, tone = text.look_of(status)
    when = text.when_text(run.get("created_time_s"), now_s=now_s)
    words = f"{run['name']}, {text.state(status)}, {when}"
    cells = [
        f'<td><input type="checkbox" data-run="{key}" aria-label="select {escape(words)}"'
        f"{' checked' if ticked else ''}></td>",
        f'<th scope="row"><button type="button" class="ds-link" data-open="{key}" '
        f'title="{key}: open in Train">{name}</button></th>',
        f"<td>{theme.chip(text.phase(status), tone, icon)}"  # type: ignore[arg-type]
        f'<span class="ds-muted"> {escape(text.step_of(status))}</span></td>'
        if status["state"] in text.ACTIVE_STATES
        else f"<td>{theme.chip(status['state'], tone, icon)}</td>",  # type: ignore[arg-type]
        f"<td>{escape(when)}</td>",
        f"<td>{_sizes(summary)}</td>",
        f'<td class="ds-number">{_scores(summary)}</td>',
        f'<td class="ds-number">{text.percent_text(summary.get("retention"))}</td>',
        f'<td class="ds-number">{text.factor_text(summary.get("speedup"))}</td>',
        f'<td class="ds-number">{text.duration_text(summary.get("seconds"))}</td>',
    ]
    return f"<tr{' class=ds-picked' if ticked else ''}>{''.join(cells)}</tr>"


def _sizes(summary: dict[str, Any]) -> str:
    teacher, student = summary.get("teacher_parameters"), summary.get("student_parameters")
    if not student:
        return escape(str(summary.get("teacher") or "–"))
    ratio = summary.get("size_ratio") or (teacher / student if teacher else None)
    smaller = f' <span class="ds-muted">{text.factor_text(ratio)}</span>' if ratio else ""
    return f"{text.count_text(teacher)} → <b>{text.count_text(student)}</b>{smaller}"


def _scores(summary: dict[str, Any]) -> str:
    now = {name: summary.get(f"held_out_{name}") for name in api.TASK_METRICS}
    so_far = [name for name, value in now.items() if value is not None]
    metric = str(summary.get("metric") or (so_far[-1] if so_far else "exact_match"))
    student = summary.get("score", now.get(metric))
    if student is None or metric not in api.SCORES:
        return "–"
    teacher = summary.get("teacher_score")
    title = api.SCORES[metric].title
    beside = (
        f' <span class="ds-muted">({scores_drawn.in_unit(metric, teacher)})</span>'
        if teacher is not None
        else ""
    )
    return (
        f"<b>{scores_drawn.in_unit(metric, student)}</b>{beside}<br>"
        f'<span class="ds-muted">{escape(title)}</span>'
    )


# --- settings that differ ---------------------------------------------------------------------


def differences(recipes: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    """List the settings that are not the same in all recipes: dotted path, value in each."""
    flat = [_flatten(recipe) for recipe in recipes]
    paths = sorted({path for recipe in flat for path in recipe}, key=_natural)
    rows = [(path, [recipe.get(path, MISSING) for recipe in flat]) for path in paths]
    return [(path, values) for path, values in rows if any(v != values[0] for v in values[1:])]


def differences_html(runs: list[dict[str, Any]]) -> str:
    """Draw the settings that differ between runs (rows of `api.show`), and nothing else."""
    if len(runs) < 2:
        return f'<p class="ds-muted">{runs_words.PICK_TWO}</p>'
    rows = [row for row in differences([run["recipe"] for run in runs]) if row[0] != "name"]
    if not rows:
        return f'<p class="ds-muted">{runs_words.SAME_SETTINGS}</p>'
    heads = "".join(f'<th scope="col">{escape(run["name"])}</th>' for run in runs)
    body = "".join(
        f'<tr><th scope="row" class="ds-mono">{escape(path)}</th>'
        + "".join(f"<td>{_value(value)}</td>" for value in values)
        + "</tr>"
        for path, values in rows
    )
    return (
        '<div class="ds-scroll" tabindex="0" role="region" aria-label="Settings that differ">'
        f'<table class="ds-table"><thead><tr><th scope="col">setting</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Turn a recipe into `{"stages.0.optim.learning_rate": 0.003, …}`."""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = {str(index): item for index, item in enumerate(value)}.items()
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in parts:
        flat |= _flatten(item, f"{path}.{key}" if path else str(key))
    return flat


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.split(".")]


def _value(value: Any) -> str:
    if value is MISSING:
        return '<span class="ds-muted">not there</span>'
    if value is None:
        return '<span class="ds-muted">not set</span>'
    return f'<span class="ds-mono">{escape(str(value))}</span>'
