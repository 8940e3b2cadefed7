"""Small files: whole or not at all, and a full disk told as such."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from distill_core import files
from distill_core.errors import DiskFullError


def test_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.replace_json(path, {"a": 1})

    def refuse(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DiskFullError, match="is full") as caught:
        files.replace_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_an_error_that_is_no_full_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.replace_text(tmp_path / "no" / "such" / "folder.json", "x")


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.replace_json(path, {"nan": float("nan"), "inf": np.float32("inf"), "n": np.int64(3)})
    assert files.read_json(path) == {"nan": None, "inf": None, "n": 3}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_what_cannot_be_read_is_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    assert files.read_json(path) == {}
    path.write_text(content, encoding="latin-1")
    assert files.read_json(path) == {}


def test_a_full_disk_is_found_behind_other_errors() -> None:
    outer = ValueError("could not save")
    outer.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert files.is_disk_full(outer)
    assert files.is_disk_full(RuntimeError("writing: No space left on device (os error 28)"))
    assert not files.is_disk_full(OSError(errno.EACCES, "Permission denied"))
