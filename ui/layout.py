"""The window: sidebar, six tabs, and the launch of the server.

In: a runs folder, an address. Out: the app. Knows nothing of what a tab does, and never trains:
runs live in their own processes.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import gradio as gr

from distill_core import api
from ui import (
    server,
    sidebar,
    tab_advisor,
    tab_build,
    tab_compare,
    tab_learn,
    tab_runs,
    tab_train,
    text,
    theme,
)
from ui.pulse import Pulse
from ui.state import STORAGE_SECRET, TABS, Page, list_runs

FILL = {
    "advisor": tab_advisor.build,
    "build": tab_build.build,
    "train": tab_train.build,
    "compare": tab_compare.build,
    "runs": tab_runs.build,
    "learn": tab_learn.build,
}
"""What fills each tab."""


def build(runs_dir: str | None = None) -> gr.Blocks:
    """Lay out the whole app for one runs folder (`$DISTILL_RUNS_DIR`, else `./runs`)."""
    folder = str(Path(runs_dir or os.environ.get("DISTILL_RUNS_DIR") or "runs").absolute())
    with gr.Blocks(
        title=text.APP_TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    ) as demo:
        page = Page(
            demo=demo,
            tabs=gr.Tabs(
                selected="build", elem_id="ds-tabs", overflow_behavior="wrap", render=False
            ),
            recipe_yaml=gr.BrowserState("", storage_key="ds-recipe", secret=STORAGE_SECRET),
            answers=gr.BrowserState({}, storage_key="ds-answers", secret=STORAGE_SECRET),
            run_id=gr.BrowserState("", storage_key="ds-run", secret=STORAGE_SECRET),
            pulse=Pulse(TABS),
            runs_dir=folder,
        )
        sidebar.build(page)
        page.pulse.follow(demo, page.run_id)
        page.tabs.render()
        with page.tabs:
            for name in TABS:
                with gr.Tab(text.TAB_LABELS[name], id=name, elem_id=f"ds-tab-{name}"):
                    FILL[name](page)
        _open_where_it_matters(page)
    return demo


def _open_where_it_matters(page: Page) -> None:
    """Open Train when the page is loaded while a run is active; the tab in the address wins."""
    tab = gr.Textbox("", visible="hidden", label="Tab to open", container=False)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    page.demo.load(
        functools.partial(first_tab, page.runs_dir), None, tab, queue=False, **quiet
    ).then(None, tab, None, js="(tab) => { window.distillFrame.suggestTab(tab); }", **quiet)


def first_tab(runs_dir: str) -> str:
    """The tab that a page without one in its address opens: "" leaves the one that it has."""
    active = any(run["status"]["state"] in text.ACTIVE_STATES for run in list_runs(runs_dir))
    return "train" if active else ""


def launch(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: tuple[str, str] | str | None = None,
    runs_dir: str | None = None,
    inbrowser: bool = True,
    prevent_thread_lock: bool = False,
) -> gr.Blocks:
    """Build the app, start the supervisor of its runs, and serve.

    Args:
        host: Address to listen on; any other than this machine's own needs `auth`.
        port: Port to listen on; the next free one where it is taken. Default 7860.
        auth: User and password, as a pair or as `user:password`.
        runs_dir: Where runs are; `$DISTILL_RUNS_DIR` or `./runs` when left out.
        inbrowser: Open the browser.
        prevent_thread_lock: Return at once; the server stops with the program.

    Raises:
        ValueError: `host` can be reached from outside and there is no `auth`.
    """
    credentials = server.credentials(auth)
    server.refuse_open_door(host, credentials)
    free = server.free_port(host, port or server.DEFAULT_PORT)
    if runs_dir:  # what forecasts learn of earlier runs is read there too
        os.environ["DISTILL_RUNS_DIR"] = str(Path(runs_dir).absolute())
    demo = build(runs_dir)
    api.supervise(runs_dir)
    api.models()  # imports transformers once, before handlers would in several threads at a time
    demo.queue(default_concurrency_limit=8, max_size=64)
    demo.launch(
        server_name=host,
        server_port=free,
        auth=credentials,
        inbrowser=inbrowser,
        prevent_thread_lock=True,
        theme=theme.theme(),
        head=server.script_tag("frame.js"),
        app_kwargs=server.app_options(host, credentials),
        **server.LAUNCH_OPTIONS,
    )
    server.announce(demo.local_url or "", asked=port, got=free)
    if not prevent_thread_lock:
        demo.block_thread()
    return demo
