"""The page's one question to the server, asked again and again: what has changed?

In: what is drawn of the run in view, and what is only watched. Out: components. A timer's listeners
would ask as well, but at every event Gradio's page goes over all components that any event may
change, which costs a laptop a third of a core. Here the browser fetches what is new by itself; an
event is made only when something has changed that needs one. The asking is in `pulse.js`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import gradio as gr

from distill_core import api
from ui.server import script_tag

Told = Callable[[str], str]
"""Takes the id of the run in view, "" for the latest."""

_BEGIN = "window.distillPulse(element, props, server, trigger, watch, [{events}]);"


class Pulse:
    """Asks once for all that can be seen; tabs add `spot`s and `signal`s while they are built.

    Args:
        events: Names of the tabs that are told by an event.
    """

    def __init__(self, events: tuple[str, ...]) -> None:
        self._spots: dict[str, Told] = {}
        self._signals: dict[str, Told] = {}
        self.component = gr.HTML(
            {"run": ""},
            html_template='<p class="ds-notice" role="status"></p>',
            js_on_load=_BEGIN.format(events=", ".join(f"'{event}'" for event in events)),
            head=script_tag("pulse.js"),
            server_functions=[self._answers()],
            apply_default_css=False,
            elem_id="ds-pulse",
            render=False,
        )

    def follow(self, demo: gr.Blocks, run_id: gr.BrowserState) -> None:
        """Ask about the run that the page has in view."""
        gr.on(
            [demo.load, run_id.change],
            None,
            run_id,
            self.component,
            js="(run) => ({ run: run || '' })",
            api_visibility="private",
        )

    def spot(self, name: str, draw: Told, *, first: str = "", **options: Any) -> gr.HTML:
        """A place for HTML that is renewed while it can be seen; `first` until it is asked for."""
        self._spots[name] = draw
        return gr.HTML(html_template=f'<div data-spot="{name}">{first}</div>', **options)

    def signal(self, tab: str, mark: Told) -> Callable[..., Any]:
        """What a listener is added to: the event that `mark` has changed, while `tab` is open."""
        self._signals[tab] = mark
        return getattr(self.component, tab)  # type: ignore[no-any-return]

    def beat(self, asked: object) -> dict[str, Any]:
        """Answer `{"run", "spots": {name: mark}, "signals": {name: mark}}` with what is new.

        A mark is what the page was told last, "" at first. Returns `{"spots": {name: {"mark",
        "html"}}, "signals": {name: mark}}`; names that are not known are left out.
        """
        asked = asked if isinstance(asked, dict) else {}
        run = asked.get("run")
        run = run if isinstance(run, str) else ""
        spots = {
            name: {"mark": mark, "html": html}
            for name, mark, html in _new(self._spots, asked.get("spots"), run)
        }
        signals = {name: mark for name, mark, _ in _new(self._signals, asked.get("signals"), run)}
        return {"spots": spots, "signals": signals}

    def _answers(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """`beat` as a plain function: Gradio calls it by its name."""

        def beat(asked: dict[str, Any]) -> dict[str, Any]:
            return self.beat(asked)

        return beat


def _new(known: dict[str, Told], marks: object, run: str) -> list[tuple[str, str, str]]:
    """Name, mark and content of what is not as the page has it."""
    found = []
    for name, old in (marks if isinstance(marks, dict) else {}).items():
        if name not in known:
            continue
        try:
            told = known[name](run)
        except (api.DistillError, OSError):
            continue  # a file that is being replaced: the next beat tells
        mark = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        if mark != old:
            found.append((name, mark, told))
    return found
