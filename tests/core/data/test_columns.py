"""Columns are guessed from well-known names, and joined ones are read one by one."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.data.columns import (
    columns_read,
    guess_columns,
    guess_text_columns,
    settle_columns,
    settle_text_columns,
)
from distill_core.data.files import Records
from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("first", "guess"),
    [
        ({"prompt": "p", "response": "r"}, {"prompt": "prompt", "response": "response"}),
        ({"question": "q", "answer": "a"}, {"prompt": "question", "response": "answer"}),
        ({"Question": "q", "Answer": "a"}, {"prompt": "Question", "response": "Answer"}),
        ({"text": "t", "label": 1}, {"prompt": "text", "response": "label"}),
        ({"idx": 0, "sentence": "s", "label": 1}, {"prompt": "sentence", "response": "label"}),
        ({"input": "i", "output": "o"}, {"prompt": "input", "response": "output"}),
        (
            {"instruction": "i", "input": "x", "output": "o"},
            {"prompt": "instruction + input", "response": "output"},
        ),
        (
            {"instruction": "i", "input": "", "output": "o"},
            {"prompt": "instruction", "response": "output"},
        ),
        ({"prompt": "p"}, {"prompt": "prompt"}),
        ({"text": "t"}, {"text": "text"}),
        ({"text": "t", "url": "u"}, {"text": "text"}),
        ({"content": "t"}, {"text": "content"}),
        ({"messages": [USER, FOUR]}, {"messages": "messages"}),
        ({"prompt": "p", "messages": [USER]}, {"messages": "messages"}),
        ({"conversations": [{"from": "human", "value": "v"}]}, {"messages": "conversations"}),
        ({"prompt": "p", "messages": 3}, {"prompt": "prompt"}),
        ({"foo": "f", "bar": "b"}, {}),
    ],
)
def test_columns_are_guessed_from_well_known_names(
    first: dict[str, Any], guess: dict[str, str]
) -> None:
    assert guess_columns(list(first), [first]).model_dump(exclude_none=True) == guess


def test_joined_columns_are_read_one_by_one() -> None:
    columns = ColumnSettings(prompt="instruction + input", response="output")
    names = ["instruction", "input", "output"]
    assert columns_read(columns, names) == names
    assert columns_read(ColumnSettings(prompt="a + b"), ["a + b"]) == ["a + b"]
    pair = ColumnSettings(text="a", text_pair="b", label="c")
    assert sorted(columns_read(pair, ["a", "b", "c"])) == ["a", "b", "c"]


# --- texts and classes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "guess"),
    [
        ("text label", {"text": "text", "label": "label"}),
        ("idx sentence label", {"text": "sentence", "label": "label"}),
        ("Review Sentiment", {"text": "Review", "label": "Sentiment"}),
        ("premise hypothesis label", {"text": "premise", "text_pair": "hypothesis"}),
        ("sentence1 sentence2 label idx", {"text": "sentence1", "text_pair": "sentence2"}),
        ("text", {"text": "text"}),
        ("foo bar", {}),
    ],
)
def test_columns_of_classes_are_guessed(names: str, guess: dict[str, str]) -> None:
    found = guess_text_columns(names.split()).model_dump(exclude_none=True)
    assert {name: found[name] for name in guess} == guess
    assert ("label" in found) == ("label" in names.lower() or "Sentiment" in names)


def records(*names: str) -> Records:
    return Records(list(names), [("rows.jsonl:1", dict.fromkeys(names, "x"))])


def test_named_columns_of_classes_are_taken_and_guesses_are_said() -> None:
    here = records("a", "b", "c", "text", "label")
    named = ColumnSettings(text="a", text_pair="b", label="c")
    assert settle_text_columns(named, here, "rows.jsonl") == (named, False)
    columns, guessed = settle_text_columns(ColumnSettings(text="a"), here, "rows.jsonl")
    assert (columns, guessed) == (ColumnSettings(text="a", label="label"), True)
    alone, _ = settle_text_columns(ColumnSettings(label="c"), records("text"), "rows.jsonl")
    assert alone == ColumnSettings(text="text")


@pytest.mark.parametrize(
    ("wanted", "field", "message"),
    [
        ({"text": "nope"}, "text", r"no column 'nope'\. Its columns: text, label"),
        ({"text": "text", "text_pair": "nope"}, "text_pair", "no column 'nope'"),
        ({"text": "text", "label": "nope"}, "label", "no column 'nope'"),
        ({"prompt": "text"}, "prompt", "reads a text and its label, not a prompt"),
        ({"response": "label"}, "response", "not a response"),
        ({"messages": "text"}, "messages", "not a messages"),
    ],
)
def test_columns_that_cannot_be_read_as_classes_are_told(
    wanted: dict[str, str], field: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        settle_text_columns(ColumnSettings(**wanted), records("text", "label"), "rows.jsonl")
    assert raised.value.field == f"data.columns.{field}"
    assert raised.value.columns == (("text", "label") if "nope" in wanted.values() else ())


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("body answer", {}),
        ("body answer", {"prompt": "nope"}),
        ("body answer", {"messages": "nope"}),
        ("question answer", {"response": "nope"}),
    ],
)
def test_columns_that_there_are_come_with_the_error(names: str, wanted: dict[str, str]) -> None:
    with pytest.raises(DataError) as raised:
        settle_columns(ColumnSettings(**wanted), records(*names.split()), "rows.jsonl")
    assert raised.value.columns == tuple(names.split())


@pytest.mark.parametrize("kind", ["label", "text_pair"])
def test_columns_of_classes_are_refused_where_text_is_written(kind: str) -> None:
    with pytest.raises(DataError, match="for the task text_classification") as raised:
        settle_columns(
            ColumnSettings.model_validate({"prompt": "text", kind: "label"}),
            records("text", "label"),
            "rows.jsonl",
        )
    assert raised.value.field == f"data.columns.{kind}"
