"""A recipe while it is being written: paths, the pair, and the methods' stages."""

from __future__ import annotations

import pytest
import yaml

from ui.building import draft

START = draft.read(
    """
name: mine
data: {sources: [{kind: starter, split: labelled}]}
stages:
  - kind: distill
    teacher: pocket-teacher
    student: {init: scratch, layers: 2, hidden_size: 80}
    losses: [{name: forward_kl, weight: 0.7, temperature: 2.0}]
    optim: {learning_rate: 0.003, max_steps: 12}
"""
)


def test_paths_lead_through_lists() -> None:
    assert draft.get(START, "stages.0.losses.0.weight") == 0.7
    assert draft.get(START, "stages.1.optim", "none") == "none"
    assert draft.get(START, "name.first", "none") == "none"
    assert draft.get(START, "data.sources.7") is None


def test_put_makes_groups_and_leaves_the_old_draft_alone() -> None:
    changed = draft.put(START, "evaluation.rows", 5)
    assert changed["evaluation"] == {"rows": 5}
    assert "evaluation" not in START
    assert draft.put(START, "stages.0.losses.0.weight", 0.1)["stages"][0]["losses"][0] == {
        "name": "forward_kl",
        "weight": 0.1,
        "temperature": 2.0,
    }
    # a half-typed value in the way gives way to the group
    assert draft.put({"adapter": None}, "adapter.rank", 4) == {"adapter": {"rank": 4}}


def test_drop_takes_out_keys_and_items() -> None:
    assert draft.drop(START, "data.sources.0")["data"]["sources"] == []
    assert "losses" not in draft.drop(START, "stages.0.losses")["stages"][0]
    assert draft.drop(START, "no.such.path") == START


def test_writing_and_reading_back_changes_nothing() -> None:
    text = draft.write(START)
    assert draft.read(text) == START
    assert "student: {init: scratch, layers: 2, hidden_size: 80}" in text


@pytest.mark.parametrize(
    ("text", "told"), [("a: [1", "cannot be read at line"), ("- a\n- b", "no settings")]
)
def test_text_that_is_no_mapping_is_refused(text: str, told: str) -> None:
    with pytest.raises(draft.BrokenYaml, match=told):
        draft.read(text)


@pytest.mark.parametrize("name", list(draft.METHODS))
def test_every_method_is_found_again_and_keeps_the_pair(name: str) -> None:
    made = draft.with_method(START, name)
    assert draft.method(made) == name
    pair = draft.pair(made)
    assert draft.get(made, pair.teacher_path) == "pocket-teacher"
    assert draft.get(made, pair.student_path) == START["stages"][0]["student"]
    assert pair.has_teacher is ("distill" in draft.METHODS[name])
    assert yaml.safe_load(draft.write(made)) == made


def test_second_stages_go_on_from_the_one_before() -> None:
    both = draft.with_method(START, "Fine-tune → distill")
    assert both["stages"][0]["model"] == "pocket-teacher"
    assert "student" not in both["stages"][0]
    assert both["stages"][1]["teacher"] == draft.PREVIOUS
    other = draft.with_method(START, "Distill → fine-tune")
    assert other["stages"][1]["model"] == draft.PREVIOUS
    assert "student" not in other["stages"][1]


def test_going_to_fine_tuning_and_back_loses_no_loss() -> None:
    shelf = draft.stages_by_kind(START)
    there = draft.with_method(START, "Fine-tune", shelf)
    assert there["stages"][0]["optim"] == START["stages"][0]["optim"]
    assert draft.with_method(there, "Distill", shelf)["stages"] == START["stages"]


def test_other_lists_of_stages_have_no_name() -> None:
    assert draft.method({"stages": [*START["stages"], *START["stages"]]}) is None
    assert draft.method({"stages": "three"}) is None
    assert draft.pair({}).teacher_path == "stages.0.model"
