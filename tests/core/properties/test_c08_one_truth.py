"""C8, one truth: every path's value and gradient are those of the definition, and nothing is added.

The definition (`tests/core/definition.py`) reads each row by itself, without padding, and adds up
plain formulas in double precision.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.core.definition import naive_means
from tests.core.ways import WAYS, case, cases, gradients

ALWAYS = {"loss", "grad_norm", "learning_rate", "tokens_per_s", "memory_bytes"}


@pytest.mark.parametrize(("way", "terms"), cases())
def test_value_and_gradient_equal_the_definition(tmp_path: Path, way: str, terms: str) -> None:
    made = case(tmp_path, way, terms)
    means = naive_means(made.student, made.teacher, made.rows, made.terms)
    sum(term.weight * means[term.name] for term in made.terms).backward()
    allowed = WAYS[way].rounding
    gradient, metrics = made.step()
    for name, mean in means.items():
        assert metrics[name] == pytest.approx(mean.item(), abs=1e-5 + allowed), name
    expected = gradients(made.student)
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            gradient[name], value, rtol=1e-4 + allowed, atol=1e-5 + allowed, msg=name
        )


@pytest.mark.parametrize(("way", "terms"), cases())
def test_no_term_is_mixed_in_that_the_recipe_does_not_name(
    tmp_path: Path, way: str, terms: str
) -> None:
    made = case(tmp_path, way, terms)
    _, metrics = made.step()
    names = {term.name for term in made.terms}
    shown = names | {f"weighted_{name}" for name in names} | ALWAYS
    own = {"own_answer_tokens"} if WAYS[way].on_policy else set()
    own |= {"dropped_mass"} if WAYS[way].ids else set()
    assert metrics.keys() == shown | own
    parts = sum(metrics[f"weighted_{name}"] for name in names)
    assert metrics["loss"] == pytest.approx(parts, rel=1e-6)
    for term in made.terms:
        expected = term.weight * metrics[term.name]
        assert metrics[f"weighted_{term.name}"] == pytest.approx(expected, rel=1e-6)
