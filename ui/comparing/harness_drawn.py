"""Scores of lm-eval's tasks, model by model, as a table.

In: a run's `harness` (`api.show`). Out: HTML, every text escaped; "" where there is nothing. Knows
nothing of Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text
from ui.comparing import scores_drawn

_ARROWS = {
    True: '<span title="more is better">↑</span>',
    False: '<span title="less is better">↓</span>',
}


def table(harness: dict[str, Any] | None) -> str:
    """Draw one line per task, metric and settings; columns are the models, teacher first."""
    rows = (harness or {}).get("scores") or []
    if not harness or not rows:
        return ""
    titles = {str(row["model"]): row for row in rows}
    known = [key for key in scores_drawn.COLUMNS if key in titles]
    keys = known + [key for key in titles if key not in known]
    head = "".join(
        f'<th scope="col">{scores_drawn.model_title(key, titles[key])}</th>' for key in keys
    )
    lines: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(_line(row), {})[str(row["model"])] = row
    body = "".join(
        f'<tr><th scope="row">{_title(next(iter(found.values())))}</th>'
        + "".join(f"<td>{_value(found.get(key))}</td>" for key in keys)
        + "</tr>"
        for found in lines.values()
    )
    return (
        f"<div class='ds-more'><h3>Tasks of {escape(str(harness.get('harness') or 'lm-eval'))}</h3>"
        f"{scores_drawn.framed('Scores of lm-eval', head, body)}"
        '<p class="ds-small ds-muted">Value ± standard error, under the names of lm-eval.</p></div>'
    )


def _line(row: dict[str, Any]) -> tuple[Any, ...]:
    """What models must have in common to stand beside each other."""
    names = ("task", "metric", "filter", "n_shot", "n_samples", "chat_template", "version")
    return tuple(row.get(name) for name in names)


def _title(row: dict[str, Any]) -> str:
    filtered = "" if row["filter"] == "none" else f" ({row['filter']})"
    settings = [
        f"{text.count_text(row['n_samples'])} rows" if row["n_samples"] else "mean of its tasks",
        f"{row['n_shot']}-shot" if row["n_shot"] is not None else "",
        "in its chat template" if row["chat_template"] else "",
    ]
    told = ", ".join(filter(None, settings))
    return (
        f"{escape(str(row['task']))} · {escape(row['metric'] + filtered)} "
        f"{_ARROWS.get(row['higher_is_better'], '')}"
        f'<br><span class="ds-small ds-muted">{escape(told)}</span>'
    )


def _value(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    sure = "" if row["stderr"] is None else f" ±{row['stderr']:.3f}"
    return f'<b>{row["value"]:.3f}</b><span class="ds-muted">{sure}</span>'
