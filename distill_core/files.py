"""Small files, written whole or not at all.

In: a path and text or data. Out: a file that is either the old one or the new one, and
`DiskFullError` where the disk has no room. Knows nothing of runs, recipes or models.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from distill_core.errors import DiskFullError

DISK_FULL_CODES = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def replace_text(path: Path, text: str | bytes) -> None:
    """Write beside `path`, then put in its place; raises `DiskFullError`, leaving the old file."""
    data = text.encode() if isinstance(text, str) else text
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_full_told(path.parent):
            beside.write_bytes(data)
            _replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def replace_json(path: Path, data: Any) -> None:
    """As `replace_text`, for JSON; NaN and infinity become null."""
    replace_text(path, orjson.dumps(data, default=plain, option=orjson.OPT_INDENT_2))


def overwrite_json(path: Path, data: Any) -> None:
    """Write into a file's own room: the last resort on a full disk, a reader may see half."""
    text = orjson.dumps(data, default=plain)
    with open(path, "r+b") as file:
        file.write(text)
        file.truncate()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing or is not one."""
    try:
        data = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return data if isinstance(data, dict) else {}


def plain(value: Any) -> Any:
    """Make JSON of numbers that libraries wrap (NumPy, torch scalars) and of everything else."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, says that the disk has no room."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFullError):
            return True
        if isinstance(seen, OSError) and seen.errno in DISK_FULL_CODES:
            return True
        text = str(seen)
        if "No space left on device" in text or "Disk quota exceeded" in text:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def disk_full_told(folder: Path) -> Iterator[None]:
    """Turn the system's "no space left" into a `DiskFullError` that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL_CODES:
            raise
        raise disk_full(folder) from error


def disk_full(folder: Path) -> DiskFullError:
    """Make the message for a full disk: where, how much is left, what to do."""
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB are free"
    except OSError:
        free = "nothing is free"
    return DiskFullError(
        f"The disk that holds {folder} is full ({free}), so the run cannot be written.\n"
        "Free some space there (old runs can be deleted) or choose another runs folder, "
        "then resume."
    )


def _replace(source: Path, target: Path) -> None:
    """`os.replace`, tried again while Windows has the target open for a reader."""
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == 19:
                raise
            time.sleep(0.01)
