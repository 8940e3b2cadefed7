"""C9: a teacher of whom only some tokens are known; references written here, in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from distill_core.losses import divergences
from distill_core.losses.chunked import Comparison, compared
from distill_core.losses.sparse import SparseRows, forward_kl
from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    SampledCache,
    SkewedForwardKLLoss,
    TopKCache,
)
from distill_core.teachers.cache_kinds import kind_of
from distill_core.teachers.heads import Heads

SIZE = 12


def kept(
    logits: Tensor, settings: TopKCache | SampledCache, *, temperature: float = 1.0, key: int = 1
) -> SparseRows:
    """What a cache keeps of some positions, `logits[N, V]`."""
    kind = kind_of(settings, temperature=temperature, vocab_size=logits.shape[1])
    arrays = kind.kept(logits, Heads(), keys=[key.to_bytes(16, "little")], counts=[len(logits)])
    return kind.joined(arrays)


def softmax(logits: Tensor, temperature: float = 1.0) -> list[float]:
    weights = [math.exp(float(z) / temperature) for z in logits.double()]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_the_known_tokens_and_one_bucket_for_the_rest(temperature: float, skew: float) -> None:
    student, teacher = torch.randn(3, SIZE), 2 * torch.randn(3, SIZE)
    rows = kept(teacher, TopKCache(k=4), temperature=temperature)
    found = forward_kl(student, rows, temperature=temperature, skew=skew)
    for line in range(3):
        p, q = softmax(teacher[line], temperature), softmax(student[line], temperature)
        known = sorted(range(SIZE), key=lambda token: -p[token])[:4]
        pairs = [(p[token], q[token]) for token in known]
        pairs.append((1 - sum(a for a, _ in pairs), 1 - sum(b for _, b in pairs)))
        expected = sum(a * math.log(a / (skew * a + (1 - skew) * b)) for a, b in pairs)
        # log-probabilities are kept in fp16
        assert found[line].item() == pytest.approx(temperature**2 * expected, abs=2e-2)
        assert rows.kept_mass[line].item() == pytest.approx(1 - pairs[-1][0], abs=2e-3)


def test_all_tokens_known_is_the_whole_divergence() -> None:
    student, teacher = torch.randn(4, SIZE), torch.randn(4, SIZE)
    found = forward_kl(student, kept(teacher, TopKCache(k=SIZE)))
    torch.testing.assert_close(found, divergences.forward_kl(student, teacher), atol=5e-3, rtol=0)
    assert kept(teacher, TopKCache(k=SIZE)).log_tail is None


def descend(rows: SparseRows | None, teacher: Tensor, steps: int = 3000) -> list[float]:
    """Probabilities that free logits reach by gradient descent on the loss."""
    student = torch.zeros_like(teacher).requires_grad_()
    optimiser = torch.optim.Adam([student], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (
            divergences.forward_kl(student, teacher) if rows is None else forward_kl(student, rows)
        )
        loss.sum().backward()
        optimiser.step()
    return softmax(student.detach()[0])


def test_c9_the_optimum_is_the_dense_one_where_the_teacher_is_flat() -> None:
    teacher = torch.linspace(0.4, 0, SIZE)[None]
    known = kept(teacher, TopKCache(k=8))
    found, dense, p = descend(known, teacher), descend(None, teacher), softmax(teacher[0])
    for token in range(8):
        assert found[token] == pytest.approx(p[token], abs=1e-3)
        assert found[token] == pytest.approx(dense[token], abs=1e-3)
    assert sum(found[8:]) == pytest.approx(sum(p[8:]), abs=1e-3)
    # renormalised over the kept ids it would put more on them
    assert p[0] / sum(p[:8]) > p[0] + 0.03


def gradient(rows: SparseRows, student: Tensor) -> Tensor:
    free = student.clone().requires_grad_()
    forward_kl(free, rows, temperature=rows.temperature).sum().backward()
    assert free.grad is not None
    return free.grad


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_c9_drawn_tokens_are_right_on_average(temperature: float) -> None:
    teacher, student = 1.5 * torch.randn(1, SIZE), torch.randn(1, SIZE)
    draws = [
        kept(teacher, SampledCache(samples=3), temperature=temperature, key=key)
        for key in range(4000)
    ]
    p, q = softmax(teacher[0], temperature), softmax(student[0], temperature)
    mean = sum(gradient(rows, student)[0] for rows in draws) / len(draws)
    value = sum(forward_kl(student, rows, temperature=temperature).item() for rows in draws)
    for token in range(SIZE):
        expected = temperature * (q[token] - p[token])
        assert float(mean[token]) == pytest.approx(expected, abs=0.02 * temperature)
    whole = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert value / len(draws) == pytest.approx(whole, abs=0.03 * temperature**2)
    assert any((rows.shares > 0).sum() < SIZE for rows in draws), "not all tokens are drawn"


def test_c9_many_drawn_positions_reach_the_dense_optimum() -> None:
    teacher = torch.linspace(1.5, 0, SIZE)[None].repeat(2000, 1)
    rows = kept(teacher, SampledCache(samples=5))
    student = torch.zeros(1, SIZE, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        forward_kl(student.expand(2000, -1), rows).mean().backward()
        optimiser.step()
    for found, p in zip(softmax(student.detach()[0]), softmax(teacher[0]), strict=True):
        assert found == pytest.approx(p, abs=6e-3)


@pytest.mark.parametrize("settings", [TopKCache(k=3), SampledCache(samples=7)], ids=["k", "drawn"])
@pytest.mark.parametrize("skew", [0.0, 0.2])
def test_c3_the_gradient_is_that_of_the_value_shown(settings: object, skew: float) -> None:
    student, teacher = torch.randn(2, SIZE, dtype=torch.float32), torch.randn(2, SIZE)
    rows = kept(teacher, settings, temperature=2.0)  # type: ignore[arg-type]
    free = student.clone().requires_grad_()
    forward_kl(free, rows, temperature=2.0, skew=skew).sum().backward()
    assert free.grad is not None
    for line, token in [(0, 0), (0, 7), (1, 3), (1, 11)]:
        step = torch.zeros_like(student)
        step[line, token] = 1e-2
        up = forward_kl(student + step, rows, temperature=2.0, skew=skew).sum()
        down = forward_kl(student - step, rows, temperature=2.0, skew=skew).sum()
        assert float(up - down) / 2e-2 == pytest.approx(float(free.grad[line, token]), abs=2e-3)


def test_a_teacher_that_is_sure_of_one_token_gives_numbers() -> None:
    teacher = torch.full((1, SIZE), -200.0)
    teacher[0, 5] = 200.0
    student = torch.randn(1, SIZE, requires_grad=True)
    for settings in (TopKCache(k=3), SampledCache(samples=4), TopKCache(k=1)):
        rows = kept(teacher, settings)
        loss = forward_kl(student, rows).sum()
        (found,) = torch.autograd.grad(loss, student)
        assert bool(found.isfinite().all())
        q = softmax(student.detach()[0])
        assert loss.item() == pytest.approx(-math.log(q[5]), abs=1e-4)


def test_it_is_nought_for_equal_distributions_and_more_for_others() -> None:
    logits = torch.randn(5, SIZE)
    rows = kept(logits, TopKCache(k=4))
    assert bool((forward_kl(logits, rows).abs() < 1e-4).all())
    assert bool((forward_kl(logits + torch.randn(5, SIZE), rows) > 0).all())


def test_c5_padded_rows_of_the_student_change_nothing() -> None:
    teacher, student = torch.randn(2, SIZE), torch.randn(2, SIZE)
    rows = kept(teacher, TopKCache(k=4))
    padded = torch.cat([student, torch.full((2, 3), 50.0)], 1)
    torch.testing.assert_close(forward_kl(padded, rows), forward_kl(student, rows))


@pytest.mark.parametrize("settings", [TopKCache(k=4), SampledCache(samples=7)], ids=["k", "drawn"])
@pytest.mark.parametrize("chunk_rows", [1, 3, 5, None])
@pytest.mark.parametrize("padded", [0, 3])
def test_c6_c8_chunks_give_the_value_and_gradient_of_all_at_once(
    settings: TopKCache | SampledCache, chunk_rows: int | None, padded: int
) -> None:
    terms = [ForwardKLLoss(temperature=2.0), SkewedForwardKLLoss(skew=0.3, temperature=2.0)]
    rows = kept(2 * torch.randn(7, SIZE), settings, temperature=2.0)
    states, head = torch.randn(7, 5).requires_grad_(), torch.nn.Linear(5, SIZE + padded)
    targets = torch.randint(SIZE, (7,))
    shares = {terms[0].name: torch.rand(7), terms[1].name: torch.rand(7)}
    every = [*terms, CrossEntropyLoss()]
    comparison = Comparison(
        every, shares | {"cross_entropy": torch.rand(7)}, rows, targets, chunk_rows
    )
    found = compared(states, head, comparison, vocab_size=SIZE + padded)
    logits = head(states)
    values = {
        "forward_kl": forward_kl(logits, rows, temperature=2.0),
        "skewed_forward_kl": forward_kl(logits, rows, temperature=2.0, skew=0.3),
        "cross_entropy": torch.nn.functional.cross_entropy(logits, targets, reduction="none"),
    }
    whole = sum((comparison.shares[name] * value).sum() for name, value in values.items())
    for name, value in values.items():
        torch.testing.assert_close(found.values[name], value, atol=1e-5, rtol=1e-5)
    parts = [states, head.weight, head.bias]
    for one, other in zip(
        torch.autograd.grad(found.loss, parts), torch.autograd.grad(whole, parts), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_chunks_of_a_teacher_that_is_sure_are_numbers() -> None:
    teacher = torch.full((2, SIZE), -200.0)
    teacher[:, 5] = 200.0
    states = (100 * torch.randn(2, 5)).requires_grad_()
    head = torch.nn.Linear(5, SIZE)
    given = {"forward_kl": torch.ones(2)}
    for settings in (TopKCache(k=3), SampledCache(samples=4)):
        rows = kept(teacher, settings)
        comparison = Comparison([ForwardKLLoss()], given, rows, torch.tensor([5, 5]), 1)
        found = compared(states, head, comparison, vocab_size=SIZE)
        (slope,) = torch.autograd.grad(found.loss, states)
        assert bool(slope.isfinite().all())
        expected = torch.nn.functional.cross_entropy(head(states), torch.tensor([5, 5]))
        assert found.loss.item() == pytest.approx(2 * expected.item(), abs=1e-3)
