"""Build's dry step: a few steps are taken on this machine, and the forecast rests on them.

In: the desk, the runs folder. Out: words while it goes on, then the summary made anew. Takes no
step itself.
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
from ui.state import list_runs

GOES_ON = (
    "<p class='ds-muted ds-at-work' role='status'>Taking a few steps in a process of its own: "
    "some seconds to a minute …</p>"
)


TOO_SLOW = theme.alert(
    "Measured too slow: another run was training",
    "Both shared this machine, so the time below is too long. Measure again once it has ended.",
    "warn",
)
ASK = "Measure with a dry step"


def button() -> tuple[gr.Button, gr.HTML]:
    """Lay out the button, and where it says how it went."""
    asked = gr.Button(ASK, size="sm", elem_id="ds-dry-step")
    return asked, gr.HTML(elem_id="ds-dry-step-said")


def measure(desk: Desk, runs_dir: str) -> Iterator[tuple[Any, ...]]:
    """Take the steps; yields what is said, the button, then summary, YAML and Start."""
    nothing = (gr.skip(), gr.skip(), gr.skip())
    shared = trains(runs_dir)
    yield GOES_ON, gr.update(value="Measuring …", interactive=False), *nothing
    again = gr.update(value=ASK, interactive=True)
    try:
        api.take_dry_step(api.load_recipe(desks.current(desk)))
    except (api.DistillError, OSError) as error:
        yield theme.alert("No step could be measured", str(error)), again, *nothing
        return
    shared = shared or trains(runs_dir)
    yield TOO_SLOW if shared else "", again, *review.refresh(desk)


def trains(runs_dir: str) -> bool:
    """Whether a run is training on this machine now."""
    return any(run["status"]["state"] in {"running", "stopping"} for run in list_runs(runs_dir))
