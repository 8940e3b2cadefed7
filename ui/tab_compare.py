"""Compare: the same prompt to teacher, student and others, streaming side by side, and the scores.

In: the page. Out: the tab. Lays out and wires; what happens is in `compare_handlers`
and `blind_vote`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gradio as gr

from ui import nothing_yet
from ui.comparing import answers_drawn, blind_vote
from ui.comparing import compare_handlers as handlers
from ui.state import STORAGE_SECRET, Page

_SCRIPT = Path(__file__).parent.parent / "assets" / "compare.js"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(page: Page) -> None:
    """Lay out the tab."""
    empty = nothing_yet.build(page, *handlers.NO_RUN)
    with gr.Column(visible=False, elem_classes="ds-compare") as content:
        picker = gr.Dropdown([], label="Run", interactive=True, elem_classes="ds-picker")
        head = gr.HTML()
        asked, models, prompts = _question(page)
        with gr.Row(elem_classes="ds-halves"):
            with gr.Column(elem_classes="ds-card", min_width=320):
                token = gr.HTML(answers_drawn.token_card(None, 0), elem_id="ds-token-card")
            with gr.Column(elem_classes="ds-card", min_width=320):
                scores = gr.HTML(elem_id="ds-scores")
                evaluate = gr.Button("Evaluate now", size="sm", scale=0)
        rival = _vote(page, prompts, asked["tokens"])
    _wire_asking(page, asked, models, prompts, token)
    evaluate.click(
        functools.partial(_evaluate, page.runs_dir),
        [page.run_id],
        [scores],
        concurrency_limit=1,
        show_progress="full",
        api_visibility="private",
    )
    # Kept by the page, beside what it describes: when two answers overtake each other the page
    # shows the older one with its own mark, and whatever comes next puts it right.
    seen = gr.Textbox("unknown", visible="hidden", label="Shown", container=False)
    outputs = [
        seen,
        empty,
        content,
        head,
        models,
        rival,
        prompts,
        asked["prompt"],
        scores,
        evaluate,
        picker,
    ]
    follow = functools.partial(_follow, page.runs_dir)
    following: dict[str, Any] = {
        "fn": follow,
        "inputs": [page.run_id, seen, asked["prompt"]],
        "outputs": outputs,
        "queue": False,
    }
    gr.on([page.demo.load, page.tabs.select], **following, **QUIET)
    picker.input(lambda run: run or "", picker, page.run_id, queue=False, **QUIET)
    page.run_id.change(**following, trigger_mode="multiple", **QUIET)
    changed = page.pulse.signal("compare", functools.partial(_mark, page.runs_dir))
    changed(**following, trigger_mode="always_last", **QUIET)


def _follow(runs_dir: str, run_id: str, seen: str, prompt: str) -> tuple[Any, ...]:
    return handlers.follow_run(run_id, seen, prompt, runs_dir)


def _mark(runs_dir: str, run_id: str) -> str:
    return handlers.signature(run_id, runs_dir)


def _evaluate(runs_dir: str, run_id: str) -> str:
    return handlers.evaluate_now(run_id, runs_dir)


def _question(page: Page) -> tuple[dict[str, Any], gr.CheckboxGroup, gr.State]:
    """Prompt, buttons, models, panes."""
    prompts = gr.State([])
    with gr.Column(elem_classes="ds-card"):
        prompt = gr.Textbox(label="Prompt", lines=2, elem_id="ds-prompt", interactive=True)
        label = gr.HTML()
        with gr.Row(elem_classes="ds-buttons"):
            ask = gr.Button("Ask all", variant="primary", elem_id="ds-ask")
            stop = gr.Button("Stop", elem_id="ds-ask-stop")
            another = gr.Button("Another held-out prompt", elem_id="ds-another")
        models = gr.CheckboxGroup(
            choices=[], label="Who answers", elem_id="ds-models", interactive=True
        )
        with gr.Accordion("Sampling", open=False), gr.Row():
            temperature = gr.Slider(
                0,
                2,
                value=0,
                step=0.1,
                label="Sampling temperature",
                info="0 takes the likeliest token every time.",
            )
            tokens = gr.Slider(
                1, 512, value=64, step=1, label="Longest answer", info="Tokens.", precision=0
            )
    panes = gr.HTML(elem_id="ds-panes", js_on_load=_SCRIPT.read_text("utf-8"))
    asked = {
        "prompt": prompt,
        "label": label,
        "ask": ask,
        "stop": stop,
        "another": another,
        "temperature": temperature,
        "tokens": tokens,
        "panes": panes,
    }
    return asked, models, prompts


def _wire_asking(
    page: Page, asked: dict[str, Any], models: Any, prompts: gr.State, token: gr.HTML
) -> None:
    answers = gr.State([])
    at = gr.State(0)
    inputs = [asked["prompt"], models, asked["temperature"], asked["tokens"], page.run_id]
    run = asked["ask"].click(
        functools.partial(_ask, page.runs_dir),
        inputs,
        [asked["panes"], answers, token],
        concurrency_id="models",
        concurrency_limit=1,
        **QUIET,
    )
    asked["stop"].click(None, None, None, cancels=[run], api_visibility="private")
    asked["another"].click(
        handlers.another_prompt,
        [prompts, at],
        [asked["prompt"], at, asked["label"]],
        queue=False,
        **QUIET,
    )
    asked["prompt"].change(
        handlers.label_of, [asked["prompt"], prompts], [asked["label"]], queue=False, **QUIET
    )
    asked["panes"].token(handlers.show_token, [answers], [token], queue=False, **QUIET)


def _ask(
    runs_dir: str,
    prompt: str,
    models: list[str],
    temperature: float,
    tokens: int,
    run_id: str,
) -> Any:
    yield from handlers.ask(prompt, models, temperature, tokens, run_id, runs_dir)


def _vote(page: Page, prompts: gr.State, tokens: gr.Slider) -> gr.Dropdown:
    tally = gr.BrowserState({}, storage_key="ds-votes", secret=STORAGE_SECRET)
    ballot = gr.State({})
    with (
        gr.Column(elem_classes="ds-card"),
        gr.Accordion("Blind vote: can you tell the student apart?", open=False),
    ):
        with gr.Row(elem_classes="ds-buttons"):
            rival = gr.Dropdown(
                choices=[], label="Student against", interactive=True, min_width=220
            )
            new = gr.Button("Next pair of answers", variant="primary")
        prompt = gr.HTML()
        panes = gr.HTML()
        with gr.Row(elem_classes="ds-buttons"):
            better_a = gr.Button("A is better", interactive=False)
            better_b = gr.Button("B is better", interactive=False)
            same = gr.Button("No difference", interactive=False)
        told = gr.HTML()
    buttons = [better_a, better_b, same]
    new.click(
        functools.partial(_blind, page.runs_dir),
        [prompts, rival, tokens, page.run_id],
        [prompt, panes, ballot, *buttons],
        concurrency_id="models",
        concurrency_limit=1,
        **QUIET,
    )
    for button, choice in zip(buttons, ("A", "B", blind_vote.TIE), strict=True):
        button.click(
            functools.partial(blind_vote.cast, choice),
            [ballot, tally],
            [panes, tally, ballot, told, *buttons],
            queue=False,
            **QUIET,
        )
    return rival


def _blind(
    runs_dir: str, prompts: list[dict[str, Any]], rival: str | None, tokens: int, run_id: str
) -> Any:
    yield from blind_vote.blind(prompts, rival, tokens, run_id, runs_dir)
