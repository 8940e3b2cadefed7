"""Build: the recipe as a form, drawn and checked while it is written, and Start.

In: the page. Out: the tab. Lays out and wires; what happens is in `edits` and `review`, the parts
that follow the recipe's shape are in `build_parts`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ui import build_parts as parts
from ui import data_view, draft, edits, review
from ui import desk as desks
from ui.state import Page

_SCRIPTS = Path(__file__).parent.parent / "assets"
WAIT_MODELS = "<p class='ds-muted'>Reading the models …</p>"
WAIT_CHECK = "<p class='ds-muted'>Checking the recipe …</p>"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    """Lay out the tab.

    Events that output `version` are queued: only then does Gradio tell that a state has changed.
    """
    wires = parts.Wires(
        desk=gr.State(desks.new()),
        recipe_yaml=page.recipe_yaml,
        version=gr.State(0),
        runs_dir=page.runs_dir,
    )
    with gr.Row(elem_classes="ds-build"):
        with gr.Column(scale=5, min_width=320):
            fixed = _pair_card(wires)
            row = _data_card(wires)
            fixed.append(_method_card(wires, page))
            with (
                gr.Column(elem_classes="ds-card"),
                gr.Accordion("Advanced: seed, device, evaluation, checkpoints", open=False),
            ):
                _rendered(wires, parts.general)
        with gr.Column(scale=2, min_width=300, elem_classes="ds-sticky"):
            shown = _summary_card(wires, page)
    drawing, chips = fixed.pop(0), fixed.pop(0)
    _keep_in_step(wires, page, fixed, drawing, [chips, *shown], row)


def _rendered(wires: parts.Wires, part: Callable[..., None]) -> None:
    """Lay a part out again whenever the recipe's shape has changed.

    One part at a time: Gradio walks a session's components while it lays a part out, and fails
    when another thread adds some meanwhile.
    """
    gr.render(
        inputs=[wires.desk],
        triggers=[wires.version.change],
        show_progress="hidden",
        concurrency_id="ds-form",
        concurrency_limit=1,
    )(functools.partial(part, wires))


def _pair_card(wires: parts.Wires) -> list[gr.components.Component]:
    """Returns drawing and chips, then the fields in the order of `review.fill`."""
    with gr.Column(elem_classes="ds-card"):
        with gr.Row(elem_classes="ds-fields"):
            ready = gr.Dropdown(
                choices=_ready_choices(),
                value=None,
                label="Start from a ready recipe",
                elem_id="ds-ready-recipe",
                interactive=True,
            )
            name = gr.Textbox(label="Name", elem_id="ds-field-name", interactive=True)
        gr.HTML("<h3>Teacher and student, drawn to scale</h3>")
        drawing = gr.HTML(WAIT_MODELS, elem_id="ds-drawing")
        with gr.Row(elem_classes="ds-fields"):
            teacher = gr.Dropdown(
                choices=[],
                label="Teacher",
                info="Built in, or type a hub id (org/name) or a folder.",
                allow_custom_value=True,
                elem_id="ds-field-teacher",
                interactive=True,
            )
            init = gr.Dropdown(
                choices=[(words, key) for key, words in review.INITS.items()],
                label="Student starts from",
                elem_id="ds-field-student-init",
                interactive=True,
            )
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
        _rendered(wires, parts.student)
        chips = gr.HTML()
    ready.input(
        edits.pick_recipe,
        [ready, wires.desk, wires.version],
        [wires.recipe_yaml, wires.version],
        concurrency_limit=4,
        **QUIET,
    )
    parts.follow(wires, name.input, edits.edit_name, name)
    parts.reshape(wires, teacher.input, edits.edit_teacher, teacher)
    parts.reshape(wires, init.input, edits.edit_init, init)
    for key, component in (("layers", layers), ("hidden_size", width), ("model", model)):
        component.input(
            functools.partial(_edit_student, key),
            [component, wires.recipe_yaml, wires.desk],
            [wires.recipe_yaml, drawing],
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )
    return [drawing, chips, ready, name, teacher, init, layers, width, model]


def _edit_student(key: str, value: Any, stored: str, desk: desks.Desk) -> tuple[Any, Any]:
    """Change the student and draw it in one go, so that the drawing follows the hand."""
    return edits.edit_student(key, value, stored, desk), review.redraw(desk)


def _ready_choices() -> list[tuple[str, str]]:
    from distill_core import api

    return [(str(recipe["title"]), str(recipe["name"])) for recipe in api.ready_recipes()]


def _data_card(wires: parts.Wires) -> list[gr.components.Component]:
    """Returns chips, tokens and the row's number."""
    with gr.Column(elem_classes="ds-card"):
        gr.HTML("<h3>Data, as the model will see it</h3>")
        chips = gr.HTML()
        tokens = gr.HTML(elem_id="ds-preview")
        with gr.Row(elem_classes="ds-buttons"):
            back = gr.Button("◀ Previous row", size="sm", min_width=120, scale=0)
            ahead = gr.Button("Next row ▶", size="sm", min_width=120, scale=0)
        index = gr.State(0)
        with gr.Accordion("Choose the data: starter rows, your files, the hub", open=False):
            _rendered(wires, parts.sources)
    shown = [chips, tokens, index]
    for button, step in ((back, -1), (ahead, 1)):
        show = functools.partial(data_view.show_row, step=step)
        button.click(show, [wires.desk, index], shown, concurrency_limit=4, **QUIET)
    return shown


