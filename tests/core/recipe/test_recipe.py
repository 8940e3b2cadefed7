"""Recipes: every mistake told at its field, `--set` changes what it names, YAML loses nothing."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from distill_core import api, recipe
from distill_core.errors import Problem, RecipeError
from distill_core.recipe import Loss, Recipe, recipe_problems, recipe_yaml

BASE: dict[str, Any] = {
    "name": "base",
    "data": {"sources": [{"kind": "starter"}]},
    "stages": [
        {
            "kind": "distill",
            "teacher": "pocket-teacher",
            "student": {"init": "scratch", "layers": 2},
            "losses": [{"name": "forward_kl"}, {"name": "cross_entropy"}],
            "optim": {"learning_rate": 0.001},
        }
    ],
}
TEXT = yaml.safe_dump(BASE, sort_keys=False)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base recipe with one value put at a dotted path."""
    data = copy.deepcopy(BASE)
    *parents, last = path.split(".")
    target: Any = data
    for key in parents:
        target = target[int(key)] if key.isdigit() else target.setdefault(key, {})
    target[int(last) if last.isdigit() else last] = value
    return data


def problems(data: object) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        recipe_yaml.parse(data)
    return caught.value.problems


def problem(data: object) -> Problem:
    (found,) = problems(data)
    assert found.severity == "error"
    assert len(str(found).splitlines()) == 1
    return found


# --- mistakes -----------------------------------------------------------------------------------

OUT_OF_RANGE = [
    ("stages.0.losses.0.temperature", -1.0, "-1.0 is not allowed", "greater than 0", "above 0"),
    ("stages.0.losses.0.temperature", 0, "0 is not", "greater than 0", "above 0"),
    ("stages.0.losses.1.weight", -0.1, "-0.1 is not", "greater than or equal to 0", "at least 0"),
    ("stages.0.optim.learning_rate", 2, "2 is not", "less than or equal to 1", "at most 1"),
    ("stages.0.optim.max_steps", 0, "0 is not", "greater than or equal to 1", "at least 1"),
    ("stages.0.adapter", {"rank": 0}, "0 is not", "greater than or equal to 1", "at least 1"),
    ("stages.0.adapter", {"dropout": 1}, "1 is not", "less than 1", "below 1"),
    ("data.held_out", 1.5, "1.5 is not", "less than 1", "below 1"),
    ("seed", -1, "-1 is not", "greater than or equal to 0", "at least 0"),
]


@pytest.mark.parametrize(("path", "value", *("seen", "why", "fix")), OUT_OF_RANGE)
def test_a_number_out_of_range(path: str, value: Any, seen: str, why: str, fix: str) -> None:
    found = problem(changed(path, value))
    inner = next(iter(value), "") if isinstance(value, dict) else ""
    assert found.field == (f"{path}.{inner}" if inner else path)
    assert seen in found.message
    assert why in found.message
    assert found.fix == f"Choose a number {'of ' if 'at' in fix else ''}{fix}."


WRONG_KIND = [
    ("seed", "x", "'x' is not allowed: it must be a whole number", "without a fraction"),
    ("seed", 1.5, "1.5 is not allowed: it must be a whole number", "without a fraction"),
    ("stages.0.losses.0.temperature", "hot", "'hot' is not allowed: it must be a number", "digits"),
    ("stages.0.optim.learning_rate", float("nan"), "nan is not allowed", "digits"),
    ("stages.0.teacher", 5, "5 is not allowed: it must be text", "quotes"),
    ("name", "", "must not be empty", "at least one character"),
    ("name", "a/b", "'a/b' is not allowed", "letters, digits"),
    ("name", "../x", "'../x' is not allowed", "letters, digits"),
    ("data", "rows.csv", "'rows.csv' is not allowed: a group of settings", "Indent"),
    ("stages.0.optim", None, "None is not allowed: a group of settings", "Indent"),
    ("stages.0.optim", [1], "a list is not allowed: a group of settings", "Indent"),
    ("stages.0", None, "None is not allowed: a group of settings", "Indent"),
    ("stages.0.adapter", True, "True is not allowed: a group of settings", "Indent"),
    ("stages", {}, "a group of settings is not allowed: a list", "dash"),
    ("stages", [], "This list is empty", "at least one"),
    ("stages.0.losses", [], "This list is empty", "at least one"),
    ("data.sources", [], "This list is empty", "at least one"),
    ("data.held_out", "some", "'some' is not allowed: it must be a number", "0.5"),
    ("device", "gpu", "'gpu' is not allowed", "'auto', 'cpu', 'cuda' or 'mps'"),
    ("data.sources.0.split", "train", "'train' is not allowed", "'labelled', 'unlabelled'"),
]


