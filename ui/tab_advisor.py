"""Advisor: distill or fine-tune? A walkthrough, and a card that leans as answers come in.

In: the page. Out: the tab. Asks the api for questions, advice and forecasts; knows no rule.
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from distill_core import api
from ui import plots
from ui.advising import advice_fields, advice_figure, probe_part
from ui.advising import advice_handlers as handlers
from ui.advising.advice_answers import NAMING, answered_by
from ui.state import Page

WAIT = "<p class='ds-muted'>Thinking …</p>"
WAIT_ROADS = (
    "<h3>Two roads, with your numbers</h3><p class='ds-muted'>Working out times on this machine …"
    "</p>"
)
INTRO = {
    "Goal": (
        "What is it for?",
        "Six steps; any answer may stay open. A fresh form holds the answers of the built-in "
        "example: change what differs, or start empty.",
    ),
    "Teacher": ("Who could teach it?", "A larger model whose answers you would like to keep."),
    "Its terms": ("What does the teacher give?", "Read from it where it is on this machine."),
    "Data": ("What is there to learn from?", "Name a file, and it is counted."),
    "In use": ("Where will it run?", "What the student may cost once it is in use."),
    "Training": ("What may the training cost?", "Read from this machine where it can be."),
    "Answer": ("The whole reckoning", "Every rule that holds, its votes and its source."),
}
NO_TEACHER = "<p>There is no teacher, so there is nothing to ask here.</p>"
CONFIRM = "I have read the teacher's licence, and my use is allowed."
FOCUS = (  # once the step is drawn
    "() => setTimeout(() => [...document.querySelectorAll('#ds-steps .ds-step h3')]"
    ".find((title) => title.offsetParent)?.focus(), 50)"
)
RESTORED = "() => document.body.classList.add('ds-answers-restored')"
"""Until then the style sheet hides the fields: an answer given before would be written over."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    """Lay out the tab."""
    questions = api.advisor_questions(here=False)
    with gr.Row(elem_classes="ds-advisor"):
        with gr.Column(scale=8, min_width=320):
            walk = _Walk(questions)
            with gr.Column(elem_classes="ds-card"):
                roads = gr.HTML(WAIT_ROADS, elem_id="ds-roads")
                more = gr.Button("Distilling against fine-tuning, line by line", size="sm", scale=0)
        with gr.Column(scale=6, min_width=320):
            with gr.Column(elem_classes="ds-card ds-advice"):
                card = gr.HTML(WAIT, elem_id="ds-advice")
                confirm = gr.Checkbox(label=CONFIRM, value=False, visible=False)
                with gr.Row(elem_classes="ds-buttons"):
                    use = gr.Button(
                        "Use this recipe",
                        variant="primary",
                        scale=0,
                        min_width=170,
                        interactive=False,
                    )
                said = gr.HTML(elem_id="ds-advice-said")
            probe = probe_part.Part()
            with gr.Column(elem_classes="ds-card"):
                outlook = gr.HTML(WAIT, elem_id="ds-outlook")
            with gr.Column(elem_classes="ds-card"):
                gr.HTML("<h3>Quality kept against size</h3>")
                picture = plots.figure(None, label=advice_figure.LABEL)
                gr.HTML(
                    "<p class='ds-small'>Grey dots: studies. Grey area: rule of thumb. "
                    "<span class='ds-ink-student'>◇ and dots: your plan, as far as studies reach; "
                    "◆ your runs on these rows.</span> Published, not promised.</p>"
                )
    more.click(functools.partial(gr.Tabs, selected="learn"), None, page.tabs, queue=False, **QUIET)
    quick = [card, confirm, use, outlook, walk.reckoning, roads, picture, *walk.tabs]
    on_card, on_roads, filled = _wire(page, questions, walk, quick, [roads, outlook], said)
    probe.wire(page, questions, walk.inputs, confirm, (on_card, on_roads), filled)


# --- layout -----------------------------------------------------------------------------------


class _Walk:
    """The steps: their fields in the questions' order, their tabs, the last step's text."""

    def __init__(self, questions: list[dict[str, Any]]) -> None:
        names = [*dict.fromkeys(question["step"] for question in questions), "Answer"]
        moves: list[tuple[gr.Button, int]] = []
        self.inputs: list[Any] = []
        self.tabs: list[gr.Tab] = []
        self.notes: dict[str, gr.HTML] = {}
        with gr.Tabs(selected=0, elem_id="ds-steps", overflow_behavior="wrap") as steps:
            for place, name in enumerate(names):
                with (
                    gr.Tab(f"{place + 1} {name}", id=place) as tab,
                    gr.Column(elem_classes="ds-card ds-step"),
                ):
                    self._step(name, [one for one in questions if one["step"] == name])
                    if name != "Answer":
                        self.tabs.append(tab)
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
            ).then(None, js=FOCUS)

    def _step(self, name: str, asked: list[dict[str, Any]]) -> None:
        title, hint = INTRO[name]
        gr.HTML(f"<h3 tabindex='-1'>{title}</h3><p class='ds-muted'>{hint}</p>")
        if name == "Answer":
            self.reckoning = gr.HTML(WAIT, elem_id="ds-reckoning")
        if name == "Its terms":
            self.no_teacher = gr.HTML(NO_TEACHER, visible=False)
        if name == "Goal":
            with gr.Row(elem_classes="ds-buttons ds-starts"):
                self.empty = gr.Button("Start empty", size="sm", scale=0, min_width=120)
                self.example = gr.Button("Built-in example", size="sm", scale=0, min_width=140)
        self.inputs += advice_fields.fields(asked)
        named = [question["field"] for question in asked if question["field"] in NAMING]
        if named:
            note = gr.HTML()
            self.notes |= dict.fromkeys(named, note)


# --- wiring -----------------------------------------------------------------------------------


def _wire(
    page: Page,
    questions: list[dict[str, Any]],
    walk: _Walk,
    quick: list[Any],
    slow: list[Any],
    said: gr.HTML,
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Answers change the card at once and the forecasts a little later; both are remembered.

    Returns the listeners that draw these, and the event after which the form is filled.
    """
    at = {question["field"]: field for question, field in zip(questions, walk.inputs, strict=True)}
    draft, confirm, use = page.answers, quick[1], quick[2]
    with_all = [confirm, *walk.inputs]
    on_card: dict[str, Any] = {
        "fn": functools.partial(handlers.recommend, questions, page.runs_dir),
        "inputs": with_all,
        "outputs": [draft, *quick],
        "concurrency_limit": 4,
    }
    on_roads: dict[str, Any] = {
        "fn": functools.partial(handlers.forecast, questions, page.runs_dir),
        "inputs": walk.inputs,
        "outputs": slow,
        "concurrency_limit": 1,
    }
    on_shown: dict[str, Any] = {
        "fn": functools.partial(handlers.shown, questions),
        "inputs": walk.inputs,
        "outputs": [
            *(at[question["field"]] for question in questions if question["when"]),
            walk.no_teacher,
        ],
        "queue": False,
    }
    loaded = page.demo.load(
        functools.partial(handlers.restore, questions),
        draft,
        walk.inputs,
        concurrency_limit=4,
        **QUIET,
    )
    loaded.then(None, js=RESTORED)
    loaded.then(**on_card, **QUIET)
    loaded.then(**on_shown, **QUIET)
    by_machine = [field for field in at if field.startswith("machine.")]
    filled = loaded.then(
        functools.partial(handlers.restore_machine, by_machine),
        draft,
        [at[field] for field in by_machine],
        concurrency_limit=4,
        **QUIET,
    )
    filled.then(**on_card, **QUIET)
    filled.then(**on_roads, **QUIET)
    for question in questions:
        if question["kind"] == "number":
            at[question["field"]].input(
                functools.partial(handlers.checked, question),
                at[question["field"]],
                at[question["field"]],
                queue=False,
                trigger_mode="always_last",
                **QUIET,
            )
    deciding = {field for question in questions for field in question["when"]}
    gr.on([at[field].input for field in deciding], **on_shown, **QUIET)
    answered = gr.on(
        [field.input for name, field in at.items() if name not in NAMING],
        **on_card,
        trigger_mode="always_last",
        **QUIET,
    )
    answered.then(**on_roads, trigger_mode="always_last", **QUIET)
    for name in NAMING:
        chosen = _follow(name, questions, at, walk)
        chosen.then(**on_shown, **QUIET)
        chosen.then(**on_card, **QUIET).then(**on_roads, **QUIET)
    for button, values in (
        (walk.empty, handlers.start_empty),
        (walk.example, handlers.fill_example),
    ):
        begun = button.click(
            functools.partial(values, questions), None, walk.inputs, queue=False, **QUIET
        )
        begun.then(**on_shown, **QUIET)
        begun.then(**on_card, **QUIET).then(**on_roads, **QUIET)
    confirm.input(
        functools.partial(handlers.confirmed, questions, page.runs_dir),
        with_all,
        use,
        concurrency_limit=4,
        **QUIET,
    )
    use.click(
        functools.partial(handlers.use_recipe, questions, page.runs_dir),
        with_all,
        [page.recipe_yaml, page.tabs, said],
        concurrency_limit=4,
        **QUIET,
    )
    return on_card, on_roads, filled


def _follow(name: str, questions: list[dict[str, Any]], at: dict[str, Any], walk: _Walk) -> Any:
    """Fill in what a name answers, once it is written to its end; returns the event."""
    field = at[name]
    written = [field.submit, field.blur] if isinstance(field, gr.Textbox) else [field.input]
    filled = [at[question["field"]] for question in answered_by(questions, name)]
    return gr.on(
        written,
        functools.partial(handlers.fill, questions, name),
        walk.inputs,
        [*filled, walk.notes[name]],
        concurrency_limit=4,
        trigger_mode="always_last",
        **QUIET,
    )
