"""Reading a recipe from wherever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill_core import api, checks, pipeline
from distill_core.errors import RecipeError
from distill_core.recipe import ready_recipes, recipe_yaml


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


# --- each one is run for a few steps ------------------------------------------------------------

NEEDS_THE_HUB = {"smollm2_sst2", "minilm_sst2"}
NAMES = [item["name"] for item in ready_recipes.listed()]


def few_steps(name: str, tmp_path: Path, model: Path) -> list[str]:
    """Overrides that leave a recipe's stages, losses and students as they are."""
    recipe = ready_recipes.read(name)
    changed = ["evaluation.rows=4", "evaluation.samples=1", "evaluation.final_rows=6"]
    changed += ["evaluation.max_new_tokens=6"]
    for place, stage in enumerate(recipe.stages):
        changed += [f"stages.{place}.optim.{key}" for key in ("max_steps=2", "global_batch_size=4")]
        if stage.kind == "distill":
            changed.append(f"stages.{place}.teacher_answers.max_new_tokens=8")
            if stage.on_policy_fraction:
                changed.append(f"stages.{place}.on_policy_fraction=1")
    if name not in NEEDS_THE_HUB:
        few = 12 if recipe.task == "causal_lm" else 400  # every class must be among them
        limits = [f"data.sources.{n}.limit={few}" for n in range(len(recipe.data.sources))]
        return [*changed, *limits, "data.held_out.limit=12"]
    rows = tmp_path / "rows.jsonl"
    labels = ["on", "off"]
    lines = [{"sentence": f"dim the fan {chr(97 + n)}", "label": labels[n % 2]} for n in range(24)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    files = f"{{kind: file, path: {rows}}}"
    own = [f"data.sources=[{files}]", "data.held_out=0.3", "stages.1.student.layers=2"]
    return [*changed, *own, f"stages.0.model={model}", "data.system_prompt=null"]


@pytest.mark.filterwarnings("ignore:Truncating")
@pytest.mark.parametrize("name", NAMES)
def test_every_ready_recipe_is_free_of_problems_and_runs(
    name: str, tmp_path: Path, tiny_teacher_dir: Path, tiny_encoder_dir: Path
) -> None:
    writes = ready_recipes.read(name).task == "causal_lm"
    if name not in NEEDS_THE_HUB:
        found = checks.check(ready_recipes.read(name))
        # an encoder's head is told as new, and its student as far smaller
        serious = {"error", "warning"} if writes else {"error"}
        assert not [p for p in found if p.severity in serious and not p.field.startswith("device")]
    model = tiny_teacher_dir if writes else tiny_encoder_dir
    recipe = ready_recipes.read(name, few_steps(name, tmp_path, model))
    events = list(pipeline.run(recipe, tmp_path))
    assert events[-1]["type"] == "run_finished"
    models = events[-1]["evaluation"]["models"]
    assert models["student"]["trained_steps"] >= 2
    assert ("teacher" in models) == any(stage.kind == "distill" for stage in recipe.stages)


def test_recipes_on_the_starter_can_be_compared() -> None:
    sizes = {}
    for name in NAMES:
        recipe = ready_recipes.read(name)
        stage = recipe.stages[-1]
        teachers = [one for one in recipe.stages if one.kind == "distill"]
        if name in NEEDS_THE_HUB or recipe.task != "causal_lm" or not teachers:
            continue
        begun = [one.student for one in teachers if one.student.init != "pretrained"]
        student = begun[-1].model_dump()
        sizes[name] = api.student_facts("pocket-teacher", student)["parameters"]
        assert stage.optim.global_batch_size == 32
    assert len(sizes) >= 6
    assert set(sizes.values()) == {187_840}
