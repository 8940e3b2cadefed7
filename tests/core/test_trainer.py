"""The training loop: resuming, stopping, schedules, what is recorded.

That a step is right is shown in `properties/`, over every term and every path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    LoraSettings,
    TemperatureSchedule,
    WeightSchedule,
)
from distill_core.students.adapters import merged, with_adapter
from distill_core.trainer import TrainingStage, train
from tests.core.definition import encoded
from tests.core.ways import TERMS, own_batches, stage_of

MOVING = [
    ForwardKLLoss(
        weight=WeightSchedule(start=1.0, end=0.2),
        temperature=TemperatureSchedule(start=3.0, end=1.0, schedule="cosine", fraction=0.5),
    ),
    CrossEntropyLoss(weight=WeightSchedule(start=0.0, end=0.8)),
]
Make = Callable[..., Any]


# --- checkpoints, resume ------------------------------------------------------------------------


def losses_of(events: list[Any]) -> dict[int, float]:
    return {e["step"]: e["metrics"]["loss"] for e in events if e["type"] == "step"}


@pytest.mark.parametrize("name", ["both", "moving", "three at once"])
@pytest.mark.parametrize("adapter", [None, LoraSettings(rank=4, dropout=0.3)], ids=["full", "lora"])
def test_resuming_gives_the_losses_of_the_run_that_never_stopped(
    tmp_path: Path, tiny_llama: Make, adapter: Any, name: str
) -> None:
    losses = MOVING if name == "moving" else TERMS[name]
    teacher = tiny_llama(layers=3, hidden_size=48 if name == "three at once" else 32, seed=1)

    def make(folder: str) -> TrainingStage:
        torch.manual_seed(0)
        student = with_adapter(tiny_llama(), adapter, seed=0)
        return stage_of(tmp_path / folder, student, teacher, losses, rows=encoded(20), steps=12)

    whole = make("whole")
    expected = losses_of(list(train(whole)))
    first = make("cut")
    first.checkpoint_every = 4
    got = {}
    for happening in train(first):  # killed between two checkpoints
        got |= losses_of([happening])
        if happening.get("step") == 6 and happening["type"] == "step":
            break
    second = make("cut")
    torch.manual_seed(99)  # a new process has another random state
    resumed = list(train(second))
    assert min(losses_of(resumed)) == 5
    assert got | losses_of(resumed) == expected
    for (name, a), (_, b) in zip(
        merged(whole.student).state_dict().items(),
        merged(second.student).state_dict().items(),
        strict=True,
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("wish", "reason"), [("stop", "stopped"), ("pause", "paused")])
def test_a_wish_to_stop_saves_and_leaves(
    tmp_path: Path, tiny_llama: Make, wish: str, reason: str
) -> None:
    made = stage_of(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=9)
    wishes = iter([None, None, wish])
    events = list(train(made, should_stop=lambda: next(wishes)))
    assert [e["type"] for e in events] == ["step", "step", "step", "checkpoint", "run_stopped"]
    assert events[-1]["reason"] == reason
    assert made.checkpoints.steps() == [3]


def test_only_the_last_checkpoints_are_kept(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage_of(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=9)
    made.checkpoint_every = 2
    list(train(made))
    assert made.checkpoints.steps() == [6, 8]


def test_the_same_seed_gives_the_same_student(tmp_path: Path, tiny_llama: Make) -> None:
    teacher = tiny_llama(seed=1)
    states = []
    for name in ("a", "b"):
        made = stage_of(tmp_path / name, tiny_llama(), teacher, TERMS["both"], steps=5)
        list(train(made))
        states.append(made.student.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def test_what_moves_is_recorded_and_weighs_as_it_says(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage_of(tmp_path, tiny_llama(), tiny_llama(seed=1), MOVING, rows=encoded(20), steps=5)
    seen = [e["metrics"] for e in train(made) if e["type"] == "step"]
    weights = [metrics["weight_forward_kl"] for metrics in seen]
    assert weights == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert [metrics["weight_cross_entropy"] for metrics in seen] == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8]
    )
    assert [metrics["temperature_forward_kl"] for metrics in seen] == pytest.approx([3, 2, 1, 1, 1])
    for metrics in seen:
        for term in ("forward_kl", "cross_entropy"):
            expected = metrics[f"weight_{term}"] * metrics[term]
            assert metrics[f"weighted_{term}"] == pytest.approx(expected, rel=1e-6)
        both = metrics["weighted_forward_kl"] + metrics["weighted_cross_entropy"]
        assert metrics["loss"] == pytest.approx(both, rel=1e-6)


def test_a_step_takes_weights_and_temperatures_of_its_moment(
    tmp_path: Path, tiny_llama: Make
) -> None:
    """The last of five steps, from the same weights, equals a step with the plain numbers."""
    plain = [ForwardKLLoss(weight=0.2, temperature=1.0), CrossEntropyLoss(weight=0.8)]
    found = []
    for name, losses, steps, at in (("moving", MOVING, 5, 5), ("plain", plain, 1, 1)):
        student = tiny_llama()
        made = stage_of(
            tmp_path / name, student, tiny_llama(seed=1), losses, steps=steps, warmup_fraction=0.0
        )
        for happening in train(made):
            if happening["type"] == "step" and happening["step"] == at - 1:
                student.load_state_dict(tiny_llama().state_dict())
            if happening["type"] == "step" and happening["step"] == at:
                found.append(happening["metrics"]["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_metrics_carry_what_the_table_promises(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage_of(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=2)
    metrics = next(e for e in train(made) if e["type"] == "step")["metrics"]
    weighted = metrics["weighted_forward_kl"] + metrics["weighted_cross_entropy"]
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-6)
    assert metrics["weighted_forward_kl"] == pytest.approx(0.6 * metrics["forward_kl"], rel=1e-6)
    assert metrics["tokens_per_s"] > 0
    assert metrics["memory_bytes"] > 1e6


# --- batches that the student writes ------------------------------------------------------------


def test_only_its_share_of_the_steps_is_the_student_s(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage_of(tmp_path, tiny_llama(seed=1), tiny_llama(seed=2), TERMS["both"], steps=8)
    made.on_policy = own_batches(made.rows, fraction=0.25)
    metrics = [event["metrics"] for event in train(made) if event["type"] == "step"]
    assert sum("own_answer_tokens" in shown for shown in metrics) == 2
    chosen = [made.on_policy.writes(step) for step in range(8)]
    assert ["own_answer_tokens" in shown for shown in metrics] == chosen
