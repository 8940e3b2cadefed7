"""Where the tokens of two tokenizers meet, on texts cut by hand and by real tokenizers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.data.alignment import Alignment, meet, reader, reads_alike
from distill_core.data.formats import Row
from distill_core.data.tokenize import ANSWER_END, IGNORE_INDEX, Encoded, Place, encode
from distill_core.errors import ModelError
from tests.core.data import tokenizers

TEACHER = tokenizers.byte_level()
STUDENTS = {
    "byte level": tokenizers.byte_level(size=270),
    "byte level, another template": tokenizers.byte_level(tokenizers.TRIMMED, size=300),
    "metaspace": tokenizers.metaspace(),
    "words": tokenizers.words(tokenizers.TRIMMED),
}


def chat(*contents: str) -> Row:
    """User and assistant in turn, starting with the user."""
    messages = tuple(
        {"role": "user" if place % 2 == 0 else "assistant", "content": content}
        for place, content in enumerate(contents)
    )
    return Row(messages, None, "rows.jsonl:7")


def at(*ends: int | None, answer: int = 0) -> list[Place | None]:
    """Tokens that end at these characters, one after the other."""
    starts = [0, *(end or 0 for end in ends[:-1])]
    return [Place(answer, start, end) for start, end in zip(starts, ends, strict=True)]


# --- borders --------------------------------------------------------------------------------


def test_spans_are_cut_at_every_common_border() -> None:
    student, teacher = at(1, 2, 5, 7, ANSWER_END), at(2, 4, 7, ANSWER_END)
    assert meet(student, teacher) == [((0, 2), (0, 1)), ((2, 4), (1, 3)), ((4, 5), (3, 4))]


def test_a_stretch_that_one_side_lacks_is_in_no_span() -> None:
    assert meet(at(2, 4), at(2, 4, 6, ANSWER_END)) == [((0, 1), (0, 1)), ((1, 2), (1, 2))]
    assert meet([], at(2)) == []


def test_the_parts_of_one_character_stay_together() -> None:
    halves: list[Place | None] = [Place(0, 0, 1), Place(0, 0, 1), Place(0, 1, 3)]
    assert meet(halves, at(1, 3)) == [((0, 2), (0, 1)), ((2, 3), (1, 2))]


def test_a_token_without_a_place_spoils_its_span_alone() -> None:
    student = at(1, 2, 3)
    student[1] = None
    assert meet(student, at(1, 2, 3)) == [((0, 1), (0, 1)), ((2, 3), (2, 3))]


def test_answers_do_not_run_into_each_other() -> None:
    student = [*at(2, ANSWER_END), *at(3, ANSWER_END, answer=1)]
    teacher = [*at(1, 2, ANSWER_END), *at(3, ANSWER_END, answer=1)]
    assert meet(student, teacher) == [
        ((0, 1), (0, 2)),
        ((1, 2), (2, 3)),
        ((2, 3), (3, 4)),
        ((3, 4), (4, 5)),
    ]


def test_what_a_template_puts_before_the_end_goes_with_the_end() -> None:
    student, teacher = at(4, None, ANSWER_END), at(4, ANSWER_END)
    assert meet(student, teacher) == [((0, 1), (0, 1)), ((1, 3), (1, 2))]


# --- rows -----------------------------------------------------------------------------------


def pieces(tokenizer: Any, labels: list[int]) -> list[int]:
    return [label for label in labels if label != IGNORE_INDEX]


def texts(item: Encoded, student: Any, teacher: Any) -> list[tuple[str, str, bool]]:
    """Both sides of every span in words."""
    assert item.teacher is not None
    assert item.teacher.spans is not None
    own, their = pieces(student, item.labels), pieces(teacher, item.teacher.labels)
    return [
        (
            student.decode(own[span.student_first :][: span.student_tokens]),
            teacher.decode(their[span.teacher_first :][: span.teacher_tokens]),
            span.coincides,
        )
        for span in item.teacher.spans
    ]


def bare(text: str) -> str:
    return "".join(text.split()).lower()


@pytest.mark.parametrize("name", sorted(STUDENTS))
@given(
    answers=st.lists(
        st.text(alphabet="aeht ilgknc ,\nï🙂", min_size=0, max_size=20), min_size=1, max_size=2
    )
)
@settings(deadline=None, max_examples=40)
def test_both_sides_of_a_span_are_the_same_text(name: str, answers: list[str]) -> None:
    student = STUDENTS[name]
    row = chat(*(part for answer in answers for part in ("turn the light on", answer)))
    item = Alignment(student=student, teacher=TEACHER).encode(row, 512)
    for own, their, _ in texts(item, student, TEACHER):
        if any(mark in own for mark in ("<eos>", "<|im_end|>")):
            own, their = own[: own.rfind("<")], their[: their.rfind("<")]
        assert bare(own) == bare(their)


def test_spans_in_words() -> None:
    student = STUDENTS["byte level"]
    item = Alignment(student=student, teacher=TEACHER).encode(chat("go", "the kitchen"), 256)
    assert texts(item, student, TEACHER) == [
        ("the", "the", True),
        (" kitchen", " kitchen", False),
        ("<|im_end|>", "<|im_end|>", True),
    ]


def test_identical_tokenizers_meet_one_to_one() -> None:
    row = chat("turn the light on", "the kitchen, naïve 🙂", "off", " lights  ")
    item = Alignment(student=TEACHER, teacher=TEACHER).encode(row, 256)
    assert item.teacher is not None
    assert item.teacher.spans is not None
    whole = [s for s in item.teacher.spans if s.coincides]
    assert all(s.student_first == s.teacher_first for s in whole)
    rest = [s for s in item.teacher.spans if not s.coincides]
    assert all(s.student_tokens == s.teacher_tokens for s in rest)  # parts of 🙂
    covered = sum(s.student_tokens for s in item.teacher.spans)
    assert covered == item.supervised_tokens


def test_white_space_that_a_template_trims_changes_no_span() -> None:
    student = tokenizers.byte_level(tokenizers.TRIMMED)
    item = Alignment(student=student, teacher=TEACHER).encode(chat("go", " light on "), 256)
    found = texts(item, student, TEACHER)
    assert [bare(own) for own, *_ in found] == ["light", "on", "<eos>"]


def test_plain_texts_meet_too() -> None:
    student = STUDENTS["metaspace"]
    row = Row(None, "the kitchen light is on", "rows.txt:1")
    item = Alignment(student=student, teacher=TEACHER).encode(row, 256)
    found = texts(item, student, TEACHER)
    # the first token is supervised on neither side: nothing stands before it
    assert bare("".join(own for own, *_ in found)) == "kitchenlightison<eos>"


def test_unknown_words_are_left_out() -> None:
    student = STUDENTS["words"]
    item = Alignment(student=student, teacher=TEACHER).encode(chat("go", "the zebra light"), 256)
    found = texts(item, student, TEACHER)
    assert [bare(own) for own, *_ in found] == ["the", "light", "<eos>"]


def test_what_is_cut_on_one_side_ends_the_spans() -> None:
    student = tokenizers.byte_level(size=262)  # letter by letter: longer
    row = chat("go", "the kitchen light is on in the kitchen")
    item = Alignment(student=student, teacher=TEACHER).encode(row, 40)
    assert item.truncated
    found = texts(item, student, TEACHER)
    assert all("<|im_end|>" not in own for own, *_ in found)
    said = "".join(own for own, *_ in found)
    assert said
    assert "the kitchen light is on in the kitchen".startswith(said)


def test_a_tokenizer_that_tells_no_places_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"student's tokenizer cannot tell where"):
        Alignment(student=Slow(), teacher=TEACHER)  # type: ignore[arg-type]


# --- how a stage reads its rows -------------------------------------------------------------

ROW = chat("turn the lights on", "the kitchen light is on")


def test_one_tokenizer_and_template_is_read_once() -> None:
    again = tokenizers.byte_level()
    for student in (TEACHER, again):
        read = reader(student, TEACHER, by_text=False, by_id=True)
        assert read(ROW, 256) == encode(ROW, student, 256)
    assert reads_alike(again, TEACHER)
    assert not reads_alike(tokenizers.byte_level(tokenizers.TRIMMED), TEACHER)
    assert not reads_alike(tokenizers.byte_level(size=270), TEACHER)


def test_rows_that_templates_write_with_other_ids_are_left_out_of_comparisons_by_id() -> None:
    student = tokenizers.byte_level(tokenizers.TRIMMED)  # ends with <eos>
    assert reader(student, TEACHER, by_text=False, by_id=True)(ROW, 256) is None
    assert reader(student, TEACHER, by_text=True, by_id=True)(ROW, 256) is None
    item = reader(student, TEACHER, by_text=True, by_id=False)(ROW, 256)
    assert item is not None
    assert item.teacher is not None


def test_where_nothing_is_compared_the_teacher_reads_nothing() -> None:
    student = STUDENTS["metaspace"]
    for teacher in (TEACHER, None):
        item = reader(student, teacher, by_text=False, by_id=False)(ROW, 256)
        assert item == encode(ROW, student, 256)
