"""The teacher's own opinion of answers, against a loop over single tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distill_core.generate import Continuation
from distill_core.teachers.likelihood import best_answers, mean_log_likelihoods
from distill_core.teachers.local import LocalTeacher

PROMPTS = [[5], [6, 7, 8], [9, 10, 11, 12, 13]]
ANSWERS = [
    Continuation([20, 21, 22], 2),
    Continuation([23], None),
    Continuation([], 2),
]


@pytest.fixture
def teacher(tiny_llama: Callable[..., Any]) -> LocalTeacher:
    return LocalTeacher(tiny_llama(layers=3, seed=1), vocab_size=60, stop_ids={2})


def by_hand(teacher: LocalTeacher, prompt: list[int], answer: Continuation) -> float:
    """Token after token, without padding, batches or our losses; padded rows of the head cut."""
    ids, logs = list(prompt), []
    for token in [*answer.ids, *([] if answer.stop is None else [answer.stop])]:
        with torch.no_grad():
            logits = teacher.model(input_ids=torch.tensor([ids])).logits[0, -1, :60]
        z = logits.double().numpy()
        logs.append(z[token] - z.max() - np.log(np.exp(z - z.max()).sum()))
        ids.append(token)
    return float(np.mean(logs))


def test_mean_log_likelihood_equals_its_definition(teacher: LocalTeacher) -> None:
    got = mean_log_likelihoods(teacher, PROMPTS, ANSWERS, pad_token_id=0)
    expected = [by_hand(teacher, p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert got == pytest.approx(expected, abs=1e-5)
    assert all(value < 0 for value in got)


def test_an_answer_without_tokens_has_no_likelihood(teacher: LocalTeacher) -> None:
    got = mean_log_likelihoods(teacher, [[5], [6]], [Continuation([], None)] * 2, pad_token_id=0)
    assert got == [float("-inf")] * 2


def test_the_best_is_the_likeliest_by_hand(teacher: LocalTeacher) -> None:
    random = np.random.default_rng(0)
    candidates = [
        [Continuation(random.integers(3, 60, size=3).tolist(), 2) for _ in range(6)]
        for _ in PROMPTS
    ]
    got = best_answers(teacher, PROMPTS, candidates, pad_token_id=0)
    for prompt, some, (answer, likelihood) in zip(PROMPTS, candidates, got, strict=True):
        by_hands = [by_hand(teacher, prompt, one) for one in some]
        assert answer == some[int(np.argmax(by_hands))]
        assert likelihood == pytest.approx(max(by_hands), abs=1e-5)


def test_what_was_cut_or_is_empty_wins_only_alone(teacher: LocalTeacher) -> None:
    with torch.no_grad():  # a teacher that is sure of token 7 after anything
        teacher.model.get_output_embeddings().weight[:] = 0
        teacher.model.model.norm.weight[:] = 0
    head = teacher.model.get_output_embeddings()
    teacher.model.lm_head = torch.nn.Linear(32, 64)
    with torch.no_grad():
        teacher.model.lm_head.weight.copy_(head.weight)
        teacher.model.lm_head.bias.zero_()
        teacher.model.lm_head.bias[7] = 10.0
    teacher = LocalTeacher(teacher.model, vocab_size=60, stop_ids={2})
    cut, ended, empty = Continuation([7, 7, 7], None), Continuation([8], 2), Continuation([], 2)
    chosen = best_answers(teacher, [[5]] * 3, [[cut, ended], [cut, empty], [empty]], pad_token_id=0)
    assert [answer for answer, _ in chosen] == [ended, cut, empty]
