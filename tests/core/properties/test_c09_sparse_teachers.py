"""C9, sparse teachers: the optimum against any teacher is the whole distribution of that teacher.

A free table of logits is trained until it is at the optimum of a term, against each kind of
teacher, one of which is nearly flat; it must end at the probabilities of the dense teacher, read
row by row. A teacher that keeps a few ids and lets the student share out the rest ends elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.data.batches import collate
from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import Objective
from distill_core.recipe import ForwardKLLoss, JSDLoss, ReverseKLLoss, SkewedForwardKLLoss
from tests.core.definition import inside
from tests.core.ways import WAYS, case

TERMS: list[Any] = [
    ForwardKLLoss(weight=1.0),
    ForwardKLLoss(weight=1.0, temperature=2.0),
    ReverseKLLoss(weight=1.0),
    JSDLoss(weight=1.0),
    SkewedForwardKLLoss(weight=1.0),
]

TEACHERS = [
    name
    for name, way in WAYS.items()
    if name == "plain" or way.teacher is not WAYS["plain"].teacher
]
"""The ways that differ in what the teacher is."""


def answers(way: str, folder: Path, flatter: float) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The teacher's logits as a stage gets them, its dense probabilities, and the targets."""

    def flat(model: Any) -> None:
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(flatter)

    made = case(folder, way, "forward_kl", alter=flat)
    assert made.stage.teacher is not None
    batch = collate(made.rows[:2], pad_token_id=0, rows=[0, 1])
    given = made.stage.teacher.view(batch).logits.float()
    with torch.no_grad():
        logits = [inside(made.teacher, torch.tensor([r.input_ids])) for r in made.rows[:2]]
    places = [(row, int(place)) for row, place in batch.supervised.nonzero().tolist()]
    dense = torch.stack([logits[row]["logits"][place] for row, place in places])
    return given, dense.double().softmax(-1), batch.targets


@pytest.mark.parametrize("way", TEACHERS)
@pytest.mark.parametrize("flatter", [0.05, 8.0], ids=["flat", "sure"])
def test_nothing_of_the_teachers_mass_is_lost(tmp_path: Path, way: str, flatter: float) -> None:
    given, dense, _ = answers(way, tmp_path, flatter)
    assert given.shape == dense.shape
    allowed = 1e-5 + WAYS[way].rounding
    torch.testing.assert_close(
        given.double().softmax(-1), dense, rtol=1e-3 + 4 * allowed, atol=allowed
    )


@pytest.mark.parametrize(
    "way", [n for n, way in WAYS.items() if not way.resumed and not way.adapter]
)
@pytest.mark.parametrize("term", TERMS, ids=lambda term: f"{term.name} at {term.temperature}")
def test_the_optimum_is_the_dense_one(tmp_path: Path, way: str, term: Any) -> None:
    given, dense, targets = answers(way, tmp_path, 2.0)
    given, dense, targets = given[:2], dense[:2], targets[:2]
    student = torch.zeros_like(given, requires_grad=True)
    objective = Objective([term])
    optimizer = torch.optim.LBFGS([student], max_iter=60, line_search_fn="strong_wolfe")
    every = torch.ones(len(targets), dtype=torch.bool)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        rows = SupervisedRows(student, given, targets, every)
        value, _ = objective(rows, totals={term.name: len(targets)})
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    allowed = 2e-3 + WAYS[way].rounding / 4
    assert (student.detach().double().softmax(-1) - dense).abs().max() < allowed
    assert loss().item() < 1e-4
