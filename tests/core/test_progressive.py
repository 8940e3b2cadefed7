"""Assistants of middle size: their number, their sizes, and who teaches whom."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from distill_core import api
from distill_core.errors import RecipeError
from distill_core.progressive import assistants, with_assistants
from distill_core.recipe import recipe_yaml


def recipe(stages: list[dict[str, Any]]) -> Any:
    return recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": stages})


def distil(student: dict[str, Any], teacher: str = "pocket-teacher", **more: Any) -> dict[str, Any]:
    return {"kind": "distill", "teacher": teacher, "student": student} | more


SMALL = {"init": "scratch", "layers": 3, "hidden_size": 64, "intermediate_size": 176}
STUDENTS = {
    "scratch": SMALL,
    "width_prune": {"init": "width_prune", "layers": 3, "hidden_size": 64, "attention_heads": 2},
}


def sizes(made: Any) -> list[int]:
    """Parameters from the teacher down to the student."""
    first = api.model_facts("pocket-teacher")["parameters"]
    taught = [stage for stage in made.stages if stage.kind == "distill"]
    facts = [api.student_facts("pocket-teacher", stage.student.model_dump()) for stage in taught]
    return [first, *(item["parameters"] for item in facts)]


@pytest.mark.parametrize("kind", sorted(STUDENTS))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_sizes_fall_by_nearly_equal_factors(kind: str, count: int) -> None:
    before = recipe([distil(STUDENTS[kind])])
    made = with_assistants(before, count)
    found = sizes(made)
    assert len(found) == count + 2
    equal = (found[0] / found[-1]) ** (1 / (count + 1))
    for larger, smaller in itertools.pairwise(found):
        assert larger / smaller == pytest.approx(equal, rel=0.25)
    assert [stage.teacher for stage in made.stages] == ["pocket-teacher", *["previous"] * count]
    assert made.stages[-1].student == before.stages[0].student
    assert {stage.student.init for stage in made.stages} == {kind}
    assert assistants(made) == count
    assert with_assistants(made, 0) == before, "they can be taken out again"


def test_layers_are_dropped_step_by_step(tiny_teacher_dir: Path) -> None:
    one = distil({"init": "layer_drop", "layers": 1, "keep": "even"}, str(tiny_teacher_dir))
    made = with_assistants(recipe([one]), 2)
    assert [stage.student.layers for stage in made.stages] == [3, 2, 1]
    assert {stage.student.keep for stage in made.stages} == {"even"}


def test_stages_around_stay_and_assistants_learn_as_the_student_does() -> None:
    stages = [
        {"kind": "fine_tune", "model": "pocket-teacher"},
        distil(SMALL, "previous", losses=[{"name": "reverse_kl"}], optim={"max_steps": 70}),
        {"kind": "fine_tune", "model": "previous", "optim": {"max_steps": 9}},
    ]
    made = with_assistants(recipe(stages), 1)
    kinds = [stage.kind for stage in made.stages]
    assert kinds == ["fine_tune", "distill", "distill", "fine_tune"]
    _, assistant, student, last = made.stages
    assert assistant.teacher == student.teacher == "previous"
    assert assistant.losses == student.losses
    assert assistant.optim.max_steps == student.optim.max_steps == 70
    assert last.optim.max_steps == 9
    assert assistants(made) == 1


def test_the_ready_recipe_is_what_would_be_proposed() -> None:
    ready = api.load_recipe("progressive")
    proposed = with_assistants(api.load_recipe("pocket_student"), 1)
    assert ready.stages[0].student == proposed.stages[0].student
    assert ready.stages[1].student == proposed.stages[1].student


REFUSED = {
    "no teacher": ([{"kind": "fine_tune", "model": "pocket-teacher"}], 1, "No stage teaches"),
    "too many": ([distil(SMALL)], 9, "Choose 0 to 4"),
    "no room": (
        [distil({"init": "scratch", "layers": 5, "hidden_size": 152})],
        4,
        "there is no room for 4",
    ),
    "not smaller": ([distil({"init": "pretrained"})], 1, "as large as its teacher"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_done_is_said(case: str) -> None:
    stages, count, words = REFUSED[case]
    with pytest.raises(RecipeError, match=words):
        with_assistants(recipe(stages), count)