@pytest.mark.parametrize(("path", "value", "why", "fix"), WRONG_KIND)
def test_a_value_of_the_wrong_kind(path: str, value: Any, why: str, fix: str) -> None:
    found = problem(changed(path, value))
    assert found.field == path
    assert why in found.message
    assert fix in found.fix


UNKNOWN = [
    ("stages.0.losses.0.temprature", "Did you mean 'temperature'?"),
    ("stages.0.student.layer", "Did you mean 'layers'?"),
    ("data.max_seq_length", "Did you mean 'max_seq_len'?"),
    ("stages.0.optim.lr", "Did you mean 'learning_rate'?"),
    ("stages.0.losses.0.alpha", "Did you mean 'weight'?"),
    ("stages.0.adapter.ranks", "Did you mean 'rank'?"),
    ("learning_rate", "It belongs at stages.0.optim.learning_rate."),
    ("batch_size", "It belongs at stages.0.optim.global_batch_size."),
    ("data.temperature", "It belongs at stages.0.losses.0.temperature."),
    ("stages.0.losses.1.temperature", "It belongs at stages.0.losses.0.temperature."),
    ("checkpoints.xyzzy", "Known here: every_steps, keep."),
]


@pytest.mark.parametrize(("path", "fix"), UNKNOWN)
def test_an_unknown_setting_is_refused_with_the_nearest_name(path: str, fix: str) -> None:
    found = problem(changed(path, 1))
    assert found.field == path
    assert f"no setting called {path.rpartition('.')[2]!r}" in found.message
    assert found.fix.endswith(fix)


VARIANTS = [
    ("stages.0.kind", "distil", "kind cannot be 'distil'", "Did you mean 'distill'?"),
    ("stages.0.student.init", "layerdrop", "init cannot be", "Did you mean 'layer_drop'?"),
    ("stages.0.losses.0.name", "kl", "name cannot be 'kl'", "Did you mean 'forward_kl'?"),
    ("stages.0.losses.0.name", "zzz", "name cannot be", "Use one of "),
    ("data.sources.0.kind", "starters", "kind cannot be", "Did you mean 'starter'?"),
    ("data.sources.0.kind", None, "kind is missing", "Use one of file, hub, starter."),
]


@pytest.mark.parametrize(("path", "value", "why", "fix"), VARIANTS)
def test_an_unknown_variant(path: str, value: Any, why: str, fix: str) -> None:
    found = problem(changed(path, value))
    assert found.field == path
    assert why in found.message
    assert found.fix.startswith(fix)


@pytest.mark.parametrize(
    ("path", "value", "field", "fix"),
    [
        ("stages.0.student", {}, "stages.0.student.init", "layer_drop, pretrained, scratch"),
        ("data.sources.0", {"path": "x.csv"}, "data.sources.0.kind", "file, hub, starter"),
        ("data.sources.0", {"kind": "file"}, "data.sources.0.path", "Add it."),
        ("data.held_out", {"kind": "file"}, "data.held_out.path", "Add it."),
        ("data.held_out", {"kind": "no"}, "data.held_out.kind", "file, hub, starter"),
        ("data.held_out", {"kind": "starter", "split": "x"}, "data.held_out.split", "'labelled'"),
        ("stages.0", {"kind": "fine_tune"}, "stages.0.model", "Add it."),
    ],
)
def test_what_is_missing_inside_a_variant(path: str, value: Any, field: str, fix: str) -> None:
    found = problem(changed(path, value))
    assert found.field == field
    assert fix in found.fix


