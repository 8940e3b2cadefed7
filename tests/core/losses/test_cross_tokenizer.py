"""The cross-tokenizer loss against NumPy on hand-made cases, its properties and its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.losses.cross_tokenizer import Spans, cross_tokenizer
from distill_core.losses.divergences import forward_kl

# the student's tokens: 0 "a", 1 "b", 2 "ab", 3 "c", 4 end
# the teacher's: 0 "ab", 1 "c", 2 "a", 3 "b", 4 "bc", 5 <pad>, 6 end
STUDENT_IDS = [2, 3, 0, 1, 1, -1, 4]
STUDENT_TARGETS = [0, 1, 3, 4]  # a b c end
TEACHER_TARGETS = [0, 1, 6]  # ab c end
SPANS = [(0, 2, 0, 1, False), (2, 1, 1, 1, True), (3, 1, 2, 1, True)]
"""(student's first token, how many, teacher's first, how many, the same single token?)"""


def spans(table: list[tuple[int, int, int, int, bool]] = SPANS, ids: Any = STUDENT_IDS) -> Spans:
    a, b, c, d, same = torch.tensor(table, dtype=torch.long).reshape(-1, 5).unbind(1)
    return Spans(a, b, c, d, same.bool(), torch.tensor(ids))


def logits(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(seed)
    student = torch.randn(4, 5, generator=random) * 2
    teacher = torch.randn(3, 7, generator=random) * 2
    return student.to(dtype), teacher.to(dtype)


def value(student: Any, teacher: Any, **more: Any) -> Any:
    given = {
        "student_targets": torch.tensor(STUDENT_TARGETS),
        "teacher_targets": torch.tensor(TEACHER_TARGETS),
        "spans": spans(),
    }
    return cross_tokenizer(student, teacher, **(given | more))


# --- a reference in NumPy -------------------------------------------------------------------


def softmax(row: Any, temperature: float) -> Any:
    powers = np.exp((np.asarray(row, dtype=float) - np.max(row)) / temperature)
    return powers / powers.sum()


def outcomes(rows: list[Any], own: list[int]) -> tuple[list[float], float]:
    """What may happen along a span: leaving it at some token for another, or all of it."""
    reached, others = 1.0, []
    for row, token in zip(rows, own, strict=True):
        others += [reached * p for number, p in enumerate(row) if number != token]
        reached *= row[token]
    return others, reached


def sorted_distance(a: list[float], b: list[float]) -> float:
    a, b = sorted(a, reverse=True), sorted(b, reverse=True)
    longest = max(len(a), len(b))
    a += [0.0] * (longest - len(a))
    b += [0.0] * (longest - len(b))
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


def reference(
    student: Any, teacher: Any, *, temperature: float, hybrid: bool, uld_weight: float
) -> list[float]:
    q = [softmax(row, temperature) for row in student.detach().double().numpy()]
    p = [softmax(row, temperature) for row in teacher.detach().double().numpy()]
    values = []
    for first, count, their_first, their_count, same in SPANS:
        if hybrid and same:
            target = np.zeros(5)
            for number, share in zip(STUDENT_IDS, p[their_first], strict=True):
                if number >= 0:
                    target[number] += share
            target /= target.sum()
            divergence = float(np.sum(target * np.log(target / q[first])))
        else:
            own = STUDENT_TARGETS[first : first + count]
            their = TEACHER_TARGETS[their_first : their_first + their_count]
            q_others, q_span = outcomes(q[first : first + count], own)
            p_others, p_span = outcomes(p[their_first : their_first + their_count], their)
            assert sum(q_others) + q_span == pytest.approx(1)
            if hybrid:
                divergence = abs(q_span - p_span) + sorted_distance(q_others, p_others)
            else:
                divergence = sorted_distance([*q_others, q_span], [*p_others, p_span])
            divergence *= uld_weight
        values.append(temperature**2 * divergence)
    return values


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_equals_the_reference(hybrid: bool, temperature: float) -> None:
    for seed in range(5):
        student, teacher = logits(seed)
        chosen: dict[str, Any] = {
            "temperature": temperature,
            "hybrid": hybrid,
            "uld_weight": 0.6,
        }
        got = value(student, teacher, **chosen)
        expected = torch.tensor(reference(student, teacher, **chosen), dtype=torch.float32)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_span_by_hand() -> None:
    """Student: P(a) = ½, then P(b) = ½. Teacher: P(ab) = ¾, the rest on one token."""
    halves = torch.tensor([[0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0]]).log()
    teacher = torch.tensor([[0.75, 0.25, 0, 0, 0, 0, 0]]).log()
    one = spans([(0, 2, 0, 1, False)])
    # student: ab ¼, b… ½, aa ¼; teacher: ab ¾, c ¼
    anchored = abs(0.25 - 0.75) + abs(0.5 - 0.25) + 0.25
    by_rank = abs(0.5 - 0.75) + abs(0.25 - 0.25) + 0.25
    assert value(halves, teacher, spans=one).item() == pytest.approx(anchored, abs=1e-6)
    assert value(halves, teacher, spans=one, hybrid=False).item() == pytest.approx(by_rank)


# --- properties -----------------------------------------------------------------------------

SAME = {
    "student_targets": torch.tensor(TEACHER_TARGETS),
    "teacher_targets": torch.tensor(TEACHER_TARGETS),
    "spans": spans([(0, 1, 0, 1, True), (1, 2, 1, 2, False)], list(range(7))),
}


@given(
    row=st.lists(st.floats(-20, 20, width=32), min_size=21, max_size=21),
    noise=st.lists(st.floats(-5, 5, width=32), min_size=21, max_size=21),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    hybrid=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_c7_zero_for_identical_models_and_never_negative(
    row: list[float], noise: list[float], temperature: float, hybrid: bool
) -> None:
    teacher = torch.tensor(row).view(3, 7)
    student = teacher + torch.tensor(noise).view(3, 7)
    more: dict[str, Any] = {**SAME, "temperature": temperature, "hybrid": hybrid}
    assert cross_tokenizer(teacher, teacher, **more).abs().max().item() <= 2e-5
    assert cross_tokenizer(student, teacher, **more).min().item() >= -2e-5


def test_c7_with_one_vocabulary_it_is_the_forward_kl() -> None:
    student, teacher = torch.randn(3, 7), torch.randn(3, 7)
    each = spans([(n, 1, n, 1, True) for n in range(3)], list(range(7)))
    got = cross_tokenizer(student, teacher, **(SAME | {"spans": each}), temperature=2.0)
    torch.testing.assert_close(got, forward_kl(student, teacher, temperature=2.0))


def test_uld_is_at_most_two_and_sees_no_order_of_tokens() -> None:
    student, teacher = logits()
    assert value(student * 30, teacher * 30, hybrid=False).max().item() <= 2 + 1e-5
    single = {
        "student_targets": torch.tensor([0]),
        "teacher_targets": torch.tensor([0]),
        "spans": spans([(0, 1, 0, 1, False)]),
    }
    turned = student[:1].flip(-1)
    pure = value(student[:1], teacher[:1], hybrid=False, **single)
    torch.testing.assert_close(pure, value(turned, teacher[:1], hybrid=False, **single))
    assert not torch.allclose(
        value(student[:1], teacher[:1], **single), value(turned, teacher[:1], **single)
    )


def test_c5_padded_rows_and_what_the_student_cannot_write_change_nothing() -> None:
    """The teacher's <pad> has no counterpart: its mass is left out, not put on another token."""
    student, teacher = logits()
    louder = teacher.clone()
    louder[:, 5] += 3
    one = spans([(2, 1, 1, 1, True)])
    torch.testing.assert_close(
        value(student, teacher, spans=one), value(student, louder, spans=one)
    )


