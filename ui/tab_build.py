"""Build: the recipe as a form, drawn and checked while it is written, and Start.

In: the page. Out: the tab. Lays out and wires; what happens is in `edits` and `review`, the parts
that follow the recipe's shape are in `build_parts`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import gradio as gr

from distill_core import api
from ui.building import build_parts as parts
from ui.building import (
    data_parts,
    data_view,
    draft,
    edits,
    measuring,
    pair_edits,
    relaid,
    review,
    student_parts,
    task_edits,
    teacher_parts,
)
from ui.building import desk as desks
from ui.state import Page

_SCRIPTS = Path(__file__).parent.parent / "assets"
_TASKS = [(words, key) for key, words in draft.TASKS.items()]
WAIT_MODELS = "<p class='ds-muted'>Reading the models …</p>"
WAIT_CHECK = "<p class='ds-muted'>Checking the recipe …</p>"
_AT_WORK = f"() => {json.dumps([WAIT_MODELS, WAIT_CHECK])}"
"""What is shown of the recipe before goes at once: a look at the hub may take seconds."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "trigger_mode": "multiple", **QUIET}
"""Every change is followed, in order. (A postponed `always_last` listener repeats its event, so
that several of them on one event would never come to rest.)"""


def build(page: Page) -> None:
    """Lay out the tab.

    Events that output a version are queued: only then does Gradio tell that a state has changed.
    Parts that are folded away are laid out when they are opened: every component on the page
    makes every update slower.
    """
    desk, shown = gr.State(desks.new()), _shown()
    wires = parts.Wires(
        desk=desk,
        recipe_yaml=page.recipe_yaml,
        version=gr.State(0),
        runs_dir=page.runs_dir,
    )
    student, data, stages = gr.State(0), gr.State(0), gr.State(0)
    with gr.Row(elem_classes="ds-build"):
        with gr.Column(scale=5, min_width=320):
            fixed = _pair_card(wires.part(student), wires, shown)
            _data_card(wires.part(data), wires.version, student)
            method = _method_card(wires, page, stages)
            with gr.Column(elem_classes="ds-card"):
                relaid.folded(
                    "Advanced: schedule, clipping, LoRA, seed, evaluation, checkpoints",
                    wires.part(gr.State(0)),
                    parts.advanced,
                    [wires.version, stages],
                )
        with gr.Column(scale=2, min_width=300, elem_classes="ds-sticky"):
            _summary_card(wires, page, shown)
    for version in (wires.version, student, stages):
        version.change(review.fill, [desk], [*fixed, method], **AT_ONCE)
    for event in (wires.version.change, page.recipe_yaml.change):
        event(review.show, [desk], shown, **AT_ONCE)
    _keep_in_step(wires, page)


def _shown() -> list[Any]:
    """Make drawing, summary, YAML and Start, to be placed later: every edit outputs to them."""
    scripts = "\n".join((_SCRIPTS / name).read_text("utf-8") for name in ("copy.js", "fields.js"))
    return [
        gr.HTML(WAIT_MODELS, elem_id="ds-drawing", render=False),
        gr.HTML(WAIT_CHECK, elem_id="ds-summary", js_on_load=scripts, render=False),
        gr.Textbox(
            label="The same recipe as YAML",
            info="Edit it here or in the form: both are the same recipe. Taken over when you "
            "leave the box.",
            lines=16,
            max_lines=40,
            elem_id="ds-yaml",
            elem_classes="ds-mono-input",
            interactive=True,
            render=False,
        ),
        gr.Button("Start", variant="primary", elem_id="ds-start", render=False),
    ]


# --- cards ------------------------------------------------------------------------------------


def _pair_card(
    wires: parts.Wires, whole: parts.Wires, shown: list[Any]
) -> list[gr.components.Component]:
    """Return the fields in the order of `review.fill`."""
    drawing, told, *_ = shown
    with gr.Column(elem_classes="ds-card"):
        with gr.Row(elem_classes="ds-fields"):
            ready = gr.Dropdown(
                choices=[(str(one["title"]), str(one["name"])) for one in api.ready_recipes()],
                value=None,
                label="Start from a ready recipe",
                elem_id="ds-ready-recipe",
                interactive=True,
            )
            name = gr.Textbox(label="Name", elem_id="ds-field-name", interactive=True)
            task = gr.Dropdown(_TASKS, label="Task", elem_id="ds-field-task", interactive=True)
        about = gr.HTML(elem_id="ds-ready-about")
        gr.HTML("<h3>Teacher and student, drawn to scale</h3>")
        drawing.render()
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
        layers, width, model = student_parts.in_view()
        relaid.folded(
            "More about the student's shape", wires, student_parts.student, [whole.version]
        )
        relaid.folded("More than one teacher", wires, teacher_parts.teachers, [whole.version])
    parts.reshape(whole, ready.input, edits.pick_recipe, ready)
    ready.input(None, None, [drawing, told], js=_AT_WORK, **QUIET)
    parts.follow(wires, name.change, edits.edit_name, name)
    parts.reshape(whole, task.input, task_edits.edit_task, task)
    parts.reshape(whole, teacher.input, pair_edits.edit_teacher, teacher)
    parts.reshape(whole, init.input, pair_edits.edit_init, init)
    parts.reshape(whole, model.input, pair_edits.edit_student_model, model)
    for key, component in (("layers", layers), ("hidden_size", width)):
        edit = functools.partial(_edit_student, key)
        parts.follow(wires, component.input, edit, component, drawing)
    return [ready, about, name, teacher, init, layers, width, model, task]


