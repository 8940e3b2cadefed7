"""Where nobody pads a step need not be split by length: fewer passes, the same gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import trainer
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.forward import packed
from distill_core.recipe import HiddenCache
from distill_core.trainer import TrainingStage, train
from tests.core.nets import tiny_llama
from tests.core.ways import TERMS, gradients, not_applied, stage_of


def unlike_rows() -> list[Encoded]:
    """As unlike that padding them all would be dearer than another pass."""
    random = torch.Generator().manual_seed(3)
    found = []
    for length in (100, 7, 60, 9, 30, 5, 90, 11):
        ids = torch.randint(3, 64, (length,), generator=random).tolist()
        found.append(Encoded(ids, [IGNORE_INDEX, *ids[1:]], labelled=True, truncated=False))
    return found


def made(folder: Path, terms: str = "both", **more: Any) -> TrainingStage:
    torch.manual_seed(0)
    student, teacher = tiny_llama(), tiny_llama(layers=3, seed=1)
    return stage_of(folder, student, teacher, TERMS[terms], rows=unlike_rows(), **more)


def taken(stage: TrainingStage) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The gradient of a step, and how many tokens the student read in each pass."""
    passes: list[int] = []
    stage.student.model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].numel()),
        with_kwargs=True,
    )
    kept: dict[str, torch.Tensor] = {}

    def look() -> None:
        kept.update(gradients(stage.student))

    with not_applied(look):
        list(train(stage))
    return kept, passes


def test_c4_a_step_is_one_pass_and_its_gradient_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, passes = taken(made(tmp_path / "packed"))
    assert passes[-1] == 312, "every token at once, none of them padding"
    monkeypatch.setattr(trainer, "nobody_pads", lambda *given: False)
    split, several = taken(made(tmp_path / "padded"))
    assert len(several) > len(passes) + 1
    for name, value in whole.items():
        torch.testing.assert_close(split[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_less_comes_at_once_where_the_recipe_says_so(tmp_path: Path) -> None:
    _, passes = taken(made(tmp_path, micro_batch_size=2))
    assert passes[-2:] == [190, 122]


@pytest.mark.parametrize("terms", ["hidden_states", "maps and states", "three at once"])
def test_who_is_looked_into_pads(tmp_path: Path, terms: str) -> None:
    stage = made(tmp_path, terms)
    _, passes = taken(stage)
    assert not stage.packed
    assert len(passes) > 2


def test_a_teacher_that_pads_splits_the_step_unless_it_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = packed.reach

    def reach(body: Any, config: Any) -> int:
        return 0 if config.num_hidden_layers == 3 else tried(body, config)  # the teacher's

    monkeypatch.setattr(packed, "reach", reach)
    asked = made(tmp_path / "asked")
    list(train(asked))
    assert not asked.packed
    cached = made(tmp_path / "cached", cache=HiddenCache(precision="fp32"))
    list(train(cached))
    assert cached.packed


def test_a_resumed_run_asks_the_weights_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained weights might say otherwise, and nothing would be the same bit for bit."""
    tried, weights = packed.reach, []

    def reach(body: Any, config: Any) -> int:
        weights.append(sum(value.sum().item() for value in body.parameters()))
        return tried(body, config)

    monkeypatch.setattr(packed, "reach", reach)

    def losses(events: Any) -> dict[int, float]:
        return {e["step"]: e["metrics"]["loss"] for e in events if e["type"] == "step"}

    expected = losses(train(made(tmp_path / "whole", steps=6)))
    first = made(tmp_path / "cut", steps=6)
    first.checkpoint_every = 2
    got = {}
    for happening in train(first):
        got |= losses([happening])
        if happening.get("step") == 3 and happening["type"] == "step":
            break
    resumed = losses(train(made(tmp_path / "cut", steps=6)))
    assert min(resumed) == 3
    assert got | resumed == expected
    assert weights[:2] * 3 == weights
