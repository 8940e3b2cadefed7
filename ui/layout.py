"""The window: sidebar, six tabs, and the launch of the server.

In: a runs folder, an address. Out: the app. Knows nothing of what a tab does.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import gradio as gr

from ui import text, theme
from ui.state import STORAGE_SECRET, TABS, Page

ASSETS = Path(__file__).parent.parent / "assets"
TICK_S = 1.5


def build(runs_dir: str | None = None) -> gr.Blocks:
    """Lay out the whole app for one runs folder."""
    folder = str(Path(runs_dir or os.environ.get("DISTILL_RUNS_DIR") or "runs").absolute())
    with gr.Blocks(
        title=text.APP_TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)
    ) as demo:
        recipe_yaml = gr.BrowserState("", storage_key="ds-recipe", secret=STORAGE_SECRET)
        run_id = gr.BrowserState("", storage_key="ds-run", secret=STORAGE_SECRET)
        timer = gr.Timer(TICK_S)
        tabs = gr.Tabs(selected="build", elem_id="ds-tabs")
        page = Page(
            demo=demo,
            tabs=tabs,
            recipe_yaml=recipe_yaml,
            run_id=run_id,
            timer=timer,
            runs_dir=folder,
        )
        with tabs:
            for name in TABS:
                with gr.Tab(text.TAB_LABELS[name], id=name):
                    _build_tab(name, page)
    return demo


def _build_tab(name: str, page: Page) -> None:
    try:
        module = importlib.import_module(f"ui.tab_{name}")
    except ModuleNotFoundError as error:
        if error.name != f"ui.tab_{name}":
            raise
        gr.HTML(theme.empty("Not here yet", "This tab is still to come."))
        return
    module.build(page)


def launch(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: tuple[str, str] | str | None = None,
    runs_dir: str | None = None,
    inbrowser: bool = True,
    prevent_thread_lock: bool = False,
) -> gr.Blocks:
    """Build the app and serve it."""
    demo = build(runs_dir)
    demo.queue(default_concurrency_limit=8, max_size=64)
    demo.launch(
        server_name=host,
        server_port=port,
        inbrowser=inbrowser,
        prevent_thread_lock=prevent_thread_lock,
        theme=theme.theme(),
        css_paths=[ASSETS / "style.css"],
        quiet=True,
    )
    return demo
