"""C6, chunks: 1 to 33 rows in 1 to 8 chunks give the value and gradient of all of them at once.

The objective sees chunks of the supervised rows: those of micro-batches and processes. The head
sees chunks of logits (`loss_chunk_rows`). The reference adds up the terms row by row, in double
precision.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from distill_core.losses.base import SupervisedRows
from distill_core.losses.chunked import Comparison, compared
from distill_core.losses.logit_rows import DenseRows
from distill_core.losses.objective import Objective
from tests.core.terms import reference
from tests.core.ways import TERMS

LOSSES = TERMS["all of the logits"]
MOST = 33


@pytest.fixture(scope="module")
def rows() -> SupervisedRows:
    torch.manual_seed(0)
    return SupervisedRows(
        torch.randn(MOST, 11),
        torch.randn(MOST, 11),
        torch.randint(11, (MOST,)),
        torch.arange(MOST) % 3 != 1,
    )


@pytest.fixture(scope="module")
def by_row(rows: SupervisedRows) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Each term's value (33,) and gradient (33, 11), row by row."""
    values: dict[str, torch.Tensor] = {}
    slopes: dict[str, torch.Tensor] = {}
    for term in LOSSES:
        student = rows.student_logits.double().requires_grad_()
        teacher = rows.teacher_logits
        assert teacher is not None
        found = torch.stack(
            [reference(term, student[n], teacher[n], int(rows.targets[n])) for n in range(MOST)]
        )
        found.sum().backward()
        assert student.grad is not None
        hard = rows.labelled if term.name == "cross_entropy" else torch.ones(MOST, dtype=bool)  # type: ignore[call-overload]
        values[term.name] = found.detach() * hard
        slopes[term.name] = student.grad * hard[:, None]
    return values, slopes


@pytest.mark.parametrize("chunks", range(1, 9))
def test_chunks_add_up_to_the_whole(rows: SupervisedRows, by_row, chunks: int) -> None:  # type: ignore[no-untyped-def]
    values, slopes = by_row
    assert rows.teacher_logits is not None
    for count in range(1, MOST + 1):
        objective = Objective(LOSSES)
        hard = int(rows.labelled[:count].sum())
        totals = {t.name: hard if t.name == "cross_entropy" else count for t in LOSSES}
        student = rows.student_logits[:count].clone().requires_grad_()
        edges = np.linspace(0, count, chunks + 1).round().astype(int).tolist()
        shown = dict.fromkeys(totals, 0.0)
        total = 0.0
        for a, b in pairwise(edges):  # some are empty where there are more chunks than rows
            part = SupervisedRows(
                student[a:b], rows.teacher_logits[a:b], rows.targets[a:b], rows.labelled[a:b]
            )
            loss, sums = objective(part, totals=totals)
            loss.backward()
            total += loss.item()
            for name, value in sums.items():
                shown[name] += value.item()
        loss_expected, slope = 0.0, torch.zeros(count, 11, dtype=torch.double)
        for term in LOSSES:
            share = term.weight / max(1, totals[term.name])
            loss_expected += share * values[term.name][:count].sum().item()
            slope += share * slopes[term.name][:count]
            whole = values[term.name][:count].sum().item()
            assert shown[term.name] == pytest.approx(whole, rel=1e-4, abs=1e-5)
        assert total == pytest.approx(loss_expected, rel=1e-5, abs=1e-6)
        assert student.grad is not None
        torch.testing.assert_close(student.grad.double(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunks", range(1, 9))
def test_a_head_that_works_chunk_by_chunk_gives_the_whole(
    rows: SupervisedRows,
    by_row,  # type: ignore[no-untyped-def]
    chunks: int,
) -> None:
    """A head that hands its states on as logits: the slopes by both are those of the rows."""
    values, slopes = by_row
    assert rows.teacher_logits is not None
    assert rows.student_logits is not None
    for count in range(1, MOST + 1):
        hard = rows.labelled[:count]
        shares = {
            term.name: term.weight / count * (hard if term.name == "cross_entropy" else hard >= 0)
            for term in LOSSES
        }
        states = rows.student_logits[:count].clone().requires_grad_()
        head = torch.nn.Linear(11, 11, bias=False)
        torch.nn.init.eye_(head.weight)
        most = -(-count // chunks)
        teacher = DenseRows(rows.teacher_logits[:count])
        given = Comparison(LOSSES, shares, teacher, rows.targets[:count], most)
        found = compared(states, head, given, vocab_size=11)
        found.loss.backward()
        expected = sum(t.weight / count * values[t.name][:count].sum() for t in LOSSES)
        slope = sum(t.weight / count * slopes[t.name][:count] for t in LOSSES)
        assert found.loss.item() == pytest.approx(float(expected), rel=1e-5)
        assert states.grad is not None
        assert head.weight.grad is not None
        torch.testing.assert_close(states.grad.double(), slope, rtol=1e-4, atol=1e-6)
        by_weight = slope.T @ states.detach().double()
        torch.testing.assert_close(head.weight.grad.double(), by_weight, rtol=1e-4, atol=1e-6)
        for term in LOSSES:
            if term.name != "cross_entropy":  # of unlabelled rows too, which count nothing
                shown = found.values[term.name].sum().item()
                assert shown == pytest.approx(values[term.name][:count].sum().item(), rel=1e-4)
