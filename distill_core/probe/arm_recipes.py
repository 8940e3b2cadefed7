"""From a full recipe to the small one of a probe: the same in all but length and scores.

In: an arm, a seed, what each arm is given. Out: the recipe that is run. Knows no files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distill_core.probe.pace import LOOKS, Share
from distill_core.probe.probe_file import Arm
from distill_core.recipe import Recipe

if TYPE_CHECKING:
    from distill_core.data.sources import Prepared


def arm_recipe(arm: Arm, *, seed: int, given: Share) -> Recipe:
    """Shorten an arm's recipe to its share; student, losses, rates and batches stay."""
    stages = [
        stage.model_copy(update={"optim": stage.optim.model_copy(update={"max_steps": steps})})
        for stage, steps in zip(arm.recipe.stages, stage_steps(arm, given.steps), strict=True)
    ]
    evaluation = arm.recipe.evaluation.model_copy(
        update={
            "baselines": [],
            "samples": 0,
            "rows": given.watched_rows,
            "final_rows": given.final_rows,
            "every_steps": max(1, given.steps // LOOKS),
        }
    )
    checkpoints = arm.recipe.checkpoints.model_copy(
        update={"every_steps": max(1, given.steps // 4), "keep": 1}
    )
    return arm.recipe.model_copy(
        update={
            "seed": seed,
            "stages": stages,
            "evaluation": evaluation,
            "checkpoints": checkpoints,
        }
    )


def stage_steps(arm: Arm, steps: int) -> list[int]:
    """Steps of each stage: the student's own add up to `steps`, in the full run's proportions.

    Stages that make its teacher or an assistant first take as many each, at most those of their
    full run. A student of several stages takes at least one step in each.
    """
    before = [min(steps, full) for full in arm.stage_steps[: arm.origin]]
    own = arm.stage_steps[arm.origin :]
    shared = [max(1, round(steps * full / sum(own))) for full in own[:-1]]
    return [*before, *shared, max(1, steps - sum(shared))]


def first_rows(data: Prepared, most: int) -> Prepared:
    """At most so many labelled rows, and as many unlabelled ones, in the data's order."""
    left = {True: most, False: most}
    kept = []
    for row in data.train:
        if left[row.labelled] > 0:
            left[row.labelled] -= 1
            kept.append(row)
    return replace(data, train=kept)
