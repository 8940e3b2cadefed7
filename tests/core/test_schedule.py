"""The learning rate against transformers' schedulers, step by step."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from distill_core.recipe import OptimSettings
from distill_core.schedule import learning_rate_at


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (10, 0.2), (57, 0.05), (40, 0.0)])
def test_equals_the_schedulers_of_transformers(schedule: str, steps: int, warmup: float) -> None:
    optim = OptimSettings(learning_rate=3e-3, schedule=schedule, warmup_fraction=warmup)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-3)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    reference = get_scheduler(
        name, optimizer, num_warmup_steps=round(warmup * steps), num_training_steps=steps
    )
    for step in range(steps):
        got = learning_rate_at(step, total_steps=steps, optim=optim)
        assert got == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()
