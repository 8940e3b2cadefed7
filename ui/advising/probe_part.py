"""The Advisor's probe card: its components and what is wired to them.

In: the page, the form's fields, the listener that draws the advice. Out: a card. Knows no rule.
"""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from ui.advising import probe_handlers as handlers
from ui.state import Page

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


class Part:
    """Text, minutes, and the buttons that start and pause."""

    def __init__(self) -> None:
        self.view = gr.State(dict(handlers.NOTHING))
        self.over = gr.State("")
        with gr.Column(elem_classes="ds-card ds-probe"):
            self.card = gr.HTML("<p class='ds-muted'>Thinking …</p>", elem_id="ds-probe")
            with gr.Row(elem_classes="ds-buttons"):
                self.minutes = gr.Number(
                    value=handlers.MINUTES,
                    minimum=1,
                    maximum=1440,
                    precision=0,
                    label="Minutes of work, at most",
                    elem_id="ds-probe-minutes",
                    min_width=150,
                    scale=0,
                )
                self.start = gr.Button(
                    "Measure it", scale=0, min_width=150, elem_id="ds-probe-start"
                )
                self.pause = gr.Button(
                    "Pause", visible=False, scale=0, min_width=110, elem_id="ds-probe-pause"
                )

    def wire(
        self,
        page: Page,
        questions: list[dict[str, Any]],
        fields: list[Any],
        confirm: gr.Checkbox,
        advice: tuple[dict[str, Any], dict[str, Any]],
        filled: Any,
    ) -> None:
        """Follow the answers, start, pause, and tell when it has ended.

        `advice`: draw the advice, then the forecasts; `filled`: the event after which the form
        holds its answers.
        """
        shown = [self.view, self.card, self.start, self.pause, self.minutes]
        on_show: dict[str, Any] = {
            "fn": functools.partial(handlers.show, questions, page.runs_dir),
            "inputs": [self.minutes, *fields],
            "outputs": shown,
            "concurrency_limit": 4,
        }
        # the browser's draft changes with every answer
        page.answers.change(**on_show, trigger_mode="always_last", **QUIET)
        filled.then(**on_show, **QUIET)
        self.minutes.change(**on_show, trigger_mode="always_last", **QUIET)
        self.start.click(
            functools.partial(handlers.measure, questions, page.runs_dir),
            [confirm, self.minutes, *fields],
            shown,
            concurrency_limit=4,
            **QUIET,
        )
        self.pause.click(
            functools.partial(handlers.pause, page.runs_dir), self.view, shown, queue=False, **QUIET
        )
        changed = page.pulse.signal("advisor", functools.partial(handlers.mark, page.runs_dir))
        changed(
            functools.partial(handlers.follow, page.runs_dir),
            self.view,
            shown,
            queue=False,
            trigger_mode="always_last",
            **QUIET,
        )
        self.view.change(handlers.ended, self.view, self.over, queue=False, **QUIET)
        on_card, on_roads = advice
        self.over.change(**on_card, **QUIET).then(**on_roads, **QUIET)
