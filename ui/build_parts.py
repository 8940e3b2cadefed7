"""The parts of Build's form that follow the recipe's shape: sources, stages, further settings.

In: the recipe on the desk and its schema. Out: fields, wired. Called inside `gr.render`, again
whenever the shape changes; knows nothing of what the settings mean.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from distill_core import api
from ui import desk as desks
from ui import draft, edits, form

SOURCE_WORDS = {
    "starter": ("Starter rows", "the built-in pocket assistant"),
    "file": ("File", "on this machine"),
    "hub": ("Hub data set", "from the Hugging Face hub"),
}

ADD_WORDS = {"starter": "starter rows", "file": "a file by its path", "hub": "a hub data set"}

STAGE_WORDS = {
    "distill": "Distill: the student learns the teacher's probabilities",
    "fine_tune": "Fine-tune: train on the labels",
}

LOSS_WORDS = {"forward_kl": "forward KL", "cross_entropy": "cross-entropy"}

BASICS = ("learning_rate", "max_steps", "epochs", "global_batch_size")
"""Settings of the optimiser that are always in view; all others are under Advanced."""


@dataclass(frozen=True)
class Wires:
    """What every field is connected to."""

    desk: gr.State
    recipe_yaml: gr.BrowserState
    version: gr.State
    runs_dir: str


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


def follow(wires: Wires, event: Callable[..., Any], handler: Any, field: Any) -> None:
    """Wire an edit of one value: the last one typed wins."""
    event(
        handler,
        [field, wires.recipe_yaml, wires.desk],
        [wires.recipe_yaml],
        queue=False,
        trigger_mode="always_last",
        show_progress="hidden",
        api_visibility="private",
    )


# --- fields -----------------------------------------------------------------------------------


def field(wires: Wires, data: draft.Mapping, setting: form.Setting) -> None:
    """Lay out one setting, or an optional group behind a tick."""
    value = draft.get(data, setting.path)
    made = form.component(setting, value)
    if setting.kind != "group":
        follow(wires, made.input, functools.partial(edits.edit, setting), made)
        return
    fresh = form.tag(schema(), setting.node)
    reshape(wires, made.input, functools.partial(edits.toggle_group, setting, fresh), made)
    if value is not None:
        fields(wires, data, form.settings(schema(), setting.node, setting.path))


def fields(wires: Wires, data: draft.Mapping, settings: list[form.Setting]) -> None:
    """Lay out settings side by side, required groups under their own heading."""
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


# --- data -------------------------------------------------------------------------------------


def sources(wires: Wires, desk: desks.Desk) -> None:
    """Lay out the sources of rows, the held-out rows, and how rows are read."""
    data = opened(desk)
    if data is None:
        return
    listed = draft.get(data, "data.sources")
    for index, source in enumerate(listed if isinstance(listed, list) else []):
        _source(wires, data, index, source if isinstance(source, dict) else {})
    with gr.Row(elem_classes="ds-buttons"):
        files = gr.UploadButton(
            "Upload files",
            file_count="multiple",
            file_types=[".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt"],
            size="sm",
            elem_id="ds-add-files",
        )
        reshape(wires, files.upload, _uploads(wires), files)
        for kind in form.variants(schema(), form.find(schema(), "data.sources")["items"]):
            words = ADD_WORDS.get(kind, form.words(kind).lower())
            add = gr.Button(f"Add {words}", size="sm")
            reshape(wires, add.click, functools.partial(edits.add_source, kind))
    _held_out(wires, data)
    with gr.Accordion("Columns and prompt", open=_has_own_columns(data)):
        fields(wires, data, form.settings(schema(), form.find(schema(), "data"), "data"))


def _uploads(wires: Wires) -> Any:
    return functools.partial(_add_uploads, wires.runs_dir)


def _add_uploads(
    runs_dir: str, files: list[str] | None, stored: str, desk: desks.Desk, version: int
) -> tuple[Any, int]:
    return edits.add_uploads(files, runs_dir, stored, desk, version)


def _hold_upload(
    runs_dir: str, file: str | None, stored: str, desk: desks.Desk, version: int
) -> tuple[Any, Any]:
    return edits.upload_held_out(file, runs_dir, stored, desk, version)


def _has_own_columns(data: draft.Mapping) -> bool:
    listed = draft.get(data, "data.sources")
    kinds = {draft.get(source, "kind") for source in listed} if isinstance(listed, list) else set()
    return bool(kinds - {"starter"})


def _source(wires: Wires, data: draft.Mapping, index: int, source: draft.Mapping) -> None:
    kind = str(source.get("kind", ""))
    known = form.variants(schema(), form.find(schema(), "data.sources")["items"])
    path = f"data.sources.{index}"
    title, note = SOURCE_WORDS.get(kind, (form.words(kind), ""))
    with gr.Row(elem_classes="ds-source", elem_id=form.field_id(path)):
        gr.HTML(f"<b>{title}</b><br><small>{note}</small>", min_width=120, scale=1)
        for setting in form.settings(schema(), known.get(kind, {}), path):
            made = form.component(setting, draft.get(data, setting.path), show_info=False)
            follow(wires, made.input, functools.partial(edits.edit, setting), made)
        remove = gr.Button("Remove", size="sm", min_width=80, scale=0)
        reshape(wires, remove.click, functools.partial(edits.remove_source, index))


def _held_out(wires: Wires, data: draft.Mapping) -> None:
    kind = edits.held_out_kind(data)
    known = form.variants(schema(), form.find(schema(), "data.sources")["items"])
    names = [(SOURCE_WORDS.get(tag, (form.words(tag), ""))[0].lower(), tag) for tag in known]
    choices = [("a share of the rows", edits.SHARE), *names]
    with gr.Row(elem_classes="ds-source", elem_id=form.field_id("data.held_out")):
        chosen = gr.Dropdown(
            choices=choices,
            value=kind,
            label="Held-out rows",
            info="Never trained on; the student is scored on them.",
            interactive=True,
            min_width=200,
        )
        reshape(wires, chosen.input, edits.edit_held_out, chosen)
        for setting in _held_out_settings(kind, known):
            made = form.component(setting, draft.get(data, setting.path), show_info=False)
            follow(wires, made.input, functools.partial(edits.edit, setting), made)
        if kind == "file":
            file = gr.UploadButton("Upload", size="sm", min_width=80, scale=0)
            reshape(wires, file.upload, functools.partial(_hold_upload, wires.runs_dir), file)


def _held_out_settings(kind: str, known: dict[str, form.Schema]) -> list[form.Setting]:
    if kind in known:
        return form.settings(schema(), known[kind], "data.held_out")
    return [form.Setting("data.held_out", "Share of the rows, 0–1", "", "number", default=0.1)]


# --- student ----------------------------------------------------------------------------------


def student(wires: Wires, desk: desks.Desk) -> None:
    """Lay out what else can be set about the student, beside its layers and width."""
    data = opened(desk)
    if data is None:
        return
    path = draft.pair(data).student_path
    node = _student_variants().get(str(draft.get(data, f"{path}.init")), {})
    shown = {"layers", "hidden_size", "model"}
    rest = [item for item in form.settings(schema(), node, path) if item.key not in shown]
    if not rest:
        return
    with gr.Accordion("More about the student's shape", open=False), gr.Row():
        for setting in rest:
            made = form.component(setting, draft.get(data, setting.path))
            made.elem_id = f"ds-field-student-{setting.key}"
            follow(wires, made.input, functools.partial(edits.edit, setting), made)


def _student_variants() -> dict[str, form.Schema]:
    stage = form.variants(schema(), form.find(schema(), "stages")["items"])["distill"]
    return form.variants(schema(), stage["properties"]["student"])


# --- stages -----------------------------------------------------------------------------------


def stages(wires: Wires, desk: desks.Desk) -> None:
    """Lay out each stage: what it does, its losses, its optimiser, and the rest folded away."""
    data = opened(desk)
    if data is None:
        return
    known = form.variants(schema(), form.find(schema(), "stages")["items"])
    shape = draft.kinds(data)
    for index, kind in enumerate(shape):
        if kind not in known:
            continue
        path = f"stages.{index}"
        words = STAGE_WORDS.get(kind, form.words(kind))
        number = f"{index + 1}. " if len(shape) > 1 else ""
        gr.HTML(f'<h4 class="ds-group" id="{form.field_id(path)}">{number}{words}</h4>')
        groups = {item.key: item for item in form.settings(schema(), known[kind], path)}
        if "losses" in known[kind].get("properties", {}):
            _losses(wires, data, index, known[kind]["properties"]["losses"]["items"])
        optim = groups.pop("optim")
        settings = form.settings(schema(), optim.node, optim.path)
        basics = [item for name in BASICS for item in settings if item.key == name]
        fields(wires, data, basics)
        rest = [item for item in settings if item.key not in BASICS]
        with gr.Accordion("Advanced: schedule, clipping, LoRA", open=False):
            fields(wires, data, rest)
            others = [item for item in groups.values() if item.kind == "group"]
            fields(wires, data, others)


def _losses(wires: Wires, data: draft.Mapping, stage: int, node: Any) -> None:
    listed = draft.get(data, f"stages.{stage}.losses")
    present = listed if isinstance(listed, list) else edits.default_losses()
    chosen = {str(draft.get(loss, "name")): loss for loss in present}
    with gr.Column(elem_classes="ds-losses", elem_id=form.field_id(f"stages.{stage}.losses")):
        known = form.variants(schema(), node)
        named = [name for name in chosen if name in known]
        for name in [*named, *(name for name in known if name not in chosen)]:
            _loss(wires, stage, name, known[name], chosen.get(name))


def _loss(wires: Wires, stage: int, name: str, variant: form.Schema, loss: Any) -> None:
    path = f"stages.{stage}.losses.{name}"
    with gr.Row(elem_classes="ds-loss"):
        tick = gr.Checkbox(
            value=loss is not None,
            label=LOSS_WORDS.get(name, name.replace("_", " ")),
            info=str(variant.get("description", "")),
            elem_id=form.field_id(path),
            scale=3,
            min_width=220,
        )
        reshape(wires, tick.input, functools.partial(edits.toggle_loss, stage, name), tick)
        if loss is None:
            return
        for setting in form.settings(schema(), variant, path):
            made = form.component(setting, loss.get(setting.key), show_info=False)
            edit = functools.partial(edits.edit_loss, stage, name, setting)
            follow(wires, made.input, edit, made)


# --- the rest ---------------------------------------------------------------------------------


def general(wires: Wires, desk: desks.Desk) -> None:
    """Lay out every setting that no other part shows: seed, device, evaluation, checkpoints."""
    data = opened(desk)
    if data is None:
        return
    shown = {"name", "task", "data", "stages"}
    settings = [item for item in form.settings(schema(), schema(), "") if item.key not in shown]
    fields(wires, data, settings)
