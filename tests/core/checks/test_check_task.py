"""Rules about classes: a recipe that triggers each, and one that does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import checks, estimate, models
from distill_core.errors import Problem
from distill_core.estimate.shapes import classes, stage_shapes
from distill_core.recipe import Recipe, recipe_yaml
from tests.core.small_runs import spelled

Make = Callable[..., Recipe]
WORDS = ["light", "fan", "tv", "kitchen", "hall"]


def write(path: Path, labels: list[Any], count: int = 900, start: int = 0) -> Path:
    rows = [
        {"text": f"turn {WORDS[i % 5]} {spelled(i)}", "label": labels[i % len(labels)]}
        for i in range(start, start + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def headed(source: Path, folder: Path, labels: tuple[str, ...] | None, number: int = 2) -> Path:
    """A classifier of `labels`, or of classes that nobody has named."""
    shutil.copytree(source, folder)
    names = labels or tuple(f"LABEL_{place}" for place in range(number))
    model = models.load_model(
        source, dtype=torch.float32, device="cpu", labels=names, new_head_seed=0
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def make(tiny_encoder_dir: Path, tmp_path: Path) -> Make:
    """Fine-tune an encoder, then distil it: no problems; changed by `a.b=c` overrides."""

    def build(*overrides: str, labels: Any = ("bad", "good"), count: int = 900) -> Recipe:
        rows = write(tmp_path / "rows.jsonl", list(labels), count)
        plain = {
            "task": "text_classification",
            "data": {
                "sources": [{"kind": "file", "path": str(rows)}],
                "held_out": 0.4,
                "max_seq_len": 32,
            },
            "stages": [
                {"kind": "fine_tune", "model": str(tiny_encoder_dir)},
                {
                    "kind": "distill",
                    "teacher": "previous",
                    "student": {"init": "layer_drop", "layers": 2},
                },
            ],
        }
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def worse_than_info(recipe: Recipe) -> list[str]:
    return [str(one) for one in checks.check(recipe) if one.severity != "info"]


def found(recipe: Recipe, field: str) -> Problem:
    """The one problem at a field."""
    at_field = [one for one in checks.check(recipe) if one.field == field]
    assert len(at_field) == 1, [str(one) for one in checks.check(recipe)]
    return at_field[0]


def distil(make: Make, teacher: Path, *overrides: str, **more: Any) -> Recipe:
    """The recipe's second stage alone, with a teacher of its own."""
    made = make(*overrides, **more)
    data = json.loads(made.model_dump_json())
    data["stages"] = [{**data["stages"][1], "teacher": str(teacher)}]
    return recipe_yaml.parse(data)


def test_a_sound_recipe_has_no_problems_but_a_word_on_its_new_head(
    make: Make, tiny_encoder_dir: Path
) -> None:
    made = make()
    assert worse_than_info(made) == []
    told = found(made, "stages.0.model")
    assert told.message == f"{tiny_encoder_dir} gets a new head for the 2 classes bad, good."


def test_networks_are_counted_with_their_head(make: Make, tiny_encoder_dir: Path) -> None:
    shapes = stage_shapes(make(labels=["a", "b", "c"]))
    bare = models.facts(str(tiny_encoder_dir))["parameters"]
    assert shapes[0].source_parameters == shapes[0].student_parameters == bare + 3 * 33
    assert shapes[1].source_parameters == bare + 3 * 33
    assert shapes[1].student_parameters < shapes[1].source_parameters


def test_a_forecast_needs_no_answers(make: Make) -> None:
    forecast = estimate.estimate(make())
    assert forecast["fits"] is True
    longer = estimate.estimate(make("evaluation.max_new_tokens=8000"))
    assert longer["memory_bytes"] == forecast["memory_bytes"]
    assert longer["time_s"][1] == pytest.approx(forecast["time_s"][1], rel=0.2)


# --- which classes ----------------------------------------------------------------------------


