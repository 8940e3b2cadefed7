"""C14, precision: terms in fp32 whatever comes in; a step that is not finite is refused."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill_core.errors import NonFiniteError
from distill_core.losses.base import Features, SupervisedRows
from distill_core.losses.chunked import Comparison, compared
from distill_core.losses.cross_tokenizer import Spans
from distill_core.losses.logit_rows import DenseRows
from distill_core.losses.objective import LOSSES, Objective
from distill_core.trainer import train
from tests.core.definition import encoded
from tests.core.terms import LOGIT_TERMS, reference
from tests.core.terms import TERMS as EVERY
from tests.core.ways import TERMS, case, cases

# --- fp32 ---------------------------------------------------------------------------------------


def table(rows: int, size: int) -> SupervisedRows:
    """Two tables of bf16 logits that lie close together, as at the end of a training."""
    teacher = torch.randn(rows, size).bfloat16()
    student = (teacher.float() + 0.05 * torch.randn(rows, size)).bfloat16()
    return SupervisedRows(
        student, teacher, torch.randint(size, (rows,)), torch.ones(rows, dtype=torch.bool)
    )


@pytest.mark.parametrize("name", LOGIT_TERMS)
def test_half_precision_logits_are_compared_in_fp32(name: str) -> None:
    """Over 20,000 entries a divergence in bf16 goes negative; ours equals the exact one."""
    rows, term = table(3, 20_000), LOGIT_TERMS[name]
    assert rows.teacher_logits is not None
    found = LOSSES[term.name].values(rows, term)
    exact = [
        reference(term, rows.student_logits[n], rows.teacher_logits[n], int(rows.targets[n]))
        for n in range(3)
    ]
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    # the sum of 20,000 differences is exact to six digits, before it is multiplied by T²
    allowed = 1e-6 * getattr(term, "temperature", 1.0) ** 2
    torch.testing.assert_close(found.double(), torch.stack(exact), rtol=2e-3, atol=allowed)
    loss, _ = Objective([term])(rows, totals={term.name: 3})
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", LOGIT_TERMS)
def test_chunks_of_half_precision_logits_are_compared_in_fp32(name: str) -> None:
    """The same where a chunk of logits comes from a head in bf16."""
    term, head = LOGIT_TERMS[name], nn.Linear(8, 20_000, bias=False).bfloat16()
    states = torch.randn(3, 8).bfloat16().requires_grad_()
    logits = (states @ head.weight.T).detach()
    theirs = (logits.float() + 0.05 * torch.randn(logits.shape)).bfloat16()
    targets, shares = torch.randint(20_000, (3,)), {term.name: torch.ones(3)}
    given = Comparison([term], shares, DenseRows(theirs), targets, 2)
    found = compared(states, head, given, vocab_size=20_000)
    exact = [reference(term, logits[n], theirs[n], int(targets[n])) for n in range(3)]
    allowed = 1e-6 * getattr(term, "temperature", 1.0) ** 2
    values = found.values[term.name]
    assert (found.loss.dtype, values.dtype) == (torch.float32, torch.float32)
    assert (values >= 0).all()
    torch.testing.assert_close(values.double(), torch.stack(exact), rtol=2e-3, atol=allowed)


def with_inside(rows: SupervisedRows, dtype: torch.dtype) -> SupervisedRows:
    """The rows with one layer of each kind on both sides, and each row a span of its own."""
    count = len(rows.targets)
    torch.manual_seed(1)
    sides = [
        Features(
            {1: torch.randn(count, 16).to(dtype)},
            {1: torch.randn(count, 2, 9).softmax(-1).to(dtype)},
            {1: torch.randn(count, 2, 9).softmax(-1).to(dtype)},
        )
        for _ in range(2)
    ]
    places, single = torch.arange(count), torch.ones(count, dtype=torch.long)
    size = rows.student_logits.shape[1]
    return replace(
        rows,
        student=sides[0],
        teacher=sides[1],
        layer_pairs={"hidden_states": [(1, 1)], "attention": [(1, 1)]},
        teacher_targets=rows.targets,
        spans=Spans(places, single, places, single, places % 2 == 0, torch.arange(size)),
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_term_gives_fp32_and_comes_close_to_what_fp32_gives(name: str) -> None:
    rows, term = table(4, 50), EVERY[name]
    halves = LOSSES[term.name].values(with_inside(rows, torch.bfloat16), term)
    assert rows.teacher_logits is not None
    exact = replace(
        rows,
        student_logits=rows.student_logits.float(),
        teacher_logits=rows.teacher_logits.float(),
    )
    whole = LOSSES[term.name].values(with_inside(exact, torch.float32), term)
    assert halves.dtype == whole.dtype == torch.float32
    torch.testing.assert_close(halves, whole, rtol=5e-2, atol=5e-3)


@pytest.mark.parametrize("name", LOGIT_TERMS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_extreme_logits_give_finite_values_and_gradients(name: str, temperature: float) -> None:
    term = LOGIT_TERMS[name]
    if hasattr(term, "temperature"):
        term = term.model_copy(update={"temperature": temperature})
    teacher = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0], [3e4, 3e4, -3e4]])
    student = torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, -3e4, 3e4]])
    student.requires_grad_()
    every = torch.ones(3, dtype=torch.bool)
    rows = SupervisedRows(student, teacher, torch.tensor([0, 1, 2]), every)
    values = LOSSES[term.name].values(rows, term)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert abs(values[1].item()) <= 1e-6  # both are sure of the same token


# --- a step that is not finite ------------------------------------------------------------------

POISON = 1
"""A token that no row of `encoded` has."""
BAD = 4


def poisoned(model: Any) -> None:
    """The student cannot read one token: its embedding is not a number."""
    if model.config.num_hidden_layers == 2:
        with torch.no_grad():
            model.get_input_embeddings().weight[POISON] = float("nan")


@pytest.mark.parametrize(("way", "terms"), cases())
def test_no_way_takes_a_step_that_is_not_finite(tmp_path: Path, way: str, terms: str) -> None:
    """It names the first term and the row, and leaves the weights as they are."""
    rows = [replace(row, labelled=True) for row in encoded(8)]
    made = case(tmp_path, way, terms, rows=rows, alter=poisoned)
    rows[BAD].input_ids[0] = POISON  # after a step that was taken, where the way is to resume
    made.stage.origin = lambda row: f"rows.jsonl:{row + 1}"
    made.stage.total_steps += 9
    before = copy.deepcopy(made.before.state_dict())
    told: list[Any] = []
    with pytest.raises(NonFiniteError, match="5 steps in a row"):
        told.extend(train(made.stage))
    assert [event["type"] for event in told] == ["warning"] * 5
    for event in told:
        assert event["message"].startswith(f"{made.terms[0].name} is not a finite number in ")
        assert event["message"].endswith("the step was not taken.")
        named = set(re.findall(r"rows\.jsonl:\d+", event["message"]))
        assert f"rows.jsonl:{BAD + 1}" in named
        # what the student writes itself may hold the token too
        assert len(named) == 1 or way == "on-policy"
    for key, value in made.stage.student.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, equal_nan=True, msg=key)


def test_a_gradient_that_is_not_finite_is_refused_too(tmp_path: Path) -> None:
    made = case(tmp_path, "plain", "both")
    before = copy.deepcopy(made.stage.student.state_dict())
    made.stage.total_steps = 6
    weight = made.stage.student.get_input_embeddings().weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    told: list[Any] = []
    with pytest.raises(NonFiniteError, match="Lower the learning rate"):
        told.extend(train(made.stage))
    expected = "The loss is finite but its gradient is not; the step was not taken."
    assert [event["message"] for event in told] == [expected] * 5
    for key, value in made.stage.student.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_last_good_checkpoint_is_kept(tmp_path: Path) -> None:
    rows = encoded(40)
    made = case(tmp_path, "plain", "both", rows=rows)
    made.stage.total_steps, made.stage.checkpoint_every = 30, 1
    events = train(made.stage)
    for event in events:
        if event["type"] == "checkpoint" and event["step"] == 3:
            break
    teacher: Any = made.stage.teacher
    with torch.no_grad():
        teacher.model.get_output_embeddings().weight[5] = float("inf")
    with pytest.raises(NonFiniteError):
        list(events)
    assert made.stage.checkpoints.steps()[-1] == 3


def test_every_term_is_tried_here() -> None:
    assert {term.name for group in TERMS.values() for term in group} == set(LOSSES)
