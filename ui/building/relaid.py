"""Parts of Build that are laid out again when the recipe's shape has changed.

In: a part and the counts it follows. Out: its listeners, those of the layout before for a while,
too. Knows nothing of what a part shows.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ui.building import desk as desks
from ui.building.build_parts import Wires

KEPT_S = 120.0
"""For how long the listeners of a layout that was replaced still answer."""


def rendered(part: Callable[..., None], inputs: list[Any], versions: list[gr.State]) -> None:
    """Lay a part out again whenever one of its versions has changed.

    One part at a time: Gradio walks a session's components while it lays a part out, and fails
    when another thread adds some meanwhile.
    """

    def lay_out(*values: Any) -> None:
        keep_listeners()
        part(*values)

    gr.render(
        inputs=inputs,
        triggers=[version.change for version in versions],
        trigger_mode="multiple",
        show_progress="hidden",
        concurrency_id="ds-form",
        concurrency_limit=1,
    )(lay_out)


def folded(title: str, wires: Wires, part: Callable[..., None], versions: list[gr.State]) -> None:
    """Lay a part out in an accordion, when that is opened."""
    is_open = gr.State(False)
    with gr.Accordion(title, open=False) as accordion:
        rendered(
            functools.partial(_when_open, part, wires),
            [wires.desk, is_open],
            [is_open, wires.version, *versions],
        )
    for event, now in ((accordion.expand, True), (accordion.collapse, False)):
        event(
            functools.partial(bool, now),
            None,
            is_open,
            concurrency_limit=4,
            show_progress="hidden",
            api_visibility="private",
        )


def _when_open(part: Callable[..., None], wires: Wires, desk: desks.Desk, is_open: bool) -> None:
    """Lay a folded part out only while it is open."""
    if is_open:
        part(wires, desk)


def keep_listeners() -> None:
    """Take the listeners of the layout that is being replaced out of Gradio's hands.

    Gradio forgets them as soon as the new layout is made, while the browser, which does not have
    it yet, still calls them: the answer was an error.
    """
    config, part = LocalContext.blocks_config.get(None), LocalContext.renderable.get(None)
    if config is None or part is None:
        return
    now = time.monotonic()
    for number, listener in list(config.fns.items()):
        if now - getattr(listener, "replaced_s", now) > KEPT_S:
            del config.fns[number]
        elif listener.rendered_in is part:
            listener.rendered_in = None
            listener.render_iteration = part.render_iteration  # it goes by this what to forget
            listener.replaced_s = now  # type: ignore[attr-defined]
