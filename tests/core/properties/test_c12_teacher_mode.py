"""C12, teacher mode: in eval, without gradients, the same twice; the student stays in train mode.

Base weights that teacher and student share are included: a teacher that is the student's own base.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.data.batches import collate
from distill_core.recipe import LoraSettings
from distill_core.students.adapters import with_adapter
from distill_core.trainer import train
from tests.core.nets import tiny_llama
from tests.core.ways import TERMS, WAYS, case, cases, own_batches, stage_of


def bodies(model: Any) -> list[Any]:
    """The decoder of a model, or of each member of a mixture."""
    return [one.base_model for one in getattr(model, "members", [model])]


def watch(made: Any, seen: list[tuple[bool, bool]]) -> None:
    """Note the teacher's mode and whether gradients are on, each time that it reads anything."""

    def note(module: torch.nn.Module, given: Any) -> None:
        seen.append((module.training, torch.is_grad_enabled()))

    for body in bodies(made.teacher.model):
        body.register_forward_pre_hook(note)
        for part in body.layers:
            part.register_forward_pre_hook(note)


@pytest.mark.parametrize(("way", "terms"), cases(alone=["both", "three at once"]))
def test_the_teacher_is_asked_in_eval_and_without_gradients_at_every_step(
    tmp_path: Path, way: str, terms: str
) -> None:
    made = case(tmp_path, way, terms).stage
    made.total_steps += 2
    teacher: Any = made.teacher
    teacher.model.train()  # somebody touches it
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    seen: list[tuple[bool, bool]] = []
    watch(made, seen)
    modes = []
    for event in train(made):
        if event["type"] == "step":
            modes.append(all(part.training for part in made.student.modules()))
            teacher.model.train()
    assert len(modes) == 3
    assert all(modes), "the student is in train mode, every part of it"
    times = 1 if WAYS[way].cached else 3  # the rows of every step are the same
    assert len(seen) >= times * len(bodies(teacher.model))
    assert set(seen) == {(False, False)}
    for name, value in teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(value.grad is None for value in teacher.model.parameters())


@pytest.mark.parametrize("way", WAYS)
def test_two_passes_agree_bit_for_bit(tmp_path: Path, way: str) -> None:
    made = case(tmp_path, way, GROUP.get(way, "three at once")).stage
    batch = collate(made.rows[:4], pad_token_id=0, rows=range(4))
    teacher: Any = made.teacher
    first, second = teacher.view(batch), teacher.view(batch)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.logits, teacher.logits(batch))
    if first.features is not None:
        for layer, states in first.features.hidden_states.items():
            assert torch.equal(states, second.features.hidden_states[layer])


GROUP = {
    "mixture": "all of the logits",
    **{name: "all of the logits" for name, way in WAYS.items() if way.cached},
}


@pytest.mark.parametrize("on_policy", [False, True])
def test_a_teacher_that_is_the_student_s_own_base(tmp_path: Path, on_policy: bool) -> None:
    """The base of a LoRA student teaches: its weights stay, its modules come back to train mode."""
    base = tiny_llama(layers=3, seed=1)
    teacher = tiny_llama(layers=3, seed=1)
    for mine, theirs in zip(base.parameters(), teacher.parameters(), strict=True):
        theirs.data = mine.data  # one memory, as where a large model is loaded once
    student = with_adapter(base, LoraSettings(rank=4, dropout=0.5), seed=0)
    made = stage_of(tmp_path, student, teacher, TERMS["both"], steps=3)
    if on_policy:
        made.on_policy = own_batches(made.rows)  # type: ignore[arg-type]
    before = [value.clone() for value in teacher.parameters()]
    list(train(made))
    assert all(part.training for part in student.modules())
    assert not any(part.training for part in teacher.modules())
    for old, new in zip(before, teacher.parameters(), strict=True):
        assert torch.equal(old, new)
