"""Where each row of a cache is, by its key, in sorted arrays.

In: the keys of files of rows. Out: in which files a row is, and which of some keys are known. As
Python objects a million keys would take half a gigabyte. Knows nothing of what the files hold.
"""

from __future__ import annotations

import numpy as np

KEY = np.dtype("S16")
"""A key in an array; what it ends in zeros is cut by NumPy, and put back by comparing."""


def as_keys(raw: bytes | bytearray | np.ndarray) -> np.ndarray:
    """Keys (R,) that lie one after the other; raises `ValueError` if they are of another length."""
    return np.frombuffer(raw, KEY)


def key_at(keys: np.ndarray, place: int) -> bytes:
    """One of `keys[R]`, all 16 bytes of it."""
    return keys[place : place + 1].tobytes()


class Places:
    """File and row of every key that was added; one key may have several."""

    def __init__(self) -> None:
        self._keys = np.empty(0, KEY)
        self._files = np.empty(0, np.int32)
        self._rows = np.empty(0, np.int32)
        self._unsorted: list[tuple[np.ndarray, int]] = []
        self._forgotten: set[bytes] = set()

    def __len__(self) -> int:
        """How many different keys there are."""
        self.sort()
        again = int((self._keys[1:] == self._keys[:-1]).sum())
        return len(self._keys) - again - len(self._forgotten)

    def add(self, keys: np.ndarray, file: int) -> None:
        """Take the keys of a file, in the order of its rows."""
        self._unsorted.append((keys, file))
        if self._forgotten:
            self._forgotten.difference_update(key_at(keys, row) for row in range(len(keys)))

    def sort(self) -> None:
        """Make ready for questions; the first one does it otherwise."""
        if not self._unsorted:
            return
        keys = np.concatenate([self._keys, *(some for some, _ in self._unsorted)])
        files = [np.full(len(some), file, np.int32) for some, file in self._unsorted]
        rows = [np.arange(len(some), dtype=np.int32) for some, _ in self._unsorted]
        order = keys.argsort(kind="stable")  # of one key the first file stays the first
        self._keys = keys[order]
        self._files = np.concatenate([self._files, *files])[order]
        self._rows = np.concatenate([self._rows, *rows])[order]
        self._unsorted = []

    def of(self, key: bytes) -> list[tuple[int, int]]:
        """File and row of a key, in the order in which the files were added."""
        if key in self._forgotten:
            return []
        self.sort()
        one = np.array(key, KEY)
        first, end = (int(self._keys.searchsorted(one, side)) for side in ("left", "right"))
        files, rows = self._files[first:end].tolist(), self._rows[first:end].tolist()
        return list(zip(files, rows, strict=True))

    def known(self, keys: np.ndarray) -> np.ndarray:
        """Bool (R,): which of `keys[R]` are there."""
        self.sort()
        if not len(self._keys):
            return np.zeros(len(keys), bool)
        place = self._keys.searchsorted(keys).clip(max=len(self._keys) - 1)
        gone = np.array(sorted(self._forgotten), KEY)
        found: np.ndarray = (self._keys[place] == keys) & ~np.isin(keys, gone)
        return found

    def forget(self, key: bytes) -> None:
        """Do as if a key was not there, until a file brings it again."""
        if self.of(key):
            self._forgotten.add(key)
