"""Rows with a class: read, split, counted and turned into token ids as their model wants them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from distill_core import starter
from distill_core.data.classes import (
    TextRow,
    class_counts,
    encode_text,
    named_classes,
    to_text_row,
)
from distill_core.data.sources import prepare
from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings, DataSettings

TASK = "text_classification"
LABELLED = ColumnSettings(text="t", label="l")
PAIRED = ColumnSettings(text="t", text_pair="u", label="l")


def row(record: dict[str, Any], columns: ColumnSettings = LABELLED) -> TextRow:
    return to_text_row(record, columns, "rows.jsonl:7")


def test_a_record_becomes_a_text_with_its_class() -> None:
    made = row({"t": "fine film", "l": "good"})
    assert (made.text, made.label, made.labelled) == ("fine film", "good", True)
    assert (made.prompt_text, made.response) == ("fine film", "good")
    pair = row({"t": "a", "u": "b", "l": 1}, PAIRED)
    assert (pair.text_pair, pair.label, pair.prompt_text) == ("b", "1", "a\n\nb")


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, "0"), (1.0, "1"), (" good ", "good"), (True, "true"), (None, None), ("", None)],
)
def test_labels_are_names_or_numbers_or_not_there(value: Any, label: str | None) -> None:
    made = row({"t": "x", "l": value})
    assert (made.label, made.labelled) == (label, label is not None)


def test_the_same_text_is_the_same_row_whatever_its_class() -> None:
    first, second = row({"t": "Fine  film", "l": "good"}), row({"t": "fine film", "l": "bad"})
    assert first.content_hash == second.content_hash
    pair = row({"t": "fine", "u": "film"}, PAIRED)
    assert pair.content_hash != row({"t": "fine film"}).content_hash
    assert pair.content_hash != row({"t": "film", "u": "fine"}, PAIRED).content_hash


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ({"t": " ", "l": "x"}, "text", r"rows.jsonl:7: column 't' is empty"),
        ({"t": ["x"]}, "text", r"column 't' holds a list"),
        ({"t": "x", "l": {"y": 1}}, "label", r"column 'l' holds a mapping"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    record: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        row(record)
    assert raised.value.field == f"data.columns.{field}"


# --- sources --------------------------------------------------------------------------------


def data(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> DataSettings:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in rows), encoding="utf-8")
    source = {"kind": "file", "path": str(file)}
    return DataSettings.model_validate({"sources": [source], "held_out": 0.3, **changes})


def test_rows_are_split_by_content_and_classes_are_counted(tmp_path: Path) -> None:
    rows = [{"text": f"film {i}", "label": ["good", "bad", None][i % 3]} for i in range(90)]
    found = prepare(data(tmp_path, rows), seed=0, task=TASK)
    assert all(one.labelled for one in found.held_out)
    assert {one.prompt_text for one in found.train}.isdisjoint(
        one.prompt_text for one in found.held_out
    )
    assert found.facts["unlabelled"] == 30
    counted = Counter(one.response for one in found.train if one.labelled)
    assert found.facts["classes"] == {"bad": counted["bad"], "good": counted["good"]}
    assert sum(found.facts["held_out_classes"].values()) == len(found.held_out)
    assert found.facts["sources"][0]["columns"] == {"text": "text", "label": "label"}
    assert found.facts["sources"][0]["guessed"] is True


def test_a_text_on_both_sides_is_not_trained_on(tmp_path: Path) -> None:
    rows = [{"text": f"film {i % 20}", "label": "good"} for i in range(60)]
    found = prepare(data(tmp_path, rows), seed=0, task=TASK)
    asked = {one.content_hash for one in found.held_out}
    assert asked.isdisjoint(one.content_hash for one in found.train)


def test_a_slip_in_the_label_column_is_told(tmp_path: Path) -> None:
    settings = data(tmp_path, [{"text": "a b"}], columns={"text": "text", "label": "lable"})
    with pytest.raises(DataError, match="No source has a column 'lable'") as raised:
        prepare(settings, seed=0, task=TASK)
    assert raised.value.field == "data.columns.label"


def test_the_starters_commands_have_an_action_as_their_class() -> None:
    source = {"kind": "starter", "split": "held_out", "limit": 200}
    settings = DataSettings.model_validate({"sources": [source], "held_out": 0.5})
    found = prepare(settings, seed=0, task=TASK)
    answers = {r["prompt"]: json.loads(r["response"]) for r in starter.rows("held_out")}
    for one in found.train:
        answer = answers[one.prompt_text]
        assert one.response == ("several" if isinstance(answer, list) else answer["do"])
    blank = {"kind": "starter", "split": "unlabelled", "limit": 5}
    settings = DataSettings.model_validate({"sources": [blank], "held_out": source})
    assert prepare(settings, seed=0, task=TASK).facts["unlabelled"] == 5


# --- classes --------------------------------------------------------------------------------


def test_numbers_are_counted_in_their_order_and_names_in_the_alphabets() -> None:
    def counted(*labels: Any) -> list[str]:
        return list(class_counts(row({"t": "x", "l": label}) for label in labels))

    assert counted(10, 2, 1, None) == ["1", "2", "10"]
    assert counted("b", "a", "10") == ["10", "a", "b"]


def test_named_classes_keep_their_order(tmp_path: Path) -> None:
    assert named_classes(data(tmp_path, [], classes="positive, negative")) == (
        *("positive", "negative"),
    )
    assert named_classes(data(tmp_path, [])) == ()


@pytest.mark.parametrize(
    ("classes", "message"),
    [("a, a", "names 'a' twice"), ("a,,b", "an empty name"), ("a", "names one class")],
)
def test_classes_that_decide_nothing_are_refused(
    tmp_path: Path, classes: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        named_classes(data(tmp_path, [], classes=classes))
    assert raised.value.field == "data.classes"


# --- tokens ---------------------------------------------------------------------------------


def test_special_tokens_are_those_of_the_tokenizer(
    tiny_tokenizer: PreTrainedTokenizerFast, tiny_encoder_tokenizer: PreTrainedTokenizerFast
) -> None:
    made = encode_text(row({"t": "turn on", "l": "b"}), tiny_tokenizer, 8, ("a", "b"))
    turn, on = tiny_tokenizer.convert_tokens_to_ids(["turn", "on"])
    assert made.input_ids == [1, turn, on]
    assert (made.class_id, made.labelled, made.truncated) == (1, True, False)
    made = encode_text(row({"t": "turn on"}), tiny_encoder_tokenizer, 8, ("a", "b"))
    assert made.input_ids == [1, turn, on, 2]
    assert (made.labelled, made.supervised_tokens) == (False, 1)


def test_a_pair_is_read_as_one_row_with_two_segments(
    tiny_encoder_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer = tiny_encoder_tokenizer
    made = encode_text(row({"t": "turn on", "u": "fan"}, PAIRED), tokenizer, 8, ("a", "b"))
    turn, on, fan = tokenizer.convert_tokens_to_ids(["turn", "on", "fan"])
    assert made.input_ids == [1, turn, on, 2, fan, 2]
    assert made.token_type_ids == [0, 0, 0, 0, 1, 1]


def test_a_long_row_is_cut_and_says_so(tiny_encoder_tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = tiny_encoder_tokenizer
    made = encode_text(row({"t": "turn on the light please and one two"}), tokenizer, 8, ("a", "b"))
    assert (len(made.input_ids), made.truncated) == (8, True)
    assert (made.input_ids[0], made.input_ids[-1]) == (1, 2)
    both = row({"t": "turn on the light please and", "u": "fan"}, PAIRED)
    cut = encode_text(both, tokenizer, 8, ("a", "b"))
    assert len(cut.input_ids) == 8
    assert cut.input_ids.count(2) == 2
    assert tokenizer.convert_tokens_to_ids("fan") in cut.input_ids


def test_a_class_that_nobody_named_is_refused(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:7: 'c' is none of the classes a, b") as raised:
        encode_text(row({"t": "turn", "l": "c"}), tiny_tokenizer, 8, ("a", "b"))
    assert raised.value.field == "data.classes"
