"""The parts of Build's form that follow the recipe's shape: sources, stages, further settings.

In: the recipe on the desk and its schema. Out: fields, wired. Called inside `gr.render`, again
whenever the shape changes; knows nothing of what the settings mean.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from distill_core import api
from ui import form
from ui.building import desk as desks
from ui.building import draft, edits, loss_edits, pair_fit

STAGE_WORDS = {
    "distill": "Distill: learn the teacher's probabilities",
    "fine_tune": "Fine-tune: train on the labels",
}

BASICS = ("learning_rate", "max_steps", "epochs", "global_batch_size")
"""Settings of the optimiser that are always in view; all others are folded away."""


@dataclass(frozen=True)
class Wires:
    """What every field is connected to."""

    desk: gr.State
    recipe_yaml: gr.BrowserState
    version: gr.State
    """Counts up when the part at hand must be laid out again."""
    runs_dir: str

    def part(self, version: gr.State) -> Wires:
        """Return the same wires for a part with a count of its own."""
        return dataclasses.replace(self, version=version)


@functools.cache
def schema() -> form.Schema:
    """Return the recipe's schema, made once."""
    return api.recipe_schema()


def opened(desk: desks.Desk) -> draft.Mapping | None:
    """Read the desk's recipe; None, and a hint on the page, when its YAML cannot be read."""
    try:
        return draft.read(desks.current(desk))
    except draft.BrokenYaml as error:
        gr.Markdown(str(error))
        return None


def reshape(wires: Wires, event: Callable[..., Any], handler: Any, *inputs: Any) -> None:
    """Wire an edit that changes the recipe's shape: the form is laid out again."""
    event(
        handler,
        [*inputs, wires.recipe_yaml, wires.desk, wires.version],
        [wires.recipe_yaml, wires.version],
        concurrency_limit=4,  # queued: only then does Gradio tell that `version` has changed
        show_progress="hidden",
        api_visibility="private",
    )


