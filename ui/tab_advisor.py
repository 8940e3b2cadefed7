"""Advisor: distill or fine-tune? Questions in four steps, a card that leans as they are answered.

In: the page. Out: the tab. Asks the api for questions, advice and forecasts; knows no rule.
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from distill_core import api
from ui import advice_figure, plots
from ui import advice_handlers as handlers
from ui.advice_answers import COUNT_FIELDS, TEACHER_FIELDS, form_values, label_text
from ui.state import Page

WAIT = "<p class='ds-muted'>Thinking …</p>"
WAIT_ROADS = (
    "<h3>Two roads, with your numbers</h3><p class='ds-muted'>Working out times on this machine …"
    "</p>"
)
INTRO = {
    "Goal": ("What is it for?", "Four questions; each may stay open."),
    "Teacher": ("Who could teach it?", "A larger model whose answers you would like to keep."),
    "Data": ("What is there to learn from?", "Counts are enough; no row is read here."),
    "Where it will run": ("Where will it run?", "What the student may cost once it is in use."),
    "Training": ("What may the training cost?", "Read from this machine where it can be."),
    "Answer": ("The whole reckoning", "Every rule that holds, its votes and its source."),
}
CONFIRM = "I have read the teacher's licence, and my use is allowed."
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    """Lay out the tab."""
    questions = api.advisor_questions(here=False)
    with gr.Row(elem_classes="ds-advisor"):
        with gr.Column(scale=8, min_width=320):
            inputs, reckoning = _steps(questions)
            with gr.Column(elem_classes="ds-card"):
                roads = gr.HTML(WAIT_ROADS, elem_id="ds-roads")
        with gr.Column(scale=6, min_width=320):
            with gr.Column(elem_classes="ds-card ds-advice"):
                card = gr.HTML(WAIT, elem_id="ds-advice")
                confirm = gr.Checkbox(label=CONFIRM, value=False, visible=False)
                with gr.Row(elem_classes="ds-buttons"):
                    use = gr.Button("Use this recipe", variant="primary", scale=0, min_width=170)
                said = gr.HTML(elem_id="ds-advice-said")
            with gr.Column(elem_classes="ds-card"):
                outlook = gr.HTML(WAIT, elem_id="ds-outlook")
            with gr.Column(elem_classes="ds-card"):
                gr.HTML("<h3>Quality kept against size</h3>")
                picture = plots.figure(None, label=advice_figure.LABEL)
                gr.HTML(
                    "<p class='ds-small'>Grey: studies. Dotted band: rule of thumb. "
                    "<span class='ds-ink-student'>◇ your plan, ◆ your runs.</span> Published, not "
                    "promised.</p>"
                )
    quick = [card, confirm, use, outlook, reckoning]
    _wire(page, questions, inputs, quick, [roads, picture], said)


# --- layout -----------------------------------------------------------------------------------


def _steps(questions: list[dict[str, Any]]) -> tuple[list[Any], gr.HTML]:
    """Lay out the steps; returns the fields in the questions' order, and the last step's text."""
    inputs: list[Any] = []
    names = [*dict.fromkeys(question["step"] for question in questions), "Answer"]
    moves: list[tuple[gr.Button, int]] = []
    with gr.Tabs(selected=0, elem_id="ds-steps", overflow_behavior="wrap") as steps:
        for place, name in enumerate(names):
            with (
                gr.Tab(f"{place + 1} {name}", id=place),
                gr.Column(elem_classes="ds-card ds-step"),
            ):
                title, hint = INTRO[name]
                gr.HTML(f"<h3>{title}</h3><p class='ds-muted'>{hint}</p>")
                if name == "Answer":
                    reckoning = gr.HTML(WAIT, elem_id="ds-reckoning")
                asked = [question for question in questions if question["step"] == name]
                inputs += _fields(asked)
                with gr.Row(elem_classes="ds-buttons"):
                    if place:
                        back = gr.Button("Back", scale=0, min_width=110)
                        moves.append((back, place - 1))
                    if place < len(names) - 1:
                        ahead = gr.Button("Next", variant="primary", scale=0, min_width=110)
                        moves.append((ahead, place + 1))
    for button, place in moves:
        button.click(
            functools.partial(handlers.open_step, place), None, steps, queue=False, **QUIET
        ).then(None, js="() => document.querySelector('#ds-steps button.selected')?.focus()")
    return inputs, reckoning


def _fields(questions: list[dict[str, Any]]) -> list[Any]:
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
        return gr.Number(
            value=value,
            minimum=0,
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


# --- wiring -----------------------------------------------------------------------------------


def _wire(
    page: Page,
    questions: list[dict[str, Any]],
    inputs: list[Any],
    quick: list[Any],
    slow: list[Any],
    said: gr.HTML,
) -> None:
    """Answers change the card at once and the forecasts a little later; both are remembered."""
    fields = [question["field"] for question in questions]
    at = dict(zip(fields, inputs, strict=True))
    draft, confirm, use = page.answers, quick[1], quick[2]
    with_all = [confirm, *inputs]
    on_card: dict[str, Any] = {
        "fn": functools.partial(handlers.recommend, fields),
        "inputs": with_all,
        "outputs": [draft, *quick],
        "concurrency_limit": 4,
    }
    on_roads: dict[str, Any] = {
        "fn": functools.partial(handlers.forecast, page.runs_dir, fields),
        "inputs": inputs,
        "outputs": slow,
        "concurrency_limit": 1,
    }
    loaded = page.demo.load(
        functools.partial(handlers.restore, questions), draft, inputs, concurrency_limit=4, **QUIET
    )
    loaded.then(**on_card, **QUIET)
    by_machine = [field for field in fields if field.startswith("machine.")]
    filled = loaded.then(
        functools.partial(handlers.restore_machine, by_machine),
        draft,
        [at[field] for field in by_machine],
        concurrency_limit=4,
        **QUIET,
    )
    filled.then(**on_card, **QUIET)
    filled.then(**on_roads, **QUIET)
    filling = {"teacher.name", "data.source"}
    typed = [component.input for field, component in at.items() if field not in filling]
    answered = gr.on(typed, **on_card, trigger_mode="always_last", **QUIET)
    answered.then(**on_roads, trigger_mode="always_last", **QUIET)
    for chosen in _follow_choices(at, questions):
        chosen.then(**on_card, **QUIET)
        chosen.then(**on_roads, **QUIET)
    confirm.input(
        functools.partial(handlers.confirmed, fields), with_all, use, queue=False, **QUIET
    )
    use.click(
        functools.partial(handlers.use_recipe, fields),
        with_all,
        [page.recipe_yaml, page.tabs, said],
        concurrency_limit=4,
        **QUIET,
    )


def _follow_choices(at: dict[str, Any], questions: list[dict[str, Any]]) -> list[Any]:
    """Fields that hide or fill others; returns the events of those that fill."""
    hidden = [at[field] for field in TEACHER_FIELDS]
    at["teacher.exists"].change(
        handlers.teacher_exists, at["teacher.exists"], hidden, queue=False, **QUIET
    )
    named = at["teacher.name"].input(
        handlers.teacher_named,
        at["teacher.name"],
        [at["teacher.parameters"], at["teacher.license"], at["teacher.held_out_score"]],
        concurrency_limit=4,
        **QUIET,
    )
    counts = [question for question in questions if question["field"] in COUNT_FIELDS]
    found = at["data.source"].input(
        functools.partial(handlers.source_named, counts),
        at["data.source"],
        [at[question["field"]] for question in counts],
        queue=False,
        **QUIET,
    )
    return [named, found]
