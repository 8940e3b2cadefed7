"""All arms and seeds of a probe as the stages of one run, so that it is shown like any other.

In: a probe, an arm's own events. Out: planned stages, and the same events under their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from distill_core.events import Event, event
from distill_core.probe.arm_recipes import stage_steps
from distill_core.probe.pace import Share
from distill_core.probe.probe_file import Probe
from distill_core.recipe import Recipe


def run_started(
    recipe: Recipe, probe: Probe, given: Share, *, dropped: Sequence[int] = ()
) -> Event:
    """The event that names every stage, as far as they are known by now."""
    stages = run_stages(probe, given, dropped=dropped)
    return event("run_started", recipe=recipe.model_dump(mode="json"), stages=stages, data={})


def run_stages(
    probe: Probe, given: Share, *, dropped: Sequence[int] = ()
) -> list[dict[str, object]]:
    """The stages of a `run_started` event, seed by seed and arm by arm.

    Each tells its `arm`, by which its curves are named, and its `seed`, from 1. What teaches the
    student is no part of the arm, where it is made first; nor are seeds that do not count, of so
    many steps each.
    """
    listed: list[dict[str, object]] = []
    for seed in range(len(dropped) + probe.seeds):
        counts = seed >= len(dropped)
        for arm in probe.arms:
            steps_each = stage_steps(arm, max(1, given.steps) if counts else dropped[seed])
            own_name = arm.title if counts else f"{arm.title}: too short"
            for own, (stage, steps) in enumerate(zip(arm.recipe.stages, steps_each, strict=True)):
                listed.append(
                    {
                        "index": len(listed),
                        "title": f"{arm.title}, seed {seed + 1}",
                        "kind": stage.kind,
                        "total_steps": steps,
                        "baseline": False,
                        "arm": own_name if own >= arm.origin else f"{arm.title}: its teacher",
                        "seed": seed + 1,
                    }
                )
    return listed


def first_stage(probe: Probe, seed: int, place: int) -> int:
    """Index of an arm's first stage among all stages of the probe."""
    counts = [len(arm.recipe.stages) for arm in probe.arms]
    return seed * sum(counts) + sum(counts[:place])


def moved(happening: Event, first: int, title: str) -> Event:
    """An arm's event as one of the probe's."""
    if "stage" not in happening:
        return happening
    told = happening | {"stage": first + happening["stage"]}
    return told | {"title": title} if happening["type"] == "stage_started" else told
