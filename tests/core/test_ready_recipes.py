"""Reading a recipe from wherever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core import ready_recipes, recipe_yaml
from distill_core.errors import RecipeError


def test_the_default_comes_first_and_every_ready_recipe_can_be_read() -> None:
    found = ready_recipes.listed()
    assert found[0]["name"] == "pocket_student"
    for item in found:
        assert item["title"]
        assert item["description"]
        assert recipe_yaml.loads(item["yaml"]) == ready_recipes.read(item["name"])


def test_a_name_a_file_a_text_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    by_name = ready_recipes.read("pocket_student")
    text = ready_recipes.listed()[0]["yaml"]
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    assert ready_recipes.read("pocket-student") == by_name
    assert ready_recipes.read(text) == by_name
    assert ready_recipes.read(file) == by_name
    assert ready_recipes.read(str(file)) == by_name
    assert ready_recipes.read(by_name.model_dump(mode="json")) == by_name


def test_overrides_reach_every_form() -> None:
    by_name = ready_recipes.read("pocket_student", ["seed=7"])
    mapping = ready_recipes.read("pocket_student").model_dump(mode="json")
    assert by_name.seed == ready_recipes.read(mapping, ["seed=7"]).seed == 7


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'pocket_student'"):
        ready_recipes.read("pocket_studnt")


def test_a_students_settings_are_checked_alone() -> None:
    student = ready_recipes.parse_student({"init": "layer_drop", "layers": 3})
    assert student.layers == 3  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match="Did you mean 'layers'"):
        ready_recipes.parse_student({"init": "layer_drop", "layrs": 3})