SCHEDULES = [
    ("weight", "abc", "weight", "it must be a number"),
    ("weight", -1, "weight", "greater than or equal to 0"),
    ("weight", None, "weight", "it must be a number"),
    ("weight", {"start": 1}, "weight.end", "missing"),
    ("weight", {"start": -1, "end": 1}, "weight.start", "greater than or equal to 0"),
    ("weight", {"start": 1, "end": 0, "schedule": "sine"}, "weight.schedule", "not allowed"),
    ("weight", {"start": 1, "end": 0, "fraction": 0}, "weight.fraction", "greater than 0"),
    ("weight", {"start": 1, "end": 0, "over": 1}, "weight.over", "no setting called 'over'"),
    ("temperature", {"start": 0, "end": 1}, "temperature.start", "greater than 0"),
    ("temperature", 0, "temperature", "greater than 0"),
]


@pytest.mark.parametrize(("key", "value", "field", "why"), SCHEDULES)
def test_a_schedule_that_is_wrong(key: str, value: Any, field: str, why: str) -> None:
    found = problem(changed(f"stages.0.losses.0.{key}", value))
    assert found.field == f"stages.0.losses.0.{field}"
    assert why in found.message


def test_a_schedule_is_set_part_by_part_and_written_again() -> None:
    place = "stages.0.losses.0.weight"
    made = recipe_yaml.loads(TEXT, [f"{place}.start=1", f"{place}.end=0.2"])
    assert made.stages[0].losses[0].weight == recipe.WeightSchedule(start=1, end=0.2)
    assert recipe_yaml.loads(recipe_yaml.dumps(made)) == made
    assert recipe_yaml.loads(TEXT, [f"{place}=0.5"]).stages[0].losses[0].weight == 0.5


def test_all_problems_are_told_at_once() -> None:
    data = changed("seed", -1) | {"nmae": "x", "stages": []}
    assert {found.field for found in problems(data)} == {"seed", "nmae", "stages"}


def test_every_known_variant_of_a_wrong_recipe_has_a_fix() -> None:
    for path, value, *_ in OUT_OF_RANGE + WRONG_KIND:
        assert problem(changed(path, value)).fix, path


