"""Rows, and rows as token ids, as bytes and back.

In: a row, an encoded row or a prompt. Out: bytes, from which the same one is made again. Knows
nothing of files. What comes from other places than this process is never read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from distill_core.data.classes import EncodedText, TextRow
from distill_core.data.formats import Row
from distill_core.data.tokenize import Encoded, Span, TeacherSide

__all__ = ["Packing"]


class Packing:
    """Packs the items of one list; an array that many items share stays in memory, once."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.int64]] = []

    def pack(self, item: Any) -> bytes:
        """Return the item as bytes.

        Raises:
            TypeError: it is none of the kinds that are known here.
        """
        known = _PACK.get(type(item))
        if known is None:
            raise TypeError(f"{type(item).__name__} cannot be packed")
        tag, write = known
        return tag + write(self, item)

    def unpack(self, packed: bytes | memoryview) -> Any:
        """Return what was packed, equal and new."""
        return _UNPACK[bytes(packed[:1])](self, packed[1:])

    def _number_of(self, array: NDArray[np.int64] | None) -> int | None:
        if array is None:
            return None
        for number, known in enumerate(self._arrays):
            if known is array:
                return number
        self._arrays.append(array)
        return len(self._arrays) - 1


# --- rows: JSON of the standard library, which takes every text, half characters included ------


def _row(_: Packing, row: Row) -> bytes:
    cells = [row.messages, row.text, row.origin, row.answered_by_teacher, row.unfinished]
    if isinstance(row, TextRow):
        cells += [row.text_pair, row.label]
    return json.dumps(cells).encode()


def _as_row(kind: type[Row]) -> Callable[[Packing, Any], Row]:
    def read(_: Packing, packed: bytes | memoryview) -> Row:
        messages, *others = json.loads(bytes(packed))
        return kind(None if messages is None else tuple(messages), *others)

    return read


# --- token ids --------------------------------------------------------------------------------


def _encoded(packing: Packing, item: Encoded) -> bytes:
    side = item.teacher
    theirs = side and [
        side.input_ids,
        side.labels,
        None if side.spans is None else [[*span] for span in side.spans],
        packing._number_of(side.student_ids),
    ]
    return orjson.dumps([item.input_ids, item.labels, item.labelled, item.truncated, theirs])


def _as_encoded(packing: Packing, packed: bytes | memoryview) -> Encoded:
    ids, labels, labelled, truncated, theirs = orjson.loads(packed)
    side = None
    if theirs is not None:
        their_ids, their_labels, spans, number = theirs
        spans = None if spans is None else [Span(*span) for span in spans]
        table = None if number is None else packing._arrays[number]
        side = TeacherSide(their_ids, their_labels, spans, table)
    return Encoded(ids, labels, labelled, truncated, side)


def _encoded_text(_: Packing, item: EncodedText) -> bytes:
    return orjson.dumps(item)


def _as_encoded_text(_: Packing, packed: bytes | memoryview) -> EncodedText:
    return EncodedText(**orjson.loads(packed))


def _plain(_: Packing, item: Any) -> bytes:
    return orjson.dumps(item)


def _as_plain(_: Packing, packed: bytes | memoryview) -> Any:
    return orjson.loads(packed)


_PACK: Final[dict[type, tuple[bytes, Callable[[Packing, Any], bytes]]]] = {
    Row: (b"r", _row),
    TextRow: (b"t", _row),
    Encoded: (b"e", _encoded),
    EncodedText: (b"c", _encoded_text),
    list: (b"p", _plain),
    type(None): (b"p", _plain),
}
_UNPACK: Final[dict[bytes, Callable[[Packing, bytes | memoryview], Any]]] = {
    b"r": _as_row(Row),
    b"t": _as_row(TextRow),
    b"e": _as_encoded,
    b"c": _as_encoded_text,
    b"p": _as_plain,
}