def test_classes_come_from_the_rows_or_from_the_recipe(make: Make) -> None:
    assert classes(make(labels=["b", "a"])) == ("a", "b")
    assert classes(make("data.classes=b, a", labels=["b", "a"])) == ("b", "a")
    assert classes(make("task=causal_lm", labels=["b", "a"])) is None


@pytest.mark.parametrize(
    ("labels", "overrides", "field", "message"),
    [
        (["a"], [], "data.classes", "only the class 'a'"),
        ([None], [], "data.held_out", "labelled rows fell into the held-out share"),
        (["a", "b"], ["data.classes=a, c"], "data.classes", "the label 'b', which is none of"),
        (["a", "b"], ["data.classes=a"], "data.classes", "leaves nothing to decide"),
    ],
)
def test_classes_that_cannot_be_told_apart(
    make: Make, labels: list[Any], overrides: list[str], field: str, message: str
) -> None:
    problem = found(make(*overrides, labels=labels), field)
    assert problem.severity == "error"
    assert message in problem.message


def test_held_out_rows_of_a_class_that_nothing_could_learn(make: Make, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", ["a", "c"], 40)
    made = make(f"data.held_out={{kind: file, path: {other}}}", labels=["a", "b"])
    problem = next(one for one in checks.check(made) if one.field == "data.classes")
    assert "20 held-out rows have the label 'c', which is none of the 2 classes a, b" in (
        problem.message
    )


def test_a_rare_class_and_a_column_that_is_no_class(make: Make) -> None:
    rare = make(labels=["a"] * 299 + ["b"])
    assert "The class 'b' has only" in found(rare, "data.sources").message
    many = make(labels=list(range(450)))
    assert "different values" in found(many, "data.columns.label").message


# --- teachers ---------------------------------------------------------------------------------


def test_a_teacher_without_a_head(make: Make, tiny_encoder_dir: Path) -> None:
    problem = found(distil(make, tiny_encoder_dir), "stages.0.teacher")
    assert "no head that tells classes apart" in problem.message
    assert "fine_tune stage before" in problem.fix


def test_a_teacher_that_knows_the_classes_orders_them(
    make: Make, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    teacher = headed(tiny_encoder_dir, tmp_path / "teacher", ("GOOD", "bad"))
    made = distil(make, teacher)
    assert worse_than_info(made) == []
    assert classes(made) == ("good", "bad")
    scored = write(tmp_path / "scored.jsonl", ["bad", "good"], 300, 5000)
    source = f"data.held_out={{kind: file, path: {scored}}}"
    silent = distil(make, teacher, source, labels=[None])
    assert classes(silent) == ("good", "bad")
    losses = "stages.1.losses=[{name: forward_kl}]"
    assert worse_than_info(distil(make, teacher, source, losses, labels=[None])) == []


def test_a_teacher_of_other_classes(make: Make, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    teacher = headed(tiny_encoder_dir, tmp_path / "teacher", ("up", "down"))
    problem = found(distil(make, teacher), "stages.0.teacher")
    assert "tells up, down apart, the rows bad, good" in problem.message


def test_a_teacher_that_only_numbers_its_classes(
    make: Make, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    teacher = headed(tiny_encoder_dir, tmp_path / "teacher", None)
    problem = found(distil(make, teacher), "stages.0.teacher")
    assert "only numbers its classes" in problem.message
    named = distil(make, teacher, "data.classes=good, bad")
    assert worse_than_info(named) == []
    assert classes(named) == ("good", "bad")
    assert worse_than_info(distil(make, teacher, labels=[1, 0])) == []


# --- settings that one task reads -------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("data.prompt_template=Say {prompt}", "data.prompt_template"),
        ("data.system_prompt=Be brief.", "data.system_prompt"),
        ("stages.1.teacher_answers.max_new_tokens=8", "stages.1.teacher_answers"),
        ("stages.1.on_policy_fraction=0.5", "stages.1.on_policy_fraction"),
        (
            "stages.1.losses=[{name: forward_kl}, "
            "{name: cross_entropy, targets: labels_and_teacher_text}]",
            "stages.1.losses.1.targets",
        ),
        ("data.columns.prompt=text", "data.columns.prompt"),
    ],
)
def test_settings_of_writers_are_refused(make: Make, override: str, field: str) -> None:
    assert found(make(override), field).severity == "error"


def test_named_classes_are_refused_where_text_is_written(make: Make) -> None:
    assert found(make("task=causal_lm", "data.classes=a, b"), "data.classes").severity == "error"


def test_an_architecture_without_such_a_head(make: Make, tmp_path: Path) -> None:
    (tmp_path / "mamba").mkdir()
    (tmp_path / "mamba" / "config.json").write_text(
        json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"]})
    )
    (tmp_path / "mamba" / "model.safetensors").write_bytes(b"")
    problem = found(make(f"stages.0.model={tmp_path / 'mamba'}"), "stages.0.model")
    assert "has no form that tells classes apart" in problem.message


def test_a_temperature_for_a_few_classes_may_be_higher(make: Make) -> None:
    losses = "stages.1.losses=[{name: forward_kl, weight: 1, temperature: 4}]"
    assert worse_than_info(make(losses)) == []


# --- the pair -------------------------------------------------------------------------------


def copied(source: Path, folder: Path, change: Callable[[dict[str, int]], None]) -> str:
    """A copy of a model whose vocabulary is changed."""
    shutil.copytree(source, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return f"stages.1.student={{init: pretrained, model: {folder}}}"


def swapped(vocabulary: dict[str, int]) -> None:
    vocabulary["turn"], vocabulary["on"] = vocabulary["on"], vocabulary["turn"]


def test_both_read_the_same_ids(make: Make, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    other = copied(tiny_encoder_dir, tmp_path / "other", swapped)
    recipe = make(other)
    problems = [one for one in checks.check(recipe) if one.severity == "error"]
    assert [one.field for one in problems] == ["stages.1.student.model"]
    assert problems[0].message.startswith("Different tokenizers: the two cannot read the same")
    assert "same family" in problems[0].fix
    same = copied(tiny_encoder_dir, tmp_path / "same", lambda vocabulary: None)
    assert not any(one.severity == "error" for one in checks.check(make(same)))


def test_chat_templates_are_nothing_to_classes(
    make: Make, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    same = copied(tiny_encoder_dir, tmp_path / "same", lambda vocabulary: None)
    before = checks.check(make(same))
    template = "{% for m in messages %}{{ m['content'] }}<unk>{% endfor %}"
    (tmp_path / "same" / "chat_template.jinja").write_text(template)
    attention = "stages.1.losses=[{name: forward_kl}, {name: attention}]"
    assert checks.check(make(same)) == before
    assert not any(one.severity == "error" for one in checks.check(make(same, attention)))


def test_there_is_no_text_to_compare_across_tokenizers(make: Make) -> None:
    problem = found(make("stages.1.losses=[{name: cross_tokenizer}]"), "stages.1.losses.0")
    assert problem.severity == "error"
    assert "tell classes apart" in problem.message
    assert "forward_kl" in problem.fix
    off = "stages.1.losses=[{name: cross_tokenizer, weight: 0}, {name: forward_kl}]"
    assert not any(one.severity == "error" for one in checks.check(make(off)))


def test_a_class_that_no_held_out_row_has(make: Make, tmp_path: Path) -> None:
    aside = write(tmp_path / "aside.jsonl", ["bad", "good"], 300, start=2000)
    held_out = f"data.held_out={{kind: file, path: {aside}}}"
    recipe = make(held_out, labels=("bad", "fair", "good"))
    (problem,) = [one for one in checks.check(recipe) if one.field == "data.held_out"]
    assert problem.severity == "warning"
    assert problem.message.startswith("The class 'fair' has no held-out row")
    both = make(held_out)
    assert not [one for one in checks.check(both) if one.field == "data.held_out"]
