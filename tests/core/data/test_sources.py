"""Sources become rows; held-out rows are chosen by their content and never trained on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from distill_core.data.formats import Row
from distill_core.data.sources import load_rows, load_source, prepare
from distill_core.errors import DataError
from distill_core.recipe import DataSettings, FileSource, StarterSource


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"kind": "file", "path": str(file)}


def settings(*sources: dict[str, Any], **changes: Any) -> DataSettings:
    return DataSettings.model_validate({"sources": list(sources), **changes})


def pairs(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}+1?", "response": str(i + 1)} for i in range(start, start + count)]


def turns(*contents: str) -> dict[str, Any]:
    """A chat: user and assistant in turn."""
    roles = ["user", "assistant"] * (len(contents) // 2)
    spoken = zip(roles, contents, strict=True)
    return {"messages": [{"role": role, "content": content} for role, content in spoken]}


def prompts(rows: list[Row]) -> set[str]:
    return {row.prompt_text for row in rows}


# --- sources --------------------------------------------------------------------------------


def test_the_starter_is_a_source() -> None:
    source = StarterSource(split="labelled", limit=5)
    rows = load_rows(settings({"kind": "starter"}), source=source)
    assert [row.origin for row in rows] == [f"starter/labelled:{line}" for line in range(1, 6)]
    assert all(row.labelled for row in rows)
    unlabelled = StarterSource(split="unlabelled", limit=5)
    assert not any(row.labelled for row in load_rows(settings(unlabelled), source=unlabelled))


def test_named_columns_are_for_files_not_for_the_starter(tmp_path: Path) -> None:
    asked = write(tmp_path, "rows.jsonl", [{"q": "2+2?", "a": "4"}] * 3)
    data = settings(
        {"kind": "starter", "limit": 9}, asked, columns={"prompt": "q", "response": "a"}
    )
    facts = prepare(data, seed=0).facts["sources"]
    assert facts == [
        {
            "title": "starter/labelled",
            "rows": 9,
            "columns": {"prompt": "prompt", "response": "response"},
            "names": [],
            "guessed": False,
            "skipped": 0,
            "unanswered": 0,
        },
        {
            "title": "rows.jsonl",
            "rows": 3,
            "columns": {"prompt": "q", "response": "a"},
            "names": ["q", "a"],
            "guessed": False,
            "skipped": 0,
            "unanswered": 0,
        },
    ]


@pytest.mark.parametrize(
    ("record", "columns", "found", "guessed"),
    [
        ({"question": "q", "answer": "a"}, {}, {"prompt": "question", "response": "answer"}, True),
        (
            {"question": "q", "answer": "a"},
            {"prompt": "question"},
            {"prompt": "question", "response": "answer"},
            True,
        ),
        ({"question": "q", "answer": "a"}, {"text": "answer"}, {"text": "answer"}, False),
        ({"text": "t", "x": "a"}, {"response": "x"}, {"prompt": "text", "response": "x"}, True),
        ({"question": "q"}, {"prompt": "question"}, {"prompt": "question"}, False),
    ],
)
def test_what_is_named_is_taken_and_the_rest_is_guessed(
    tmp_path: Path,
    record: dict[str, Any],
    columns: dict[str, str],
    found: dict[str, str],
    guessed: bool,
) -> None:
    source = write(tmp_path, "rows.jsonl", [record])
    data = settings(source, columns=columns)
    loaded = load_source(data, source=FileSource.model_validate(source))
    assert loaded.columns.model_dump(exclude_none=True) == found
    assert loaded.guessed == guessed


def test_a_text_file_can_hold_prompts(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("one\ntwo\n", encoding="utf-8")
    source = FileSource(path=str(tmp_path / "rows.txt"))
    assert [row.text for row in load_rows(settings(source), source=source)] == ["one", "two"]
    asked = load_rows(settings(source, columns={"prompt": "text"}), source=source)
    assert [(row.prompt_text, row.labelled) for row in asked] == [("one", False), ("two", False)]


def test_empty_texts_are_skipped_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path, "rows.jsonl", [{"text": "a"}, {"text": ""}, {"text": None}])
    loaded = load_source(settings(source), source=FileSource.model_validate(source))
    assert (len(loaded.rows), loaded.skipped) == (1, 2)


@pytest.mark.parametrize(
    ("rows", "columns", "field", "message"),
    [
        (
            [{"foo": 1, "bar": 2}],
            {},
            "columns.prompt",
            "rows.jsonl: no column .* Its columns: foo, bar",
        ),
        (
            [{"question": "q", "answer": "a"}],
            {"prompt": "qestion"},
            "columns.prompt",
            r"rows.jsonl has no column 'qestion'. Its columns: question, answer\.",
        ),
        (
            [{"question": "q", "answer": "a"}],
            {"prompt": "question", "response": "anwser"},
            "columns.response",
            r"rows.jsonl has no column 'anwser'. Its columns: question, answer\.",
        ),
        (
            [{"question": "q", "reply to it": "a"}],
            {"prompt": "question", "response": "reply"},
            "columns.response",
            r"No source has a column 'reply'",
        ),
        (
            [{"question": "q", "answer": "a"}],
            {"text": "answer", "prompt": "question"},
            "columns.prompt",
            "name text and prompt, but a row has one form",
        ),
        (
            [{"messages": [{"role": "user", "content": "q"}], "answer": "a"}],
            {"response": "answer"},
            "columns.response",
            "name messages and response, but a row has one form",
        ),
        ([{"text": ""}], {}, "sources.0", "column 'text' is empty in all rows"),
        ([{"prompt": "q"}, {"prompt": ""}], {}, "columns.prompt", "rows.jsonl:2: column 'prompt'"),
    ],
)
def test_wrong_columns_say_which_there_are(
    tmp_path: Path, rows: list[dict[str, Any]], columns: dict[str, str], field: str, message: str
) -> None:
    data = settings(write(tmp_path, "rows.jsonl", rows), columns=columns)
    with pytest.raises(DataError, match=message) as raised:
        prepare(data, seed=0)
    assert raised.value.field == f"data.{field}"
    assert str(raised.value).count("\n") <= 1


def test_a_source_of_prompts_beside_one_with_answers(tmp_path: Path) -> None:
    answered = write(tmp_path, "answered.jsonl", [{"q": f"{i}?", "a": "x"} for i in range(40)])
    bare = write(tmp_path, "bare.jsonl", [{"q": f"{i}!"} for i in range(7)])
    prepared = prepare(settings(answered, bare, columns={"prompt": "q", "response": "a"}), seed=0)
    assert prepared.facts["unlabelled"] == 7


# --- held-out rows as a share -----------------------------------------------------------------


@examples(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 200), st.integers(0, 2**31 - 1))
def test_the_choice_depends_on_each_rows_content_alone(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, more: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    rows = pairs(60)
    first = prepare(settings(write(folder, "a.jsonl", rows), held_out=0.3), seed=0)
    rows += pairs(more, start=1000)
    chance.shuffle(rows)
    rows = [{**row, "response": "other"} for row in rows]
    second = prepare(settings(write(folder, "b.jsonl", rows), held_out=0.3), seed=seed)
    known = {row["prompt"] for row in pairs(60)}
    assert prompts(second.held_out) & known == prompts(first.held_out)
    assert prompts(second.train) & known == prompts(first.train)
    assert len(second.train) + len(second.held_out) == len(rows)


def test_the_share_is_about_kept_and_a_smaller_one_lies_inside(tmp_path: Path) -> None:
    source = write(tmp_path, "rows.jsonl", pairs(4000))
    fifth = prepare(settings(source, held_out=0.2), seed=0)
    tenth = prepare(settings(source, held_out=0.1), seed=0)
    assert 700 < len(fifth.held_out) < 900  # 800 ± 4 standard deviations
    assert prompts(tenth.held_out) < prompts(fifth.held_out)
    assert not prompts(fifth.held_out) & prompts(fifth.train)
    assert fifth.facts["rows"] + fifth.facts["held_out"] == 4000


def test_unlabelled_rows_are_learnt_from_unless_their_prompt_is_held_out(tmp_path: Path) -> None:
    labelled = write(tmp_path, "labelled.jsonl", pairs(50))
    bare = [{"prompt": row["prompt"].upper()} for row in pairs(100)]
    prepared = prepare(
        settings(labelled, write(tmp_path, "bare.jsonl", bare), held_out=0.3), seed=0
    )
    held_out = prompts(prepared.held_out)
    assert all(row.labelled for row in prepared.held_out)
    assert not held_out & prompts(prepared.train)
    assert prepared.facts["overlap"] == len(held_out) > 0
    assert prepared.facts["unlabelled"] == 100 - len(held_out)
    assert prepared.facts["duplicates"] == 50


def test_chats_that_begin_alike_stay_on_one_side(tmp_path: Path) -> None:
    rows = [
        turns(*chat)
        for i in range(60)
        for chat in ((f"{i}?", "a"), (f"{i}?", "a", "more", "b"), (f"{i}?", "c", "why", "d"))
    ]
    prepared = prepare(settings(write(tmp_path, "rows.jsonl", rows), held_out=0.3), seed=0)
    assert prepared.held_out

    def first(rows: list[Row]) -> set[str]:
        return {row.messages[0]["content"] for row in rows if row.messages}

    assert not first(prepared.held_out) & first(prepared.train)


def test_no_row_held_out_is_told(tmp_path: Path) -> None:
    source = write(tmp_path, "rows.jsonl", pairs(3))
    with pytest.raises(DataError, match="None of the 3 labelled rows fell into") as raised:
        prepare(settings(source, held_out=0.0001), seed=0)
    assert raised.value.field == "data.held_out"


def test_no_row_left_to_learn_from_is_told(tmp_path: Path) -> None:
    source = write(tmp_path, "rows.jsonl", pairs(3))
    with pytest.raises(DataError, match="No row is left to learn from: all 3") as raised:
        prepare(settings(source, held_out=source), seed=0)
    assert raised.value.field == "data.held_out"


# --- held-out rows as a source ----------------------------------------------------------------


def test_rows_that_ask_a_held_out_prompt_are_dropped_and_counted(tmp_path: Path) -> None:
    train = write(tmp_path, "train.jsonl", [*pairs(10), {"prompt": " 3+1? ", "response": "5"}])
    kept = write(tmp_path, "kept.jsonl", [*pairs(4, start=2), {"prompt": "never answered"}])
    prepared = prepare(settings(train, held_out=kept), seed=0)
    assert prompts(prepared.held_out) == {"2+1?", "3+1?", "4+1?", "5+1?"}
    assert prompts(prepared.train) == {"0+1?", "1+1?", *(f"{i}+1?" for i in range(6, 10))}
    facts = {key: value for key, value in prepared.facts.items() if key != "sources"}
    assert facts == {
        **{"rows": 6, "labelled": 6, "unlabelled": 0},
        **{"held_out": 4, "overlap": 5, "duplicates": 1},
    }


def test_a_held_out_prompt_is_not_learnt_as_an_earlier_turn_either(tmp_path: Path) -> None:
    rows = [turns("hi", "hello", "2+2?", "4"), turns("hey", "hello", "2+3?", "5")]
    kept = write(tmp_path, "kept.jsonl", [turns("hi", "good day")])
    prepared = prepare(settings(write(tmp_path, "rows.jsonl", rows), held_out=kept), seed=0)
    assert prompts(prepared.train) == {"2+3?"}
    assert prepared.facts["overlap"] == 1


def test_a_held_out_source_without_answers_is_told(tmp_path: Path) -> None:
    bare = write(tmp_path, "bare.jsonl", [{"prompt": "a"}])
    data = settings(write(tmp_path, "rows.jsonl", pairs(3)), held_out=bare)
    with pytest.raises(DataError, match=r"bare.jsonl has no row with an answer") as raised:
        prepare(data, seed=0)
    assert raised.value.field == "data.held_out"


def test_errors_of_the_held_out_source_carry_its_field(tmp_path: Path) -> None:
    missing = {"kind": "file", "path": str(tmp_path / "missing.jsonl")}
    with pytest.raises(DataError, match="There is no file") as raised:
        prepare(settings(write(tmp_path, "rows.jsonl", pairs(3)), held_out=missing), seed=0)
    assert raised.value.field == "data.held_out.path"


def test_the_starters_default_has_no_overlap() -> None:
    limited = {"kind": "starter", "split": "unlabelled", "limit": 300}
    held_out = {"kind": "starter", "split": "held_out"}
    facts = prepare(settings({"kind": "starter"}, limited, held_out=held_out), seed=0).facts
    assert (facts["rows"], facts["labelled"], facts["unlabelled"]) == (800, 500, 300)
    assert (facts["held_out"], facts["overlap"]) == (1000, 0)
