"""Finding tasks by name: a folder of the user's, lm-eval's own, and what goes wrong with either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_core.data import hub
from distill_core.errors import DataError, HubUnreachable
from tests.core.harness.local_tasks import ROWS


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that does not answer; counts how often it was asked."""
    asked: list[str] = []
    monkeypatch.setattr(hub, "hub_answers", lambda: bool(asked.append("asked")))
    return asked


def load(names: list[str], folder: Path | None) -> dict[str, Any]:
    from distill_core.harness.task_files import load_tasks

    return load_tasks(names, folder, tell=lambda words: None)


def test_local_tasks_need_no_network(
    tasks_dir: Path, no_hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(["pick"], tasks_dir)
    assert list(found["tasks"]) == ["pick"]
    assert len(found["tasks"]["pick"].eval_docs) == len(ROWS)
    assert Path.cwd() == tmp_path, "where paths start is the same again"
    assert sorted(load(["mine"], tasks_dir)["tasks"]) == ["pick", "write"]
    assert no_hub == []


def test_a_group_of_ones_own_reads_no_other_files(
    tasks_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_core.harness import task_files

    group = {"group": "all_mine", "task": ["pick", "write"]}
    (tasks_dir / "group.yaml").write_text(yaml.safe_dump(group))
    monkeypatch.setattr(task_files, "shipped_names", lambda: pytest.fail("nothing is missing"))
    found = load(["all_mine"], tasks_dir)
    assert sorted(found["tasks"]) == ["pick", "write"]
    assert list(found["groups"]) == ["all_mine"]


def test_names_that_lm_eval_brings_along_are_found_without_reading_all_files() -> None:
    from distill_core.harness.task_files import shipped_names

    known = shipped_names()
    assert known["mmlu_anatomy"], "a file whose keys are in quotes"
    assert known["mmlu"] is None, "a group"
    assert known["ai2_arc"] is None, "a tag in a list"
    for name in ("arc_easy", "hellaswag", "mmlu_anatomy", "lambada_openai"):
        path = known[name]
        assert path is not None
        assert yaml.load(path.read_text(), _Lenient)["task"] == name


class _Lenient(yaml.SafeLoader):
    """Reads tags of lm-eval as text."""


_Lenient.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pik", "Did you mean 'pick'"),
        ("arc_ezy", "Did you mean 'arc_easy'"),
        ("zzqx", "no task, group or tag 'zzqx'"),
    ],
)
def test_an_unknown_name_is_told_with_those_like_it(
    name: str, words: str, tasks_dir: Path, no_hub: list[str]
) -> None:
    with pytest.raises(DataError, match=words):
        load([name], tasks_dir)
    assert no_hub == []


def test_data_that_only_the_hub_has(no_hub: list[str], tasks_dir: Path) -> None:
    with pytest.raises(HubUnreachable, match="the data of arc_easy is not on this disk"):
        load(["arc_easy"], None)
    assert no_hub == ["asked"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        load(["pick"], tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["task: [", "- a\n- b\n"])
def test_a_broken_file_is_named(text: str, tasks_dir: Path) -> None:
    (tasks_dir / "broken.yaml").write_text(text)
    with pytest.raises(DataError, match=r"broken\.yaml is no task file"):
        load(["pick"], tasks_dir)


def test_missing_and_empty_data(tasks_dir: Path, no_hub: list[str]) -> None:
    (tasks_dir / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match="a data file is empty"):
        load(["pick"], tasks_dir)
    (tasks_dir / "rows.jsonl").unlink()
    with pytest.raises(DataError, match="Relative paths start at"):
        load(["pick"], tasks_dir)
    assert no_hub == []
