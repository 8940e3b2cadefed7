"""The sidebar: this machine, what is running now, and the colours.

In: the api's facts. Out: HTML, renewed by the page's pulse. Knows nothing of the tabs.
"""

from __future__ import annotations

import functools
from html import escape
from typing import Any

import gradio as gr

from distill_core import api
from ui import text, theme
from ui.run_bar import run_bar
from ui.state import Page, list_runs


def build(page: Page) -> None:
    """Lay out the sidebar and keep it fresh."""
    with gr.Sidebar(width=248, elem_id="ds-sidebar"):
        gr.HTML(LOGO)
        page.pulse.component.render()
        page.pulse.spot("machine", describe_machine, first=READING, elem_id="ds-machine")
        page.pulse.spot(
            "running", functools.partial(describe_running, page.runs_dir), elem_id="ds-running"
        )
        gr.HTML(LEGEND)
        toggle = gr.Button("◐ Light or dark", size="sm", elem_id="ds-theme-toggle")
    toggle.click(None, js="() => { window.distillFrame.toggleTheme(); }")
    page.demo.load(None, js="() => { window.distillFrame && window.distillFrame.started(); }")


def describe_machine(_: str) -> str:
    """Draw this machine's card."""
    return machine_html(api.machine())


def describe_running(runs_dir: str, _: str = "") -> str:
    """Draw what runs now."""
    return running_html(list_runs(runs_dir))


def machine_html(machine: dict[str, Any]) -> str:
    """What trains here: device, number format, memory in use."""
    on_device = machine.get("device_memory_total_bytes") is not None
    kind = "device_memory" if on_device else "memory"
    total, free = machine[f"{kind}_total_bytes"], machine[f"{kind}_free_bytes"]
    used = max(0, total - free)
    words = f"Memory {used / 2**30:.1f} of {total / 2**30:.1f} GiB"
    return (
        '<section class="ds-card ds-side"><h2>This machine</h2>'
        f"<b>{escape(machine['name'])}</b>"
        f'<div class="ds-muted">{escape(machine.get("note") or machine["dtype"])}</div>'
        f'<div class="ds-small">{words}</div>'
        + theme.bar(used / total if total else 0.0, label=words, colour="var(--neutral-bar)")
        + "</section>"
    )


def running_html(runs: list[dict[str, Any]]) -> str:
    """What is running now, how many wait or are paused; what to do when nothing is."""
    active = [run for run in runs if run["status"]["state"] in text.ACTIVE_STATES]
    queued = sum(run["status"]["state"] == "queued" for run in active)
    current = next((run for run in active if run["status"]["state"] != "queued"), None)
    head = '<section class="ds-card ds-side" aria-label="Running now"><h2>Running now</h2>'
    waits = [run["name"] for run in runs if run["status"]["state"] == "paused"]
    if current is None:
        said = " · ".join(filter(None, (text.queued(queued), text.paused(waits))))
        return f'{head}<div class="ds-muted">{escape(said or text.NOTHING_RUNS)}</div></section>'
    status = current["status"]
    words = " · ".join(filter(None, (text.phase(status), text.step_of(status))))
    rest = [text.time_left(status), text.queued(queued), text.paused(waits)]
    return (
        f"{head}<b>{escape(current['name'])}</b>"
        f'<div class="ds-muted">{escape(words)}</div>'
        + run_bar(current["name"], status)
        + f'<div class="ds-small">{escape(" · ".join(filter(None, rest)))}</div></section>'
    )


LOGO = '<h1 class="ds-logo"><span>distill</span> <b>studio</b></h1>'

READING = (
    '<section class="ds-card ds-side"><h2>This machine</h2>'
    f'<div class="ds-muted">{text.READING_MACHINE}</div></section>'
)

LEGEND = (
    '<div class="ds-legend"><span class="ds-ink-teacher">● teacher</span>'
    '<span class="ds-ink-student">◆ student</span>'
    '<span class="ds-ink-other">○ untrained or baseline</span>'
    "<small>the same marks and colours everywhere</small></div>"
)
