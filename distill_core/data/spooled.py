"""Lists that may be longer than memory is large.

In: items one after the other. Out: a sequence that holds the first few thousand in memory and all
others in a file of its own, which goes when the list goes. Does not look into the items.

The file is read, not mapped: mapped pages would count as memory of the process.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar, overload

import numpy as np

from distill_core import files
from distill_core.data.row_bytes import Packing
from distill_core.models.cache_folder import cache_folder

__all__ = ["Chosen", "Reread", "Spooled"]

T = TypeVar("T")

FOLDER: Final = "rows"
IN_MEMORY: Final = 8192
"""Items that stay in memory, at the beginning of each list."""
_BLOCK: Final = 1 << 20
"""Bytes that are written, or read on the way through a list, at once."""


class _Rows(Sequence[T]):
    """What both kinds of list have in common: slices are plain lists; equal if the items are."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return self._items_of(range(*place.indices(len(self))))
        where = place + len(self) if place < 0 else place
        if not 0 <= where < len(self):
            raise IndexError(f"item {place} of {len(self)}")
        return self._item(where)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _item(self, place: int) -> T:
        raise NotImplementedError

    def _items_of(self, places: range) -> list[T]:
        return [self._item(place) for place in places]


class Spooled(_Rows[T]):
    """A list that grows at its end, of what can be packed; items are not changed any more.

    Raises:
        DiskFullError: on `append`, if the disk has no room.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._first: list[T] = []
        self._ends = array("Q")
        self._pending = bytearray()
        self._written = 0
        self._file: Any = None
        self._packing = Packing()
        self._one_at_a_time = threading.Lock()
        for item in items:
            self.append(item)

    def append(self, item: T) -> None:
        """Add one item."""
        if len(self._first) < IN_MEMORY:
            self._first.append(item)
            return
        packed = self._packing.pack(item)
        with self._one_at_a_time:
            self._pending += packed
            self._ends.append(self._written + len(self._pending))
            if len(self._pending) >= _BLOCK:
                self._write()

    def __len__(self) -> int:
        return len(self._first) + len(self._ends)

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        start, last = 0, len(self._ends)
        while start < last:
            stop, begin = start + 1, self._begin(start)
            while stop < last and self._ends[stop] - begin <= _BLOCK:
                stop += 1
            block = memoryview(self._read(begin, self._ends[stop - 1]))
            for number in range(start, stop):
                yield self._packing.unpack(
                    block[self._begin(number) - begin : self._ends[number] - begin]
                )
            start = stop

    def _item(self, place: int) -> T:
        if place < len(self._first):
            return self._first[place]
        number = place - len(self._first)
        found: T = self._packing.unpack(self._read(self._begin(number), self._ends[number]))
        return found

    def _begin(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def _read(self, begin: int, end: int) -> bytes:
        with self._one_at_a_time:
            if end > self._written:
                self._write()
            self._file.seek(begin)
            found: bytes = self._file.read(end - begin)
        return found

    def _write(self) -> None:
        folder = cache_folder() / FOLDER
        with files.disk_full_told(folder):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long
                weakref.finalize(self, self._file.close)
            self._file.seek(self._written)
            self._file.write(self._pending)
            self._file.flush()
        self._written += len(self._pending)
        self._pending = bytearray()


class Chosen(_Rows[T]):
    """Some of another list's items, in the order of `places`; nothing is copied."""

    def __init__(self, items: Sequence[T], places: Iterable[int]) -> None:
        self._items = items
        self._places = np.fromiter(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def _item(self, place: int) -> T:
        return self._items[int(self._places[place])]


class Reread(_Rows[T]):
    """`count` items that are read anew, from the beginning, whenever they are asked for."""

    def __init__(self, count: int, read: Callable[[], Iterator[T]]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return self._read()

    def _item(self, place: int) -> T:
        return next(islice(self._read(), place, None))

    def _items_of(self, places: range) -> list[T]:
        if places.step < 0:
            return self._items_of(places[::-1])[::-1]
        return list(islice(self._read(), places.start, places.stop, places.step))
