"""A probe's stages: numbered seed by seed, and named so that each arm has curves of its own."""

from __future__ import annotations

from distill_core.events import event
from distill_core.probe import arm_stages
from distill_core.probe.pace import Share
from distill_core.probe.probe_file import Arm, Probe
from distill_core.recipe import ready_recipes


def arm(title: str, stage_steps: list[int], *, origin: int = 0) -> Arm:
    recipe = ready_recipes.read("pocket-student")
    stages = [recipe.stages[0]] * len(stage_steps)
    return Arm(
        verdict=title.lower(),
        title=title,
        doing=title.lower(),
        recipe=recipe.model_copy(update={"stages": stages}),
        stage_steps=stage_steps,
        origin=origin,
    )


def probe() -> Probe:
    taught = arm("Distill", [300, 900], origin=1)
    return Probe(
        arms=[taught, arm("Fine-tune", [400, 800])], fingerprint={}, minutes=1, steps=30, seeds=3
    )


def test_stages_tell_their_arm_and_seed_and_what_teaches_stands_apart() -> None:
    listed = arm_stages.run_stages(probe(), Share(30, 10, 10, 10))
    assert [stage["index"] for stage in listed] == list(range(12))
    assert [(stage["arm"], stage["seed"], stage["total_steps"]) for stage in listed[:5]] == [
        ("Distill: its teacher", 1, 30),
        ("Distill", 1, 30),
        ("Fine-tune", 1, 10),
        ("Fine-tune", 1, 20),
        ("Distill: its teacher", 2, 30),
    ]
    assert listed[4]["title"] == "Distill, seed 2"


def test_seeds_that_do_not_count_have_their_own_steps_and_no_curve_of_the_arm() -> None:
    listed = arm_stages.run_stages(probe(), Share(60, 10, 10, 10), dropped=[30])
    assert len(listed) == 4 * (1 + 3)
    told = [(stage["arm"], stage["seed"], stage["total_steps"]) for stage in listed]
    assert told[1] == ("Distill: too short", 1, 30)
    assert told[2:4] == [("Fine-tune: too short", 1, 10), ("Fine-tune: too short", 1, 20)]
    assert told[5] == ("Distill", 2, 60)


def test_events_of_an_arm_get_the_numbers_of_its_stages() -> None:
    first = arm_stages.first_stage(probe(), seed=1, place=1)
    assert first == 6
    told = arm_stages.moved(event("step", stage=1, step=4, metrics={}), first, "Fine-tune, seed 2")
    assert (told["stage"], told["step"]) == (7, 4)
    assert "title" not in told
