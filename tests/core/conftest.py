"""What tests of whole runs begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core import small_runs


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Forty rows, ten of them without an answer."""
    return small_runs.write_rows(tmp_path)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty folder for a run, in a runs folder of its own."""
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    return folder
