"""What to change where a run does not fit, and how many bytes each change would save.

In: a recipe that has been reckoned. Out: changes of single settings of the stage that needs most,
the largest saving first, each reckoned by the formula that made the forecast; those that save
nothing are left out. Changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distill_core import device as machine
from distill_core.estimate import fitted, memory_need
from distill_core.recipe import (
    AttentionLoss,
    DistillStage,
    HiddenStatesLoss,
    Recipe,
    ScratchStudent,
)

if TYPE_CHECKING:
    from distill_core.estimate import Work

_LEAST_BYTES = 2**20

Change = tuple[str, Any, str]
"""Path of a setting, its new value, and both in words."""


def savings(work: Work) -> list[dict[str, Any]]:
    """Changes that help (keys: `api.estimate`)."""
    index = work.heaviest()
    context, scale = _calibration(work, index)
    needed = sum(work.memory().values())
    before = _need(work, index, context, scale)
    free = machine.usable_memory(work.device)
    found = []
    for path, value, words in _changes(work, index):
        other = type(work)(_changed(work.recipe, path, value))
        saved = before - _need(other, index, context, scale)
        if saved >= _LEAST_BYTES:
            found.append(
                {
                    "field": path,
                    "value": value,
                    "change": words,
                    "saves_bytes": saved,
                    "fits": needed - saved <= free,
                }
            )
    return sorted(found, key=lambda one: -one["saves_bytes"])


def _need(work: Work, index: int, context: int, scale: float) -> int:
    """Bytes of a stage by the formula, with what a dry step has said of its guesses."""
    formula = work.formula(work.stages[index])
    found = fitted.scaled(formula, context=context, working=scale)
    return sum(memory_need.highest(found).values())


def _calibration(work: Work, index: int) -> tuple[int, float]:
    """The context's bytes, and how many times the formula's working memory was measured."""
    stage = work.stages[index]
    formula, now = work.formula(stage)["training"], work.moments(stage)["training"]
    guessed, seen = (sum(one.get(part, 0) for part in fitted.WORKING) for one in (formula, now))
    return now["context"], seen / guessed if guessed else 1.0


def _changes(work: Work, index: int) -> Iterator[Change]:
    """What can be changed in a stage without being another method."""
    recipe, device = work.recipe, work.device.type
    stage, field = recipe.stages[index], f"stages.{index}"
    optim, planned = stage.optim, work.stages[index]
    size = min(optim.micro_batch_size, optim.global_batch_size)
    rows = work.rows(planned)
    group = memory_need.group_of(planned, work.networks(planned), rows, device=device)
    # a step's rows may be too few or too unlike: half of them as they come, not of those allowed
    fewer = min(size, math.ceil(group.tokens / rows.longest)) // 2
    if fewer:
        yield f"{field}.optim.micro_batch_size", fewer, f"micro_batch_size {fewer}, not {size}"
    if optim.loss_chunk_rows == 0:
        yield f"{field}.optim.loss_chunk_rows", None, "the loss in chunks (loss_chunk_rows empty)"
    if isinstance(stage, DistillStage):
        looks_inside = any(
            isinstance(one, HiddenStatesLoss | AttentionLoss) and one.is_active
            for one in stage.losses
        )
        if stage.teacher_cache is None and not looks_inside and not stage.on_policy_fraction:
            yield f"{field}.teacher_cache", {"kind": "hidden"}, "a teacher cache of kind hidden"
        smaller = "int8" if device in {"cpu", "cuda"} else "bf16"
        if stage.teacher_precision in {"auto", "fp32", "bf16"}:
            yield f"{field}.teacher_precision", smaller, f"a teacher in {smaller}"
    if stage.adapter is None and not isinstance(stage.student, ScratchStudent):
        yield f"{field}.adapter", {"kind": "lora"}, "a LoRA adapter"
    longest = recipe.data.max_seq_len
    if longest >= 32:
        yield "data.max_seq_len", longest // 2, f"max_seq_len {longest // 2}, not {longest}"


def _changed(recipe: Recipe, path: str, value: Any) -> Recipe:
    data: Any = recipe.model_dump(mode="json")
    *parents, last = path.split(".")
    place = data
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return Recipe.model_validate(data)