def follow(wires: Wires, event: Callable[..., Any], handler: Any, field: Any, *drawn: Any) -> None:
    """Wire an edit of one value, and what is drawn with it: the last one typed wins."""
    event(
        handler,
        [field, wires.recipe_yaml, wires.desk],
        [wires.recipe_yaml, *drawn],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


def edit_of(data: draft.Mapping, setting: form.Setting) -> Any:
    """The edit of a setting, as long as what stands around it is as it was laid out."""
    return functools.partial(edits.edit, setting, frame=draft.frame(data, setting.path))


# --- fields -----------------------------------------------------------------------------------


def field(wires: Wires, data: draft.Mapping, setting: form.Setting) -> None:
    """Lay out one setting, an optional group behind a tick, or one of several variants."""
    value = draft.get(data, setting.path)
    made = form.component(setting, value)
    if setting.kind == "variant":
        reshape(wires, made.input, functools.partial(edits.choose_variant, setting), made)
        node = form.variants(schema(), setting.node).get(str(made.value))
        if node is not None:
            for own in form.settings(schema(), node, setting.path):
                field(wires, data, own)
        return
    if setting.kind != "group":
        follow(wires, form.edited(made), edit_of(data, setting), made)
        return
    fresh = form.tag(schema(), setting.node)
    reshape(wires, made.input, functools.partial(edits.toggle_group, setting, fresh), made)
    if value is not None:
        fields(wires, data, form.settings(schema(), setting.node, setting.path))


def fields(wires: Wires, data: draft.Mapping, settings: list[form.Setting]) -> None:
    """Lay out settings side by side, required groups under their own heading.

    What the task at hand never reads is left out.
    """
    settings = [setting for setting in settings if draft.is_read(data, setting.path)]
    plain = [setting for setting in settings if setting.kind != "group"]
    if plain:
        with gr.Row(elem_classes="ds-fields"):
            for setting in plain:
                field(wires, data, setting)
    for setting in settings:
        if setting.kind == "group" and setting.optional:
            field(wires, data, setting)
        elif setting.kind == "group":
            gr.HTML(f'<h4 class="ds-group">{setting.label}</h4>')
            fields(wires, data, form.settings(schema(), setting.node, setting.path))


# --- stages -----------------------------------------------------------------------------------


def stages(wires: Wires, desk: desks.Desk) -> None:
    """Lay out each stage: what it does, its losses, its optimiser, and the rest folded away."""
    data = opened(desk)
    if data is None:
        return
    known = form.variants(schema(), form.find(schema(), "stages")["items"])
    for index, kind in enumerate(draft.kinds(data)):
        if kind not in known:
            continue
        path = f"stages.{index}"
        title = _stage_title(data, index, kind)
        gr.HTML(f'<h4 class="ds-group" id="{form.field_id(path)}">{title}</h4>')
        groups = {item.key: item for item in form.settings(schema(), known[kind], path)}
        if "losses" in known[kind].get("properties", {}):
            _losses(wires, data, index, known[kind]["properties"]["losses"]["items"])
        optim = groups.pop("optim")
        settings = form.settings(schema(), optim.node, optim.path)
        basics = [item for name in BASICS for item in settings if item.key == name]
        own = [item for item in groups.values() if item.kind != "group" and item.key != "model"]
        fields(wires, data, [*own, *basics])


def _stage_title(data: draft.Mapping, index: int, kind: str) -> str:
    number = f"{index + 1}. " if len(draft.kinds(data)) > 1 else ""
    return number + STAGE_WORDS.get(kind, form.words(kind))


def _stage_rest(wires: Wires, data: draft.Mapping, node: form.Schema, path: str) -> None:
    """Lay out what `stages` leaves out: the rest of the optimiser, and all other groups."""
    groups = [item for item in form.settings(schema(), node, path) if item.kind == "group"]
    optim = next(item for item in groups if item.key == "optim")
    settings = form.settings(schema(), optim.node, optim.path)
    fields(wires, data, [item for item in settings if item.key not in BASICS])
    fields(wires, data, [item for item in groups if item is not optim])


def _losses(wires: Wires, data: draft.Mapping, stage: int, node: Any) -> None:
    listed = draft.get(data, f"stages.{stage}.losses")
    present = listed if isinstance(listed, list) else pair_fit.default_losses()
    chosen = {str(draft.get(loss, "name")): loss for loss in present}
    with gr.Column(elem_classes="ds-losses", elem_id=form.field_id(f"stages.{stage}.losses")):
        known = form.variants(schema(), node)
        for name in chosen:
            if name in known:
                _loss(wires, stage, name, known[name], chosen[name])
        others = [name for name in known if name not in chosen]
        with gr.Accordion("More losses", open=not chosen, visible=bool(others)):
            for name in others:
                _loss(wires, stage, name, known[name], None)


def _loss(wires: Wires, stage: int, name: str, variant: form.Schema, loss: Any) -> None:
    path = f"stages.{stage}.losses.{name}"
    settings = form.settings(schema(), variant, path) if loss is not None else []
    scheduled = [item for item in settings if isinstance(loss.get(item.key), dict)]
    with gr.Row(elem_classes="ds-loss"):
        tick = gr.Checkbox(
            value=loss is not None,
            label=api.METRICS[name].title if name in api.METRICS else form.words(name),
            info=str(variant.get("description", "")),
            elem_id=form.field_id(path),
            scale=3,
            min_width=220,
        )
        reshape(wires, tick.input, functools.partial(loss_edits.toggle_loss, stage, name), tick)
        for setting in settings:
            may_move = setting.kind == "number" and setting.node is not None
            with gr.Column(min_width=150):
                if setting not in scheduled:
                    value = loss.get(setting.key)
                    _loss_field(wires, stage, name, setting, value, show_info=not may_move)
                if may_move:
                    _moves(wires, stage, name, setting, setting in scheduled)
    for setting in scheduled:
        value = loss[setting.key]
        with gr.Row(elem_classes="ds-fields ds-schedule", elem_id=form.field_id(setting.path)):
            for part in form.settings(schema(), setting.node, setting.path):
                _loss_field(wires, stage, name, part, value.get(part.key), show_info=False)


def _moves(wires: Wires, stage: int, name: str, setting: form.Setting, value: bool) -> None:
    """Lay out the tick that lets a number follow a schedule."""
    tick = gr.Checkbox(
        value=value,
        label=f"{setting.label} moves",
        elem_id=f"{form.field_id(setting.path)}-moves",
        elem_classes="ds-moves",
        container=False,
    )
    edit = functools.partial(loss_edits.toggle_schedule, stage, name, setting)
    reshape(wires, tick.input, edit, tick)


def _loss_field(
    wires: Wires,
    stage: int,
    name: str,
    setting: form.Setting,
    value: Any,
    *,
    show_info: bool = True,
) -> None:
    made = form.component(setting, value, show_info=show_info)
    edit = functools.partial(loss_edits.edit_loss, stage, name, setting)
    follow(wires, form.edited(made), edit, made)


# --- the rest ---------------------------------------------------------------------------------


def advanced(wires: Wires, desk: desks.Desk) -> None:
    """Lay out every setting that no other part shows, stage by stage, then those of the run."""
    data = opened(desk)
    if data is None:
        return
    known = form.variants(schema(), form.find(schema(), "stages")["items"])
    for index, kind in enumerate(draft.kinds(data)):
        if kind in known:
            gr.HTML(f'<h4 class="ds-group">{_stage_title(data, index, kind)}</h4>')
            _stage_rest(wires, data, known[kind], f"stages.{index}")
    gr.HTML('<h4 class="ds-group">The whole run</h4>')
    shown = {"name", "task", "data", "stages"}
    settings = [item for item in form.settings(schema(), schema(), "") if item.key not in shown]
    fields(wires, data, settings)
