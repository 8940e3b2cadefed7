"""Rows of arrays on disk, under the hash of what they are about.

In: an identity, keys, arrays. Out: the same arrays, memory-mapped and checked. Each file of rows is
written beside and renamed, so that it is whole or not there; every row has a checksum of its own,
and what does not agree is not known. Several processes may write: each has files of its own. Knows
nothing of teachers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from distill_core import files
from distill_core.errors import CacheError, DiskFullError
from distill_core.teachers.cache_index import Places, as_keys, key_at

NOTE = "cache.json"
"""What the folder's name is a hash of, in plain words."""

FILE_BYTES = 64_000_000
"""Rows are written in files of about this size."""

BROKEN_AFTER_S = 3600.0
"""A file that nobody has written to for so long will not be finished."""

_SUFFIX = ".rows.safetensors"


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits that change with anything in `identity`."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RowStore:
    """The rows that are kept under one identity.

    Args:
        root: Where folders of caches are.
        identity: All that the arrays depend on, beside the row itself.

    Raises:
        CacheError: the folder, or a file in it, is of another identity.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.identity = identity
        self.mark = identity_hash(identity)
        self.folder = root / self.mark
        self._files: list[_RowFile] = []
        self._places = Places()
        self._new: dict[bytes, Mapping[str, np.ndarray]] = {}
        self._new_bytes = 0
        self._agree_on_note()
        self._remove_broken_writes()
        self.reopen()

    def __contains__(self, key: bytes) -> bool:
        return key in self._new or bool(self._places.of(key))

    def __len__(self) -> int:
        return len(self._places) + len(self._new)

    def known(self, keys: np.ndarray) -> np.ndarray:
        """Bool (R,): which of `keys[R]` (`cache_index.as_keys`) are on disk."""
        return self._places.known(keys)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, without what is being written."""
        return sum(path.stat().st_size for path in self.folder.glob("[!.]*") if path.is_file())

    def read(self, keys: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
        """Arrays of each key, in order.

        Raises:
            CacheError: one is not there, or the disk does not give back what was written.
        """
        return [self._row(key) for key in keys]

    def is_whole(self, key: bytes) -> bool:
        """Whether a row can be read as it was written; where it cannot, it is forgotten."""
        if self._found(key) is not None:
            return True
        self._places.forget(key)
        return key in self._new

    def add(self, key: bytes, arrays: Mapping[str, np.ndarray]) -> None:
        """Take a row; it is written with those after it, at the latest by `flush`."""
        self._new[key] = arrays
        self._new_bytes += sum(array.nbytes for array in arrays.values())
        if self._new_bytes >= FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was added; raises `DiskFullError`, and what was written before is kept."""
        if not self._new:
            return
        path = self.folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self.folder.mkdir(parents=True, exist_ok=True)
        files.replace_text(path, _packed(self._new, self.mark))
        self._new, self._new_bytes = {}, 0
        self._take(path)

    def require_room(self, expected: int) -> None:
        """Raise `DiskFullError` if fewer than `expected` bytes are free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if expected > free:
            raise DiskFullError(
                f"The teacher cache needs {expected / 1e9:.2f} GB more, and {free / 1e9:.2f} GB "
                f"are free in {self.folder}.\nFree some space, choose a smaller teacher_cache or "
                "another runs folder, then resume."
            )

    def _agree_on_note(self) -> None:
        note = self.folder / NOTE
        if note.is_file():
            if files.read_json(note) != json.loads(json.dumps(self.identity)):
                raise _foreign(self.folder, "its note says something else than its name")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.replace_json(note, self.identity)

    def _remove_broken_writes(self) -> None:
        """Remove what a write that was killed has left; one that still goes on is younger."""
        for path in self.folder.glob(".*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > BROKEN_AFTER_S:
                    path.unlink()

    def reopen(self) -> None:
        """Learn what other processes have written meanwhile; what was not flushed is kept."""
        self._files, self._places = [], Places()
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            self._take(path)
        self._places.sort()

    def _take(self, path: Path) -> None:
        """Learn which rows a file has; one that was cut or damaged as a whole has none."""
        try:
            found = _RowFile(path)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return
        if found.mark != self.mark:
            raise _foreign(self.folder, f"{path.name} is of another teacher or setting")
        self._places.add(found.keys, len(self._files))
        self._files.append(found)

    def _row(self, key: bytes) -> dict[str, np.ndarray]:
        if key in self._new:
            return dict(self._new[key])
        if (found := self._found(key)) is not None:
            return found
        if key in self:
            raise CacheError(
                f"A row of the teacher cache {self.folder.name} is damaged: its checksum is "
                "another.\nResume the run: the row is asked for again."
            )
        raise CacheError(
            f"A row is not in the teacher cache {self.folder.name}: the teacher was never "
            "asked about it.\nResume the run, which asks; or leave teacher_cache empty."
        )

    def _found(self, key: bytes) -> dict[str, np.ndarray] | None:
        """A row from the first place where it is whole: it may have been written anew."""
        read = (self._files[file].row(row) for file, row in self._places.of(key))
        return next((row for row in read if row is not None), None)


class _RowFile:
    """One file of rows: arrays of all rows end to end, where each row starts, and checksums."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, "np")
        facts = self._file.metadata() or {}
        self.mark = facts.get("identity", "")
        dtypes: dict[str, str] = json.loads(facts["dtypes"])
        self.keys = as_keys(self._file.get_tensor("keys"))
        self._sums = self._file.get_tensor("sums")
        self._starts = {name: self._file.get_tensor(f"{name}.starts") for name in dtypes}
        self._slices = {name: self._file.get_slice(name) for name in dtypes}
        self._none = {
            name: np.empty((0, *self._slices[name].get_shape()[1:]), dtype)
            for name, dtype in dtypes.items()
        }

    def row(self, row: int) -> dict[str, np.ndarray] | None:
        """Arrays of a row; None if they are not what was written."""
        try:
            found = {
                name: self._slices[name][int(starts[row]) : int(starts[row + 1])]
                if starts[row] < starts[row + 1]
                else self._none[name]
                for name, starts in self._starts.items()
            }
        except (OSError, SafetensorError, IndexError):
            return None
        return found if _checksum(key_at(self.keys, row), found) == int(self._sums[row]) else None


def _packed(rows: Mapping[bytes, Mapping[str, np.ndarray]], mark: str) -> bytes:
    names = sorted(next(iter(rows.values())))
    arrays = {name: [row[name] for row in rows.values()] for name in names}
    packed = {name: np.concatenate(some) for name, some in arrays.items()}
    for name, some in arrays.items():
        packed[f"{name}.starts"] = np.cumsum([0, *(len(one) for one in some)], dtype=np.int64)
    packed["keys"] = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    sums = [_checksum(key, row) for key, row in rows.items()]
    packed["sums"] = np.array(sums, np.uint32)
    dtypes = {name: packed[name].dtype.str for name in names}
    return save(packed, metadata={"identity": mark, "dtypes": json.dumps(dtypes)})


def _checksum(key: bytes, arrays: Mapping[str, np.ndarray]) -> int:
    """Of a key with all that is kept under it, so that no row passes for another."""
    total = zlib.crc32(key)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(f"{name}{array.dtype.str}{array.shape}".encode(), total)
        total = zlib.crc32(array.data.cast("B") if array.size else b"", total)
    return total


def _foreign(folder: Path, why: str) -> CacheError:
    return CacheError(
        f"The teacher cache {folder.name} is refused: {why}.\nDelete {folder}; the teacher is then "
        "asked again."
    )
