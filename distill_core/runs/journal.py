"""The events of a run on disk: `events.jsonl`, one JSON line each, only ever appended to.

In: events. Out: events, from a byte offset on. A line counts once its newline is there, so that a
reader never sees half an event; a torn last line is cut off before the next is written. Knows
nothing of what events mean.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import orjson

from distill_core.events import Event
from distill_core.files import disk_full_told, plain

FILE_NAME = "events.jsonl"
_STEP = b'{"type":"step",'
"""How the line of a step begins."""


class Journal:
    """The writing end; one at a time per run. Use as a context manager.

    Steps wait in memory until somebody calls `flush`, in another thread than the one that trains:
    adding one never waits for the disk. All other events are written at once.
    """

    def __init__(self, run_dir: Path, name: str = FILE_NAME) -> None:
        self.path = run_dir / name
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._writing = threading.Lock()
        """Held by whoever writes; never asked for while `_lock` is held."""
        self._fd = -1
        with disk_full_told(run_dir):
            self._fd = os.open(
                self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
            )
            self._size = _end_of_last_line(self._fd)
            os.ftruncate(self._fd, self._size)

    def append(self, event: Event) -> None:
        """Add one event; raises `DiskFullError`, leaving only whole lines behind."""
        line = orjson.dumps(event, default=plain, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"
        with self._lock:
            self._waiting.append(line)
        if event["type"] != "step":
            self.flush()

    def flush(self) -> None:
        """Write what waits in memory."""
        with self._writing:
            self._flush()

    def close(self) -> None:
        """Write what waits, then let go of the file."""
        with self._writing:
            if self._fd < 0:
                return
            try:
                self._flush()
            finally:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close; what cannot be written any more has been reported by `append`."""
        with contextlib.suppress(ValueError, OSError):
            self.close()

    def _flush(self) -> None:
        with self._lock:
            data = b"".join(self._waiting)
            self._waiting.clear()
        if not data:
            return
        written = 0
        try:
            with disk_full_told(self.path.parent):
                os.lseek(self._fd, self._size, os.SEEK_SET)
                while written < len(data):
                    written += os.write(self._fd, data[written:])
        except BaseException:
            # whole lines that fitted stay, the torn one goes
            kept = data.rfind(b"\n", 0, written) + 1
            os.ftruncate(self._fd, self._size + kept)
            self._size += kept
            raise
        self._size += written


def read(run_dir: Path, offset: int = 0, *, steps: bool = True) -> tuple[list[Event], int]:
    """Read the events after byte `offset`; returns them with the offset to go on from.

    Without `steps` those of that type are left out, and cost hardly anything.
    """
    lines, offset = read_lines(run_dir, offset)
    events = []
    for line in lines:
        if not steps and line.startswith(_STEP):
            continue
        with contextlib.suppress(orjson.JSONDecodeError):  # a damaged line is skipped
            event = orjson.loads(line)
            if isinstance(event, dict) and "type" in event:
                events.append(event)
    return events, offset


def read_lines(run_dir: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """Read whole lines after byte `offset`; where that lies inside a line, from the next on."""
    try:
        with open(run_dir / FILE_NAME, "rb") as file:
            offset = max(0, min(offset, file.seek(0, os.SEEK_END)))
            file.seek(max(0, offset - 1))
            data = file.read()
    except FileNotFoundError:
        return [], 0
    if offset > 0:
        newline = data.find(b"\n")
        if newline < 0:
            return [], offset
        offset += newline
        data = data[newline + 1 :]
    end = data.rfind(b"\n") + 1
    return data[:end].split(b"\n")[:-1], offset + end


def _end_of_last_line(fd: int) -> int:
    """Byte just after the last newline; 0 when there is none."""
    end = os.lseek(fd, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65536)
        os.lseek(fd, start, os.SEEK_SET)
        block = os.read(fd, end - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
