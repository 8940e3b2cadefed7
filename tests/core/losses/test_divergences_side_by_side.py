"""Our `jsd` beside the field's: TRL's generalised JSD on the same logits, value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.losses.divergences import jsd


@pytest.fixture(scope="module")
def theirs() -> Callable[..., Tensor]:
    """TRL's `generalized_jsd_loss`, by position; without T², so that the caller has to add it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # else it warns that its place may change
        from trl.experimental.gkd import GKDTrainer

    def values(student: Tensor, teacher: Tensor, **settings: Any) -> Tensor:
        found: Tensor = GKDTrainer.generalized_jsd_loss(
            student, teacher, reduction="none", **settings
        )
        return found.sum(-1)

    return values


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_c8_jsd_equals_trls(theirs: Callable[..., Tensor], beta: float, temperature: float) -> None:
    teacher = torch.randn(6, 500) * 3
    logits = teacher + torch.randn(6, 500)
    found = []
    for function in (jsd, theirs):
        student = logits.clone().requires_grad_()
        values = function(student, teacher, beta=beta, temperature=temperature)
        values = values if function is jsd else temperature**2 * values
        values.mean().backward()
        found.append((values.detach(), student.grad))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-5)
