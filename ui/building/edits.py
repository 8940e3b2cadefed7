"""Edits of Build's recipe: one function for each thing that can be changed, and Start.

In: a field's value, the recipe in the browser, the desk. Out: the recipe's text, and a new
`version` where its shape has changed. Knows nothing of the layout or of what is shown.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from distill_core import api
from ui import form, theme
from ui.building import desk as desks
from ui.building import draft
from ui.building.desk import Desk
from ui.building.review import problems_of, told

SHARE = "share"
"""Held-out rows that are a share of the rows, not a source of their own."""

FRESH_SOURCES: dict[str, Any] = {
    "starter": {"kind": "starter", "split": "labelled"},
    "file": {"kind": "file", "path": ""},
    "hub": {"kind": "hub", "id": "", "split": "train"},
}
FRESH_HELD_OUT: dict[str, Any] = {
    SHARE: 0.1,
    "starter": {"kind": "starter", "split": "held_out"},
    "file": {"kind": "file", "path": ""},
    "hub": {"kind": "hub", "id": "", "split": "validation"},
}

# --- opening and adopting ---------------------------------------------------------------------


def open_desk(stored: str, desk: Desk, version: int) -> tuple[Desk, str, int]:
    """Lay the browser's recipe on the desk when the page opens, or the default one."""
    text = desks.lay(desk, stored) if stored else desks.send(desk, desks.default_text())
    return desk, text, version + 1


def adopt(stored: str, desk: Desk, version: int) -> Any:
    """Take over a recipe that another tab has put into the browser; returns the new version.

    Texts that were written here come back as echoes and change nothing. (The browser's copy is
    no output here: giving it back, even unchanged, would count as its next change, for ever.)
    """
    if desks.is_echo(desk, stored) or stored == desks.current(desk, stored):
        return gr.skip()
    desks.lay(desk, stored or desks.default_text())
    return version + 1


def pick_recipe(name: str, stored: str, desk: Desk, version: int) -> tuple[str, int]:
    """Start again from a ready recipe."""
    texts = {recipe["name"]: recipe["yaml"] for recipe in api.ready_recipes()}
    return desks.send(desk, str(texts.get(name) or desks.default_text())), version + 1