def _edit_student(key: str, value: Any, stored: str, desk: desks.Desk) -> tuple[Any, Any]:
    """Change the student and draw it in one go, so that the drawing follows the hand."""
    return pair_edits.edit_student(key, value, stored, desk), review.redraw(desk)


def _data_card(wires: parts.Wires, *versions: gr.State) -> None:
    """Lay out a row as the model sees it; it follows the data and the tokenizer."""
    with gr.Column(elem_classes="ds-card"):
        gr.HTML("<h3>Data, as the model will see it</h3>")
        chips = gr.HTML()
        tokens = gr.HTML(elem_id="ds-preview")
        with gr.Row(elem_classes="ds-buttons"):
            back = gr.Button("◀ Previous row", size="sm", min_width=120, scale=0)
            ahead = gr.Button("Next row ▶", size="sm", min_width=120, scale=0)
            wanted = gr.Number(
                value=1,
                label="Go to row",
                precision=0,
                min_width=110,
                elem_id="ds-go-to-row",
                interactive=True,
            )
        index, shown_key = gr.State(0), gr.State("")
        row = [chips, tokens, index]
        relaid.folded(
            "Choose the data: starter rows, your files, the hub",
            wires,
            data_parts.sources,
            [versions[0]],
        )
    for button, step in ((back, -1), (ahead, 1)):
        show = functools.partial(data_view.show_row, step=step)
        button.click(show, [wires.desk, index], row, concurrency_limit=4, **QUIET)
    wanted.submit(data_view.go_to_row, [wires.desk, wanted], row, concurrency_limit=4, **QUIET)
    for event in (*(version.change for version in versions), wires.recipe_yaml.change):
        event(
            data_view.follow_data,
            [wires.desk, index, shown_key],
            [*row, shown_key],
            trigger_mode="multiple",
            concurrency_limit=4,
            **QUIET,
        )


def _method_card(wires: parts.Wires, page: Page, version: gr.State) -> gr.Radio:
    own = wires.part(version)
    with gr.Column(elem_classes="ds-card"):
        gr.HTML("<h3>Method</h3>")
        method = gr.Radio(
            choices=list(draft.METHODS),
            show_label=False,
            label="Method",
            elem_id="ds-method",
            interactive=True,
        )
        relaid.rendered(
            functools.partial(parts.stages, own), [wires.desk], [wires.version, version]
        )
        learn = gr.Button("See what temperature and soft targets do", size="sm", scale=0)
    parts.reshape(own, method.input, edits.edit_method, method)
    learn.click(functools.partial(gr.Tabs, selected="learn"), None, page.tabs, queue=False, **QUIET)
    return method


def _summary_card(wires: parts.Wires, page: Page, shown: list[Any]) -> None:
    _, told, yaml, start = shown
    with gr.Column(elem_classes="ds-card"):
        told.render()
        dry, said = measuring.button()
        start.render()
        refused = gr.HTML()
        with gr.Accordion("YAML", open=False):
            yaml.render()
    parts.reshape(wires, yaml.blur, edits.edit_yaml, yaml)
    measure = functools.partial(measuring.measure, runs_dir=page.runs_dir)
    dry.click(measure, [wires.desk], [said, dry, *shown[1:]], trigger_mode="once", **QUIET)
    start.click(
        functools.partial(_start, page.runs_dir),
        [wires.desk],
        [page.run_id, page.tabs, refused],
        trigger_mode="once",
        **QUIET,
    )


def _start(runs_dir: str, desk: desks.Desk) -> tuple[object, object, str]:
    return edits.start(desk, runs_dir)


# --- in step ----------------------------------------------------------------------------------


def _keep_in_step(wires: parts.Wires, page: Page) -> None:
    """Wire the browser's copy: read when the page opens, and when another tab has written it."""
    page.demo.load(
        edits.open_desk,
        [page.recipe_yaml, wires.desk, wires.version],
        [wires.desk, wires.recipe_yaml, wires.version],
        concurrency_limit=4,
        **QUIET,
    )
    page.recipe_yaml.change(
        edits.adopt,
        [page.recipe_yaml, wires.desk, wires.version],
        [wires.version],
        trigger_mode="multiple",
        concurrency_limit=4,
        **QUIET,
    )
