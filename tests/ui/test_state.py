"""What comes from a browser may name a run of this folder, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ui.fake_run import write_run
from ui.state import list_runs, safe_run_id, show_run


@pytest.mark.parametrize(
    "value",
    ["", "  ", None, 7, ["x"], "../other", "a/b", "/etc", "..", "a..b", "~/x", "a\\b", "x" * 300],
)
def test_what_is_no_id_becomes_latest(value: object) -> None:
    assert safe_run_id(value) == "latest"


def test_an_id_is_kept() -> None:
    assert safe_run_id(" 20260101-120000-pocket.student_2 ") == "20260101-120000-pocket.student_2"


def test_a_path_to_a_run_elsewhere_does_not_open_it(tmp_path: Path) -> None:
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    secret = write_run(elsewhere, name="secret", ends="stopped", upto=2)
    assert show_run(str(elsewhere / secret), str(here)) is None
    mine = write_run(here, name="mine", ends="stopped", upto=2)
    found = show_run(str(elsewhere / secret), str(here))
    assert found is not None
    assert found["run"] == mine


def test_a_run_that_is_gone_gives_way_to_the_latest(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="stopped", upto=2)
    found = show_run("20200101-000000-gone", str(tmp_path))
    assert found is not None
    assert found["run"] == run


def test_no_folder_means_no_runs(tmp_path: Path) -> None:
    assert list_runs(str(tmp_path / "nothing")) == []
    assert show_run("", str(tmp_path / "nothing")) is None
