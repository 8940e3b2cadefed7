"""A teacher with more tokens than its student: what it is asked, what it answers, what it drops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from distill_core.data.alignment import reader, reads_alike
from distill_core.data.batches import collate
from distill_core.data.formats import Row
from distill_core.data.tokenize import encode
from distill_core.errors import ModelError
from distill_core.forward.network import Wanted
from distill_core.losses.base import SupervisedRows
from distill_core.losses.logit_rows import without_dropped
from distill_core.losses.objective import DROPPED_MASS, Objective
from distill_core.recipe import ForwardKLLoss
from distill_core.students.trimmed_tokenizer import kept_tokens, trimmed_tokenizer
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.mixture import Mixture
from distill_core.teachers.trimmed import (
    TrimmedTeacher,
    for_student,
    tokenizer_for,
)
from tests.core.data import tokenizers

IDS = torch.tensor([0, 1, 2, 5, 9, 11, 40, 63])
TALK: tuple[Any, ...] = (
    {"role": "user", "content": "turn the light"},
    {"role": "assistant", "content": "off the fan"},
)
ROW = Row(TALK, None, "t")


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return [weight / sum(weights) for weight in weights]


def rows(ids: list[int]) -> Any:
    from distill_core.data.tokenize import Encoded

    item = Encoded(input_ids=ids, labels=[-100, *ids[1:]], labelled=True, truncated=False)
    return collate([item], pad_token_id=0, rows=[0])


def test_c9_dropped_mass_is_what_the_other_tokens_have() -> None:
    logits = torch.randn(5, 64) * 4
    kept, dropped = without_dropped(logits, IDS)
    for line, values in enumerate(logits.tolist()):
        whole = softmax(values)
        expected = 1 - sum(whole[number] for number in IDS.tolist())
        assert dropped[line].item() == pytest.approx(expected, abs=1e-6)
        assert kept[line].tolist() == [values[number] for number in IDS.tolist()]


def test_dropped_mass_is_exact_where_it_is_tiny_and_never_negative() -> None:
    logits = torch.full((2, 64), -40.0)
    logits[:, IDS] = 0.0
    _, dropped = without_dropped(logits, IDS)
    assert (dropped >= 0).all()
    assert dropped.max().item() < 1e-6
    _, half = without_dropped(logits.to(torch.bfloat16), IDS)
    assert half.dtype == torch.float32


@pytest.fixture
def pair(tiny_llama: Callable[..., Any]) -> tuple[LocalTeacher, TrimmedTeacher]:
    whole = LocalTeacher(tiny_llama(), vocab_size=64, stop_ids=set())
    return whole, TrimmedTeacher(whole, IDS)


def test_it_reads_the_students_ids_and_answers_for_them_alone(
    pair: tuple[LocalTeacher, TrimmedTeacher],
) -> None:
    whole, trimmed = pair
    theirs = whole.logits(rows([1, 9, 11, 63, 5]))
    mine = trimmed.logits(rows([1, 4, 5, 7, 3]))
    assert torch.equal(mine, theirs[:, IDS])
    view = trimmed.view(rows([1, 4, 5, 7, 3]))
    assert torch.equal(view.logits, mine)
    assert view.dropped_mass is not None
    expected = 1 - theirs.softmax(-1)[:, IDS].sum(-1)
    torch.testing.assert_close(view.dropped_mass, expected, atol=1e-6, rtol=0)
    held_out = trimmed.rows(rows([1, 4, 5, 7, 3]))
    torch.testing.assert_close(held_out.all(), mine)
    torch.testing.assert_close(held_out.dropped_mass, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_it_answers_chunk_by_chunk_and_measures_the_same_mass(
    pair: tuple[LocalTeacher, TrimmedTeacher], size: int
) -> None:
    whole, trimmed = pair
    view = trimmed.view(rows([1, 4, 5, 7, 3]))
    assert view.rows is not None
    theirs = whole.logits(rows([1, 9, 11, 63, 5]))
    chunks = torch.cat([chunk.clone() for chunk in view.rows.in_chunks(size)])
    torch.testing.assert_close(chunks, theirs[:, IDS])
    expected = 1 - theirs.softmax(-1)[:, IDS].sum(-1)
    torch.testing.assert_close(view.dropped_mass, expected, atol=1e-6, rtol=0)
    unread = trimmed.view(rows([1, 4, 5, 7, 3])).dropped_mass
    torch.testing.assert_close(unread, expected, atol=1e-6, rtol=0)


def test_its_inside_is_shown_as_ever(pair: tuple[LocalTeacher, TrimmedTeacher]) -> None:
    whole, trimmed = pair
    trimmed.look_into(Wanted(hidden_states=frozenset({1})))
    mine = trimmed.view(rows([1, 4, 5, 7, 3])).features
    theirs = whole.view(rows([1, 9, 11, 63, 5])).features
    assert mine is not None
    assert theirs is not None
    assert torch.equal(mine.hidden_states[1], theirs.hidden_states[1])


def test_c1_the_kl_is_between_what_both_say_of_the_kept_tokens(
    pair: tuple[LocalTeacher, TrimmedTeacher],
) -> None:
    """KL(p given a kept token ‖ q), where q can say nothing else; the mass stands beside it."""
    _, trimmed = pair
    batch = rows([1, 4, 5, 7, 3])
    view = trimmed.view(batch)
    student = torch.randn(4, len(IDS))
    objective = Objective([ForwardKLLoss(weight=1.0)])
    seen = SupervisedRows(
        student, view.logits, batch.targets, batch.target_labelled, dropped_mass=view.dropped_mass
    )
    loss, sums = objective(seen, totals={"forward_kl": 4})
    expected = 0.0
    whole = pair[0].logits(rows([1, 9, 11, 63, 5]))
    for theirs, ours in zip(whole.tolist(), student.tolist(), strict=True):
        p = np.array(softmax(theirs))[IDS.numpy()]
        p, q = p / p.sum(), np.array(softmax(ours))
        expected += float((p * np.log(p / q)).sum()) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert view.dropped_mass is not None
    assert sums[DROPPED_MASS].item() == pytest.approx(view.dropped_mass.sum().item())


def test_c1_of_a_mixture_the_kept_part_is_taken_after_mixing(
    tiny_llama: Callable[..., Any],
) -> None:
    """Σ w_k · p_k, then given a kept token: not each teacher given a kept token, then mixed."""
    models = [tiny_llama(seed=seed).eval() for seed in (1, 2)]
    mixture = Mixture(models, weights=[0.8, 0.2], vocab_size=64)
    trimmed = TrimmedTeacher(LocalTeacher(mixture, vocab_size=64, stop_ids=set()), IDS)
    view = trimmed.view(rows([1, 4, 5, 7, 3]))
    alone = [LocalTeacher(model, vocab_size=64, stop_ids=set()) for model in models]
    tables = [one.logits(rows([1, 9, 11, 63, 5])).tolist() for one in alone]
    assert view.dropped_mass is not None
    for line, (first, second) in enumerate(zip(*tables, strict=True)):
        pairs = zip(softmax(first), softmax(second), strict=True)
        whole = [0.8 * one + 0.2 * other for one, other in pairs]
        kept = [whole[number] for number in IDS.tolist()]
        assert view.dropped_mass[line].item() == pytest.approx(1 - sum(kept), abs=1e-6)
        expected = [value / sum(kept) for value in kept]
        assert view.logits[line].softmax(-1).tolist() == pytest.approx(expected, abs=1e-6)


def test_classes_are_no_tokens(tiny_llama: Callable[..., Any]) -> None:
    """What tells classes apart reads the student's ids, and all of its classes are kept."""
    whole = LocalTeacher(tiny_llama(), vocab_size=64, stop_ids=set())
    trimmed = TrimmedTeacher(whole, IDS, classes=True)
    batch = rows([1, 4, 5, 7, 3])
    assert torch.equal(trimmed.logits(batch), whole.logits(rows([1, 9, 11, 63, 5])))
    assert not hasattr(trimmed.rows(batch), "dropped_mass")
    assert trimmed.view(batch).dropped_mass is None


def test_who_meets_whom(tiny_llama: Callable[..., Any]) -> None:
    teacher = LocalTeacher(tiny_llama(), vocab_size=64, stop_ids=set())
    whole = tokenizers.byte_level()
    student = trimmed_tokenizer(whole, kept_tokens(whole, whole("the fan")["input_ids"]))
    other = tokenizers.words()
    assert for_student(None, whole, student) is None
    assert for_student(teacher, whole, whole) is teacher
    assert for_student(teacher, whole, other) is teacher
    assert for_student(teacher, whole, other, classes=True) is None
    assert isinstance(for_student(teacher, whole, student), TrimmedTeacher)
    assert tokenizer_for(None, student) is None
    assert tokenizer_for(whole, other) is whole
    assert tokenizer_for(whole, student) is student


def test_a_teacher_keeps_its_own_chat_template() -> None:
    """The student's pieces, in the conversation as the teacher writes it."""
    whole, own = tokenizers.byte_level(), tokenizers.byte_level(tokenizers.TRIMMED)
    used = [*encode(ROW, whole, 99).input_ids, *encode(ROW, own, 99).input_ids]
    tokens = kept_tokens(own, used)
    student = trimmed_tokenizer(own, tokens)
    theirs = tokenizer_for(whole, student)
    assert theirs.get_vocab() == student.get_vocab()
    assert not reads_alike(student, theirs)
    translated = [tokens[number] for number in encode(ROW, theirs, 99).input_ids]
    assert translated == encode(ROW, whole, 99).input_ids
    assert reader(student, theirs, by_text=False, by_id=True)(ROW, 99) is None  # other ends


def test_a_teacher_keeps_what_it_puts_around_a_text() -> None:
    """Where it opens a text with <bos> and its student does not, each reads its own."""
    whole, own = opened(tokenizers.byte_level(None)), tokenizers.byte_level(None)
    plain = Row(None, "the kitchen light", "t")
    tokens = kept_tokens(own, encode(plain, own, 99).input_ids)
    student = trimmed_tokenizer(own, tokens)
    theirs = tokenizer_for(whole, student)
    translated = [tokens[number] for number in theirs("the kitchen")["input_ids"]]
    assert translated == whole("the kitchen")["input_ids"]
    assert translated[0] == whole.bos_token_id
    assert not reads_alike(student, theirs)


def test_a_student_without_the_teachers_opening_is_told() -> None:
    whole = opened(tokenizers.byte_level(None))
    lacking = [number for number in kept_tokens(whole, []) if number != whole.bos_token_id]
    with pytest.raises(ModelError, match="<bos> around every text") as caught:
        trimmed_tokenizer(whole, lacking)
    assert caught.value.field == "vocab_trim"


def opened(tokenizer: Any) -> Any:
    """The tokenizer, with <bos> before every text."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    return tokenizer
