"""Run folders: complete or not there, found by many names, listed from small files."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest

from distill_core import api, files, runs
from distill_core.errors import DiskFullError, RunError
from distill_core.runs import run_control
from distill_core.runs import status as run_status
from tests.core import pretend


def test_a_new_run_is_complete_and_queued(tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe("my-student"), tmp_path / "deep" / "runs")
    assert re.fullmatch(r"\d{8}-\d{6}-my-student", folder.name)
    assert sorted(os.listdir(folder)) == ["recipe.yaml", "status.json", "summary.json"]
    assert runs.load_recipe(folder) == pretend.recipe("my-student")
    status = run_status.current(folder)
    assert (status["state"], status["progress"]) == ("queued", 0.0)
    assert status["cwd"] == os.getcwd(), "relative paths of the recipe mean this folder"


def test_a_taken_name_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    names = [runs.create(pretend.recipe(), tmp_path).name for _ in range(3)]
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


@pytest.mark.parametrize("refused_at", [1, 2, 3])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused_at: int
) -> None:
    writes = 0
    write = Path.write_bytes

    def refuse(self: Path, data: bytes) -> int:
        nonlocal writes
        writes += 1
        if writes == refused_at:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DiskFullError, match="is full"):
        runs.create(pretend.recipe(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_runs_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"(?s)Cannot make the runs folder .*--runs-dir"):
        runs.create(pretend.recipe(), tmp_path / "file" / "runs")


def test_the_runs_folder_is_chosen_by_argument_then_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.default_runs_dir() == tmp_path / "runs"
    monkeypatch.setenv("DISTILL_RUNS_DIR", str(tmp_path / "other"))
    assert runs.default_runs_dir() == tmp_path / "other"
    assert runs.default_runs_dir("mine") == tmp_path / "mine"


# --- find ---------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three runs, a minute apart, the oldest first."""
    made = []
    for minute, name in enumerate(["alpha", "beta", "beta"]):
        now = 1_700_000_000.0 + 60 * minute
        monkeypatch.setattr(time, "time", lambda now=now: now)
        made.append(runs.create(pretend.recipe(name), tmp_path))
    monkeypatch.undo()
    return made


def test_finds_by_id_beginning_latest_and_path(three: list[Path], tmp_path: Path) -> None:
    first, _, last = three
    assert runs.resolve(first.name, tmp_path) == first
    assert runs.resolve(first.name[:-3], tmp_path) == first
    assert runs.resolve("latest", tmp_path) == last
    assert runs.resolve(str(first), tmp_path / "elsewhere") == first
    assert runs.resolve(first, tmp_path / "elsewhere") == first


def test_an_id_that_begins_another_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    first, second = (runs.create(pretend.recipe(), tmp_path) for _ in range(2))
    assert runs.resolve(first.name, tmp_path) == first
    assert runs.resolve("latest", tmp_path) == second


def test_an_ambiguous_beginning_is_told(three: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"several runs: {three[0].name}"):
        runs.resolve(three[0].name[:8], tmp_path)


def test_an_unknown_run_is_told_with_the_nearest(three: list[Path], tmp_path: Path) -> None:
    wrong = three[0].name.replace("alpha", "alfa")
    with pytest.raises(RunError, match=rf"no run '{wrong}' .*\n.*{three[0].name}"):
        runs.resolve(wrong, tmp_path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../secret", "../../etc", "/etc", "runs/../../x", "a\0b", "~root/x"]
)
def test_ids_never_lead_out_of_the_runs_folder(
    three: list[Path], tmp_path: Path, name: str
) -> None:
    (tmp_path.parent / "secret").mkdir(exist_ok=True)
    with pytest.raises(RunError):
        runs.resolve(name, tmp_path)


def test_no_runs_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs in"):
        runs.resolve("latest", tmp_path / "none")
    assert runs.list_runs(tmp_path / "none") == []
    assert os.listdir(tmp_path) == []


# --- describe -----------------------------------------------------------------------------------


def test_lists_newest_first_with_places_in_the_queue(three: list[Path], tmp_path: Path) -> None:
    run_control.stop(three[1])
    (tmp_path / "stray").mkdir()
    (tmp_path / ".new-half").mkdir()
    listed = runs.list_runs(tmp_path)
    assert [row["run"] for row in listed] == [folder.name for folder in reversed(three)]
    assert [row["status"]["queue_position"] for row in listed] == [2, None, 1]
    assert [row["name"] for row in listed] == ["beta", "beta", "alpha"]
    assert listed[0]["summary"]["teacher"] == "pocket-teacher"


def test_two_hundred_runs_are_listed_quickly(tmp_path: Path) -> None:
    for number in range(200):
        folder = tmp_path / f"20260101-0000{number:03d}-run"
        folder.mkdir()
        (folder / "recipe.yaml").touch()
        state = run_status.EMPTY | {"state": "finished", "created_time_s": number}
        run_status.write(folder, state)
        files.replace_json(folder / "summary.json", {"exact_match": 0.9})
        (folder / "events.jsonl").write_bytes(b"x" * 10_000)
    begin = time.process_time()
    listed = runs.list_runs(tmp_path)
    assert time.process_time() - begin < 0.5
    assert len(listed) == 200


def test_shows_what_the_folder_holds(three: list[Path], tmp_path: Path) -> None:
    files.replace_json(three[1] / "evaluation.json", {"retention": 0.9})
    shown = api.show(three[1].name, runs_dir=tmp_path)
    assert shown["run"] == three[1].name
    assert shown["status"]["queue_position"] == 2
    assert shown["recipe"]["stages"][0]["teacher"] == "pocket-teacher"
    assert "pocket-teacher" in shown["recipe_yaml"]
    assert shown["evaluation"] == {"retention": 0.9}
    assert api.show("latest", runs_dir=tmp_path)["evaluation"] is None


def test_a_recipe_that_was_spoilt_does_not_hide_the_run(three: list[Path], tmp_path: Path) -> None:
    (three[0] / "recipe.yaml").write_text("name: [")
    shown = api.show(three[0].name, runs_dir=tmp_path)
    assert shown["recipe"] == {}
    assert shown["recipe_yaml"] == "name: ["


def test_reads_the_last_lines_of_the_log(tmp_path: Path) -> None:
    assert runs.read_log(tmp_path) == ""
    lines = [f"line {number} ü" for number in range(5000)]
    (tmp_path / "worker.log").write_text("\n".join(lines), encoding="utf-8")
    assert runs.read_log(tmp_path, lines=3) == "\n".join(lines[-3:])
    assert len(runs.read_log(tmp_path, lines=200).splitlines()) == 200
