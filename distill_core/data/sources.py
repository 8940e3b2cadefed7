"""Rows of a recipe's sources, and which of them are held out.

In: the data settings. Out: training rows, held-out rows and the facts that the preview shows.
Knows nothing of tokens and models; `files` and `hub` do the reading.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from distill_core.data.classes import class_counts, to_text_row
from distill_core.data.columns import settle_columns, settle_text_columns
from distill_core.data.files import Records, read_file
from distill_core.data.formats import Row, content_key, to_row
from distill_core.data.hub import read_hub, title_of
from distill_core.data.spooled import Chosen, Spooled
from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings, DataSettings, FileSource, Source, StarterSource

__all__ = ["Loaded", "Prepared", "load_rows", "load_source", "prepare"]


@dataclass(slots=True)
class Loaded:
    """The rows of one source, and which columns they were made of."""

    title: str
    rows: Sequence[Row]
    columns: ColumnSettings
    guessed: bool
    names: list[str] = field(default_factory=list)
    """All columns that the source has, where a recipe may choose among them."""
    skipped: int = 0
    """Plain texts left out because they are empty."""
    unanswered: int = 0
    """Rows without an answer, where the source has a column for it, or chats."""

    def facts(self) -> dict[str, Any]:
        """Describe it: `{"title", "rows", "columns", "names", "guessed", "skipped", "unanswered"}`.

        `names` are all columns that it has, where a recipe may choose among them.
        """
        columns = self.columns.model_dump(exclude_none=True)
        return {
            **{"title": self.title, "rows": len(self.rows), "columns": columns},
            **{"names": list(self.names), "guessed": self.guessed, "skipped": self.skipped},
            "unanswered": self.unanswered,
        }


@dataclass(slots=True)
class Prepared:
    """What a run learns from, what it is scored on, and the facts of both."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    facts: dict[str, Any]


def load_rows(
    data: DataSettings,
    *,
    source: Source,
    field: str = "data.sources.0",
    task: str = "causal_lm",
) -> Sequence[Row]:
    """Read the rows of one source, as the task takes them.

    Raises:
        DataError: the file, a column or a row cannot be used.
        HubUnreachable: the hub does not answer, and there is no copy on this machine.
    """
    return load_source(data, source=source, field=field, task=task).rows


def load_source(
    data: DataSettings,
    *,
    source: Source,
    field: str = "data.sources.0",
    task: str = "causal_lm",
) -> Loaded:
    """Read one source, with the columns it was read by; raises as `load_rows`."""
    title, found = _read(source, field)
    told_apart = task == "text_classification"
    if isinstance(source, StarterSource):
        columns, guessed = _STARTER_COLUMNS[task], False
    elif told_apart:
        columns, guessed = settle_text_columns(data.columns, found, title)
    else:
        columns, guessed = settle_columns(data.columns, found, title)
    rows: Spooled[Row] = Spooled()
    unanswered = 0
    for origin, record in found.records:
        if columns.text and not str(record.get(columns.text) or "").strip():
            continue
        row = (
            to_text_row(record, columns, origin)
            if told_apart
            else to_row(record, columns, data, origin)
        )
        unanswered += not row.labelled
        rows.append(row)
    if not rows:
        raise DataError(f"{title}: column {columns.text!r} is empty in all rows.", field=field)
    answers = columns.label if told_apart else columns.response or columns.messages
    return Loaded(
        title,
        rows,
        columns,
        guessed,
        [] if isinstance(source, StarterSource) else found.names,
        skipped=len(found.records) - len(rows),
        unanswered=unanswered if answers else 0,
    )


def _read(source: Source, field: str) -> tuple[str, Records]:
    if isinstance(source, StarterSource):
        from distill_core import starter

        title = f"starter/{source.split}"
        rows = starter.rows(source.split)[: source.limit]
        named = [
            (f"{title}:{place}", {**row, "action": starter.action(row.get("response"))})
            for place, row in enumerate(rows, 1)
        ]
        return title, Records(["prompt", "response", "action"], named)
    if isinstance(source, FileSource):
        found = read_file(source.path, limit=source.limit, field=field)
        return Path(source.path).name, found
    return title_of(source), read_hub(source, field=field)


_STARTER_COLUMNS = {
    "causal_lm": ColumnSettings(prompt="prompt", response="response"),
    "text_classification": ColumnSettings(text="prompt", label="action"),
}


