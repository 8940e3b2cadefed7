"""Build's dry step: a few steps are taken on this machine, and the forecast rests on them.

In: the desk. Out: words while it goes on, then the summary made anew. Takes no step itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from distill_core import api
from ui import theme
from ui.building import desk as desks
from ui.building import review
from ui.building.desk import Desk

GOES_ON = "<p class='ds-muted' role='status'>Taking a few steps in a process of its own …</p>"


def button() -> tuple[gr.Button, gr.HTML]:
    """Lay out the button, and where it says how it went."""
    asked = gr.Button("Measure with a dry step", size="sm", elem_id="ds-dry-step")
    return asked, gr.HTML(elem_id="ds-dry-step-said")


def measure(desk: Desk) -> Iterator[tuple[Any, ...]]:
    """Take the steps; yields what is said, then summary, YAML and Start."""
    yield GOES_ON, gr.skip(), gr.skip(), gr.skip()
    try:
        api.take_dry_step(api.load_recipe(desks.current(desk)))
    except (api.DistillError, OSError) as error:
        told = theme.alert("No step could be measured", str(error))
        yield told, gr.skip(), gr.skip(), gr.skip()
        return
    yield "", *review.refresh(desk)
