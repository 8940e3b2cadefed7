"""Lists whose tail lies on disk: what they give back, and that they read no more than is asked.

In: rows, arrays. Out: nothing. Knows nothing of files that hold rows.
"""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_core.data import spooled
from distill_core.data.classes import EncodedText, TextRow
from distill_core.data.formats import Row
from distill_core.data.spooled import Chosen, Reread, Spooled
from distill_core.data.tokenize import Encoded, Span, TeacherSide
from distill_core.errors import DiskFullError


@pytest.fixture(autouse=True)
def four_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spooled, "IN_MEMORY", 4)
    monkeypatch.setattr(spooled, "_BLOCK", 300)
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path))


def rows(count: int) -> list[Row]:
    return [
        Row(({"role": "user", "content": f"é{number}" * (number % 5)},), None, f"a.jsonl:{number}")
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [0, 3, 4, 5, 40])
def test_it_gives_back_what_it_was_given(count: int) -> None:
    given = rows(count)
    kept = Spooled(given)
    assert len(kept) == count
    assert list(kept) == given
    assert list(kept) == given, "and again"
    assert [kept[place] for place in range(count)] == given
    assert [kept[place - count] for place in range(count)] == given
    assert kept[1:30:7] == given[1:30:7]
    assert kept == given


def test_it_goes_on_growing_after_it_was_read() -> None:
    given = rows(30)
    kept = Spooled(given[:9])
    assert kept[8] == given[8]
    for row in given[9:]:
        kept.append(row)
        assert kept[len(kept) - 1] == row
    assert list(kept) == given


@pytest.mark.parametrize("place", [6, -7])
def test_a_place_outside_is_refused(place: int) -> None:
    with pytest.raises(IndexError):
        Spooled(rows(6))[place]


def test_an_item_read_from_disk_does_not_change_the_list() -> None:
    kept = Spooled([Encoded([1, 2], [-100, 2], True, False) for _ in range(6)])
    kept[5].input_ids.append(3)
    assert kept[5].input_ids == [1, 2]


def test_every_kind_of_item_comes_back_equal() -> None:
    chat = ({"role": "user", "content": "half \ud83d"}, {"role": "assistant", "content": ""})
    items: list[Any] = [
        Row(chat, None, "a\udcff.jsonl:1", answered_by_teacher=True, unfinished=True),
        Row(None, "plain", "b.txt:2"),
        TextRow(None, "first", "c.csv:3", text_pair="second", label="yes"),
        Encoded([1, 2**17], [-100, 5], True, True, TeacherSide([7], [-100])),
        Encoded([3], [-100], False, False, TeacherSide([7], [-100], [Span(0, 1, 2, 3, False)])),
        EncodedText([4, 5], [0, 1], 1, True, False),
        EncodedText([4], None, 0, False, True),
        [1, 2, 3],
        None,
    ]
    padded = [None] * 4 + items
    for kept in (list(Spooled(padded))[4:], Spooled(padded)[4:]):
        assert kept == items
        assert [type(one) for one in kept] == [type(one) for one in items]


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        Spooled([None] * 4 + [{1}])


def test_records_are_read_anew() -> None:
    read = Reread(5, lambda: iter(range(5)))
    assert list(read) == list(read) == [0, 1, 2, 3, 4]
    assert (read[1], read[-1], read[1:4:2], read[::-2]) == (1, 4, [1, 3], [4, 2, 0])


def test_an_array_that_all_items_share_is_written_once(tmp_path: Path) -> None:
    table = np.arange(100_000)
    kept = Spooled[Encoded]()
    for number in range(12):
        side = TeacherSide([number], [-100], [Span(0, 1, 0, 1, True)], table)
        kept.append(Encoded([number], [-100], False, False, side))
    assert all(item.teacher is not None and item.teacher.student_ids is table for item in kept)
    assert kept[9].teacher is not None
    assert kept[9].teacher.spans == [Span(0, 1, 0, 1, True)]
    assert kept._written + len(kept._pending) < 10_000


def test_nothing_is_written_while_it_fits_and_nothing_stays(tmp_path: Path) -> None:
    few = Spooled(rows(4))
    assert few[3]
    assert not list(tmp_path.iterdir())
    many = Spooled(rows(40))
    assert many._file is not None
    del many
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def seek(self, place: int) -> None:
            del place

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    monkeypatch.setattr(spooled.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(DiskFullError):
        Spooled(rows(40))


def test_chosen_items_are_read_where_they_lie() -> None:
    given = rows(20)
    some = Chosen(Spooled(given), [19, 0, 7])
    assert list(some) == [given[19], given[0], given[7]]
    assert some[-1] == given[7]
    assert some[:2] == [given[19], given[0]]
    assert list(Chosen(Spooled(given), [])) == []


def test_several_threads_may_read_it_and_one_may_write() -> None:
    given = rows(300)
    kept = Spooled(given[:200])
    wrong: list[Any] = []

    def read(start: int) -> None:
        for turn in range(300):
            place = (start + 7 * turn) % 200
            if kept[place] != given[place]:
                wrong.append(place)
        if list(kept)[:200] != given[:200]:
            wrong.append("on the way through")

    readers = [threading.Thread(target=read, args=(start,)) for start in (0, 50, 101)]
    for reader in readers:
        reader.start()
    for row in given[200:]:
        kept.append(row)
    for reader in readers:
        reader.join()
    assert wrong == []
    assert list(kept) == given
