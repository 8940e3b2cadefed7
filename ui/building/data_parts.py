"""The part of Build's form that says where rows come from: sources, held-out rows, columns.

In: the recipe on the desk and its schema. Out: fields, wired. Called inside `gr.render`, again
whenever sources come or go; knows nothing of what is in the rows.
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from ui import form
from ui.building import desk as desks
from ui.building import draft, edits
from ui.building.build_parts import Wires, edit_of, fields, follow, opened, reshape, schema

SOURCE_WORDS = {
    "starter": ("Starter rows", "the built-in pocket assistant"),
    "file": ("File", "on this machine"),
    "hub": ("Hub data set", "from the Hugging Face hub"),
}

ADD_WORDS = {"starter": "starter rows", "file": "a file by its path", "hub": "a hub data set"}


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
    gr.HTML('<h4 class="ds-group">How rows are read</h4>')
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


def _source(wires: Wires, data: draft.Mapping, index: int, source: draft.Mapping) -> None:
    kind = str(source.get("kind", ""))
    known = form.variants(schema(), form.find(schema(), "data.sources")["items"])
    path = f"data.sources.{index}"
    title, note = SOURCE_WORDS.get(kind, (form.words(kind), ""))
    with gr.Row(elem_classes="ds-source", elem_id=form.field_id(path)):
        gr.HTML(f"<b>{title}</b><br><small>{note}</small>", min_width=120, scale=1)
        for setting in form.settings(schema(), known.get(kind, {}), path):
            made = form.component(setting, draft.get(data, setting.path), show_info=False)
            follow(wires, form.edited(made), edit_of(data, setting), made)
        remove = gr.Button("Remove", size="sm", min_width=80, scale=0)
        gone = functools.partial(edits.remove_source, index, frame=draft.frame(data, path))
        reshape(wires, remove.click, gone)


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
            follow(wires, form.edited(made), edit_of(data, setting), made)
        if kind == "file":
            file = gr.UploadButton("Upload", size="sm", min_width=80, scale=0)
            reshape(wires, file.upload, functools.partial(_hold_upload, wires.runs_dir), file)


def _held_out_settings(kind: str, known: dict[str, form.Schema]) -> list[form.Setting]:
    if kind in known:
        return form.settings(schema(), known[kind], "data.held_out")
    return [form.Setting("data.held_out", "Share of the rows, 0–1", "", "number", default=0.1)]
