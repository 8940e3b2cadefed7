"""What moves: the learning rate against transformers' schedulers, weights against plain numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import get_scheduler

from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    OptimSettings,
    TemperatureSchedule,
    WeightSchedule,
)
from distill_core.steps.schedule import in_words, learning_rate_at, progress_at, term_at, value_at


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


# --- weights and temperatures -------------------------------------------------------------------


def test_progress_is_0_at_the_first_step_and_1_at_the_last() -> None:
    assert [progress_at(step, total_steps=5) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert progress_at(0, total_steps=1) == 0


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({}, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ({"fraction": 0.5}, [1.0, 0.6, 0.2, 0.2, 0.2]),
        ({"schedule": "cosine"}, [1.0, 0.8828427, 0.6, 0.3171573, 0.2]),
        ({"schedule": "cosine", "fraction": 0.5}, [1.0, 0.6, 0.2, 0.2, 0.2]),
    ],
    ids=str,
)
def test_a_schedule_goes_from_start_to_end_and_stays(
    settings: dict[str, Any], values: list[float]
) -> None:
    moving = WeightSchedule(start=1.0, end=0.2, **settings)
    assert [value_at(moving, place / 4) for place in range(5)] == pytest.approx(values)
    up = WeightSchedule(start=0.2, end=1.0, **settings)
    assert [1.2 - value_at(up, place / 4) for place in range(5)] == pytest.approx(values)


def test_a_number_stays() -> None:
    assert value_at(0.3, 0.0) == value_at(0.3, 1.0) == 0.3


def test_a_term_gets_numbers_in_the_place_of_its_schedules() -> None:
    term = ForwardKLLoss(
        weight=WeightSchedule(start=1, end=0), temperature=TemperatureSchedule(start=4, end=2)
    )
    assert term_at(term, 0.5) == ForwardKLLoss(weight=0.5, temperature=3.0)
    plain = CrossEntropyLoss(weight=0.2)
    assert term_at(plain, 0.5) is plain


def test_a_schedule_in_words() -> None:
    assert in_words(WeightSchedule(start=1, end=0.25)) == "1 → 0.25 (linear)"
    half = WeightSchedule(start=0, end=1, schedule="cosine", fraction=0.5)
    assert in_words(half) == "0 → 1 (cosine over 50% of the steps)"
    assert in_words(0.9) == "0.9"
