"""Students of the size that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core import api
from distill_core.advisor.advisor_here import _facts_here, _size_here
from distill_core.advisor.student_sizes import Kind, Known, shaped

HERE = Known(facts=_facts_here, size=_size_here)


@pytest.mark.parametrize("kind", ["layer_drop", "width_prune", "scratch"])
@pytest.mark.parametrize("ratio", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("teacher", ["pocket-teacher", "smollm2-135m-instruct"])
def test_the_largest_that_is_small_enough_is_chosen(kind: Kind, ratio: float, teacher: str) -> None:
    whole = api.model_facts(teacher)["parameters"]
    student = shaped(teacher, kind, ratio, HERE)
    count = api.student_facts(teacher, student)["parameters"]
    assert student["init"] == kind
    smallest = {"layers": 1} if kind == "layer_drop" else {"layers": 1, "hidden_size": 8}
    if kind != "layer_drop" or student != {"init": kind, **smallest}:
        assert count <= whole / ratio
    assert count > whole / ratio / 2.2 or kind == "layer_drop", "not much smaller than asked"


def test_one_layer_is_the_least_where_embeddings_alone_are_too_large() -> None:
    student = shaped("pocket-teacher", "layer_drop", 1000.0, HERE)
    assert student == {"init": "layer_drop", "layers": 1}


def test_widths_that_the_architecture_refuses_are_passed_over() -> None:
    def size(teacher: str, student: dict[str, Any]) -> int | None:
        width = student["hidden_size"]
        return width * 100 if width % 24 == 0 else None

    facts = {"layers": 6, "hidden_size": 240, "intermediate_size": 480, "parameters": 24_000}
    student = shaped("any", "width_prune", 2.0, Known(facts=lambda name: facts, size=size))
    assert student["hidden_size"] == 120
    assert student["intermediate_size"] == 240


def test_without_any_configuration_a_rule_of_thumb_gives_the_size() -> None:
    facts = {"layers": 24, "hidden_size": 1024, "attention_heads": 16}
    known = Known(facts=lambda name: facts)
    assert shaped("org/big", "layer_drop", 4.0, known) == {"init": "layer_drop", "layers": 6}
    assert shaped("org/big", "width_prune", 4.0, known)["hidden_size"] == 512
    new = shaped("org/big", "scratch", 8.0, known)
    assert (new["layers"], new["hidden_size"]) == (12, 512)
