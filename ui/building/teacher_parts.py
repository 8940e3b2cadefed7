"""The part of Build's form for several teachers, whose probabilities are mixed.

In: the recipe on the desk and its schema. Out: fields, wired. Called inside `gr.render`, again
whenever a teacher comes or goes; knows nothing of how they are mixed.
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from ui import form
from ui.building import desk as desks
from ui.building import draft, edits, review
from ui.building.build_parts import Wires, edit_of, follow, opened, reshape, schema

WORDS = (
    "The student learns from the weighted mean of their probabilities. All need the same "
    "tokenizer; a student made of its teacher's layers is made of the first one's."
)


def teachers(wires: Wires, desk: desks.Desk) -> None:
    """Lay out the teachers of the first distil stage with their shares, and a button for more."""
    data = opened(desk)
    if data is None:
        return
    stage = draft.distill_stage(data)
    if stage is None:
        gr.HTML("<p class='ds-muted'>This method asks no teacher.</p>")
        return
    gr.HTML(f"<p class='ds-muted'>{WORDS}</p>")
    path = f"stages.{stage}.teacher"
    named = draft.get(data, path)
    known = review.model_choices(str(data.get("task") or "causal_lm"))
    for place in range(len(named) if isinstance(named, list) else 0):
        _teacher(wires, data, f"{path}.{place}", known)
    add = gr.Button("Add a teacher", size="sm", elem_id="ds-add-teacher")
    reshape(wires, add.click, functools.partial(add_teacher, stage))


def _teacher(wires: Wires, data: draft.Mapping, path: str, known: list[tuple[str, str]]) -> None:
    node = form.find(schema(), "stages")["items"]
    teacher = form.variants(schema(), node)["distill"]["properties"]["teacher"]
    several = next(part for part in teacher["anyOf"] if part.get("type") == "array")
    with gr.Row(elem_classes="ds-source", elem_id=form.field_id(path)):
        for setting in form.settings(schema(), several["items"], path):
            value: Any = draft.get(data, setting.path)
            if setting.key == "model":
                name = str(value or "")
                listed = [*known, *([(name, name)] if name not in dict(known).values() else [])]
                made: Any = gr.Dropdown(
                    choices=[*listed, ("the stage before", draft.PREVIOUS)],
                    value=name,
                    label="Teacher",
                    allow_custom_value=True,
                    interactive=True,
                    elem_id=form.field_id(setting.path),
                    min_width=220,
                )
                reshape(wires, made.input, functools.partial(edit_shared, setting.path), made)
            else:
                made = form.component(setting, value, show_info=False)
                follow(wires, form.edited(made), edit_of(data, setting), made)
        remove = gr.Button("Remove", size="sm", min_width=80, scale=0)
        reshape(wires, remove.click, functools.partial(remove_teacher, path))


# --- edits --------------------------------------------------------------------------------------


def edit_shared(path: str, value: str | None, stored: str, desk: desks.Desk, version: int) -> Any:
    """Change one of several teachers; what is drawn and read again follows."""
    name = (value or "").strip()
    return edits.reshaped(desk, stored, lambda data: draft.put(data, path, name), version)


def add_teacher(stage: int, stored: str, desk: desks.Desk, version: int) -> tuple[Any, Any]:
    """Add a teacher to a stage, to be named."""
    return edits.reshaped(desk, stored, lambda data: draft.with_teacher(data, stage), version)


def remove_teacher(path: str, stored: str, desk: desks.Desk, version: int) -> tuple[Any, Any]:
    """Take one of several teachers out."""
    return edits.reshaped(desk, stored, lambda data: draft.without_teacher(data, path), version)
