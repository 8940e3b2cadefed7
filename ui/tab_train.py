"""Train: one run, live. What it does, how far it is, its curves, samples and log.

In: the run in view. Out: what is on disk about it, renewed by the page's pulse. Losing the page,
the browser or the app loses nothing: all of it is read again. Knows nothing of how training works.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from distill_core import api
from ui import nothing_yet, plots, text, theme
from ui.run_bar import run_bar
from ui.state import Page, list_runs, show_run
from ui.training import samples
from ui.training.follow import Followed, follow

LOG_LINES = 200


def build(page: Page) -> None:
    """Lay out the tab and wire it to the pulse."""
    runs_dir = page.runs_dir

    def spot(name: str, draw: Callable[..., str], **options: Any) -> None:
        page.pulse.spot(name, functools.partial(draw, runs_dir=runs_dir), **options)

    nothing = nothing_yet.build(page)
    picker = gr.Dropdown([], label="Run", interactive=True, elem_classes="ds-picker")
    with gr.Row(visible=False, elem_classes="ds-card ds-now") as now:
        spot("header", header_of, elem_id="ds-train-header", min_width=300)
        pause = gr.Button("❚❚ Pause", visible=False, scale=0, min_width=110)
        resume = gr.Button("▶ Resume", variant="primary", visible=False, scale=0, min_width=120)
        stop = gr.Button("■ Stop and keep", visible=False, scale=0, min_width=170)
        compare = gr.Button("Compare", variant="primary", visible=False, scale=0, min_width=120)
    alerts = gr.HTML(visible=False, elem_id="ds-train-alerts")
    with gr.Column(elem_classes="ds-train") as body:
        charts = plots.live_charts(runs_dir)
        with gr.Column(elem_classes="ds-card"):
            gr.HTML("<h2>Held-out prompts, answered as training goes</h2>")
            spot("samples", samples_of)
        with gr.Accordion("Log of the training process", open=False, elem_classes="ds-card"):
            spot("log", log_of)

    seen = gr.State({})
    parts = {
        "nothing": nothing,
        "now": now,
        "picker": picker,
        "alerts": alerts,
        "body": body,
        "pause": pause,
        "resume": resume,
        "stop": stop,
        "compare": compare,
        "charts": charts,
    }
    outputs = [*parts.values(), seen]

    def refresh(run_id: str, last: dict[str, Any]) -> list[Any]:
        return _only_changes(view(run_id, runs_dir=runs_dir), last, list(parts))

    quiet: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    changed = page.pulse.signal("train", lambda run: repr(view(run, runs_dir=runs_dir)))
    changed(refresh, [page.run_id, seen], outputs, trigger_mode="always_last", **quiet)
    page.demo.load(refresh, [page.run_id, seen], outputs, **quiet)
    page.run_id.change(
        refresh, [page.run_id, seen], outputs, trigger_mode="multiple", **quiet
    )  # never postponed: Gradio repeats a postponed listener by firing the whole event again
    picker.input(lambda run: run or "", picker, page.run_id, **quiet)
    for button, action in ((pause, api.pause), (resume, api.resume), (stop, api.stop)):
        button.click(
            _asking(action, runs_dir), picker, None, show_progress="hidden", **_PRIVATE
        ).then(refresh, [page.run_id, seen], outputs, **quiet)
    compare.click(lambda: gr.Tabs(selected="compare"), None, page.tabs, **quiet)


_PRIVATE: dict[str, Any] = {"api_visibility": "private"}


def _asking(action: Any, runs_dir: str) -> Any:
    def ask(run: str) -> None:
        ask_run(action, run, runs_dir=runs_dir)

    return ask


def ask_run(action: Any, run: str, *, runs_dir: str) -> None:
    """Pause, resume or stop a run; what the api refuses becomes a message."""
    found = show_run(run, runs_dir)
    if found is None or found["run"] != run:
        raise gr.Error(text.RUN_GONE, print_exception=False)
    try:
        action(run, runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None


# --- what is shown ----------------------------------------------------------------------------


def view(run_id: str, *, runs_dir: str) -> dict[str, Any]:
    """What the tab's components show of the run in view ("": the latest), as plain values."""
    run = show_run(run_id, runs_dir)
    if run is None:
        hidden: dict[str, Any] = dict.fromkeys(("pause", "resume", "stop", "compare"), False)
        return hidden | {
            "picker": {"choices": [], "value": None, "visible": False},
            "nothing": True,
            "now": False,
            "alerts": "",
            "body": False,
            "charts": {"run": ""},
        }
    name, state = run["run"], run["status"]["state"]
    followed = _followed(name, runs_dir)
    is_probe = followed is not None and followed.is_probe
    return {
        "picker": {
            "choices": [(run_label(r), r["run"]) for r in list_runs(runs_dir)],
            "value": name,
            "visible": True,
        },
        "nothing": False,
        "now": True,
        "alerts": error_html(run["status"]) + warnings_html(followed.warnings if followed else []),
        "body": True,
        "pause": state in ("running", "queued"),
        "resume": state in text.RESUMABLE_STATES,
        "stop": state in ("running", "queued", "paused"),
        "compare": state == "finished" and not is_probe,
        "charts": {"run": name},
    }


