"""Token → id maps compared, and tokens of different families told apart by their text."""

from __future__ import annotations

from itertools import pairwise

import pytest

from distill_core.data.vocabularies import (
    NO_TOKEN,
    id_count,
    student_ids,
    token_texts,
)
from tests.core.data import tokenizers


def test_holes_count_as_rows_of_the_embedding() -> None:
    assert id_count({"a": 0, "z": 7}) == 8
    assert id_count({}) == 0


@pytest.mark.parametrize("family", ["byte_level", "metaspace"])
def test_a_text_is_the_sum_of_its_tokens_texts(family: str) -> None:
    tokenizer = getattr(tokenizers, family)()
    texts = token_texts(tokenizer)
    for text in ("a the kitchen lights", "a turn off"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert "".join(texts[number] or "?" for number in ids[1:]) in text
    assert all(texts[number] is None for number in tokenizer.all_special_ids)


def test_the_same_text_is_found_in_another_family() -> None:
    teacher, student = tokenizers.byte_level(), tokenizers.metaspace()
    first, whole = student_ids(teacher, student)
    theirs, own = teacher.get_vocab(), student.get_vocab()
    assert first[theirs["Ġthe"]] == own["▁the"]
    assert whole[theirs["Ġthe"]]
    assert first[theirs["e"]] == own["e"]  # within a word: not ▁e


def test_what_a_student_has_no_token_for_begins_with_its_longest() -> None:
    teacher = tokenizers.byte_level()
    student = tokenizers.byte_level(size=275)
    first, whole = student_ids(teacher, student)
    theirs, texts = teacher.get_vocab(), token_texts(student)
    number = theirs["Ġkitchen"]
    assert "Ġkitchen" not in student.get_vocab()
    assert not whole[number]
    begun = texts[first[number]]
    assert begun is not None
    assert " kitchen".startswith(begun)
    longer = [t for t in texts if t and " kitchen".startswith(t) and len(t) > len(begun)]
    assert not longer
    assert all(found != NO_TOKEN for token, found in zip(theirs, first, strict=False) if not token)


def test_ends_of_answers_correspond_and_other_marks_only_by_name() -> None:
    teacher = tokenizers.byte_level(tokenizers.CHATML)
    student = tokenizers.byte_level(tokenizers.TRIMMED)
    student.add_special_tokens({"mask_token": "<mask>"})
    first, whole = student_ids(teacher, student)
    theirs, own = teacher.get_vocab(), student.get_vocab()
    assert first[theirs["<|im_end|>"]] == own["<eos>"]  # each ends an answer
    assert whole[theirs["<|im_end|>"]]
    assert first[theirs["<eos>"]] == own["<eos>"]
    assert first[theirs["<pad>"]] == own["<pad>"]
    back, _ = student_ids(student, teacher)
    assert back[own["<mask>"]] == NO_TOKEN


def test_one_vocabulary_corresponds_to_itself() -> None:
    for family in (tokenizers.byte_level(), tokenizers.metaspace(), tokenizers.words()):
        first, whole = student_ids(family, family)
        assert first == list(range(len(family)))
        assert all(whole)


def test_parts_of_a_character_are_told_apart() -> None:
    tokenizer = tokenizers.byte_level()
    texts = token_texts(tokenizer)
    halves = [text for text in texts if text and text.startswith("\0")]
    assert len(halves) > 100
    assert all(a != b for a, b in pairwise(sorted(halves)))
