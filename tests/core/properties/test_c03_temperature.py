"""C3, temperature: T² times the gradient of the unscaled term, and what is shown is differentiated.

At temperature T a soft term compares softmax(z/T) and is multiplied by T². The reference takes the
plain divergence of the softened distributions, and multiplies its gradient by T² itself.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import LOSSES
from distill_core.trainer import train
from tests.core.definition import naive_loss
from tests.core.terms import LOGIT_TERMS
from tests.core.terms import TERMS as EVERY
from tests.core.ways import WAYS, Case, case, gradients, stage_of

SOFT = {name: term for name, term in EVERY.items() if "temperature" in type(term).model_fields}
TEMPERATURES = [0.5, 2.0, 4.0]


def at(term: Any, temperature: float) -> Any:
    return term.model_copy(update={"temperature": temperature, "weight": 1.0})


def soft_case(folder: Path, way: str, temperature: float) -> list[Case]:
    """Cases of the way, one for terms of the logits and one for spans, at a temperature."""
    by_name = {term.name: at(term, temperature) for term in SOFT.values()}
    spans = by_name.pop("cross_tokenizer")
    groups = [list(by_name.values())] + [[spans]] * ("cross_tokenizer" not in WAYS[way].refuses)
    return [case(folder / str(n), way, group) for n, group in enumerate(groups)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradient_is_t_squared_times_that_of_the_unscaled_terms(
    tmp_path: Path, way: str, temperature: float
) -> None:
    for made in soft_case(tmp_path, way, temperature):
        scaled = naive_loss(made.student, made.teacher, made.rows, made.terms)
        unscaled = scaled / temperature**2  # the reference multiplies too
        unscaled.backward()
        found, metrics = made.step()
        allowed = WAYS[way].rounding * temperature
        assert metrics["loss"] == pytest.approx(
            temperature**2 * unscaled.item(), rel=1e-4 + allowed, abs=1e-5 + allowed
        )
        for name, value in gradients(made.student).items():
            torch.testing.assert_close(
                found[name],
                temperature**2 * value,
                rtol=1e-3 + allowed,
                atol=2e-5 + allowed,
                msg=name,
            )


@pytest.mark.parametrize("name", SOFT)
def test_the_value_shown_is_the_value_differentiated(tmp_path: Path, name: str) -> None:
    """Finite differences of the loss that the step shows, along its own gradient."""
    terms = [at(SOFT[name], 2.0)]
    made = case(tmp_path, "plain", terms)
    gradient, _ = made.step()
    norm = torch.stack([value.norm() for value in gradient.values()]).norm()
    # on a longer way sorted probabilities of spans change places
    step, shown = 1e-4 if name.startswith("cross_tokenizer") else 1e-2, []
    for sign in (1, -1):
        student = copy.deepcopy(made.student)
        with torch.no_grad():
            for key, value in student.named_parameters():
                value += sign * step / norm * gradient[key]
        stage = stage_of(tmp_path / str(sign), student, made.teacher, terms)
        first = next(event for event in train(stage) if event["type"] == "step")
        shown.append(first["metrics"]["loss"])
    assert (shown[0] - shown[1]) / (2 * step) == pytest.approx(norm.item(), rel=2e-2)


# --- the terms alone ----------------------------------------------------------------------------


def values(term: Any, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    every = torch.ones(len(student), dtype=torch.bool)
    rows = SupervisedRows(student, teacher, torch.zeros(len(student), dtype=torch.long), every)
    return LOSSES[term.name].values(rows, term)


@pytest.mark.parametrize("temperature", [1.0, *TEMPERATURES])
@pytest.mark.parametrize("name", [name for name in SOFT if name in LOGIT_TERMS])
def test_a_softened_term_is_the_plain_one_of_softened_logits(name: str, temperature: float) -> None:
    """d/dz of T² · D(z / T) = T · D'(z / T), whatever D is."""
    student, teacher = torch.randn(3, 6), torch.randn(3, 6)
    warm = student.clone().requires_grad_()
    values(at(SOFT[name], temperature), warm, teacher).sum().backward()
    cold = (student / temperature).requires_grad_()
    values(at(SOFT[name], 1.0), cold, teacher / temperature).sum().backward()
    assert warm.grad is not None
    assert cold.grad is not None
    torch.testing.assert_close(warm.grad, temperature * cold.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, *TEMPERATURES])
def test_gradient_of_the_forward_kl_is_t_times_the_difference(temperature: float) -> None:
    student = torch.randn(3, 6, requires_grad=True)
    teacher = torch.randn(3, 6)
    values(at(SOFT["forward_kl"], temperature), student, teacher).sum().backward()
    p, q = (teacher / temperature).softmax(-1), (student.detach() / temperature).softmax(-1)
    torch.testing.assert_close(student.grad, temperature * (q - p), rtol=1e-4, atol=1e-6)
