"""The picture of quality kept against size: studies, the rule of thumb, your runs, your plan.

In: what `api.advise` returns. Out: a figure as plain data for `plots.figure`.
Knows nothing of how it is shown.
"""

from __future__ import annotations

import math
from typing import Any

NO_EVIDENCE = "no evidence"
LABEL = (
    "Quality kept against how many times smaller the student is; the figures stand in the card "
    "and in the table of the Learn tab"
)


def figure(told: dict[str, Any]) -> dict[str, Any]:
    """Draw published points, the user's runs on these rows and the recipe at hand."""
    ratio = _ratio(told)
    measured = _measured(told["past_runs"])
    bands = [point for point in told["published"] if _is_rule_of_thumb(point)]
    data = [_studies(told["published"]), *_teacher(told), *_yours(told, ratio), *_runs(measured)]
    widest = max([ratio or 1.0, 10.0, *(run["ratio"] for run in measured)])
    lowest = min([0.78, *(run["kept"] for run in measured)])
    return {
        "data": data,
        "layout": {
            "hovermode": "closest",
            "showlegend": False,
            "uirevision": "advisor",
            "margin": {"l": 48, "r": 8, "t": 8, "b": 40},
            "shapes": [_band(point) for point in bands],
            "annotations": [
                _note(point) for point in told["published"] if _is_rule_of_thumb(point)
            ],
            "xaxis": {
                "title": {"text": "times smaller than the teacher", "font": {"size": 11}},
                "type": "log",
                "range": [math.log10(0.8), math.log10(widest * 1.9)],
                "tickvals": [1, 2, 5, 10, 20, 50, 100],
                "ticksuffix": " ×",
            },
            "yaxis": {
                "title": {"text": "quality kept", "font": {"size": 11}},
                "tickformat": ".0%",
                "range": [lowest - 0.04, 1 + 0.15 * (1 - lowest)],  # room for words above
            },
        },
    }


def _is_rule_of_thumb(point: dict[str, Any]) -> bool:
    return bool(
        point["kept"]
        and point["kept"][0] != point["kept"][1]
        and point["speed"][0] != point["speed"][1]
    )


def _studies(published: list[dict[str, Any]]) -> dict[str, Any]:
    points = [one for one in published if one["kept"] and not _is_rule_of_thumb(one)]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [point["ratio"] for point in points],
        "y": [sum(point["kept"]) / 200 for point in points],
        "text": [point["name"] for point in points],
        "customdata": [f"{point['what']}<br>{point['source']}" for point in points],
        "textposition": ["bottom center", "middle right", "middle left"][: len(points)],
        "textfont": {"size": 11, "color": "var(--ds-muted)"},
        "hovertemplate": "%{text}: %{y:.1%} kept<br>%{customdata}<extra></extra>",
        "marker": {"symbol": "circle", "size": 9, "color": "var(--other)"},
        "cliponaxis": False,
    }


def _ratio(told: dict[str, Any]) -> float | None:
    """How many times smaller the advised student is; None where nothing is trained."""
    own = [one for one in told["roads"].values() if one["verdict"] == told["verdict"]]
    return own[0]["student"]["ratio"] if own else None


def _teacher(told: dict[str, Any]) -> list[dict[str, Any]]:
    if told["answers"].get("teacher", {}).get("exists") is False:
        return []
    teacher = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [1],
        "y": [1],
        "text": ["teacher"],
        "textposition": "top right",
        "textfont": {"size": 11, "color": "var(--teacher-ink)"},
        "hovertemplate": "the teacher<extra></extra>",
        "marker": {"symbol": "circle", "size": 12, "color": "var(--teacher)"},
        "cliponaxis": False,
    }
    return [teacher]


def _yours(told: dict[str, Any], ratio: float | None) -> list[dict[str, Any]]:
    """The plan: a range where studies give one, else a mark at the bottom of its size."""
    kept = told["expected"]["retention"]
    if not ratio or ratio <= 1 or told["recipe"] is None or kept == NO_EVIDENCE:
        return []
    low, high = kept["low"] / 100, kept["high"] / 100
    return [
        {
            "type": "scatter",
            "mode": "lines+markers+text",
            "x": [ratio, ratio],
            "y": [low, high],
            "text": [f"yours: {ratio:.3g} ×", ""],
            "textposition": "bottom center",
            "textfont": {"size": 12, "color": "var(--student-ink)"},
            "hovertemplate": "published for such sizes: %{y:.1%}<extra></extra>",
            "line": {"color": "var(--student)", "width": 3, "dash": "dot"},
            "marker": {"symbol": "diamond-open", "size": 11, "color": "var(--student)"},
            "cliponaxis": False,
        }
    ]


def _measured(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs that count, and whose quality and size were measured."""
    found = []
    for run in runs:
        kept, ratio = run["retention"], run["size_ratio"]
        if run["not_counted"]:
            continue
        if isinstance(kept, int | float) and isinstance(ratio, int | float) and ratio > 0:
            found.append({"name": str(run.get("name", "")), "kept": kept, "ratio": ratio})
    return found


def _runs(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not measured:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [run["ratio"] for run in measured],
            "y": [run["kept"] for run in measured],
            "text": [run["name"].replace("<", "‹") for run in measured],
            "hovertemplate": "your run %{text}: %{y:.1%} kept<extra></extra>",
            "marker": {"symbol": "diamond", "size": 11, "color": "var(--student)"},
        }
    ]


def _band(point: dict[str, Any]) -> dict[str, Any]:
    """The rule of thumb as an area; it is no single study."""
    return {
        "type": "rect",
        "x0": point["speed"][0],
        "x1": point["speed"][1],
        "y0": point["kept"][0] / 100,
        "y1": point["kept"][1] / 100,
        "fillcolor": "var(--other-soft)",
        "line": {"color": "var(--other-line)", "width": 1, "dash": "dot"},
        "layer": "below",
    }


def _note(point: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": math.log10(point["speed"][0]),
        "y": point["kept"][0] / 100,
        "xanchor": "right",
        "yanchor": "bottom",
        "text": f"{point['name']} ",
        "showarrow": False,
        "font": {"size": 11, "color": "var(--ds-muted)"},
    }
