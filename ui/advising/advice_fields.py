"""The Advisor's fields: one component per question.

In: questions. Out: components in the questions' order. Knows no answer but the defaults.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ui.advising.advice_answers import form_values, label_text


def fields(questions: list[dict[str, Any]]) -> list[Any]:
    """One component per question, two in a row, in the questions' order."""
    made = []
    for start in range(0, len(questions), 2):
        with gr.Row(elem_classes="ds-fields"):
            made += [_field(question) for question in questions[start : start + 2]]
    return made


def _field(question: dict[str, Any]) -> Any:
    common: dict[str, Any] = {
        "label": label_text(question),
        "info": question["help"],
        "elem_id": f"ds-ask-{question['field'].replace('.', '-')}",
        "interactive": True,
        "min_width": 240,
    }
    (value,) = form_values([question], {})
    if question["kind"] == "number":
        whole = question["unit"] in {"rows", "calls"}
        return gr.Number(  # its own range would refuse the whole event: the handlers tell it
            value=value,
            precision=0 if whole else None,
            placeholder="I don't know",
            **common,
        )
    if question["kind"] == "text":
        return gr.Textbox(value=value, max_length=200, placeholder="I don't know", **common)
    choices = [(choice["label"], choice["value"]) for choice in question["choices"]]
    if question["custom"] or len(choices) > 6:
        return gr.Dropdown(
            choices=choices, value=value, allow_custom_value=question["custom"], **common
        )
    return gr.Radio(choices=choices, value=value, **common)
