"""Build: several teachers, written into the recipe and taken out again."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr
import pytest

from distill_core import api
from ui.building import build_parts, draft, edits, pair_edits, review, teacher_parts
from ui.building import desk as desks

PATH = "stages.0.teacher"


@pytest.fixture
def desk() -> desks.Desk:
    made = desks.new()
    desks.lay(made, desks.default_text())
    return made


def now(desk: desks.Desk) -> Any:
    return draft.read(desks.current(desk))


def several(desk: desks.Desk) -> None:
    teacher_parts.add_teacher(0, "", desk, 0)
    teacher_parts.edit_shared(f"{PATH}.1.model", " smollm2-135m-instruct ", "", desk, 0)


def test_the_only_teacher_becomes_the_first_of_several(desk: desks.Desk) -> None:
    _, version = teacher_parts.add_teacher(0, "", desk, 4)
    assert version == 5
    listed = draft.get(now(desk), PATH)
    assert [one["model"] for one in listed] == ["pocket-teacher", ""]
    several_now = draft.with_teacher(now(desk), 0)
    assert len(draft.get(several_now, PATH)) == 3


def test_a_recipe_with_several_is_read_by_the_engine(desk: desks.Desk) -> None:
    several(desk)
    recipe = api.load_recipe(desks.current(desk))
    stage = recipe.stages[0]
    assert isinstance(stage.teacher, list)  # type: ignore[union-attr]
    assert [one.weight for one in stage.teachers] == [0.5, 0.5]  # type: ignore[union-attr]


def test_taking_the_last_but_one_out_leaves_a_plain_name(desk: desks.Desk) -> None:
    several(desk)
    teacher_parts.remove_teacher(f"{PATH}.0", "", desk, 0)
    assert draft.get(now(desk), PATH) == "smollm2-135m-instruct"


def test_the_teacher_field_shows_and_edits_the_first_of_several(desk: desks.Desk) -> None:
    several(desk)
    assert draft.pair(now(desk)).teacher_path == f"{PATH}.0.model"
    pair_edits.edit_teacher("some/model", "", desk, 0)
    assert [one["model"] for one in draft.get(now(desk), PATH)] == [
        "some/model",
        "smollm2-135m-instruct",
    ]
    assert review.slot(now(desk), f"{PATH}.0.model") == "ds-field-teacher"
    assert review.slot(now(desk), f"{PATH}.1.model") == "ds-field-stages-0-teacher-1-model"


def test_another_method_keeps_the_mixture_where_the_stage_stays_first(desk: desks.Desk) -> None:
    several(desk)
    before = draft.get(now(desk), PATH)
    edits.edit_method("Distill → fine-tune", "", desk, 0)
    assert draft.get(now(desk), PATH) == before
    edits.edit_method("Fine-tune", "", desk, 0)
    assert draft.get(now(desk), "stages.0.model") == "pocket-teacher"
    edits.edit_method("Distill", "", desk, 0)
    assert draft.get(now(desk), PATH) == before


def laid_out(desk: desks.Desk) -> list[Any]:
    with gr.Blocks() as page:
        wires = build_parts.Wires(
            desk=gr.State(desk),
            recipe_yaml=gr.BrowserState(""),
            version=gr.State(0),
            runs_dir="",
        )
        teacher_parts.teachers(wires, desk)
    return list(page.blocks.values())


def test_each_of_several_has_its_fields(desk: desks.Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "model_choices", lambda task: [("Pocket", "pocket-teacher")])
    assert not [part for part in laid_out(desk) if isinstance(part, gr.Number)]
    several(desk)
    parts = laid_out(desk)
    names = {getattr(part, "elem_id", None) for part in parts}
    for place in (0, 1):
        assert f"ds-field-stages-0-teacher-{place}-model" in names
        assert f"ds-field-stages-0-teacher-{place}-weight" in names
    assert "ds-add-teacher" in names
    boxes = [part for part in parts if isinstance(part, gr.Dropdown)]
    assert [part.value for part in boxes] == ["pocket-teacher", "smollm2-135m-instruct"]


def test_a_method_without_a_teacher_says_so(desk: desks.Desk) -> None:
    edits.edit_method("Fine-tune", "", desk, 0)
    words = [str(getattr(part, "value", "")) for part in laid_out(desk)]
    assert any("asks no teacher" in text for text in words)


def test_own_settings_of_a_stage_are_in_the_form(desk: desks.Desk) -> None:
    with gr.Blocks() as page:
        wires = build_parts.Wires(
            desk=gr.State(desk), recipe_yaml=gr.BrowserState(""), version=gr.State(0), runs_dir=""
        )
        build_parts.stages(wires, desk)
    names = {getattr(part, "elem_id", None) for part in page.blocks.values()}
    assert "ds-field-stages-0-teacher_precision" in names
    assert "ds-field-stages-0-teacher" not in names


def test_a_change_that_cannot_be_read_is_kept(desk: desks.Desk) -> None:
    desks.send(desk, "stages: [")
    change = functools.partial(teacher_parts.add_teacher, 0)
    with pytest.warns(UserWarning, match="cannot be read"):
        change("", desk, 0)
    assert desks.current(desk) == "stages: ["