def edit_yaml(text: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Take the YAML as it was typed, right or wrong; the form follows when it can be read."""
    desks.take_box(desk, text)
    if text == desks.current(desk, stored):
        return gr.skip(), gr.skip()
    desks.send(desk, text)
    try:
        draft.read(text)
    except draft.BrokenYaml:
        return text, gr.skip()
    return text, version + 1


# --- edits ------------------------------------------------------------------------------------


def edit(setting: form.Setting, value: Any, stored: str, desk: Desk, *, frame: Any = None) -> Any:
    """Write a field's value into the recipe; an optional field that is empty is taken out.

    `frame` is that of the field's path when the field was laid out: one that has lost its place
    since, such as a source's after another was removed, changes nothing.
    """
    parsed = form.parsed(setting, value)

    def apply(data: draft.Mapping) -> draft.Mapping:
        if frame is not None and draft.frame(data, setting.path) != frame:
            return data
        if parsed is None and setting.optional:
            return draft.drop(data, setting.path)
        return draft.put(data, setting.path, parsed)

    return changed(desk, stored, apply)


def toggle_group(
    setting: form.Setting, fresh: Any, on: bool, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Switch an optional group, such as LoRA, on with `fresh` settings or off."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        old = draft.get(data, setting.path)
        kept = desks.swap(desk, setting.path, old, setting.path, fresh)
        return draft.put(data, setting.path, kept) if on else draft.drop(data, setting.path)

    return reshaped(desk, stored, apply, version)


def choose_variant(
    setting: form.Setting, tag: str, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Choose one of the variants of a setting, or none; what each was set to is kept aside."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        old = draft.get(data, setting.path)
        before = str(draft.get(old, "kind", "")) if isinstance(old, dict) else ""
        kept = desks.swap(
            desk, f"{setting.path}:{before}", old, f"{setting.path}:{tag}", {"kind": tag}
        )
        return draft.put(data, setting.path, kept) if tag else draft.drop(data, setting.path)

    return reshaped(desk, stored, apply, version)


def edit_name(value: str, stored: str, desk: Desk) -> Any:
    """Name the run."""
    return changed(desk, stored, lambda data: draft.put(data, "name", value))


def edit_method(name: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Change the list of stages to a method's."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        if name not in draft.METHODS:
            return data
        made = draft.with_method(data, name, desk["shelf"].get("stages"))
        before = {**desk["shelf"].get("stages", {}), **draft.stages_by_kind(data)}
        desk["shelf"]["stages"] = before
        return made

    return reshaped(desk, stored, apply, version)


def add_source(kind: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Add a source of rows, to be filled in."""
    return reshaped(desk, stored, lambda data: _with_source(data, FRESH_SOURCES[kind]), version)


def remove_source(
    index: int, stored: str, desk: Desk, version: int, *, frame: Any = None
) -> tuple[Any, Any]:
    """Take a source of rows out; pressed twice in a row, it takes out no other."""
    path = f"data.sources.{index}"

    def apply(data: draft.Mapping) -> draft.Mapping:
        return data if frame not in (None, draft.frame(data, path)) else draft.drop(data, path)

    return reshaped(desk, stored, apply, version)


def add_uploads(
    files: list[str] | None, runs_dir: str, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Keep uploaded files beside the runs, and add each as a source of rows."""
    kept = [desks.keep_upload(str(file), runs_dir) for file in files or []]

    def apply(data: draft.Mapping) -> draft.Mapping:
        for path in kept:
            data = _with_source(data, {"kind": "file", "path": path})
        return data

    return reshaped(desk, stored, apply, version)


def upload_held_out(
    file: str | None, runs_dir: str, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Keep an uploaded file beside the runs, and hold its rows out."""
    if not file:
        return gr.skip(), gr.skip()
    source = {"kind": "file", "path": desks.keep_upload(str(file), runs_dir)}
    return reshaped(desk, stored, lambda data: draft.put(data, "data.held_out", source), version)


def _with_source(data: draft.Mapping, source: draft.Mapping) -> draft.Mapping:
    sources = draft.get(data, "data.sources")
    listed = sources if isinstance(sources, list) else []
    return draft.put(data, "data.sources", [*listed, dict(source)])


def edit_held_out(kind: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Choose where the held-out rows come from."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        old = draft.get(data, "data.held_out")
        key = f"held_out:{held_out_kind(data)}"
        kept = desks.swap(desk, key, old, f"held_out:{kind}", FRESH_HELD_OUT[kind])
        return draft.put(data, "data.held_out", kept)

    return reshaped(desk, stored, apply, version)


def held_out_kind(data: draft.Mapping) -> str:
    """Tell where held-out rows come from: a kind of source, or `share`."""
    return str(draft.get(data, "data.held_out.kind", SHARE))


def changed(desk: Desk, stored: str, apply: Any) -> Any:
    """Change the desk's recipe; YAML that cannot be read is kept, and said."""
    try:
        return desks.change(desk, stored, apply)
    except draft.BrokenYaml as error:
        gr.Warning(str(error))
        return gr.skip()
    except IndexError:  # of a field whose stage or source has gone
        return gr.skip()


def reshaped(desk: Desk, stored: str, apply: Any, version: int) -> tuple[Any, Any]:
    """Change the desk's recipe and count up, so that the form is laid out again.

    Where nothing has changed, or the YAML cannot be read, the form stays: a drop-down that is only
    walked through tells of an edit, too.
    """
    before = desks.current(desk, stored)
    text = changed(desk, stored, apply)
    if text in (before, gr.skip()):
        return gr.skip(), gr.skip()
    return text, version + 1


# --- start ------------------------------------------------------------------------------------


def start(desk: Desk, runs_dir: str) -> tuple[Any, Any, str]:
    """Start the run and open Train; what stands in the way is said here, and nothing is lost."""
    try:
        run = api.start(api.load_recipe(desks.current(desk)), runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        reasons = "\n".join(told(problem) for problem in problems_of(error))
        return gr.skip(), gr.skip(), theme.alert("The run has not started", reasons)
    return run, gr.Tabs(selected="train"), ""
