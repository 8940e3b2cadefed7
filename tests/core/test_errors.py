"""The exception tree: as drawn, all of them mendable, all with a message."""

from __future__ import annotations

import inspect

import pytest

from distill_core import errors
from distill_core.errors import DataError, DistillError, ModelError, Problem, RecipeError


def kinds() -> list[type[DistillError]]:
    return [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, DistillError)
    ]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_the_tree_in_the_docstring_is_the_tree(kind: type[DistillError]) -> None:
    drawn = (inspect.getdoc(errors) or "").splitlines()
    line = next(text for text in drawn if kind.__name__ in text.split("(")[0].split())
    parent = kind.__mro__[1].__name__
    depth = {"ValueError": 0, "DistillError": 1, "ModelError": 2}[parent]
    assert len(line) - len(line.lstrip("│├└─ ")) in ({0: [0], 1: [4], 2: [8]}[depth])
    assert kind.__doc__


def test_users_errors_are_value_errors() -> None:
    assert issubclass(DistillError, ValueError)


def test_a_recipe_error_tells_all_its_problems() -> None:
    first = Problem(severity="error", field="seed", message="-1 is too low.", fix="Choose 0.")
    second = Problem(severity="error", field="", message="No stages.")
    error = RecipeError([first, second])
    assert str(error) == "seed: -1 is too low. Choose 0.\nNo stages."
    assert error.problems == [first, second]


def test_errors_carry_their_field() -> None:
    assert DataError("x").field == "data.sources"
    assert DataError("x", field="data.columns").field == "data.columns"
    assert ModelError("x", field="stages.0.teacher").field == "stages.0.teacher"


def test_a_problem_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Problem(severity="error", field="", message="x").fix = "y"  # type: ignore[misc]
