"""The weighted sum: means over the tokens each term applies to, and nothing that is not named."""

from __future__ import annotations

import pytest
import torch

from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import Objective
from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    TemperatureSchedule,
    WeightSchedule,
)

BOTH = [ForwardKLLoss(weight=0.7, temperature=2.0), CrossEntropyLoss(weight=0.3)]


def rows(count: int = 6, labelled: int = 4, vocabulary: int = 9) -> SupervisedRows:
    return SupervisedRows(
        student_logits=torch.randn(count, vocabulary, requires_grad=True),
        teacher_logits=torch.randn(count, vocabulary),
        targets=torch.randint(vocabulary, (count,)),
        labelled=torch.arange(count) < labelled,
    )


def counts(given: SupervisedRows) -> dict[str, int]:
    every, hard = len(given.targets), int(given.labelled.sum())
    return {"supervised": every, "labelled": hard, "features": every, "spans": every}


def expected_sum(given: SupervisedRows) -> float:
    """0.7 · mean of 4 · KL at T = 2 over all rows + 0.3 · mean NLL over labelled rows."""
    total = 0.0
    student, teacher = given.student_logits.detach().double(), given.teacher_logits.double()
    count = len(given.targets)
    for place in range(count):
        p, q = (teacher[place] / 2).softmax(-1), (student[place] / 2).softmax(-1)
        total += 0.7 * 4 * float((p * (p / q).log()).sum()) / count
    hard = [place for place in range(count) if given.labelled[place]]
    for place in hard:
        total += 0.3 * -float(student[place].log_softmax(-1)[given.targets[place]]) / len(hard)
    return total


def test_value_is_the_weighted_sum_of_means_and_no_more() -> None:
    given, objective = rows(), Objective(BOTH)
    totals = objective.token_counts(counts(given))
    assert totals == {"forward_kl": 6, "cross_entropy": 4}
    loss, sums = objective(given, totals=totals)
    assert loss.item() == pytest.approx(expected_sum(given), abs=1e-5)
    shown = 0.7 * sums["forward_kl"].item() / 6 + 0.3 * sums["cross_entropy"].item() / 4
    assert shown == pytest.approx(loss.item(), abs=1e-6)


def test_hard_labels_are_never_asked_of_unlabelled_rows() -> None:
    given, objective = rows(labelled=0), Objective(BOTH)
    loss, sums = objective(given, totals={"forward_kl": 6, "cross_entropy": 0})
    assert sums["cross_entropy"].item() == 0
    other = SupervisedRows(
        given.student_logits, given.teacher_logits, (given.targets + 1) % 9, given.labelled
    )
    again, _ = objective(other, totals={"forward_kl": 6, "cross_entropy": 0})
    assert loss.item() == again.item()


def test_a_term_of_weight_zero_is_left_out() -> None:
    objective = Objective([ForwardKLLoss(weight=0.0), CrossEntropyLoss(weight=1.0)])
    assert not objective.needs_teacher
    assert list(objective.token_counts(counts(rows()))) == ["cross_entropy"]


def test_cross_entropy_equals_minus_log_probability() -> None:
    given = rows(labelled=6)
    _, sums = Objective([CrossEntropyLoss(weight=1.0)])(given, totals={"cross_entropy": 6})
    probabilities = given.student_logits.detach().double().softmax(-1)
    expected = -sum(
        float(probabilities[place, target].log()) for place, target in enumerate(given.targets)
    )
    assert sums["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)


def test_weights_and_temperatures_are_those_of_the_moment() -> None:
    given = rows()
    moving = Objective(
        [
            ForwardKLLoss(
                weight=WeightSchedule(start=1.0, end=0.0),
                temperature=TemperatureSchedule(start=3.0, end=1.0),
            ),
            CrossEntropyLoss(weight=WeightSchedule(start=0.0, end=0.5)),
        ]
    )
    totals = moving.token_counts(counts(given))
    assert list(totals) == ["forward_kl", "cross_entropy"]  # also where a weight is 0 for now
    for progress, soft, temperature, hard in ((0.0, 1.0, 3.0, 0.0), (0.5, 0.5, 2.0, 0.25)):
        now = moving.at(progress)
        plain = Objective(
            [
                ForwardKLLoss(weight=soft, temperature=temperature),
                CrossEntropyLoss(weight=hard),
            ]
        )
        loss, sums = now(given, totals=totals)
        expected, _ = plain(given, totals=totals)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert set(sums) == {"forward_kl", "cross_entropy"}
        assert now.scheduled() == {
            "weight_forward_kl": soft,
            "temperature_forward_kl": temperature,
            "weight_cross_entropy": hard,
        }
    assert Objective([ForwardKLLoss()]).scheduled() == {}


def test_a_term_that_never_has_a_weight_is_left_out() -> None:
    never = WeightSchedule(start=0.0, end=0.0)
    assert Objective([ForwardKLLoss(weight=never), CrossEntropyLoss()]).needs_teacher is False