# --- YAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "this is empty"),
        ("# only a comment\n", "this is empty"),
        ("hello", "this is text"),
        ("- a\n- b", "this is a list"),
        ("42", "this is 42"),
        ("name: x\ndata: [unclosed\n", "at line 3, column 1"),
        ("a:\n\t- b", "at line 2, column 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: !!python/object/apply:os.system ['x']", "could not determine a constructor"),
        ("when: 2020-13-45", "month must be in 1..12"),
        ("[" * 3000, "nested too deeply"),
        ("name: a\nname: b\n", "'name' is set twice"),
    ],
)
def test_text_that_is_no_recipe(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_yaml.loads(text)
    (found,) = caught.value.problems
    assert words in found.message
    assert found.fix


@pytest.mark.parametrize("name", ["gone.yaml", "folder", "latin.yaml"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RecipeError, match=rf"Cannot read the recipe .*{name}"):
        recipe_yaml.load(tmp_path / name)


def test_ready_recipes_load() -> None:
    for ready in api.ready_recipes():
        assert api.load_recipe(ready["yaml"]).stages
        assert ready["title"]


def test_yaml_out_and_in_is_the_same_recipe_and_stays_short() -> None:
    for source in [TEXT, *(ready["yaml"] for ready in api.ready_recipes())]:
        first = recipe_yaml.loads(source)
        written = recipe_yaml.dumps(first)
        assert recipe_yaml.loads(written) == first
        assert recipe_yaml.dumps(recipe_yaml.loads(written)) == written
    assert "weight_decay" not in recipe_yaml.dumps(recipe_yaml.loads(TEXT))
    assert "kind: distill" in recipe_yaml.dumps(recipe_yaml.loads(TEXT))


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipe_yaml.loads(TEXT).seed = 3  # type: ignore[misc]


# --- --set --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("stages.0.optim.learning_rate=2e-4", "stages.0.optim.learning_rate", 2e-4),
        ("stages.0.optim.epochs=.5", "stages.0.optim.epochs", 0.5),
        ("stages.0.student.layers= 3 ", "stages.0.student.layers", 3),
        ("evaluation.rows=16", "evaluation.rows", 16),
        ("stages.0.adapter={kind: lora, rank: 4}", "stages.0.adapter.rank", 4),
        ("stages.0.adapter.rank=4", "stages.0.adapter.rank", 4),
        ("data.sources=[{kind: file, path: a=b.csv}]", "data.sources.0.path", "a=b.csv"),
        ("data.held_out=0.2", "data.held_out", 0.2),
        ("data.system_prompt=Be brief: now", "data.system_prompt", "Be brief: now"),
        ("data.prompt_template={prompt}", "data.prompt_template", "{prompt}"),
        ("data.prompt_template='# {prompt}'", "data.prompt_template", "# {prompt}"),
        ("data.columns.text=007", "data.columns.text", "007"),
        ("data.system_prompt=", "data.system_prompt", None),
        ("name=on", "name", "on"),
        ("stages.0.teacher=[x", "stages.0.teacher", "[x"),
        ("stages.0.teacher=[{model: a, weight: 3}]", "stages.0.teacher.0.weight", 3.0),
        ("stages.0.teacher=[{model: a}, {model: 'no'}]", "stages.0.teacher.1.model", "no"),
    ],
)
def test_set_changes_one_setting(override: str, path: str, value: Any) -> None:
    found: Any = recipe_yaml.loads(TEXT, [override])
    for key in path.split("."):
        found = found[int(key)] if key.isdigit() else getattr(found, key)
    assert found == value
    assert recipe_yaml.loads(TEXT).stages[0].optim.learning_rate == 0.001


