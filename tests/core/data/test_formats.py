"""Rows of every shape, guessed columns, and rows that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from distill_core.data.formats import Row, to_row
from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings, DataSettings, StarterSource

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}
BRIEF = {"role": "system", "content": "Be brief."}
ASKED = ColumnSettings(prompt="q", response="a")
CHAT = ColumnSettings(messages="m")


def settings(**changes: Any) -> DataSettings:
    return DataSettings(sources=[StarterSource()], **changes)


def row(record: dict[str, Any], columns: ColumnSettings, **changes: Any) -> Row:
    return to_row(record, columns, settings(**changes), "rows.jsonl:12")


# --- shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "columns", "messages"),
    [
        ({"q": "2+2?", "a": "4"}, ASKED, (USER, FOUR)),
        ({"q": "2+2?", "a": 4}, ASKED, (USER, FOUR)),
        ({"q": "2+2?", "a": ""}, ASKED, (USER,)),
        ({"q": "2+2?", "a": " \n"}, ASKED, (USER,)),
        ({"q": "2+2?", "a": None}, ASKED, (USER,)),
        ({"q": "2+2?", "a": float("nan")}, ASKED, (USER,)),
        ({"q": "2+2?"}, ASKED, (USER,)),
        ({"m": [USER, FOUR]}, CHAT, (USER, FOUR)),
        ({"m": [BRIEF, USER]}, CHAT, (BRIEF, USER)),
        ({"m": [USER, {"role": "assistant", "content": ""}]}, CHAT, (USER,)),
        (
            {"m": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
            CHAT,
            (USER, FOUR),
        ),
        ({"m": '[{"role": "user", "content": "2+2?"}]'}, CHAT, (USER,)),
    ],
)
def test_every_shape_becomes_a_chat(
    record: dict[str, Any], columns: ColumnSettings, messages: tuple[dict[str, str], ...]
) -> None:
    made = row(record, columns)
    assert made.messages == messages
    assert made.labelled == (messages[-1]["role"] == "assistant")
    assert made.response == ("4" if made.labelled else None)
    assert made.prompt_messages == tuple(item for item in messages if item != FOUR)
    assert made.prompt_text == "2+2?"
    assert made.origin == "rows.jsonl:12"


def test_plain_text_is_learnt_from_whole() -> None:
    made = row({"t": "Once upon a time."}, ColumnSettings(text="t"))
    assert (made.messages, made.text, made.labelled) == (None, "Once upon a time.", True)
    assert (made.prompt_messages, made.response) == ((), None)
    assert made.prompt_text == "Once upon a time."


def test_true_and_false_are_answers_too() -> None:
    assert row({"q": "Is it?", "a": True}, ASKED).response == "true"
    assert row({"q": "Is it?", "a": False}, ASKED).response == "false"
    assert row({"q": "How many?", "a": 0}, ASKED).response == "0"


def test_template_goes_around_prompts_and_system_prompt_before_chats_that_have_none() -> None:
    changes = {"prompt_template": "Review: {prompt}\nVerdict:", "system_prompt": "Be brief."}
    made = row({"q": "good {fun}", "a": "positive"}, ASKED, **changes)
    assert made.messages is not None
    assert made.messages[0] == BRIEF
    assert made.prompt_text == "Review: good {fun}\nVerdict:"
    assert made.response == "positive"
    other = {"role": "system", "content": "Rhyme."}
    assert row({"m": [other, USER]}, CHAT, **changes).messages[:1] == (other,)  # type: ignore[index]


def test_joined_columns_make_one_prompt() -> None:
    columns = ColumnSettings(prompt="instruction + input", response="output")
    both = row({"instruction": "Sort.", "input": "3 1 2", "output": "1 2 3"}, columns)
    alone = row({"instruction": "Sing.", "input": "", "output": "la"}, columns)
    assert both.prompt_text == "Sort.\n\n3 1 2"
    assert alone.prompt_text == "Sing."


def test_a_teachers_answer_takes_the_place_of_the_answer_but_is_no_label() -> None:
    for before in (row({"q": "2+2?"}, ASKED), row({"q": "2+2?", "a": "5"}, ASKED)):
        after = before.answered("4")
        assert after.messages == (USER, FOUR)
        assert after.response == "4"
        assert not after.labelled
        assert after.content_hash == before.content_hash
        assert after.origin == before.origin


# --- identity of content --------------------------------------------------------------------


def test_hash_is_of_what_is_asked_not_of_the_answer() -> None:
    asked = row({"q": "2+2?", "a": "4"}, ASKED).content_hash
    assert asked == row({"q": "2+2?", "a": "5"}, ASKED).content_hash
    assert asked == row({"q": "2+2?"}, ASKED).content_hash
    assert asked == row({"m": [USER]}, CHAT).content_hash
    assert asked != row({"q": "2+3?", "a": "4"}, ASKED).content_hash
    assert asked != row({"m": [BRIEF, USER]}, CHAT).content_hash
    assert asked != row({"t": "2+2?"}, ColumnSettings(text="t")).content_hash
    assert len(asked) == 64


def test_case_spaces_and_unicode_form_make_no_new_prompt() -> None:
    plain = row({"q": "Café Noir, please"}, ASKED).content_hash
    assert plain == row({"q": "  cafe\u0301  noir,\tPLEASE\n"}, ASKED).content_hash


@examples(deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=4))
def test_message_borders_count(parts: list[str]) -> None:
    def chat(texts: list[str]) -> Row:
        return Row(tuple({"role": "user", "content": text} for text in texts), None, "x:1")

    assert chat(parts).content_hash != chat(["".join(parts)]).content_hash


# --- rows that cannot be used ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "columns", "field", "message"),
    [
        ({"q": "", "a": "4"}, ASKED, "prompt", r"rows.jsonl:12: column 'q' is empty"),
        ({"a": "4"}, ASKED, "prompt", r"rows.jsonl:12: column 'q' is empty"),
        ({"q": ["x"], "a": "4"}, ASKED, "prompt", r"column 'q' holds a list .*not text"),
        ({"q": "x", "a": {"y": 1}}, ASKED, "response", r"column 'a' holds a mapping"),
        ({"q": "x\ud800", "a": "4"}, ASKED, "prompt", r"half a character"),
        ({"t": "  "}, ColumnSettings(text="t"), "text", r"column 't' is empty"),
        ({"m": None}, CHAT, "messages", r"column 'm' is empty"),
        ({"m": []}, CHAT, "messages", r"no user message"),
        ({"m": [FOUR]}, CHAT, "messages", r"no user message"),
        ({"m": [{"role": "user", "content": " "}]}, CHAT, "messages", r"no user message"),
        ({"m": "hello"}, CHAT, "messages", r"not a list of messages"),
        ({"m": "[{]"}, CHAT, "messages", r"is not JSON"),
        ({"m": ["hello"]}, CHAT, "messages", r"message 1 .*not a mapping"),
        ({"m": [USER, {"role": "tool", "content": "x"}]}, CHAT, "messages", r"the role 'tool'"),
        ({"m": [{"content": "x"}]}, CHAT, "messages", r"the role None"),
        ({"m": [{"role": "user", "content": ["x"]}]}, CHAT, "messages", r"holds a list"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    record: dict[str, Any], columns: ColumnSettings, field: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as raised:
        row(record, columns)
    assert str(raised.value).startswith("rows.jsonl:12: ")
    assert raised.value.field == f"data.columns.{field}"
    assert str(raised.value).count("\n") <= 1