def test_the_teachers_mass_goes_to_the_token_that_its_text_begins_with() -> None:
    """Teacher "b" and "bc" both begin with the student's "b"."""
    student = torch.zeros(4, 5, requires_grad=True)
    teacher = torch.full((3, 7), -50.0)
    teacher[1, 3], teacher[1, 4] = math.log(0.3), math.log(0.7)
    value(student, teacher, spans=spans([(2, 1, 1, 1, True)])).sum().backward()
    assert student.grad is not None
    # q − p: all of the teacher's mass is on "b"
    torch.testing.assert_close(student.grad[2], torch.tensor([0.2, 0.2 - 1, 0.2, 0.2, 0.2]))


@pytest.mark.parametrize("hybrid", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_c3_the_value_shown_is_the_value_differentiated(hybrid: bool, temperature: float) -> None:
    student, teacher = (tensor.double() for tensor in logits(3))
    chosen: dict[str, Any] = {"temperature": temperature, "hybrid": hybrid, "uld_weight": 0.5}
    tensor = student.float().requires_grad_()
    value(tensor, teacher, **chosen).sum().backward()
    assert tensor.grad is not None
    step = 1e-6
    for place in range(student.numel()):
        up, down = student.clone(), student.clone()
        up.view(-1)[place] += step
        down.view(-1)[place] -= step
        slope = sum(reference(up, teacher, **chosen)) - sum(reference(down, teacher, **chosen))
        assert tensor.grad.view(-1)[place].item() == pytest.approx(slope / (2 * step), abs=2e-4)


def test_c3_the_kl_part_grows_with_the_square_of_the_temperature() -> None:
    student, teacher = torch.randn(3, 7, requires_grad=True), torch.randn(3, 7)
    each = spans([(n, 1, n, 1, True) for n in range(3)], list(range(7)))
    cross_tokenizer(student, teacher, **(SAME | {"spans": each}), temperature=3.0).sum().backward()
    q, p = (student.detach() / 3).softmax(-1), (teacher / 3).softmax(-1)
    torch.testing.assert_close(student.grad, 3 * (q - p), rtol=1e-4, atol=1e-6)


def test_the_teacher_gets_no_gradient_and_no_span_leaves_a_graph() -> None:
    student, teacher = (tensor.requires_grad_() for tensor in logits())
    value(student, teacher).sum().backward()
    assert teacher.grad is None
    empty = value(student, teacher, spans=spans([]))
    assert empty.shape == (0,)
    empty.sum().backward()


def test_c14_half_precision_logits_are_compared_in_fp32() -> None:
    student, teacher = logits(dtype=torch.bfloat16)
    got = value(student, teacher)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, value(student.float(), teacher.float()))


def test_order_and_neighbours_of_spans_do_not_matter() -> None:
    student, teacher = logits()
    together = value(student, teacher)
    for number, one in enumerate(SPANS):
        alone = value(student, teacher, spans=spans([one]))
        torch.testing.assert_close(alone[0], together[number])
    turned = value(student, teacher, spans=spans(SPANS[::-1]))
    torch.testing.assert_close(turned.flip(0), together)
