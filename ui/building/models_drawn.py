"""Teacher and student as boxes whose areas are proportional to their parameters.

In: facts of two models. Out: HTML, every text escaped. Knows nothing of recipes or Gradio.
"""

from __future__ import annotations

from html import escape
from typing import Any

from ui import text

WIDTH_REM, HEIGHT_REM = 15.0, 6.0
"""Of the larger of the two models."""

LEAST_REM = 0.35
"""A box stays visible when its model is thousands of times smaller."""


def draw(
    teacher: dict[str, Any] | None, student: dict[str, Any] | None, *, tuned: bool = False
) -> str:
    """Draw the pair; None where a model's facts are not known. `tuned`: there is no teacher."""
    sizes = [float(facts["parameters"]) for facts in (teacher, student) if facts]
    largest = max(sizes, default=1.0) or 1.0
    first_word = "model" if tuned else "teacher"
    left = _figure(teacher, largest, "teacher", str((teacher or {}).get("title") or first_word))
    right = _figure(student, largest, "student", "student")
    return (
        '<div class="ds-pair"><div class="ds-pair-row">'
        f'{left}<span class="ds-pair-arrow" aria-hidden="true">→</span>{right}'
        f"</div>{_ratio(teacher, student, first_word)}</div>"
    )


def _figure(facts: dict[str, Any] | None, largest: float, role: str, name: str) -> str:
    mark = text.ROLE_MARKS[role]
    title = f'<b class="ds-ink-{role}"><span aria-hidden="true">{mark}</span> {escape(name)}</b>'
    if not facts:
        box = '<div class="ds-model ds-model-unknown" aria-hidden="true">?</div>'
        return f'<figure class="ds-model-figure">{box}<figcaption>{title}</figcaption></figure>'
    side = (float(facts["parameters"]) / largest) ** 0.5
    width, height = max(LEAST_REM, WIDTH_REM * side), max(LEAST_REM, HEIGHT_REM * side)
    shape = ""
    if facts.get("layers") and facts.get("hidden_size"):
        layers = int(facts["layers"])
        shape = f" · {layers} layer{'s' if layers != 1 else ''} × {facts['hidden_size']:,}"
    size = f"{text.count_text(facts['parameters'])} parameters{shape}"
    weight = f" · {text.bytes_text(facts['bytes'])}" if facts.get("bytes") else ""
    note = f"<br><span>{escape(facts['layer_map'])}</span>" if facts.get("layer_map") else ""
    box = (
        f'<div class="ds-model ds-model-{role}" aria-hidden="true" '
        f'style="width:{width:.2f}rem;height:{height:.2f}rem">{_layers(facts, height)}</div>'
    )
    return (
        f'<figure class="ds-model-figure">{box}<figcaption>{title}<br>'
        f"{escape(size + weight)}{note}</figcaption></figure>"
    )


def _layers(facts: dict[str, Any], height: float) -> str:
    """Stripes, one for each layer, where there is room for them."""
    layers = int(facts.get("layers") or 0)
    if not 1 < layers <= height * 8:
        return ""
    return "<i></i>" * layers


def _ratio(teacher: dict[str, Any] | None, student: dict[str, Any] | None, first: str) -> str:
    if not teacher or not student:
        return ""
    ratio = float(teacher["parameters"]) / max(1.0, float(student["parameters"]))
    if ratio > 1.005:
        words = f"{text.factor_text(ratio)} smaller"
    elif ratio < 0.995:
        words = f"{text.factor_text(1 / ratio)} larger than its {first}"
    else:
        words = f"the same size as its {first}"
    return f'<p class="ds-pair-ratio">student: <b>{words}</b></p>'
