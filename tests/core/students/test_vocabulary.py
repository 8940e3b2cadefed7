"""Students with fewer tokens: the kept rows and everything else are the teacher's, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.errors import ModelError
from distill_core.students.vocabulary import kept_ids, special_ids, with_tokens
from tests.core.data import tokenizers
from tests.core.students.families import FAMILIES, tiny

TOKENS = [0, 1, 2, 5, 9, 11, 40, 63]
ROW = [1, 9, 11, 63, 5]
VOCABULARY = 64


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.tensor([ids])).logits
    return found


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_kept_rows_and_all_else_are_copied_bit_for_bit(family: str) -> None:
    teacher = tiny(family)
    student = with_tokens(teacher, TOKENS)
    theirs, cut = teacher.state_dict(), 0
    for name, mine in student.state_dict().items():
        value = theirs[name]
        if len(value) == VOCABULARY and len(mine) == len(TOKENS):
            value, cut = torch.stack([value[token] for token in TOKENS]), cut + 1
        assert torch.equal(mine, value), name
    assert cut >= 1
    assert student.config.vocab_size == len(TOKENS)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_student_says_the_same_of_the_kept_tokens(family: str) -> None:
    teacher = tiny(family)
    student = with_tokens(teacher, TOKENS)
    found = logits(student, [TOKENS.index(token) for token in ROW])
    expected = logits(teacher, ROW)
    if expected.shape[-1] == VOCABULARY:
        expected = expected[..., TOKENS]
    torch.testing.assert_close(found, expected)  # the head is a smaller matrix now


def test_special_ids_are_renumbered() -> None:
    teacher = tiny("llama")
    teacher.generation_config.eos_token_id = [2, 40, 33]
    student = with_tokens(teacher, [0, 2, 9, 40])
    config = student.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, None, 1)
    assert student.generation_config.eos_token_id == [1, 3]
    assert teacher.config.eos_token_id == 2
    assert teacher.generation_config.eos_token_id == [2, 40, 33]


def test_ids_that_the_files_name_are_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"bos_token_id": 1, "pad_token_id": None}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    assert special_ids(tmp_path) == {1, 2, 7}
    assert special_ids(tmp_path / "nothing") == set()


def test_positions_that_begin_after_the_padding_are_kept_or_refused() -> None:
    with pytest.raises(ModelError, match="roberta model counts its positions from the id"):
        with_tokens(tiny("roberta"), [1, 2, 5])


def test_only_a_part_of_the_teachers_tokens_has_a_map() -> None:
    teacher, same = tokenizers.byte_level(), tokenizers.byte_level()
    assert kept_ids(same, teacher) is None
    assert kept_ids(tokenizers.metaspace(), teacher) is None
    assert kept_ids(teacher, tokenizers.words()) is None


def test_what_has_the_same_ids_as_its_teacher_needs_no_map() -> None:
    """A teacher with a few tokens more at the end is cut, not translated."""
    longer, shorter = tokenizers.byte_level(), tokenizers.byte_level()
    longer.add_tokens(["<more>"])
    assert kept_ids(shorter, longer) is None


def test_the_map_leads_from_the_students_ids_to_the_teachers() -> None:
    from distill_core.students.trimmed_tokenizer import kept_tokens, trimmed_tokenizer

    teacher = tokenizers.byte_level()
    tokens = kept_tokens(teacher, teacher("light the fan")["input_ids"])
    student = trimmed_tokenizer(teacher, tokens)
    ids = kept_ids(student, teacher)
    assert ids is not None
    assert ids.tolist() == tokens
    assert kept_ids(teacher, student) is None
