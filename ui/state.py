"""What the tabs share: the page's common components, and safe access to runs by id.

In: ids and drafts from the browser. Out: values that handlers may trust. Knows nothing of how a
tab looks, and keeps nothing that cannot be read again from disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import gradio as gr

from distill_core import api
from ui.pulse import Pulse

STORAGE_SECRET = "distill-studio"
"""Fixed, so that drafts survive a restart of the app. It hides nothing: they hold no secrets."""

TABS = ("advisor", "build", "train", "compare", "runs", "learn")
"""Ids of the tabs, in the order shown."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True)
class Page:
    """What every tab's `build(page)` gets."""

    demo: gr.Blocks
    tabs: gr.Tabs
    """Output `gr.Tabs(selected="build")` to it to open a tab (an id of `TABS`)."""
    recipe_yaml: gr.BrowserState
    """Build's current recipe as YAML text, "" for the default one; kept by the browser.

    Any tab may output a recipe to it; Build reads it on load and on `.change`."""
    answers: gr.BrowserState
    """The advisor's answers by dotted name, {} for its defaults; kept by the browser."""
    run_id: gr.BrowserState
    """Id of the run in view, "" for the latest; kept by the browser."""
    pulse: Pulse
    """Tells what has changed, while the page is visible. Listeners of its signals: `queue=False`,
    `show_progress="hidden"`, `trigger_mode="always_last"`."""
    runs_dir: str
    """Where runs are; pass it to every call of the api."""


def safe_run_id(value: object) -> str:
    """Return a run's id as the api takes it: "" becomes `latest`; a path or another value, too.

    The api also opens paths; what comes from a browser may only name a run of this folder.
    """
    text = value.strip() if isinstance(value, str) else ""
    return text if _RUN_ID.fullmatch(text) and ".." not in text else "latest"


def list_runs(runs_dir: str) -> list[dict[str, Any]]:
    """All runs, newest first; none when the folder cannot be read."""
    try:
        return api.runs(runs_dir)
    except (api.DistillError, OSError):
        return []


def show_run(value: object, runs_dir: str) -> dict[str, Any] | None:
    """Describe the run in view, or the latest where that one is gone; None when there is none."""
    for run in dict.fromkeys((safe_run_id(value), "latest")):
        try:
            return api.show(run, runs_dir=runs_dir)
        except (api.DistillError, OSError):
            continue
    return None
