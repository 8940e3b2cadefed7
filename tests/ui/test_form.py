"""Fields made from the schema: words, kinds, ranges, and values in and out."""

from __future__ import annotations

from typing import Annotated, Literal

import gradio as gr
import pytest
from pydantic import BaseModel, Field

from distill_core import api
from ui import form


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"] = "cat"
    lives: int = Field(9, ge=1, le=9, description="How many are left.")


class Dog(BaseModel):
    """A dog."""

    kind: Literal["dog"] = "dog"


class Nap(BaseModel):
    minutes: float = Field(5.0, gt=0, lt=60, description="How long.")


class House(BaseModel):
    new_setting: float = Field(0.5, ge=0, le=1, description="Something invented later.")
    colour: Literal["red", "dark_blue"] = Field("red", description="Of the door.")
    loud: bool = False
    owner: str | None = Field(None, description="Who pays.")
    floors: int | None = Field(None, ge=1)
    doors: list[int] | None = Field(None, description="Their numbers.")
    rooms: list[Literal["attic", "cellar"]] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat()
    guest: Annotated[Cat | Dog, Field(discriminator="kind")] | None = Field(
        None, description="Who comes to stay."
    )
    nap: Nap | None = None
    always: Nap = Nap()


SCHEMA = House.model_json_schema()
FOUND = {setting.key: setting for setting in form.settings(SCHEMA, SCHEMA, "house")}


def test_a_new_setting_needs_no_change_here() -> None:
    found = FOUND["new_setting"]
    assert found.label == "New setting"
    assert found.info == "Something invented later. (at least 0, at most 1)"
    assert (found.kind, found.path, found.default) == ("number", "house.new_setting", 0.5)
    assert isinstance(form.component(found, 0.25), gr.Number)


def test_kinds_follow_the_types() -> None:
    kinds = {name: setting.kind for name, setting in FOUND.items()}
    assert kinds == {
        "new_setting": "number",
        "doors": "numbers",
        "colour": "choice",
        "loud": "toggle",
        "owner": "text",
        "floors": "integer",
        "rooms": "several",
        "guest": "variant",
        "nap": "group",
        "always": "group",
    }  # a union that is needed is left to the caller
    assert [name for name, setting in FOUND.items() if setting.optional] == [
        "owner",
        "floors",
        "doors",
        "guest",
        "nap",
    ]
    assert FOUND["colour"].choices == ("red", "dark_blue")


def test_variants_and_tags_of_a_union() -> None:
    known = form.variants(SCHEMA, SCHEMA["properties"]["pet"])
    assert set(known) == {"cat", "dog"}
    assert form.tag(SCHEMA, known["cat"]) == {"kind": "cat"}
    assert [item.key for item in form.settings(SCHEMA, known["cat"], "pet")] == ["lives"]
    assert form.variants(SCHEMA, SCHEMA["properties"]["nap"]) == {}


def test_one_of_several_variants_may_be_chosen_or_none() -> None:
    found = FOUND["guest"]
    assert found.choices == ("cat", "dog")
    assert found.info == "Who comes to stay."
    made = form.component(found, None)
    assert isinstance(made, gr.Dropdown)
    assert made.value == ""
    assert [value for _, value in made.choices] == ["", "cat", "dog"]
    assert form.component(found, {"kind": "dog"}).value == "dog"
    assert set(form.variants(SCHEMA, found.node)) == {"cat", "dog"}


def test_ranges_are_told_not_enforced_by_the_component() -> None:
    inner = form.settings(SCHEMA, FOUND["nap"].node, "house.nap")[0]
    assert inner.info == "How long. (above 0, below 60)"
    made = form.component(inner, -3)
    assert made.value == -3  # shown as it is; the problem stands under the field
    assert made.minimum is None
    assert made.elem_id == "ds-field-house-nap-minutes"


def test_defaults_are_shown_and_empty_stays_empty() -> None:
    assert form.component(FOUND["new_setting"], None).value == 0.5
    empty = form.component(FOUND["floors"], None)
    assert isinstance(empty, gr.Textbox)  # a number field would show 0
    assert empty.value == ""
    assert form.component(FOUND["nap"], None).value is False
    assert form.component(FOUND["nap"], {"minutes": 2}).value is True
    assert form.component(FOUND["rooms"], ["attic"]).value == ["attic"]


@pytest.mark.parametrize(
    ("name", "typed", "kept"),
    [
        ("floors", "3", 3),
        ("floors", "", None),
        ("floors", "many", "many"),
        ("floors", "2.5", 2.5),
        ("new_setting", 1, 1.0),
        ("new_setting", None, None),
        ("owner", "  ", None),
        ("owner", "me", "me"),
        ("loud", True, True),
    ],
)
def test_values_come_back_as_a_recipe_holds_them(name: str, typed: object, kept: object) -> None:
    value = form.parsed(FOUND[name], typed)
    assert value == kept
    assert type(value) is type(kept)


def test_pasted_text_counts_as_an_edit() -> None:
    text = form.component(FOUND["owner"], "me")
    number = form.component(FOUND["new_setting"], 0.5)
    assert form.edited(text) == text.change
    assert form.edited(number) == number.input


def test_wrong_text_in_a_number_stays_visible() -> None:
    assert form.component(FOUND["new_setting"], "lots").value == "lots"


def test_every_setting_of_a_recipe_has_words() -> None:
    schema = api.recipe_schema()
    stages = form.variants(schema, form.find(schema, "stages")["items"])
    for node, path in (
        (schema, ""),
        (form.find(schema, "data"), "data"),
        *((stage, "stages.0") for stage in stages.values()),
    ):
        for setting in form.settings(schema, node, path):
            assert setting.label
            assert "_" not in setting.label
    assert form.words("checkpoints.keep") != form.words("stages.0.student.keep")


def test_lists_of_numbers_are_written_with_commas() -> None:
    doors = FOUND["doors"]
    assert form.component(doors, [1, 2, 30]).value == "1, 2, 30"
    assert form.component(doors, None).value == ""
    assert form.parsed(doors, "1, 2 30") == [1, 2, 30]
    assert form.parsed(doors, " ") is None
    assert form.parsed(doors, "1, two") == "1, two"


def test_a_number_may_give_way_to_a_group() -> None:
    schema = {
        "$defs": {"Moving": {"type": "object", "properties": {"start": {"type": "number"}}}},
        "properties": {
            "weight": {
                "default": 0.9,
                "oneOf": [{"type": "number", "minimum": 0}, {"$ref": "#/$defs/Moving"}],
            }
        },
    }
    weight = form.settings(schema, schema, "loss")[0]
    assert (weight.kind, weight.default, weight.info) == ("number", 0.9, "(at least 0)")
    assert [item.path for item in form.settings(schema, weight.node, weight.path)] == [
        "loss.weight.start"
    ]
