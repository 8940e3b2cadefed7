"""Learn: what temperature does to a real teacher's answer, short pieces with sources, a self-test.

In: the page. Out: the tab. The explorable runs in the browser; nothing is asked of the server
while dragging.
"""

from __future__ import annotations

import functools
import json
import threading
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from distill_core import api
from ui import text, theme
from ui.learning import lessons, two_ways
from ui.learning.lessons import Lesson, Source
from ui.learning.two_ways import Line
from ui.state import Page

_SCRIPT = Path(__file__).parent.parent / "assets" / "learn.js"
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_ONE_AT_A_TIME = threading.Lock()

TWO_WAYS = (
    "<h3 id='ds-two-ways'>Distilling against fine-tuning</h3><p class='ds-muted'>Line by line, and "
    "where to try each. A button that opens Build puts a ready recipe there. Published, not "
    "promised.</p>"
)
SELF_TEST = (
    "<h3>Are the numbers right on this machine?</h3><p class='ds-muted'>Losses and gradients, "
    "computed as in training on this machine's device, against double precision on the CPU. Takes "
    "seconds; <code>distill-studio self-test</code> does the same.</p>"
)


def build(page: Page) -> None:
    """Lay out the tab."""
    with gr.Column(elem_classes="ds-learn"):
        with gr.Column(elem_classes="ds-card"):
            gr.HTML(
                "<h3>Temperature: what a teacher knows beyond the right answer</h3>"
                "<p class='ds-muted'>Real logits of the starter's teacher. Drag, and watch the "
                "candidates it did not choose.</p>"
            )
            explorable = gr.HTML(
                "",
                html_template='<div class="ds-explorable"><p class="ds-muted">Loading the '
                "teacher …</p></div>",
                js_on_load=_SCRIPT.read_text("utf-8"),
                elem_id="ds-temperature",
            )
            failed = gr.HTML()
        with gr.Column(elem_classes="ds-card ds-two-ways"):
            gr.HTML(TWO_WAYS)
            for line in two_ways.LINES:
                _line(page, line)
        with gr.Row(elem_classes="ds-lessons"):
            for lesson in lessons.LESSONS:
                _lesson(page, lesson)
        with gr.Column(elem_classes="ds-card"):
            gr.HTML(published_table())
        with gr.Column(elem_classes="ds-card"):
            gr.HTML(SELF_TEST)
            tested = gr.HTML(elem_id="ds-self-test")
            test = gr.Button("Run the self-test", size="sm", scale=0)
            test.click(self_test, None, tested, api_visibility="private")
    opened = gr.State(False)
    page.tabs.select(
        open_explorable,
        [opened],
        [explorable, failed, opened],
        concurrency_limit=2,
        **QUIET,
    )


def _lesson(page: Page, lesson: Lesson) -> None:
    with gr.Column(elem_classes="ds-card", min_width=300):
        gr.HTML(lesson_html(lesson))
        button = gr.Button(lesson.button, size="sm", scale=0)
        button.click(functools.partial(open_tab, lesson.tab), None, page.tabs, queue=False, **QUIET)


def _line(page: Page, line: Line) -> None:
    with gr.Row(elem_classes="ds-line"):
        gr.HTML(line_html(line))
        button = gr.Button(line.button, size="sm", scale=0, min_width=230)
    button.click(
        functools.partial(try_line, line),
        None,
        [page.recipe_yaml, page.tabs],
        queue=False,
        **QUIET,
    )


def try_line(line: Line) -> tuple[Any, gr.Tabs]:
    """Open the tab where a line can be tried; Build with the ready recipe that shows it."""
    ready = {recipe["name"]: recipe["yaml"] for recipe in api.ready_recipes()}
    return ready.get(line.recipe, gr.skip()), gr.Tabs(selected=line.tab)


def line_html(line: Line) -> str:
    """Write one topic: both ways, and the sources."""
    listed = " · ".join(source_html(source) for source in line.sources)
    return (
        f"<div class='ds-topic'><h4>{escape(line.topic)}</h4>"
        f"<p><b class='ds-ink-teacher'>Distilling</b> {escape(line.distilling)}</p>"
        f"<p><b class='ds-ink-other'>Fine-tuning</b> {escape(line.fine_tuning)}</p>"
        f"<p class='ds-small'>{listed}</p></div>"
    )


