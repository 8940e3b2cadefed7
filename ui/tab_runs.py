"""Runs: the history, several runs side by side, and what can be done with them.

In: the runs folder. Out: tables and charts; runs that are resumed, exported or deleted through
the api. Knows nothing of how a run is stored.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from distill_core import api
from ui import nothing_yet, plots, text, theme
from ui.history import run_curves, runs_table, runs_words
from ui.state import Page, list_runs, safe_run_id, show_run
from ui.tab_train import ask_run
from ui.training.follow import forget

OVERLAID = 6
"""Most curves in one chart: as many as there are line styles."""
ZIP_LIMIT_BYTES = 2**30

METRIC_CHOICES = [
    (metric.title, name)
    for name, metric in api.METRICS.items()
    if name not in ("memory_bytes", "tokens_per_s")
]
AXES = [("size", "size_ratio"), ("speed", "speedup")]


def build(page: Page) -> None:
    """Lay out the tab and wire it."""
    runs_dir = page.runs_dir
    picked = gr.State(None)  # None until somebody ticks: then the newest finished ones stand in
    seen = gr.State("")
    nothing = nothing_yet.build(page)
    with gr.Column(elem_classes="ds-card") as history:
        gr.HTML("<h2>History</h2>")
        table = gr.HTML(js_on_load=runs_table.TABLE_SCRIPT, apply_default_css=False)
        words = gr.HTML(elem_classes="ds-selection")
        with gr.Row(elem_classes="ds-actions", visible=False) as buttons:
            show = gr.Button("Open in Train", interactive=False, min_width=120)
            resume = gr.Button("▶ Resume", interactive=False, min_width=110)
            again = gr.Button("New from this", interactive=False, min_width=120)
            export = gr.Button("Export", interactive=False, min_width=100)
            delete = gr.Button("Delete…", interactive=False, min_width=100)
    with gr.Column(elem_classes="ds-card", visible=False) as question:
        asked = gr.HTML()
        with gr.Row(elem_classes="ds-actions"):
            really = gr.Button("Delete for good", variant="stop", min_width=140)
            keep = gr.Button("Keep", min_width=100)
    with gr.Column(elem_classes="ds-card", visible=False) as exported:
        where = gr.HTML()
        with gr.Row(elem_classes="ds-actions"):
            download = gr.DownloadButton("⤓ Download as .zip", visible=False, min_width=160)
    with gr.Row(elem_classes="ds-pair", visible=False) as beside:
        with gr.Column(elem_classes="ds-card", scale=3, min_width=320):
            gr.HTML("<h2>Curves of the selected runs</h2>")
            metric = gr.Dropdown(
                METRIC_CHOICES, value="held_out_exact_match", label="Measure", filterable=False
            )
            curves = plots.figure(label="One measure of the selected runs over steps")
            no_curves = gr.HTML()
        with gr.Column(elem_classes="ds-card", scale=2, min_width=300):
            gr.HTML("<h2>Quality kept</h2>")
            axis = gr.Radio(AXES, value="size_ratio", label="Against")
            scatter = plots.figure(label="Quality kept against size or speed, one point a run")
    with gr.Column(elem_classes="ds-card", visible=False) as differing:
        gr.HTML("<h2>Settings that differ</h2>")
        settings = gr.HTML()

    quiet: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    private: dict[str, Any] = {"api_visibility": "private"}
    actions = [show, resume, again, export, delete]
    details = [curves, no_curves, scatter, settings]
    groups = [history, buttons, beside, differing]
    everything = [table, words, nothing, *groups, *actions, *details, picked, seen]

    def refresh(ticked: list[str] | None, last: str, measure: str, against: str) -> list[Any]:
        runs = list_runs(runs_dir)
        chosen = still_there(ticked, runs)
        mark = _mark(runs, chosen)
        if mark == last:
            return [gr.skip()] * len(everything)
        return [
            runs_table.history_html(runs, chosen),
            selection_words(runs, chosen),
            gr.update(visible=not runs),
            *[gr.update(visible=bool(runs)) for _ in groups],
            *allowed(runs, chosen),
            *compared(runs, chosen, measure, against, runs_dir=runs_dir),
            mended(ticked, chosen),
            mark,
        ]

    def pick(event: gr.EventData) -> list[str]:
        return [safe_run_id(run) for run in event._data["runs"]]

    def details_only(ticked: list[str] | None, measure: str, against: str) -> list[Any]:
        runs = list_runs(runs_dir)
        return compared(runs, still_there(ticked, runs), measure, against, runs_dir=runs_dir)

    inputs = [picked, seen, metric, axis]
    changed = page.pulse.signal("runs", lambda _: _mark(list_runs(runs_dir), []))
    changed(refresh, inputs, everything, trigger_mode="always_last", **quiet)
    page.demo.load(refresh, inputs, everything, **quiet)
    table.pick(pick, None, picked, **quiet).then(refresh, inputs, everything, **quiet)
    gr.on([metric.input, axis.input], details_only, [picked, metric, axis], details, **quiet)

    def open_named(event: gr.EventData) -> tuple[str, Any]:
        return safe_run_id(event._data["run"]), gr.Tabs(selected="train")

    table.open(open_named, None, [page.run_id, page.tabs], **quiet)
    show.click(
        lambda c: (c[0], gr.Tabs(selected="train")), picked, [page.run_id, page.tabs], **quiet
    )

    def resume_run(chosen: list[str]) -> tuple[str, Any]:
        ask_run(api.resume, chosen[0], runs_dir=runs_dir)
        return chosen[0], gr.Tabs(selected="train")

    resume.click(resume_run, picked, [page.run_id, page.tabs], **private)

    def new_from(chosen: list[str]) -> tuple[str, Any]:
        return recipe_of(chosen[0], runs_dir=runs_dir), gr.Tabs(selected="build")

    again.click(new_from, picked, [page.recipe_yaml, page.tabs], **private)

    def export_run(chosen: list[str]) -> tuple[Any, str, Any]:
        folder, archive = export_folder(chosen[0], runs_dir=runs_dir)
        return (
            gr.update(visible=True),
            exported_html(chosen[0], folder, archive),
            gr.update(value=archive, visible=archive is not None),
        )

    export.click(export_run, picked, [exported, where, download], concurrency_limit=1, **private)

    def ask_delete(chosen: list[str]) -> tuple[Any, str]:
        return gr.update(visible=True), question_html(list_runs(runs_dir), chosen)

    delete.click(ask_delete, picked, [question, asked], **quiet)
    keep.click(lambda: gr.update(visible=False), None, question, **quiet)

    def delete_now(chosen: list[str]) -> Any:
        delete_runs(chosen, runs_dir=runs_dir)
        return gr.update(visible=False)

    really.click(delete_now, picked, question, **private).then(refresh, inputs, everything, **quiet)


# --- what is selected -------------------------------------------------------------------------


def still_there(ticked: list[str] | None, runs: list[dict[str, Any]]) -> list[str]:
    """Keep of the ticked runs what still exists; None ticks the two newest finished ones."""
    if ticked is None:
        finished = [run["run"] for run in runs if run["status"]["state"] == "finished"]
        return finished[:2]
    known = {run["run"] for run in runs}
    return [run for run in ticked if run in known]


def mended(ticked: list[str] | None, chosen: list[str]) -> Any:
    """What to remember as ticked: nothing new, unless it had to be mended.

    A redraw that began before a tick may end after it, and would bring the older ticks back.
    """
    return gr.skip() if chosen == (ticked or []) else chosen


def allowed(runs: list[dict[str, Any]], chosen: list[str]) -> list[Any]:
    """Enable open, resume, new from this, export, delete where they make sense."""
    states = {run["run"]: run["status"]["state"] for run in runs}
    mine = [states[run] for run in chosen if run in states]
    one = len(mine) == 1
    enabled = (
        one,
        one and mine[0] in text.RESUMABLE_STATES,
        one,
        one and mine[0] == "finished",
        bool(mine) and not any(state in text.ACTIVE_STATES for state in mine),
    )
    return [gr.update(interactive=value) for value in enabled]


def selection_words(runs: list[dict[str, Any]], chosen: list[str]) -> str:
    """Say how many runs are selected and what the buttons want."""
    words = runs_words.selected(sum(run["run"] in chosen for run in runs))
    return f'<p class="ds-small" role="status">{escape(words)}</p>' if runs else ""


def _mark(runs: list[dict[str, Any]], chosen: list[str]) -> str:
    """What the tab's content depends on, as one text to compare."""
    now = time.time()
    facts = [
        (
            run["run"],
            text.phase(run["status"]),
            text.step_of(run["status"]),
            text.when_text(run.get("created_time_s"), now_s=now),
        )
        for run in runs
    ]
    return repr((facts, chosen))


