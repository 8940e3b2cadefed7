"""All arms and seeds of a probe as the stages of one run, so that it is shown like any other.

In: a probe, an arm's own events. Out: planned stages, and the same events under their numbers.
"""

from __future__ import annotations

from distill_core.events import Event
from distill_core.probe.arm_recipes import stage_steps
from distill_core.probe.pace import Share
from distill_core.probe.probe_file import Probe


def run_stages(probe: Probe, given: Share) -> list[dict[str, object]]:
    """The stages of a `run_started` event, seed by seed and arm by arm.

    Each tells its `arm`, by which its curves are named, and its `seed`, from 1. What teaches the
    student is no part of the arm, where it is made first.
    """
    listed: list[dict[str, object]] = []
    for seed in range(probe.seeds):
        for arm in probe.arms:
            steps_each = stage_steps(arm, max(1, given.steps))
            for own, (stage, steps) in enumerate(zip(arm.recipe.stages, steps_each, strict=True)):
                listed.append(
                    {
                        "index": len(listed),
                        "title": f"{arm.title}, seed {seed + 1}",
                        "kind": stage.kind,
                        "total_steps": steps,
                        "baseline": False,
                        "arm": arm.title if own >= arm.origin else f"{arm.title}: its teacher",
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