def open_tab(name: str) -> gr.Tabs:
    """Open a tab of the app."""
    return gr.Tabs(selected=name)


def open_explorable(opened: bool, event: gr.SelectData) -> tuple[Any, Any, bool]:
    """Load the teacher's logits when Learn is opened for the first time."""
    if opened or event.value != text.TAB_LABELS["learn"]:
        return gr.skip(), gr.skip(), opened
    return *example_or_reason(), True


def example_or_reason() -> tuple[str, str]:
    """The example as JSON and no message, or nothing and why it cannot be shown."""
    try:
        with _ONE_AT_A_TIME:
            return _example(), ""
    except (api.DistillError, OSError) as error:
        return "", theme.alert("The teacher's logits cannot be read", str(error), "warn")


@functools.cache
def _example() -> str:
    return json.dumps(rounded(api.temperature_example()))


def rounded(example: dict[str, Any]) -> dict[str, Any]:
    """Keep three decimals of every logit: enough for the eye, a third of the bytes."""
    positions = [
        {
            "token": position["token"],
            "candidates": [
                {"text": entry["text"], "logit": round(float(entry["logit"]), 3)}
                for entry in position["candidates"]
            ],
            "rest_logits": [round(float(logit), 3) for logit in position["rest_logits"]],
        }
        for position in example["positions"]
    ]
    return {"prompt": example["prompt"], "answer": example["answer"], "positions": positions}


def self_test() -> str:
    """Measure, and draw what was found."""
    try:
        with _ONE_AT_A_TIME:
            return self_test_html(api.self_test())
    except (api.DistillError, OSError, RuntimeError) as error:
        return theme.alert("The self-test could not run", str(error), "warn")


def self_test_html(found: dict[str, Any]) -> str:
    """Draw the properties as a table: what must hold, the figure found, what is allowed."""
    rows = "".join(
        f"<tr><td>{'✓&nbsp;holds' if item['passed'] else '<b>✗&nbsp;fails</b>'}</td>"
        f"<th scope='row'>{escape(item['words'])}</th><td>{escape(item['measures'])}"
        f"{'<br>' + escape(item['error']) if item['error'] else ''}</td>"
        f"<td class='ds-number'>{_figure(item['figure'])}</td>"
        f"<td class='ds-number'>{_figure(item['limit'])}</td></tr>"
        for item in found["properties"]
    )
    held = sum(item["passed"] for item in found["properties"])
    return (
        f"<p role='status'><b>{held} of {len(found['properties'])} properties hold</b> on "
        f"{escape(found['name'])} ({found['seconds']:.1f} s).</p><div class='ds-scroll' "
        "tabindex='0' role='region' aria-label='Self-test'><table class='ds-table'><thead><tr>"
        "<th scope='col'>result</th><th scope='col'>what must hold</th><th scope='col'>measured"
        "</th><th scope='col' class='ds-number'>found</th><th scope='col' class='ds-number'>"
        f"allowed</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}"


def lesson_html(lesson: Lesson) -> str:
    """Write one piece, with its sources."""
    body = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in lesson.body)
    listed = " · ".join(source_html(source) for source in lesson.sources)
    return (
        f"<h3>{escape(lesson.title)}</h3>{body}"
        f'<p class="ds-small">Published, not promised: {listed}</p>'
    )


def source_html(source: Source) -> str:
    """Write a source as a link, which opens outside of the app and only when clicked."""
    if not source.url:
        return escape(source.words)
    return (
        f'<a href="{escape(source.url)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(source.words)}</a>"
    )


def published_table() -> str:
    """Draw the table of published results."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(what)}</th><td>{escape(kept)}</td><td>{escape(speed)}</td>"
        f"<td>{escape(size)}</td><td>{source_html(source)}</td></tr>"
        for what, kept, speed, size, source in lessons.PUBLISHED
    )
    head = "".join(
        f"<th scope='col'>{title}</th>"
        for title in ("what was done", "quality kept", "speed", "size", "source")
    )
    return (
        "<h3>What others have measured</h3><p class='ds-muted'>Published, not promised: other "
        "models, other data. Your own runs count more.</p><div class='ds-scroll' tabindex='0' "
        f"role='region' aria-label='Published results'><table class='ds-table'><thead><tr>{head}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )
