"""Scores of probabilities against counts made here, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distill_core.data.formats import Row
from distill_core.generate import continuations
from distill_core.scoring import HeldOut, one_batch, score_tokens, teacher_bits_per_byte
from distill_core.scoring.tokens import score_own_samples
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.trimmed import TrimmedTeacher


def rows(*pairs: tuple[str, str]) -> list[Row]:
    return [
        Row(({"role": "user", "content": ask}, {"role": "assistant", "content": answer}), None, "t")
        for ask, answer in pairs
    ]


ROWS = rows(("turn on the light", "on"), ("dim the fan please", "fan dim to two"), ("tv", "off"))


def held_out(tokenizer: Any, found: list[Row] | None = None) -> HeldOut:
    return HeldOut.make(found or ROWS, tokenizer, max_seq_len=32, max_new_tokens=6)


def letters_tokenizer() -> Any:
    """Spells letter by letter: another tokenizer for the same text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<pad>", "<eos>", "<unk>", "\n", " ", *map(chr, range(ord("a"), ord("z") + 1))]
    tokenizer = Tokenizer(
        models.WordLevel({c: i for i, c in enumerate(letters)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def uniform(model: Any) -> Any:
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return model


@pytest.mark.parametrize("spelling", ["words", "letters"])
def test_bits_per_byte_count_the_text_not_the_tokens(
    spelling: str, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    tokenizer = tiny_tokenizer if spelling == "words" else letters_tokenizer()
    scores = score_tokens(uniform(tiny_llama()), held_out(tokenizer)).as_scores()
    answers = [row.response or "" for row in ROWS]
    if spelling == "words":
        tokens = sum(len(answer.split()) + 1 for answer in answers)  # and the end of each
    else:
        tokens = sum(len(answer) + 1 for answer in answers)
    every = sum(len(answer.encode()) for answer in answers)
    assert scores["tokens"] == tokens
    assert scores["bits_per_byte"] == pytest.approx(tokens * math.log2(len(tokenizer)) / every)
    assert scores["perplexity"] == pytest.approx(len(tokenizer), rel=1e-5)


def test_the_rows_bits_average_to_the_bits_per_byte(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    scores = score_tokens(tiny_llama(), held_out(tiny_tokenizer))
    found = scores.as_scores()
    assert scores.bits_of_rows.mean() == pytest.approx(found["bits_per_byte"])
    low, high = found["bits_per_byte_ci95"]
    assert low < found["bits_per_byte"] < high


@pytest.mark.parametrize("trimmed", [False, True])
def test_rows_of_logits_come_a_few_at_a_time_to_the_same_scores(
    trimmed: bool,
    tiny_llama: Callable[..., Any],
    tiny_tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = len(tiny_tokenizer)
    whole = LocalTeacher(tiny_llama(layers=3, seed=5, vocab_size=80), vocab_size=80, stop_ids={2})
    teacher: Any = TrimmedTeacher(whole, torch.arange(size)) if trimmed else whole
    model, scored = tiny_llama(), held_out(tiny_tokenizer)
    if not trimmed:
        teacher = LocalTeacher(tiny_llama(layers=3, seed=5), vocab_size=size, stop_ids={2})
    at_once = score_tokens(model, scored, teacher=teacher)
    alone = teacher_bits_per_byte(teacher, scored)
    assert at_once.tokens > 3 * 2, "several chunks, the last one not full"
    monkeypatch.setattr(one_batch, "MOST_SCORED_ROWS", 3)
    found = score_tokens(model, scored, teacher=teacher)
    for name in ("nats", "counts", "confidence", "correct", "divergence", "agreed"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(at_once, name), rtol=1e-5, atol=1e-6, err_msg=name
        )
    assert (found.dropped is None) == (not trimmed)
    if trimmed:
        np.testing.assert_allclose(found.dropped, at_once.dropped, rtol=1e-5, atol=1e-6)
    assert teacher_bits_per_byte(teacher, scored) == pytest.approx(alone, rel=1e-5)


def test_kl_on_own_samples_is_taken_at_what_the_model_wrote(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    model, other = tiny_llama().eval(), tiny_llama(layers=3, seed=5).eval()
    with torch.no_grad():  # random weights are all alike: make them differ
        model.lm_head.weight.mul_(20)
        other.lm_head.weight.mul_(20)
    size, stops = len(tiny_tokenizer), {tiny_tokenizer.eos_token_id}
    teacher = LocalTeacher(other, vocab_size=size, stop_ids=stops)
    scored = held_out(tiny_tokenizer)
    found = score_own_samples(model, scored, teacher=teacher)
    written = continuations(
        model,
        scored.prompts,
        stop_ids=stops,
        max_new_tokens=6,
        sampling_temperature=1.0,
        vocab_size=size,
        batch_size=128,
    )
    total, count = 0.0, 0
    for prompt, answer in zip(scored.prompts, written, strict=True):
        ids = prompt + answer.with_stop
        with torch.no_grad():
            mine = model(input_ids=torch.tensor([ids])).logits[0, :, :size].log_softmax(-1)
            theirs = other(input_ids=torch.tensor([ids])).logits[0, :, :size].log_softmax(-1)
        for place in range(len(prompt) - 1, len(ids) - 1):
            total += float((theirs[place].exp() * (theirs[place] - mine[place])).sum())
            count += 1
    assert found["kl_to_teacher_on_own_samples"] == pytest.approx(total / count, rel=1e-4)
    reference = score_tokens(model, scored, teacher=teacher).kl_to_teacher
    assert found["kl_to_teacher_on_own_samples"] != pytest.approx(reference, rel=1e-3)


def test_a_model_is_at_no_distance_from_itself(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    model = tiny_llama()
    teacher = LocalTeacher(model, vocab_size=len(tiny_tokenizer), stop_ids={2})
    scores = score_tokens(model, held_out(tiny_tokenizer), teacher=teacher)
    assert scores.kl_to_teacher == pytest.approx(0, abs=1e-9)
    assert scores.top1_agreement == 1
    own = score_own_samples(model, held_out(tiny_tokenizer), teacher=teacher)
    assert own["kl_to_teacher_on_own_samples"] == pytest.approx(0, abs=1e-9)


# --- teachers that read otherwise -----------------------------------------------------------


def templated(tokenizer: Any, template: str) -> Any:
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


MARKED = (
    "{% for m in messages %}please {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)


def test_c13_the_teacher_is_compared_in_its_own_template(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    """Each row by itself, the teacher after its own prompt, the student after its own."""
    other = templated(
        tiny_tokenizer,
        "{% for m in messages %}{% if m['role'] == 'user' %}please {{ m['content'] }} : "
        "{% else %}{{ m['content'] }}<eos>{% endif %}{% endfor %}",
    )
    student, teacher = tiny_llama().eval(), tiny_llama(layers=3, seed=1).eval()
    size = len(tiny_tokenizer)
    seen = HeldOut.make(
        ROWS, tiny_tokenizer, max_seq_len=32, max_new_tokens=6, teacher_tokenizer=other
    )
    assert seen.comparable
    got = score_tokens(
        student, seen, teacher=LocalTeacher(teacher, vocab_size=size, stop_ids={2})
    ).kl_to_teacher
    total = count = 0.0
    for ours, theirs in zip(
        seen.encoded,
        HeldOut.make(ROWS, other, max_seq_len=32, max_new_tokens=6).encoded,
        strict=True,
    ):
        assert ours.input_ids != theirs.input_ids
        n = sum(label >= 0 for label in ours.labels)
        with torch.no_grad():
            q = student(torch.tensor([ours.input_ids])).logits[0, -n - 1 : -1, :size].softmax(-1)
            p = teacher(torch.tensor([theirs.input_ids])).logits[0, -n - 1 : -1, :size].softmax(-1)
        total += float((p * (p / q).log()).sum())
        count += n
    assert got == pytest.approx(total / count, abs=1e-5)
    own = score_own_samples(
        student, seen, teacher=LocalTeacher(teacher, vocab_size=size, stop_ids={2})
    )
    assert own["kl_to_teacher_on_own_samples"] > 0


@pytest.mark.parametrize("other", ["other tokens", "other ends"])
def test_c5_a_teacher_with_other_tokens_is_not_compared(
    other: str, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    teacher_tokenizer = (
        letters_tokenizer()
        if other == "other tokens"
        else templated(tiny_tokenizer, MARKED.replace("<eos>", "<unk>"))
    )
    seen = HeldOut.make(
        ROWS, tiny_tokenizer, max_seq_len=32, max_new_tokens=6, teacher_tokenizer=teacher_tokenizer
    )
    assert not seen.comparable
    assert len(seen.rows) == len(ROWS)  # all of them are scored all the same
    teacher = LocalTeacher(tiny_llama(seed=1), vocab_size=64, stop_ids={2})
    scores = score_tokens(tiny_llama(), seen, teacher=teacher)
    assert scores.kl_to_teacher is None
    assert scores.top1_agreement is None
    assert scores.as_scores()["bits_per_byte"] > 0
