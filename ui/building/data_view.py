"""Build's view of the data: a row as the model will see it, and the facts around it.

In: the desk, a row's number. Out: HTML. Changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from distill_core import api
from ui import theme
from ui.building import desk as desks
from ui.building import draft, row_drawn
from ui.building.desk import Desk
from ui.building.review import problems_of, told, warm

WAIT_ROW = "<p class='ds-muted' role='status'>Reading the rows …</p>"


def show_row(desk: Desk, index: int, step: int = 0) -> tuple[str, str, int]:
    """Show a row as the model will see it: chips of the data, its tokens, its number."""
    wanted = max(0, int(index or 0) + step)
    warm()
    try:
        preview = api.preview(api.load_recipe(desks.current(desk)), index=wanted)
    except api.DistillError as error:
        problem = problems_of(error)[0]
        why = theme.alert("This row cannot be shown yet", told(problem), "warn")
        return row_drawn.column_names(getattr(error, "columns", ())), why, wanted
    rows = int(preview.get("rows") or 0)
    at = int(preview.get("index") or 0)
    head = f'<p class="ds-row-number">Row {at + 1:,} of {rows:,}</p>'
    return row_drawn.chips(preview.get("facts", {})), head + row_drawn.row(preview), at


def data_key(desk: Desk) -> str:
    """What the preview depends on, as text: data, and the models that bring the tokenizer."""
    try:
        data = draft.read(desks.current(desk))
    except draft.BrokenYaml:
        return ""
    pair = draft.pair(data)
    models = [draft.get(data, path) for path in (pair.teacher_path, "stages.0.student.model")]
    parts = [data.get("data"), draft.task(data), models, draft.kinds(data)]
    return json.dumps(parts, sort_keys=True, default=str)


def follow_data(desk: Desk, index: int, shown_key: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Show the row again when the data or the tokenizer has changed; else leave it.

    What was shown goes first: a look at the hub may take seconds.
    """
    key = data_key(desk)
    if not key or key == shown_key:
        yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return
    yield "", WAIT_ROW, gr.skip(), gr.skip()
    more = bool(shown_key) and _sources(key) > _sources(shown_key)
    yield *show_row(desk, first_of_last(desk) if more else index), key


def _sources(key: str) -> int:
    """How many sources a key of the data has."""
    data = json.loads(key)[0]
    listed = data.get("sources") if isinstance(data, dict) else None
    return len(listed) if isinstance(listed, list) else 0


def first_of_last(desk: Desk) -> int:
    """Number of the first row of the last source; a little off where a share is held out."""
    try:
        facts = api.preview(api.load_recipe(desks.current(desk)))["facts"]
    except api.DistillError:
        return 0
    rows = [int(source.get("rows") or 0) for source in facts["sources"]]
    everything = max(1, sum(rows))
    return round(sum(rows[:-1]) * int(facts.get("rows") or everything) / everything)


def go_to_row(desk: Desk, number: float | None) -> tuple[str, str, int]:
    """Show the row of a number, counted from 1."""
    return show_row(desk, max(1, int(number or 1)) - 1)
