"""A mixture of teachers against NumPy: mean of probabilities, temperature, answers, padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.losses.divergences import forward_kl
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.mixture import Mixture, mixed

Make = Callable[..., Any]


def softmax(z: np.ndarray) -> np.ndarray:
    shares = np.exp(z - z.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


@pytest.fixture
def logits() -> list[torch.Tensor]:
    return [torch.randn(7, 11) * scale for scale in (1.0, 5.0, 30.0)]


WEIGHTS = [0.5, 0.3, 0.2]


def test_the_mixture_is_the_mean_of_probabilities(logits: list[torch.Tensor]) -> None:
    got = mixed(logits, WEIGHTS).double().numpy()
    shares = [softmax(one.double().numpy()) for one in logits]
    expected = sum(w * p for w, p in zip(WEIGHTS, shares, strict=True))
    np.testing.assert_allclose(np.exp(got), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.exp(got).sum(-1), 1, atol=1e-6)
    mean_of_logits = softmax(sum(w * z.double().numpy() for w, z in zip(WEIGHTS, logits)))  # type: ignore[arg-type]  # noqa: B905
    assert np.abs(np.exp(got) - mean_of_logits).max() > 0.05


def test_one_teacher_is_its_own_mixture_and_weights_count(logits: list[torch.Tensor]) -> None:
    alone = mixed(logits[:1], [1.0])
    torch.testing.assert_close(alone, logits[0].log_softmax(-1))
    assert not torch.allclose(mixed(logits[:2], [0.9, 0.1]), mixed(logits[:2], [0.1, 0.9]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_softens_the_mixture_itself(
    logits: list[torch.Tensor], temperature: float
) -> None:
    student = torch.randn(7, 11)
    shares = [softmax(one.double().numpy()) for one in logits]
    mean = sum(w * p for w, p in zip(WEIGHTS, shares, strict=True))
    p = mean ** (1 / temperature)
    p = p / p.sum(-1, keepdims=True)
    q = softmax(student.double().numpy() / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1)
    got = forward_kl(student, mixed(logits, WEIGHTS), temperature=temperature)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_c14_half_precision_and_certainty_stay_finite() -> None:
    sure = torch.full((1, 5), -1e4, dtype=torch.bfloat16)
    sure[0, 2] = 0
    got = mixed([sure, sure], [0.5, 0.5])
    assert got.dtype == torch.float32
    assert torch.isfinite(got).all()
    assert float(got[0, 2]) == pytest.approx(0, abs=1e-6)


# --- as a network -------------------------------------------------------------------------------


@pytest.fixture
def members(tiny_llama: Make) -> list[Any]:
    small, large = tiny_llama(layers=2, seed=1).eval(), tiny_llama(layers=3, seed=2).eval()
    large.resize_token_embeddings(80, mean_resizing=False)  # padded differently
    with torch.no_grad():
        large.lm_head.weight[60:] = 9.0
    return [small, large]


@pytest.fixture
def teacher(members: list[Any]) -> LocalTeacher:
    mixture = Mixture(members, weights=[0.75, 0.25], vocab_size=60)
    return LocalTeacher(mixture, vocab_size=60, stop_ids={2})


def shares_by_hand(members: list[Any], ids: list[int]) -> np.ndarray:
    """Probabilities (60,) of the next token."""
    parts = []
    for member, weight in zip(members, (0.75, 0.25), strict=True):
        with torch.no_grad():
            last = member(input_ids=torch.tensor([ids])).logits[0, -1, :60].double().numpy()
        parts.append(weight * softmax(last))
    return parts[0] + parts[1]


def test_c5_logits_at_supervised_positions(teacher: LocalTeacher, members: list[Any]) -> None:
    rows = [
        Encoded([5, 6, 7, 8], [IGNORE_INDEX, IGNORE_INDEX, 7, 8], True, False),
        Encoded([9, 10, 11], [IGNORE_INDEX, IGNORE_INDEX, 11], True, False),
    ]
    got = teacher.logits(collate(rows, pad_token_id=0, rows=[0, 1]))
    prefixes = [[5, 6], [5, 6, 7], [9, 10]]
    expected = np.stack([shares_by_hand(members, ids) for ids in prefixes])
    np.testing.assert_allclose(got.exp().numpy(), expected, atol=1e-6)
    assert got.shape == (3, 60)


def test_it_answers_with_its_own_likeliest_tokens(
    teacher: LocalTeacher, members: list[Any]
) -> None:
    prompts = [[5], [6, 7, 8, 9]]
    got = teacher.answers(prompts, max_new_tokens=6)
    for prompt, answer in zip(prompts, got, strict=True):
        ids = list(prompt)
        for token in answer.with_stop:
            assert token == int(shares_by_hand(members, ids).argmax())
            ids.append(token)
    alone = LocalTeacher(members[0], vocab_size=60, stop_ids={2}).answers(prompts, max_new_tokens=6)
    assert [one.ids for one in alone] != [one.ids for one in got]


def test_c12_the_members_are_frozen_and_in_eval_mode(
    teacher: LocalTeacher, members: list[Any]
) -> None:
    for member in members:
        assert not member.training
        assert not any(value.requires_grad for value in member.parameters())
    assert teacher.model.num_parameters() == sum(member.num_parameters() for member in members)
