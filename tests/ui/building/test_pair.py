"""The pair in Build: what was found is drawn, and the losses follow a change of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_core import api
from ui.building import desk as desks
from ui.building import pair_drawn, pair_edits, pair_fit, review, task_edits

REPORT: dict[str, Any] = {
    "verdict": "Same tokenizer, 128 padded rows: cut.",
    "comparable": True,
    "loss": "forward_kl",
    "findings": [
        {"topic": "token → id map", "state": "good", "text": "The <same>.", "fix": ""},
        {"topic": "licence", "state": "note", "text": "Of the teacher: x.", "fix": "Read it."},
    ],
}


@pytest.fixture
def desk() -> desks.Desk:
    made = desks.new()
    desks.lay(made, desks.default_text())
    return made


def losses(desk: desks.Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(desks.current(desk))["stages"][0]["losses"]
    return found


def test_the_verdict_and_what_it_rests_on_are_drawn() -> None:
    html = pair_drawn.draw(REPORT, ["<i>more</i>"])
    assert "Same tokenizer, 128 padded rows: cut" in html
    assert "ds-good" in html.split("<details")[0]
    assert "The &lt;same&gt;." in html
    assert "<b>Read it.</b>" in html
    assert "<i>more</i>" in html


@pytest.mark.parametrize(
    ("change", "tone"),
    [
        ({"comparable": False}, "ds-warn"),
        ({"comparable": None}, "ds-neutral"),
        ({"findings": [{"topic": "x", "state": "error", "text": "y", "fix": ""}]}, "ds-bad"),
    ],
)
def test_the_verdicts_tone_says_how_bad_it_is(change: dict[str, Any], tone: str) -> None:
    assert tone in pair_drawn.draw(REPORT | change, []).split("<details")[0]


def test_losses_follow_the_pair_and_come_back(
    desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = losses(desk)
    asked: list[Any] = []

    def report(teacher: str, student: dict[str, Any], *, task: str) -> dict[str, Any]:
        asked.append((teacher, student.get("model")))
        return REPORT | {"comparable": student.get("model") != "org/other"}

    monkeypatch.setattr(api, "pair_report", report)
    pair_edits.edit_init("pretrained", "", desk, 0)
    assert losses(desk) == before
    text, version = pair_edits.edit_student_model(" org/other ", "", desk, 4)
    assert version == 5
    assert text == desks.current(desk)
    assert [loss["name"] for loss in losses(desk)] == ["cross_tokenizer", "cross_entropy"]
    assert losses(desk)[0]["weight"] == before[0]["weight"]
    pair_edits.edit_student_model("", "", desk, 5)
    assert losses(desk) == before
    assert asked[-2:] == [("pocket-teacher", "org/other"), ("pocket-teacher", None)]


def test_a_pair_that_is_not_known_changes_no_loss(
    desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **more: Any) -> None:
        raise api.DistillError("no such model")

    monkeypatch.setattr(api, "pair_report", refuse)
    before = losses(desk)
    pair_edits.edit_teacher("org/unknown", "", desk, 0)
    assert losses(desk) == before
    assert yaml.safe_load(desks.current(desk))["stages"][0]["teacher"] == "org/unknown"
    assert "ds-doctor" not in review.redraw(desk)


def test_without_a_teacher_there_is_no_pair(desk: desks.Desk) -> None:
    assert pair_fit.fit_of({"stages": [{"kind": "fine_tune", "model": "pocket-teacher"}]}) is None


def test_broken_yaml_is_left_as_it_is(desk: desks.Desk) -> None:
    desks.lay(desk, "stages: [")
    with pytest.warns(UserWarning, match="cannot be read"):
        pair_edits.edit_teacher("x", "", desk, 0)
    assert desks.current(desk) == "stages: ["


def test_a_real_pair_of_two_tokenizers(desk: desks.Desk, tiny_student_dir: Path) -> None:
    pair_edits.edit_init("pretrained", "", desk, 0)
    pair_edits.edit_student_model(str(tiny_student_dir), "", desk, 0)
    assert losses(desk)[0]["name"] == "cross_tokenizer"
    drawn = review.redraw(desk)
    assert "Different tokenizers: cross-tokenizer loss or text" in drawn
    assert "padded vocabulary" in drawn


def test_no_loss_is_exchanged_where_classes_are_told_apart(
    desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def report(teacher: str, student: dict[str, Any], *, task: str) -> dict[str, Any]:
        asked.append(task)
        return REPORT | {"comparable": False}

    monkeypatch.setattr(api, "pair_report", report)
    task_edits.edit_task("text_classification", "", desk, 0)
    stages = yaml.safe_load(desks.current(desk))["stages"]
    pair_edits.edit_teacher("org/other", "", desk, 0)
    after = yaml.safe_load(desks.current(desk))["stages"]
    assert [stage.get("losses") for stage in after] == [stage.get("losses") for stage in stages]
    assert "ds-warn" in review.redraw(desk)
    assert set(asked) == {"text_classification"}