# --- side by side -----------------------------------------------------------------------------


def compared(
    runs: list[dict[str, Any]], chosen: list[str], measure: str, against: str, *, runs_dir: str
) -> list[Any]:
    """Compute overlay, what to say where it is empty, scatter and table of settings."""
    measure = measure if measure in api.METRICS else "held_out_exact_match"
    mine = [run for run in runs if run["run"] in chosen][:OVERLAID]
    measure, lines = run_curves.of_runs(mine, measure, runs_dir=runs_dir)
    lines = lines[:OVERLAID]
    points = [
        {"name": run["name"], "selected": run["run"] in chosen, **(run.get("summary") or {})}
        for run in runs
    ]
    told = "" if lines else f'<p class="ds-muted">{runs_words.PICK_FOR_CURVES}</p>'
    shown = [found for run in mine if (found := show_run(run["run"], runs_dir))]
    return [
        plots.overlay(lines, metric=measure) if lines else {},
        told,
        plots.quality_against(
            points, axis=dict((b, b) for _, b in AXES).get(against, "size_ratio")
        ),
        runs_table.differences_html(shown),
    ]


# --- what can be done -------------------------------------------------------------------------


def recipe_of(run: str, *, runs_dir: str) -> str:
    """Return a run's recipe as YAML."""
    found = show_run(run, runs_dir)
    if found is None or found["run"] != run:
        raise gr.Error(text.RUN_GONE, print_exception=False)
    return str(found["recipe_yaml"])