def header_of(run_id: str, *, runs_dir: str) -> str:
    """The run in view: its phase and progress."""
    run = show_run(run_id, runs_dir)
    if run is None:
        return ""
    followed = _followed(run["run"], runs_dir)
    return header_html(run, is_probe=followed is not None and followed.is_probe)


def samples_of(run_id: str, *, runs_dir: str) -> str:
    """Prompts answered so far by the run in view."""
    run = show_run(run_id, runs_dir)
    if run is None:
        return ""
    try:
        followed = follow(run["run"], runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        return theme.alert(text.NOT_READABLE, str(error))
    return samples.samples_html(followed.samples, followed.stages)


def log_of(run_id: str, *, runs_dir: str) -> str:
    """The end of the log of the run in view."""
    run = show_run(run_id, runs_dir)
    return (
        ""
        if run is None
        else log_html(api.read_log(run["run"], lines=LOG_LINES, runs_dir=runs_dir))
    )


def _followed(name: str, runs_dir: str) -> Followed | None:
    """What a run has told; None where that cannot be read: `samples_of` says so."""
    try:
        return follow(name, runs_dir=runs_dir)
    except (api.DistillError, OSError):
        return None


def _only_changes(now: dict[str, Any], last: dict[str, Any], names: list[str]) -> list[Any]:
    """Turn a view into updates; what equals the last one sent to this page is left alone."""
    updates: list[Any] = []
    for name in names:
        if last.get(name) == now[name]:
            updates.append(gr.skip())
        elif isinstance(now[name], bool):
            updates.append(gr.update(visible=now[name]))
        elif name == "alerts":
            updates.append(gr.update(value=now[name], visible=bool(now[name])))
        elif name == "picker":
            updates.append(gr.update(**now[name]))
        else:
            updates.append(now[name])
    updates.append(now if now != last else gr.skip())
    return updates


def run_label(run: dict[str, Any]) -> str:
    """Name a run for the picker: icon, name, state, when."""
    status = run["status"]
    icon, _ = text.look_of(status)
    when = text.when_text(run.get("created_time_s"), now_s=time.time())
    return f"{icon} {run['name']} · {text.state(status)} · {when}"


def header_html(run: dict[str, Any], *, is_probe: bool = False) -> str:
    """The run's name, phase and progress, and what happens next."""
    status = run["status"]
    icon, tone = text.look_of(status)
    phase = text.phase(status)
    where = [text.stage_of(status), text.step_of(status), text.time_left(status)]
    if status["state"] == "finished":
        where = [text.result_of(run.get("summary") or {})]
    where.append(text.queue_place(status))
    chip = theme.chip(phase, tone, icon)  # type: ignore[arg-type]
    html = [
        '<section aria-label="Run in view"><div class="ds-row">',
        f'<b class="ds-name">{escape(run["name"])}</b>',
        f'<span role="status" aria-live="polite">{chip}</span>',
        f'<span class="ds-muted">{escape(" · ".join(filter(None, where)))}</span></div>',
        run_bar(run["name"], status),
    ]
    said = status.get("message") if status["state"] == "running" else ""
    advice = said or text.next_of(status)
    if is_probe and status["state"] == "finished":  # of several students none is the run's
        advice = text.PROBE_NEXT
    if advice and status["state"] not in ("failed", "lost"):
        html.append(f'<div class="ds-small">{escape(str(advice))}</div>')
    for measured in ("teacher_rounding", "loss_kernels"):
        if found := (run.get("summary") or {}).get(measured):
            html.append(f'<div class="ds-small ds-muted">{escape(found["words"])}</div>')
    return "".join(html) + "</section>"


def warnings_html(warnings: list[str]) -> str:
    """The newest warning and how many there are."""
    if not warnings:
        return ""
    return theme.alert(text.warnings_title(len(warnings)), warnings[-1], "warn")


def error_html(status: dict[str, Any]) -> str:
    """What went wrong, why, and how to go on; nothing while all is well."""
    if status["state"] not in ("failed", "lost"):
        return ""
    error = status.get("error")
    told = error.get("message") if isinstance(error, dict) else error
    field = error.get("field") if isinstance(error, dict) else ""
    lines = [str(told or status.get("message") or "")]
    if field:
        lines.append(f"In the recipe: {field}.")
    lines.append(text.STATE_NEXT[status["state"]])
    return theme.alert(text.ERROR_TITLES[status["state"]], "\n".join(filter(None, lines)))


def log_html(log: str) -> str:
    """The log's tail; it stays scrolled to its end."""
    if not log.strip():
        return f'<p class="ds-muted">{text.NO_LOG}</p>'
    return (
        '<div class="ds-log" tabindex="0" role="log" aria-live="off" aria-label="Log">'
        f"<pre>{escape(log)}</pre></div>"
    )
