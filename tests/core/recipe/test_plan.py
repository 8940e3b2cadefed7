"""Who plays which part in every way to combine stages."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.recipe import recipe_yaml
from distill_core.recipe.plan import Cast, cast, plan

SMALL = {"init": "layer_drop", "layers": 2}


def distil(teacher: str, **student: Any) -> dict[str, Any]:
    return {"kind": "distill", "teacher": teacher, "student": student or SMALL}


def tune(model: str, **more: Any) -> dict[str, Any]:
    return {"kind": "fine_tune", "model": model} | more


GO_ON = {"init": "pretrained", "model": "previous"}

CASES: dict[str, tuple[list[dict[str, Any]], Cast, list[str]]] = {
    "distil": ([distil("T")], Cast(0, 0, 0, ()), ["Distil the student"]),
    "fine-tune": ([tune("S")], Cast(0, None, None, ()), ["Fine-tune on labels"]),
    "fine-tune, distil": (
        [tune("T"), distil("previous")],
        Cast(1, 1, 1, ()),
        ["Fine-tune the teacher", "Distil the student"],
    ),
    "distil, fine-tune": (
        [distil("T"), tune("previous")],
        Cast(0, 0, 0, ()),
        ["Distil the student", "Fine-tune on labels"],
    ),
    "the student tuned first": (
        [tune("S"), distil("T", **GO_ON)],
        Cast(0, 1, 1, ()),
        ["Fine-tune on labels", "Distil the student"],
    ),
    "one assistant": (
        [distil("T"), distil("previous")],
        Cast(1, 0, 1, (0,)),
        ["Distil an assistant", "Distil the student"],
    ),
    "two assistants, the teacher tuned first": (
        [tune("T"), distil("previous"), distil("previous"), distil("previous")],
        Cast(3, 1, 3, (1, 2)),
        ["Fine-tune the teacher", *["Distil an assistant"] * 2, "Distil the student"],
    ),
    "an assistant that is tuned too": (
        [distil("T"), tune("previous"), distil("previous")],
        Cast(2, 0, 2, (1,)),
        ["Distil an assistant", "Fine-tune the teacher", "Distil the student"],
    ),
    "two teachers, one after the other": (
        [distil("T"), distil("U", **GO_ON)],
        Cast(0, 1, 1, ()),
        ["Distil the student", "Distil the student"],
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_everybody_has_a_part(case: str) -> None:
    stages, expected, titles = CASES[case]
    recipe = recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": stages})
    planned = plan(recipe, labelled=10, unlabelled=0)
    assert cast(planned) == expected
    assert [stage.title for stage in planned] == titles


def planned_with(baselines: list[str], stages: list[dict[str, Any]]) -> Any:
    data = {"sources": [{"kind": "starter"}]}
    recipe = {"data": data, "stages": stages, "evaluation": {"baselines": baselines}}
    return plan(recipe_yaml.parse(recipe), labelled=320, unlabelled=640)


def test_baselines_start_as_the_student_does_and_take_as_many_steps() -> None:
    names = ["fine_tuned_on_labels", "fine_tuned_on_teacher_text"]
    tuned, student, labels, text = planned_with(names, [tune("T"), distil("previous")])
    assert [labels.baseline, text.baseline] == names
    assert labels.settings.student == text.settings.student == student.settings.student
    assert labels.source == text.source == "previous"
    assert labels.total_steps == text.total_steps == student.total_steps == 30
    assert (tuned.rows, student.rows, labels.rows, text.rows) == (320, 960, 320, 960)
    assert (labels.text_of, text.text_of) == (None, 1)
    assert len({stage.output for stage in (tuned, student, labels, text)}) == 4


def test_without_a_teacher_there_is_no_text_to_learn_from() -> None:
    assert len(planned_with(["fine_tuned_on_teacher_text"], [tune("S")])) == 1