def export_folder(run: str, *, runs_dir: str) -> tuple[Path, str | None]:
    """Export a run's student; returns the folder, and an archive of it unless it is too large."""
    try:
        folder = api.export(safe_run_id(run), format="hf", runs_dir=runs_dir)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size > ZIP_LIMIT_BYTES:
            return folder, None
        place = Path(tempfile.mkdtemp(prefix="distill-export-"))
        return folder, shutil.make_archive(str(place / safe_run_id(run)), "zip", folder)
    except (api.DistillError, OSError) as error:
        raise gr.Error(str(error), print_exception=False) from None


def exported_html(run: str, folder: Path, archive: str | None) -> str:
    """Say where the export is, and how to load it."""
    too_large = "" if archive else f'<p class="ds-muted">{runs_words.TOO_LARGE_TO_ZIP}</p>'
    return (
        f"<h2>{theme.chip('exported', 'good', '✓')} {escape(run)}</h2>"
        f"<p>{runs_words.EXPORTED}</p>"
        f'<p class="ds-mono ds-path">{escape(str(folder))}</p>{too_large}'
    )


def question_html(runs: list[dict[str, Any]], chosen: list[str]) -> str:
    """Ask before deleting: names, and that it is for good."""
    names = [run["name"] for run in runs if run["run"] in chosen]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    head = runs_words.delete_question(len(names))
    return theme.alert(head, f"{listed}\n{runs_words.DELETE_WARNING}", "warn")


def delete_runs(chosen: list[str], *, runs_dir: str) -> None:
    """Delete runs; what the api refuses becomes a message, the rest is deleted all the same."""
    refused = []
    for run in chosen:
        if safe_run_id(run) != run:
            continue
        try:
            api.delete(run, runs_dir=runs_dir)
            forget(run, runs_dir=runs_dir)
        except (api.DistillError, OSError) as error:
            refused.append(str(error))
    if refused:
        raise gr.Error("\n".join(refused), print_exception=False)
