"""What a tab shows while there is no run, the same in all: what is missing, and the way to Build.

In: the page and two sentences. Out: components. Knows nothing of runs.
"""

from __future__ import annotations

import gradio as gr

from ui import text, theme
from ui.state import Page


def build(page: Page, title: str = text.NO_RUNS, what_next: str = text.NO_RUNS_NEXT) -> gr.Column:
    """Lay it out, hidden: the tab shows it where it has nothing else."""
    with gr.Column(visible=False, elem_classes="ds-nothing") as nothing:
        gr.HTML(theme.empty(title, what_next))
        start = gr.Button("Open Build", variant="primary", scale=0, min_width=120)
    start.click(
        lambda: gr.Tabs(selected="build"),
        None,
        page.tabs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return nothing