@pytest.mark.parametrize(
    ("override", "field", "words"),
    [
        ("seed", "seed", "not of the form a.b=c"),
        ("=3", "", "not of the form"),
        ("a..b=1", "a..b", "not of the form"),
        ("stages.5.kind=distill", "stages.5.kind", "there is no `5` in a list of 1"),
        ("stages.-1.kind=distill", "stages.-1.kind", "there is no `-1`"),
        ("stages.first.kind=distill", "stages.first.kind", "there is no `first`"),
        ("seed=[", "seed", "'[' is not valid YAML"),
        ("stages.0.losses.0.temperature=-1", "stages.0.losses.0.temperature", "greater than 0"),
        ("stages.0.optim.lr=1", "stages.0.optim.lr", "no setting called 'lr'"),
        ("data.sources.0.kind=", "data.sources.0.kind", "kind is missing"),
        ("name.first=1", "name", "must be text"),
        ("stages.0.teacher=[]", "stages.0.teacher", "This list is empty"),
        ("stages.0.teacher=[{weight: 1}]", "stages.0.teacher.0.model", "is missing"),
        ("stages.0.teacher=[{model: a, wait: 1}]", "stages.0.teacher.0.wait", "called 'wait'"),
        ("stages.0.teacher=[{model: a, weight: 0}]", "stages.0.teacher.0.weight", "than 0"),
        ("stages.0.teacher=[a]", "stages.0.teacher.0", "a group of settings belongs here"),
        ("stages.0.teacher.0.weight=2", "stages.0.teacher", "must be text"),
    ],
)
def test_a_wrong_set_is_told_at_its_field(override: str, field: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_yaml.loads(TEXT, [override])
    (found,) = caught.value.problems
    assert found.field == field
    assert words in found.message
    assert found.fix


def test_sets_are_applied_in_order() -> None:
    assert recipe_yaml.loads(TEXT, ["seed=1", "seed=2"]).seed == 2


def test_a_set_on_an_empty_file_tells_that_it_is_empty() -> None:
    with pytest.raises(RecipeError, match="this is empty"):
        recipe_yaml.loads("", ["seed=1"])


@given(st.text(max_size=40))
def test_whatever_is_set_no_other_error_comes_out(override: str) -> None:
    with contextlib.suppress(RecipeError):
        recipe_yaml.loads(TEXT, [override])


PATHS = [
    *("seed", "name", "data.max_seq_len", "data.sources.0.kind", "stages.0.teacher"),
    *("stages.0.losses.0.weight", "stages.0.optim.max_steps", "evaluation.samples"),
]


@given(
    st.sampled_from(PATHS),
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text()),
)
def test_a_set_value_arrives_as_it_was_written_in_yaml(path: str, value: Any) -> None:
    """Setting on the command line and writing into the file give the same recipe or refusal.

    But for free text, which needs no quotes on the command line.
    """
    written = yaml.safe_dump(value, width=10**6).removesuffix("\n").removesuffix("\n...")

    def outcome(make: Any) -> Any:
        try:
            return make()
        except RecipeError as error:
            return [found.field for found in error.problems]

    by_set = outcome(lambda: recipe_yaml.loads(TEXT, [f"{path}={written}"]))
    if path in ("name", "stages.0.teacher") and not isinstance(value, str | None):
        value = written
    by_file = outcome(lambda: recipe_yaml.parse(changed(path, value)))
    assert by_set == by_file


# --- the settings describe themselves -------------------------------------------------------------


def groups() -> list[type[BaseModel]]:
    return [
        found
        for found in vars(recipe).values()
        if isinstance(found, type) and issubclass(found, recipe.Settings)
    ]


@pytest.mark.parametrize("group", groups(), ids=lambda group: group.__name__)
def test_every_setting_says_what_it_is(group: type[BaseModel]) -> None:
    assert group.__doc__
    for name, field in group.model_fields.items():
        is_tag = name in ("kind", "init", "name") and field.default is not None
        assert field.description or is_tag, f"{group.__name__}.{name}"


def test_what_other_tools_say_leads_to_names_that_exist() -> None:
    homes = recipe_problems._homes()
    for ours in recipe_problems.OTHER_TOOLS.values():
        assert ours in homes or ours in recipe_problems._variants(Loss)


def test_the_schema_has_ranges_and_descriptions() -> None:
    schema = api.recipe_schema()
    rate = schema["$defs"]["OptimSettings"]["properties"]["learning_rate"]
    assert (rate["exclusiveMinimum"], rate["maximum"], rate["default"]) == (0, 1, 3e-4)
    assert rate["description"]
    assert isinstance(Recipe.model_validate(BASE), Recipe)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), ("1:2, 2:4", "1:2, 2:4"), ({1: 2, 2: 4}, "1:2, 2:4")],
    ids=["empty", "text", "mapping"],
)
@pytest.mark.parametrize("name", ["hidden_states", "attention"])
def test_a_layer_map_is_text_a_mapping_or_empty(name: str, given: Any, kept: str | None) -> None:
    stage = {
        "kind": "distill",
        "teacher": "pocket-teacher",
        "student": {"init": "scratch"},
        "losses": [{"name": name, "layer_map": given}],
    }
    made = recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": [stage]})
    assert made.stages[0].losses[0].layer_map == kept
    assert recipe_yaml.parse(made.model_dump(mode="json")) == made
    stage["losses"] = [{"name": name, "layer_map": "one with two"}]
    with pytest.raises(RecipeError, match="Write pairs of layers, such as 1:2, 2:4"):
        recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": [stage]})
