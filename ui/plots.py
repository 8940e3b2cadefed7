"""Charts: the live curves of one run, and Plotly figures for the other tabs.

In: a run's id, or series of numbers. Out: Gradio components and figures as plain data. Colours
are CSS variables, resolved in the browser for light and dark. Knows nothing of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from distill_core import api
from ui import text
from ui.server import script_tag
from ui.state import safe_run_id
from ui.training.follow import follow

_SCRIPTS = script_tag("plotly.min.js") + script_tag("charts.js")

SMALL_METRICS = ("learning_rate", "grad_norm", "tokens_per_s", "memory_bytes")

LINE_STYLES = (
    ("var(--student)", "solid"),
    ("var(--curve-2)", "dash"),
    ("var(--curve-3)", "dot"),
    ("var(--curve-4)", "dashdot"),
    ("var(--curve-5)", "longdash"),
    ("var(--other)", "longdashdot"),
)
"""Colour and dash of the first, second, … curve: told apart without colour, too."""


def loss_terms() -> list[str]:
    """Names of the loss terms, in the table's order."""
    return [name for name, metric in api.METRICS.items() if metric.is_term]


def points_reader(runs_dir: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make the function that the browser calls: new points of a run since an offset."""

    def points(asked: dict[str, Any]) -> dict[str, Any]:
        return read_points(asked, runs_dir=runs_dir)

    return points


def read_points(asked: object, *, runs_dir: str) -> dict[str, Any]:
    """Answer `{"run", "since"}` with `{"series", "offset", "facts"}`, or `{"error"}`."""
    if not isinstance(asked, dict) or not isinstance(asked.get("since"), int):
        return {"error": text.BAD_QUESTION}
    run = safe_run_id(asked.get("run"))
    try:
        series, offset = api.read_series(run, max(0, asked["since"]), runs_dir=runs_dir)
        followed = follow(run, runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        return {"error": str(error)}
    facts = {
        "stages": followed.stages,
        "terms": loss_terms(),
        "metrics": {
            name: {"title": metric.title, "unit": text.unit_of(metric.unit, followed.score)}
            for name, metric in api.METRICS.items()
        },
        "score": followed.score,
        "teacher_score": followed.teacher_score,
        "rows_scored": followed.rows_scored,
        "final": followed.final,
        "baseline_now": followed.baseline_now(),
    }
    return {"series": series, "offset": offset, "facts": facts}


def live_charts(runs_dir: str) -> gr.HTML:
    """Make the live charts; their value is `{"run": id}`. Draws only while it can be seen."""
    return gr.HTML(
        {"run": ""},
        html_template=_live_template(),
        js_on_load="window.distillCharts.live(element, props, server, watch);",
        head=_SCRIPTS,
        server_functions=[points_reader(runs_dir)],
        elem_classes="ds-live",
        apply_default_css=False,
    )


def figure(value: dict[str, Any] | None = None, *, label: str) -> gr.HTML:
    """Show a figure, `{"data", "layout"}` as Plotly takes it; None shows nothing."""
    return gr.HTML(
        value,
        html_template=f'<div class="ds-plot" role="figure" aria-label="{label}"></div>',
        js_on_load="window.distillCharts.figure(element, props, watch);",
        head=_SCRIPTS,
        apply_default_css=False,
    )


def _live_template() -> str:
    small = "".join(
        f'<section class="ds-card ds-smallchart" data-metric="{name}">'
        f'<span class="ds-muted">{title}</span><b>–</b>'
        f'<div class="ds-plot" role="figure" aria-label="{title} over steps"></div></section>'
        for name, title in ((name, api.METRICS[name].title) for name in SMALL_METRICS)
    )
    return f"""<div class="ds-curves-root ds-no-curves" data-part="root">
<p class="ds-notice" data-part="notice" role="status"></p>
<div class="ds-grid ds-two">
  <section class="ds-card" aria-label="Loss">
    <div class="ds-row ds-spread"><h2>Loss</h2>
      <div class="ds-row ds-controls">
        <label>smoothing <input type="range" min="0" max="0.98" step="0.02" value="0.8"
          data-part="smoothing"> <output data-part="smoothing-value">0.80</output></label>
        <label><input type="checkbox" data-part="log"> log axis</label>
        <label>terms <select data-part="terms"><option value="raw" selected>raw</option>
          <option value="weighted">× weight</option><option value="both">both</option></select>
        </label>
      </div></div>
    <div class="ds-plot" data-part="loss" role="figure"
      aria-label="Loss curves over training steps; the legend below carries the newest values">
    </div>
    <div class="ds-curves" data-part="legend"></div>
    <p class="ds-waiting-words">{text.NO_CURVES}</p>
  </section>
  <section class="ds-card" aria-label="Held-out">
    <div class="ds-row ds-spread"><h2>Held-out rows</h2>
      <span class="ds-muted" data-part="rows"></span></div>
    <div class="ds-row ds-figures">
      <div><div class="ds-muted"><span class="ds-ink-student">◆</span>
        <span data-part="score-title">exact match</span></div>
        <div class="ds-big ds-ink-student" data-part="exact">–</div>
        <div class="ds-ink-teacher" data-part="teacher"></div>
        <div class="ds-ink-other" data-part="baseline"></div></div>
      <div><div class="ds-muted">agrees with teacher</div>
        <div class="ds-big" data-part="agree">–</div>
        <div class="ds-muted" data-part="unit">of tokens</div></div>
    </div>
    <div class="ds-plot" data-part="held-out" role="figure"
      aria-label="Score on held-out rows over training steps"></div>
  </section>
</div>
<div class="ds-grid ds-four">{small}</div>
</div>"""


# --- figures of several runs ------------------------------------------------------------------


def overlay(curves: list[dict[str, Any]], *, metric: str) -> dict[str, Any]:
    """Draw one metric of several runs: `[{"name", "lines": [{"name", "step", "value"}]}]`.

    Lines of one curve, such as the seeds of an arm, share its colour and its place in the legend.
    """
    facts = api.METRICS.get(metric)
    data = []
    for index, curve in enumerate(curves):
        ink, dash = LINE_STYLES[index % len(LINE_STYLES)]
        several = len(curve["lines"]) > 1
        for place, line in enumerate(curve["lines"]):
            data.append(
                {
                    "x": line["step"],
                    "y": line["value"],
                    "name": line["name"] if place else curve["name"],
                    **({"hovertemplate": _told(line["name"])} if several else {}),
                    "legendgroup": str(index),
                    "showlegend": place == 0,
                    "type": "scatter",
                    "mode": "lines+markers" if len(line["step"]) < 40 else "lines",
                    "line": {"color": ink, "dash": dash, "width": 1.5 if several else 2.2},
                    "marker": {"color": ink, "size": 4 if several else 6},
                }
            )
    share = facts is not None and facts.unit == "0–1"
    unit = f" ({facts.unit})" if facts and facts.unit and not share else ""
    return {
        "data": data,
        "layout": {
            "showlegend": True,
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "margin": {"l": 56, "r": 10, "t": 30, "b": 40},
            "uirevision": metric,
            "xaxis": {"title": _title("step"), "rangemode": "tozero"},
            "yaxis": {
                "title": _title(f"{facts.title if facts else metric}{unit}"),
                "tickformat": ".0%" if share else "",
            },
        },
    }


QUALITY_AXES = {
    "size_ratio": "times smaller than the teacher",
    "speedup": "times faster than the teacher",
}


def quality_against(points: list[dict[str, Any]], *, axis: str) -> dict[str, Any]:
    """Draw quality kept (0–1) of runs against how much smaller or faster their students are.

    `points` is `[{"name", "retention", "size_ratio", "speedup", "selected"}]`; `axis` is
    `size_ratio` or `speedup`. The teacher stands at 1 × and 100 %.
    """
    axis = axis if axis in QUALITY_AXES else "size_ratio"
    shown = [p for p in points if p.get("retention") is not None and p.get(axis)]
    students = {
        "x": [p[axis] for p in shown],
        "y": [p["retention"] for p in shown],
        "text": [p["name"] for p in shown],
        "name": "student",
        "type": "scatter",
        "mode": "markers+text" if len(shown) <= 6 else "markers",
        "textposition": "bottom center",
        "hovertemplate": "%{text}<br>%{y:.1%} kept, %{x:.3g} × <extra></extra>",
        "marker": {
            "symbol": ["diamond" if p.get("selected") else "diamond-open" for p in shown],
            "size": 13,
            "color": "var(--student)",
            "line": {"width": 2, "color": "var(--student)"},
        },
    }
    teacher = {
        "x": [1],
        "y": [1],
        "text": ["teacher"],
        "name": "teacher",
        "type": "scatter",
        "mode": "markers+text",
        "textposition": "bottom center",
        "hovertemplate": "teacher<extra></extra>",
        "marker": {"symbol": "circle", "size": 13, "color": "var(--teacher)"},
    }
    largest = max([p[axis] for p in shown], default=10)
    lowest = min([p["retention"] for p in shown], default=0.9)
    return {
        "data": [students, teacher],
        "layout": {
            "hovermode": "closest",
            "margin": {"l": 56, "r": 10, "t": 10, "b": 40},
            "xaxis": {
                "title": _title(QUALITY_AXES[axis]),
                "type": "log",
                "tickvals": [n * 10**power for power in range(5) for n in (1, 2, 5)],
                "range": [math.log10(0.6), math.log10(max(largest, 2) * 2)],
                "ticksuffix": " ×",
            },
            "yaxis": {
                "title": _title("quality kept"),
                "tickformat": ".0%",
                "range": [
                    max(-0.06, lowest - 0.25 * (1.02 - lowest)),
                    1.02 + 0.05 * (1.02 - lowest),
                ],
            },
        },
    }


def _told(name: str) -> str:
    """What is read off a line: its own name, where the legend has one for several."""
    return f"{escape(name).replace('%', '&#37;')}: %{{y}}<extra></extra>"


def _title(words: str) -> dict[str, Any]:
    return {"text": words, "font": {"size": 11}, "standoff": 6}
