"""The few rows that dry steps are taken with.

In: all rows to learn from, and the planned stages. Out: the longest ones, for memory, and a draw of
all, for time, every one of them with an answer. Knows no models.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distill_core.data.classes import TextRow
from distill_core.data.formats import Row
from distill_core.recipe.plan import PlannedStage

PARTS_OF_A_STEP = 8
"""A timed step has at most so many micro-batches; larger ones are reckoned from it."""


def few_rows(rows: Sequence[Any], stages: Sequence[PlannedStage], *, seed: int) -> list[Any]:
    """The longest rows, then a draw of all: enough of both for a step of any stage.

    Rows without an answer get that of another row, since a teacher's would take long to write. All
    rows are read once, and none is kept that is not chosen.
    """
    optims = [stage.settings.optim for stage in stages]
    most = max(min(one.global_batch_size, 2 * one.micro_batch_size) for one in optims)
    drawn = max(timed_rows(one.global_batch_size, one.micro_batch_size) for one in optims)
    lengths, answered = array("Q"), array("Q")
    for place, row in enumerate(rows):
        lengths.append(_characters(row))
        if isinstance(row, Row) and row.response:
            answered.append(place)
    everywhere = range(len(rows))
    by_length = heapq.nlargest(most, everywhere, key=lengths.__getitem__)
    chance = random.Random(seed)
    places = [*by_length, *chance.sample(everywhere, min(drawn, len(rows)))]

    def with_answer(row: Any) -> Any:
        if isinstance(row, TextRow) or row.labelled:
            return row
        return _answered(row, rows[chance.choice(answered)].response if answered else None)

    return [with_answer(rows[place]) for place in places]


def timed_rows(global_batch_size: int, micro_batch_size: int) -> int:
    """Rows of a step that is timed."""
    return min(global_batch_size, PARTS_OF_A_STEP * micro_batch_size)


def _characters(row: Any) -> int:
    if isinstance(row, TextRow):
        return len(row.text or "") + len(row.text_pair or "")
    return len(row.text or "") + sum(len(one["content"]) for one in row.messages or ())


def _answered(row: Row, answer: str | None) -> Row:
    """The row with somebody's answer; with its own words where nobody has answered anything."""
    prompt = row.prompt_messages
    words = answer or " ".join(prompt[-1]["content"].split()[:24]) or "yes"
    return replace(row, messages=(*prompt, {"role": "assistant", "content": words}))