# --- training and held-out rows -------------------------------------------------------------


def prepare(data: DataSettings, *, seed: int, task: str = "causal_lm") -> Prepared:
    """Read all sources, as the task takes them, and set the held-out rows aside.

    Which rows a share holds out depends on each row's own content alone: not on `seed`, which is
    taken so that callers need not know this, nor on the order, nor on other rows. No prompt is on
    both sides: training rows that ask a held-out prompt are dropped and counted as `overlap`.

    Raises:
        DataError: a source, column or row cannot be used, or one of the two sides is empty.
        HubUnreachable: the hub does not answer, and there is no copy on this machine.
    """
    loaded = [
        load_source(data, source=source, field=f"data.sources.{place}", task=task)
        for place, source in enumerate(data.sources)
    ]
    _check_answers_found(data, loaded, "label" if task == "text_classification" else "response")
    rows = loaded[0].rows
    if len(loaded) > 1:
        rows = Spooled(chain.from_iterable(source.rows for source in loaded))
    held_out: Sequence[Row]
    asked: set[str] = set()
    aside = 0
    if isinstance(data.held_out, float):
        places = array("q")
        for place, row in enumerate(rows):
            if row.labelled and _place(row, key := row.content_hash) < data.held_out:
                places.append(place)
                asked.add(key)
        held_out, aside = Chosen(rows, places), len(places)
        if not held_out:
            raise DataError(
                f"None of the {sum(row.labelled for row in rows):,} labelled rows fell into the "
                f"held-out share of {data.held_out:g}. Raise it, or name a source with answers.",
                field="data.held_out",
            )
    else:
        source = load_source(data, source=data.held_out, field="data.held_out", task=task)
        held_out = Chosen(
            source.rows, (place for place, row in enumerate(source.rows) if row.labelled)
        )
        asked = {row.content_hash for row in held_out}
        if not held_out:
            raise DataError(
                f"{source.title} has no row with an answer, so nothing can be scored on it. "
                "Name a source of labelled rows.",
                field="data.held_out",
            )
    kept, keys = array("q"), array("Q")
    for place, row in enumerate(rows):
        key = row.content_hash
        keys.append(int(key[:16], 16))  # 64 bits tell millions of rows apart
        if asked.isdisjoint((key, *_earlier_prompts(row))):
            kept.append(place)
    train = Chosen(rows, kept)
    if not train:
        raise DataError(
            f"No row is left to learn from: all {len(rows):,} are held out. "
            "Add a source, or hold out fewer.",
            field="data.held_out",
        )
    labelled = sum(row.labelled for row in train)
    overlap = len(rows) - aside - len(train)
    facts = {
        **{"sources": [source.facts() for source in loaded], "rows": len(train)},
        **{"labelled": labelled, "unlabelled": len(train) - labelled, "held_out": len(held_out)},
        **{"overlap": overlap, "duplicates": len(keys) - len(np.unique(keys))},
    }
    if task == "text_classification":
        facts["classes"] = class_counts(train)
        facts["held_out_classes"] = class_counts(held_out)
    return Prepared(train, held_out, facts)


def _place(row: Row, key: str) -> float:
    """Return a number in 0–1 that the row's opening alone decides; `key`: its content hash.

    The opening is all that stands before the first answer: chats that begin alike stay together.
    """
    return int(next(_earlier_prompts(row), key)[:12], 16) / 16**12


def _earlier_prompts(row: Row) -> Iterator[str]:
    """Yield the content hash of what each answer but the last one answers: they are learnt too."""
    for place, message in enumerate(row.prompt_messages):
        if message["role"] == "assistant":
            yield content_key(row.prompt_messages[:place])


def _check_answers_found(data: DataSettings, loaded: list[Loaded], kind: str) -> None:
    """Refuse a column of answers that no source has: a slip would make every row unlabelled."""
    pairs = zip(data.sources, loaded, strict=True)
    found = [item.columns for source, item in pairs if not isinstance(source, StarterSource)]
    wanted = getattr(data.columns, kind)
    if wanted and found and not any(getattr(columns, kind) for columns in found):
        there = list(dict.fromkeys(name for item in loaded for name in item.names))
        raise DataError(
            f"No source has a column {wanted!r}, so no row would have an answer. "
            f"Columns: {', '.join(there)}.\nCorrect the name, or leave it empty if that is meant.",
            field=f"data.columns.{kind}",
            columns=there,
        )
