"""Events on disk: whole lines only, whatever happens while one is written."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_core.errors import DiskFullError
from distill_core.events import event
from distill_core.runs import journal


def fill(folder: Path, count: int) -> bytes:
    with journal.Journal(folder) as log:
        for step in range(count):
            log.append(event("step", stage=0, step=step, metrics={"loss": 1.0}))
    return (folder / "events.jsonl").read_bytes()


def fill_up(log: journal.Journal) -> None:
    for step in range(2, 9):
        log.append(event("warning", step=step, message="x" * 40))


def steps(folder: Path, offset: int = 0) -> list[int]:
    return [found["step"] for found in journal.read(folder, offset)[0]]


def test_reads_back_what_was_written_from_an_offset_on(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    found, offset = journal.read(tmp_path)
    assert [e["step"] for e in found] == [0, 1, 2]
    assert journal.read(tmp_path, offset) == ([], offset)
    with journal.Journal(tmp_path) as log:
        log.append(event("warning", message="line one\nline two"))
    later, end = journal.read(tmp_path, offset)
    assert [e["message"] for e in later] == ["line one\nline two"]
    assert end == (tmp_path / "events.jsonl").stat().st_size


def test_no_events_yet(tmp_path: Path) -> None:
    assert journal.read(tmp_path) == ([], 0)
    assert journal.read(tmp_path, 500) == ([], 0)


def test_half_a_line_is_no_event(tmp_path: Path) -> None:
    whole = fill(tmp_path, 2)
    (tmp_path / "events.jsonl").write_bytes(whole + b'{"type":"step","step":2')
    found, offset = journal.read(tmp_path)
    assert [e["step"] for e in found] == [0, 1]
    assert offset == len(whole)


@pytest.mark.parametrize("torn", [b'{"type":1,', b"x" * 200_000, b"\x00\xff"])
def test_a_torn_last_line_is_cut_off_before_the_next(tmp_path: Path, torn: bytes) -> None:
    whole = fill(tmp_path, 2)
    (tmp_path / "events.jsonl").write_bytes(whole + torn)
    with journal.Journal(tmp_path) as log:
        log.append(event("step", step=2))
    written = (tmp_path / "events.jsonl").read_bytes()
    assert written.startswith(whole)
    assert written.endswith(b"}\n")
    assert torn not in written
    assert steps(tmp_path) == [0, 1, 2]


def test_a_file_of_half_a_line_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(b'{"type"')
    fill(tmp_path, 1)
    assert steps(tmp_path) == [0]


def test_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    whole = fill(tmp_path, 1)
    (tmp_path / "events.jsonl").write_bytes(b"garbage\n[1]\n" + whole)
    assert steps(tmp_path) == [0]


def test_steps_can_be_left_out(tmp_path: Path) -> None:
    with journal.Journal(tmp_path) as log:
        for kind in ("run_started", "step", "warning", "step"):
            log.append(event(kind, stage=0, step=1, message="a step"))
    whole, end = journal.read(tmp_path)
    found, offset = journal.read(tmp_path, steps=False)
    assert [one["type"] for one in whole] == ["run_started", "step", "warning", "step"]
    assert [one["type"] for one in found] == ["run_started", "warning"]
    assert offset == end


def test_steps_wait_in_memory_and_others_do_not(tmp_path: Path) -> None:
    with journal.Journal(tmp_path) as log:
        log.append(event("step", step=1))
        assert steps(tmp_path) == []
        log.append(event("warning", step=2, message=""))
        assert steps(tmp_path) == [1, 2]
        log.append(event("step", step=3))
        assert steps(tmp_path) == [1, 2]
        log.flush()
        assert steps(tmp_path) == [1, 2, 3]
        log.append(event("step", step=4))
    assert steps(tmp_path) == [1, 2, 3, 4], "closing writes the rest"


def test_a_step_never_waits_for_a_disk_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, busy, go_on = os.write, threading.Event(), threading.Event()

    def slow(fd: int, data: bytes) -> int:
        busy.set()
        assert go_on.wait(30)
        return write(fd, data)

    with journal.Journal(tmp_path) as log:
        log.append(event("step", step=0))
        monkeypatch.setattr(os, "write", slow)
        writer = threading.Thread(target=log.flush)
        writer.start()
        assert busy.wait(30)
        for step in range(1, 4):  # while the disk holds the other thread
            log.append(event("step", step=step))
        assert steps(tmp_path) == []
        go_on.set()
        writer.join()
    assert steps(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("room", [0, 1, 100, 250])
def test_a_full_disk_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    before = fill(tmp_path, 2)
    write = os.write
    left = room

    def small(fd: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(fd, bytes(data)[:left])
        left -= count
        return count

    with journal.Journal(tmp_path) as log:
        monkeypatch.setattr(os, "write", small)
        with pytest.raises(DiskFullError):
            fill_up(log)
        monkeypatch.setattr(os, "write", write)
        content = (tmp_path / "events.jsonl").read_bytes()
        assert content.startswith(before)
        assert content.endswith(b"\n")
        kept = steps(tmp_path)
        assert kept == list(range(len(kept)))
        log.append(event("warning", step=99, message="room again"))
    assert steps(tmp_path) == [*kept, 99]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(offset=st.integers(-5, 700))
def test_from_any_offset_no_event_is_torn_or_told_twice(tmp_path: Path, offset: int) -> None:
    folder = tmp_path / "one"
    if not folder.exists():
        folder.mkdir()
        fill(folder, 6)
    found, end = journal.read(folder, offset)
    assert [e["step"] for e in found] == list(range(6 - len(found), 6))
    assert journal.read(folder, end)[0] == []