def _method_card(wires: parts.Wires, page: Page) -> gr.Radio:
    with gr.Column(elem_classes="ds-card"):
        gr.HTML("<h3>Method</h3>")
        method = gr.Radio(
            choices=list(draft.METHODS),
            show_label=False,
            label="Method",
            elem_id="ds-method",
            interactive=True,
        )
        _rendered(wires, parts.stages)
        learn = gr.Button("See what temperature and soft targets do", size="sm", scale=0)
    parts.reshape(wires, method.input, edits.edit_method, method)
    learn.click(_open_learn, None, page.tabs, queue=False, **QUIET)
    return method


def _open_learn() -> gr.Tabs:
    return gr.Tabs(selected="learn")


def _summary_card(wires: parts.Wires, page: Page) -> list[gr.components.Component]:
    """Returns summary, problems by field, YAML and Start, in the order of `review.refresh`."""
    with gr.Column(elem_classes="ds-card"):
        told = gr.HTML(
            WAIT_CHECK, elem_id="ds-summary", js_on_load=(_SCRIPTS / "copy.js").read_text("utf-8")
        )
        start = gr.Button("Start", variant="primary", elem_id="ds-start")
        refused = gr.HTML()
        placed = gr.HTML(
            "[]",
            html_template="<span hidden></span>",
            js_on_load=(_SCRIPTS / "fields.js").read_text("utf-8"),
            elem_classes="ds-hidden",
        )
        with gr.Accordion("YAML", open=False):
            yaml = gr.Textbox(
                label="The same recipe as YAML",
                info="Edit it here or in the form: both are the same recipe. Taken over when you "
                "leave the box.",
                lines=16,
                max_lines=40,
                elem_id="ds-yaml",
                elem_classes="ds-mono-input",
                interactive=True,
                buttons=["copy"],
            )
    yaml.blur(
        edits.edit_yaml,
        [yaml, wires.desk, wires.version],
        [wires.recipe_yaml, wires.version],
        concurrency_limit=4,
        **QUIET,
    )
    start.click(
        functools.partial(_start, page.runs_dir),
        [wires.desk],
        [page.run_id, page.tabs, refused],
        trigger_mode="once",
        **QUIET,
    )
    return [told, placed, yaml, start]


def _start(runs_dir: str, desk: desks.Desk) -> tuple[object, object, str]:
    return edits.start(desk, runs_dir)


def _keep_in_step(
    wires: parts.Wires,
    page: Page,
    fixed: list[gr.components.Component],
    drawing: gr.components.Component,
    reviewed: list[gr.components.Component],
    row: list[gr.components.Component],
) -> None:
    """Wire what follows a change of the recipe: fields, review, the row shown."""
    opening = [wires.desk, wires.recipe_yaml, wires.version]
    page.demo.load(
        edits.open_desk,
        [page.recipe_yaml, wires.desk, wires.version],
        opening,
        concurrency_limit=4,
        **QUIET,
    )
    page.recipe_yaml.change(
        edits.adopt,
        [page.recipe_yaml, wires.desk, wires.version],
        [wires.version],
        queue=False,
        **QUIET,
    )
    wires.version.change(review.fill, [wires.desk], fixed, queue=False, **QUIET)
    shown_key = gr.State("")
    for change in (page.recipe_yaml.change, wires.version.change):
        change(
            review.redraw,
            [wires.desk],
            [drawing],
            trigger_mode="always_last",
            queue=False,
            **QUIET,
        )
        change(
            review.refresh,
            [wires.desk],
            reviewed,
            trigger_mode="always_last",
            queue=False,
            **QUIET,
        )
        change(
            data_view.follow_data,
            [wires.desk, row[2], shown_key],
            [*row, shown_key],
            trigger_mode="always_last",
            concurrency_limit=4,
            **QUIET,
        )
