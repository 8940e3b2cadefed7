"""Rows on disk: what is given back, what is refused, and what a crash leaves behind."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from distill_core import files
from distill_core.errors import CacheError, DiskFullError
from distill_core.teachers import cache_store
from distill_core.teachers.cache_store import NOTE, RowStore, identity_hash

WHO = {"teacher": "abc", "kind": "hidden", "layout": 1}


def key(number: int) -> bytes:
    return number.to_bytes(16, "little")


def arrays(number: int) -> dict[str, np.ndarray]:
    """Rows of unequal length, one of them empty, some ending in zeros."""
    return {
        "hidden": np.full((number % 4, 3), number, np.float16),
        "ids": np.arange(number % 4, dtype=np.uint16),
    }


def filled(root: Path, numbers: range = range(6), who: dict[str, object] = WHO) -> RowStore:
    store = RowStore(root, who)
    for number in numbers:
        store.add(key(number), arrays(number))
    store.flush()
    return store


def assert_whole(store: RowStore, numbers: range) -> None:
    found = store.read([key(number) for number in reversed(numbers)])
    for number, row in zip(reversed(numbers), found, strict=True):
        for name, array in arrays(number).items():
            assert row[name].dtype == array.dtype
            assert np.array_equal(row[name], array)


def row_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.rows.safetensors"))


def test_what_is_written_is_read_back_by_whoever_opens_it(tmp_path: Path) -> None:
    assert_whole(filled(tmp_path), range(6))
    again = RowStore(tmp_path, dict(reversed(WHO.items())))
    assert len(again) == 6
    assert key(3) in again
    assert key(6) not in again
    assert_whole(again, range(6))


def test_rows_not_yet_written_are_known_and_lost_with_the_process(tmp_path: Path) -> None:
    store = RowStore(tmp_path, WHO)
    store.add(key(3), arrays(3))
    assert_whole(store, range(3, 4))
    assert key(3) not in RowStore(tmp_path, WHO)
    store.flush()
    assert key(3) in RowStore(tmp_path, WHO)


def test_large_rows_are_written_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_store, "FILE_BYTES", 20)
    store = RowStore(tmp_path, WHO)
    for number in range(1, 9):
        store.add(key(number), arrays(number))
    assert len(row_files(tmp_path)) > 2
    store.flush()
    assert_whole(RowStore(tmp_path, WHO), range(1, 9))


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, two = RowStore(tmp_path, WHO), RowStore(tmp_path, WHO)
    for number in range(6):
        one.add(key(number), arrays(number))
        two.add(key(number + 3), arrays(number + 3))
    one.flush()
    two.flush()
    assert_whole(RowStore(tmp_path, WHO), range(9))


def test_other_identities_have_other_folders(tmp_path: Path) -> None:
    filled(tmp_path)
    for change in ({"teacher": "abd"}, {"kind": "top_k"}, {"layout": 2}, {"more": None}):
        other = RowStore(tmp_path, WHO | change)
        assert len(other) == 0
        assert other.mark != identity_hash(WHO)


def test_a_folder_whose_note_says_something_else_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    files.replace_json(store.folder / NOTE, WHO | {"teacher": "abd"})
    with pytest.raises(CacheError, match="is refused: its note says something else"):
        RowStore(tmp_path, WHO)


def test_a_file_of_another_teacher_is_refused(tmp_path: Path) -> None:
    ours, theirs = filled(tmp_path), filled(tmp_path, who=WHO | {"teacher": "abd"})
    (path,) = theirs.folder.glob("*.rows.safetensors")
    shutil.copy(path, ours.folder)
    with pytest.raises(CacheError, match="is of another teacher or setting"):
        RowStore(tmp_path, WHO)


def test_a_row_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="was never asked about it"):
        filled(tmp_path).read([key(1), key(77)])


@pytest.mark.parametrize("left", [0, 5, 100, -1])
def test_a_file_that_was_cut_is_not_believed(tmp_path: Path, left: int) -> None:
    filled(tmp_path, range(3))
    whole = row_files(tmp_path)
    filled(tmp_path, range(3, 6))
    (path,) = set(row_files(tmp_path)) - set(whole)
    path.write_bytes(path.read_bytes()[:left])
    store = RowStore(tmp_path, WHO)
    assert len(store) == 3
    assert_whole(store, range(3))


def test_a_damaged_row_is_found_out_and_no_other(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = row_files(tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(arrays(3)["hidden"].tobytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
    store = RowStore(tmp_path, WHO)
    with pytest.raises(CacheError, match="is damaged"):
        store.read([key(3)])
    assert [store.is_whole(key(number)) for number in range(6)] == [True] * 3 + [False] + [True] * 2
    assert key(3) not in store
    store.add(key(3), arrays(3))
    store.flush()
    (new,) = set(row_files(tmp_path)) - {path}
    for first in (path, new):  # whichever of the two is read first
        moved = first.rename(first.with_name("0.rows.safetensors"))
        again = RowStore(tmp_path, WHO)
        assert again.is_whole(key(3)), "the good copy is found behind the damaged one"
        assert_whole(again, range(6))
        again.reopen()
        assert_whole(again, range(6))
        moved.rename(first)


def test_a_row_does_not_pass_for_another(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = row_files(tmp_path)
    content = path.read_bytes()
    one, two = key(3), key(2)
    path.write_bytes(content.replace(one, b"x" * 16).replace(two, one).replace(b"x" * 16, two))
    store = RowStore(tmp_path, WHO)
    assert not store.is_whole(key(3))
    assert not store.is_whole(key(2))


def test_a_full_disk_is_told_before_and_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(3))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 2_000_000_000))
    store.require_room(2_000_000_000)
    with pytest.raises(DiskFullError, match=r"needs 3\.00 GB more, and 2\.00 GB are free"):
        store.require_room(3_000_000_000)

    def full(path: Path, data: bytes) -> None:
        raise files.disk_full(path.parent)

    store.add(key(4), arrays(4))
    monkeypatch.setattr(files, "replace_text", full)
    with pytest.raises(DiskFullError):
        store.flush()
    monkeypatch.undo()
    assert_whole(RowStore(tmp_path, WHO), range(3))
    assert store.size_bytes > 0


def test_what_a_killed_write_left_is_not_counted_and_goes(tmp_path: Path) -> None:
    store = filled(tmp_path)
    size = store.size_bytes
    old, young = (store.folder / f".{name}.rows.safetensors.123.tmp" for name in ("a", "b"))
    for path in (old, young):
        path.write_bytes(bytes(1000))
    hour_ago = time.time() - cache_store.BROKEN_AFTER_S - 1
    os.utime(old, (hour_ago, hour_ago))
    assert store.size_bytes == size
    assert_whole(RowStore(tmp_path, WHO), range(6))
    assert not old.exists()
    assert young.exists(), "somebody may still be writing it"
