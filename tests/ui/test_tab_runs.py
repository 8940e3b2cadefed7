"""Runs: history, what is selected, what differs, and what can be done with a run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from distill_core import api
from distill_core.recipe import recipe_yaml
from tests.ui.fake_run import write_run, write_stages
from ui import tab_runs
from ui.history import run_curves, runs_table
from ui.state import list_runs


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, list[str]]:
    """A stopped run, then two finished ones of other settings."""
    layers = ("stages.0.student.layers=4",)
    return tmp_path, [
        write_run(tmp_path, name="early", ends="stopped", upto=6, steps=20),
        write_run(tmp_path, name="small", ends="finished", steps=20),
        write_run(tmp_path, name="large", ends="finished", steps=20, seed=1, overrides=layers),
    ]


def test_a_redraw_brings_no_older_ticks_back() -> None:
    unchanged = gr.skip()
    assert tab_runs.mended(["a"], ["a"]) == unchanged
    assert tab_runs.mended(None, []) == unchanged
    assert tab_runs.mended(None, ["a", "b"]) == ["a", "b"]
    assert tab_runs.mended(["a", "gone"], ["a"]) == ["a"]


def test_history_shows_scores_beside_the_teachers(three: tuple[Path, list[str]]) -> None:
    runs_dir, keys = three
    html = runs_table.history_html(list_runs(str(runs_dir)), [keys[1]])
    small = next(row for row in html.split("<tr") if ">small<" in row)
    assert "1.69 M → <b>0.178 M</b>" in small
    assert "9.49 ×" in small
    assert "<b>96.2 %</b>" in small
    assert "(99.1 %)" in small
    assert "97.1 %" in small
    assert "5.3 ×" in small
    assert "3 min 51 s" in small
    assert " checked" in small
    assert html.count(" checked") == 1
    assert html.index(">large<") < html.index(">small<") < html.index(">early<")


def test_without_runs_there_is_no_table() -> None:
    assert runs_table.history_html([], []) == ""


def test_a_name_cannot_write_html(three: tuple[Path, list[str]]) -> None:
    rows = list_runs(str(three[0]))
    rows[0]["name"] = "<img src=x onerror=alert(1)>"
    assert "<img" not in runs_table.history_html(rows, [])


def test_the_newest_finished_runs_are_compared_before_anyone_ticks(
    three: tuple[Path, list[str]],
) -> None:
    runs_dir, keys = three
    runs = list_runs(str(runs_dir))
    assert tab_runs.still_there(None, runs) == [keys[2], keys[1]]
    assert tab_runs.still_there([], runs) == []
    assert tab_runs.still_there([keys[0], "gone"], runs) == [keys[0]]


@pytest.mark.parametrize(
    ("ends", "enabled"),
    [
        ("finished", [True, False, True, True, True]),
        ("stopped", [True, True, True, False, True]),
        ("failed", [True, True, True, False, True]),
        ("queued", [True, False, True, False, False]),
    ],
)
def test_buttons_follow_the_state(ends: str, enabled: list[bool], tmp_path: Path) -> None:
    run = write_run(tmp_path, ends=ends, upto=2, steps=4)
    updates = tab_runs.allowed(list_runs(str(tmp_path)), [run])
    assert [update["interactive"] for update in updates] == enabled


def test_several_runs_can_only_be_deleted_and_compared(three: tuple[Path, list[str]]) -> None:
    runs_dir, keys = three
    runs = list_runs(str(runs_dir))
    both = tab_runs.allowed(runs, keys[:2])
    assert [update["interactive"] for update in both] == [False, False, False, False, True]
    none = tab_runs.allowed(runs, [])
    assert not any(update["interactive"] for update in none)
    assert "several to compare" in tab_runs.selection_words(runs, [])
    assert "2 runs selected" in tab_runs.selection_words(runs, keys[:2])


def compared(three: tuple[Path, list[str]], chosen: list[str], measure: str) -> list[Any]:
    runs = list_runs(str(three[0]))
    return tab_runs.compared(runs, chosen, measure, "size_ratio", runs_dir=str(three[0]))


def test_overlay_draws_the_students_own_stage_not_the_baselines(
    three: tuple[Path, list[str]],
) -> None:
    overlay, told, scatter, _ = compared(three, three[1], "held_out_exact_match")
    assert [trace["name"] for trace in overlay["data"]] == ["large", "small", "early"]
    assert overlay["data"][1]["y"][-1] > 0.9  # the baseline ends at 0.3
    assert told == ""
    assert sorted(scatter["data"][0]["text"]) == ["large", "small"]


def test_a_probe_has_a_curve_for_each_arm_and_a_line_for_each_seed(tmp_path: Path) -> None:
    arms = [("Distill: its teacher", 10), ("Distill", 10), ("Distill", 20), ("Fine-tune", 20)]
    stages = [
        {"title": f"{arm}, seed {seed}", "arm": arm, "seed": seed, "total_steps": steps}
        for seed in (1, 2)
        for arm, steps in arms
    ]
    run = write_stages(tmp_path, stages, name="probe")
    overlay = compared((tmp_path, [run]), [run], "held_out_exact_match")[0]
    assert [trace["name"] for trace in overlay["data"] if trace["showlegend"]] == [
        "probe: Distill: its teacher", "probe: Distill", "probe: Fine-tune"
    ]  # fmt: skip
    assert len(overlay["data"]) == 6
    whole = overlay["data"][2]
    assert whole["x"][:2] == [1, 2]
    assert whole["x"][-1] == 30  # the student's second stage goes on where its first ended
    assert overlay["data"][3]["name"] == "probe: Distill, seed 2"


def test_of_a_chain_the_last_stage_is_drawn(tmp_path: Path) -> None:
    steps = [{"title": f"stage {n}", "total_steps": n} for n in (10, 20)]
    run = write_stages(tmp_path, steps, name="chain")
    (row,) = list_runs(str(tmp_path))
    found = run_curves.curves_of(row, "held_out_exact_match", runs_dir=str(tmp_path))
    assert [curve["name"] for curve in found] == ["chain"]
    assert [line["step"][-1] for line in found[0]["lines"]] == [20]
    assert run == row["run"]


def test_no_more_curves_are_drawn_than_can_be_told_apart(tmp_path: Path) -> None:
    pairs = [{"title": "t", "arm": arm, "seed": 1, "total_steps": 10} for arm in ("A", "B")]
    runs = [write_stages(tmp_path, pairs, name=f"probe-{n}") for n in range(4)]
    overlay = compared((tmp_path, runs), runs, "held_out_exact_match")[0]
    assert len(overlay["data"]) == tab_runs.OVERLAID


def test_a_measure_that_no_run_has_is_said(three: tuple[Path, list[str]]) -> None:
    overlay, told, *_ = compared(three, [], "held_out_exact_match")
    assert overlay == {}
    assert "Tick runs above" in told


def test_only_settings_that_differ_are_listed(three: tuple[Path, list[str]]) -> None:
    html = compared(three, three[1][1:], "loss")[3]
    assert "stages.0.student.layers" in html
    assert "seed" in html
    assert "learning_rate" not in html
    assert "Tick two or more" in compared(three, three[1][:1], "loss")[3]


def test_differences_of_nested_settings() -> None:
    first = {"seed": 0, "stages": [{"losses": [{"name": "forward_kl"}]}], "same": {"a": 1}}
    second = {"seed": 0, "stages": [{"losses": [{"name": "cross_entropy"}, {"name": "x"}]}]}
    found = runs_table.differences([first, second | {"same": {"a": 1}}])
    assert [path for path, _ in found] == ["stages.0.losses.0.name", "stages.0.losses.1.name"]
    assert found[1][1] == [runs_table.MISSING, "x"]


def test_two_copies_of_a_run_have_the_same_settings(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_run(tmp_path, name=name, ends="stopped", upto=2)
    shown = [api.show(row["run"], runs_dir=tmp_path) for row in list_runs(str(tmp_path))]
    assert "same settings" in runs_table.differences_html(shown)


# --- what can be done -------------------------------------------------------------------------


def test_new_from_this_gives_build_the_whole_recipe(three: tuple[Path, list[str]]) -> None:
    runs_dir, keys = three
    text = tab_runs.recipe_of(keys[2], runs_dir=str(runs_dir))
    recipe = recipe_yaml.loads(text)
    assert recipe.name == "large"
    assert recipe.stages[0].student.layers == 4  # type: ignore[union-attr]
    with pytest.raises(gr.Error, match="not there any more"):
        tab_runs.recipe_of("20200101-000000-gone", runs_dir=str(runs_dir))


def test_delete_asks_by_name_then_deletes(three: tuple[Path, list[str]]) -> None:
    runs_dir, keys = three
    question = tab_runs.question_html(list_runs(str(runs_dir)), keys[:2])
    assert "Delete these 2 runs?" in question
    assert "small, early" in question
    assert "cannot be undone" in question
    tab_runs.delete_runs(keys[:2], runs_dir=str(runs_dir))
    assert [row["run"] for row in list_runs(str(runs_dir))] == [keys[2]]


def test_an_active_run_is_not_deleted_but_the_others_are(tmp_path: Path) -> None:
    waiting = write_run(tmp_path, name="waits", ends="queued")
    done = write_run(tmp_path, name="done", ends="stopped", upto=2)
    with pytest.raises(gr.Error, match="Stop it before deleting"):
        tab_runs.delete_runs([waiting, done], runs_dir=str(tmp_path))
    assert [row["run"] for row in list_runs(str(tmp_path))] == [waiting]


def test_delete_takes_no_path(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "elsewhere", ends="stopped", upto=2)
    here = write_run(tmp_path / "here", ends="stopped", upto=2)
    target = str(tmp_path / "elsewhere" / outside)
    tab_runs.delete_runs([target, "../elsewhere", "", "latest/.."], runs_dir=str(tmp_path / "here"))
    assert (tmp_path / "elsewhere" / outside).is_dir()
    assert [row["run"] for row in list_runs(str(tmp_path / "here"))] == [here]


def test_export_offers_folder_and_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(tab_runs.api, "export", lambda run, **_: folder)
    where, archive = tab_runs.export_folder("some-run", runs_dir=str(tmp_path))
    assert where == folder
    assert archive is not None
    assert zipfile.ZipFile(archive).namelist() == ["model.safetensors"]
    assert str(folder) in tab_runs.exported_html("some-run", where, archive)
    monkeypatch.setattr(tab_runs, "ZIP_LIMIT_BYTES", 3)
    where, archive = tab_runs.export_folder("some-run", runs_dir=str(tmp_path))
    assert archive is None
    assert "copy the folder itself" in tab_runs.exported_html("some-run", where, archive)


def test_what_cannot_be_exported_becomes_a_message(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="stopped", upto=2)
    with pytest.raises(gr.Error):
        tab_runs.export_folder(run, runs_dir=str(tmp_path))
