"""The part of Build's form about the student that follows what it starts from.

In: the recipe on the desk and its schema. Out: fields, wired; an optional group stands behind a
tick. `student` is called inside `gr.render`. Knows nothing of what the settings mean.
"""

from __future__ import annotations

import functools

import gradio as gr

from ui import form
from ui.building import desk as desks
from ui.building import draft, pair_edits
from ui.building.build_parts import Wires, follow, opened, reshape, schema

_IN_VIEW = {"layers", "hidden_size", "model"}
"""Settings that are never folded away."""


def in_view() -> tuple[gr.Slider, gr.Slider, gr.Dropdown]:
    """Lay out layers, width and checkpoint, not yet wired."""
    with gr.Row(elem_classes="ds-fields"):
        layers = gr.Slider(
            1, 12, step=1, label="Layers", elem_id="ds-field-student-layers", interactive=True
        )
        width = gr.Slider(
            8,
            768,
            step=8,
            label="Width",
            elem_id="ds-field-student-hidden_size",
            interactive=True,
        )
        model = gr.Dropdown(
            choices=[],
            label="Published checkpoint",
            allow_custom_value=True,
            elem_id="ds-field-student-model",
            interactive=True,
            visible=False,
        )
    return layers, width, model


def student(wires: Wires, desk: desks.Desk) -> None:
    """Lay out what else can be set about the student, beside its layers and width."""
    data = opened(desk)
    if data is None:
        return
    path = draft.pair(data).student_path
    node = variants().get(str(draft.get(data, f"{path}.init", "pretrained")), {})
    rest = [item for item in form.settings(schema(), node, path) if item.key not in _IN_VIEW]
    plain = [setting for setting in rest if setting.kind != "group"]
    if plain:
        with gr.Row(elem_classes="ds-fields"):
            for setting in plain:
                _field(wires, data, setting, setting.key)
    for setting in rest:
        if setting.kind == "group":
            _group(wires, data, setting)


def variants() -> dict[str, form.Schema]:
    """The schema of each kind of student, by its `init`."""
    stage = form.variants(schema(), form.find(schema(), "stages")["items"])["distill"]
    return form.variants(schema(), stage["properties"]["student"])


def _field(wires: Wires, data: draft.Mapping, setting: form.Setting, key: str) -> None:
    made = form.component(setting, draft.get(data, setting.path))
    made.elem_id = f"ds-field-student-{key.replace('.', '-')}"
    edit = functools.partial(pair_edits.edit_student_setting, setting, key)
    follow(wires, form.edited(made), edit, made)


def _group(wires: Wires, data: draft.Mapping, group: form.Setting) -> None:
    value = draft.get(data, group.path)
    tick = form.component(group, value)
    tick.elem_id = f"ds-field-student-{group.key}"
    reshape(wires, tick.input, functools.partial(pair_edits.toggle_student_group, group.key), tick)
    if value is None:
        return
    with gr.Row(elem_classes="ds-fields"):
        for setting in form.settings(schema(), group.node, group.path):
            _field(wires, data, setting, f"{group.key}.{setting.key}")
