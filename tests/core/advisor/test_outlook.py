"""What to expect: every figure against arithmetic done by hand, or no evidence."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.advisor import advise
from distill_core.advisor.evidence import load

EVIDENCE = load()
BASE: dict[str, Any] = {
    **{"goal": "smaller_faster", "task": "classification", "data.labelled_rows": 400},
    **{"data.label_quality": "clean", "data.unlabelled_rows": 30_000, "data.held_out_rows": 500},
    **{"teacher.exists": "yes", "teacher.access": "weights", "teacher.good_at_task": "yes"},
    **{"teacher.parameters": 6e8, "student.max_parameters": 1e8, "teacher.same_tokenizer": "yes"},
    **{"student.published_checkpoint": "yes", "machine.device": "cuda", "machine.memory_gib": 80},
    **{"constraints.task_changes": "rarely", "constraints.budget_gpu_hours": 50},
}


def outlook(**changes: Any) -> dict[str, Any]:
    return advise({**BASE, **changes})["expected"]


def test_cost_is_the_teachers_share_of_the_students_training() -> None:
    assert (outlook()["cost"]["low"], outlook()["cost"]["high"]) == (1.0, 1 + 6 / 3)
    text = outlook(**{"teacher.access": "text"})["cost"]
    assert (text["low"], text["high"]) == (1.0, 1.0), "it is not asked while the student learns"
    assert "N_teacher" in text["what"]
    assert outlook(**{"teacher.parameters": "unknown"})["cost"] == "no evidence"


def test_own_samples_cost_more() -> None:
    plain = outlook(task="chat", **{"student.published_checkpoint": "no"})["cost"]["high"]
    assert outlook(task="chat")["cost"]["high"] == pytest.approx(2.2 * plain)


def test_fine_tuning_costs_what_it_costs() -> None:
    told = advise({**BASE, "teacher.exists": "no", "data.labelled_rows": 20_000})
    assert told["verdict"] == "fine_tune"
    cost = told["expected"]["cost"]
    assert (cost["low"], cost["high"], cost["unit"]) == (1.0, 1.0, "×")


def test_time_is_operations_by_speed() -> None:
    seen = outlook(**{"data.mean_tokens": 100})["time"]
    slow, fast = EVIDENCE.arithmetic.flops_per_s["cuda"]
    flops = 6 * 1e8 * 30_400 * 100
    assert seen["low"] == pytest.approx(flops / fast)
    assert seen["high"] == pytest.approx(3 * flops * (1 + 6 / 3) / slow)
    assert seen["unit"] == "s"
    guessed = outlook()["time"]
    assert guessed["low"] == pytest.approx(flops / fast * 50 / 100)
    assert "50 to 400 tokens" in guessed["what"]
    assert outlook(**{"machine.device": "unknown"})["time"] == "no evidence"


def test_a_forecast_of_this_machine_stands_before_arithmetic() -> None:
    forecast = {
        "total_memory_bytes": 5_000_000,
        "time_s": [60.0, 120.0],
        "time_basis": "measured on an earlier run",
    }
    named = {"teacher.name": "pocket-teacher", "data.source": "starter"}
    named["student.published_checkpoint"] = "no"
    asked = []

    def foresee(recipe: dict[str, Any]) -> dict[str, Any]:
        asked.append(recipe)
        return forecast

    told = advise({**BASE, **named}, forecast=foresee)
    assert asked == [told["recipe"]]
    assert (told["expected"]["time"]["low"], told["expected"]["time"]["strength"]) == (60.0, "M")
    assert told["expected"]["memory"]["high"] == 5_000_000
    advise(BASE, forecast=foresee)
    assert len(asked) == 1, "a recipe in which something stands in is not yours"


def test_over_budget_is_told_where_even_the_fastest_device_needs_longer() -> None:
    def warned(hours: float) -> bool:
        told = advise({**BASE, "constraints.budget_gpu_hours": hours, "data.mean_tokens": 1000})
        return any(one["rule"] == "G.over_budget" for one in told["warnings"])

    least = 6 * 1e8 * 30_400 * 1000 / EVIDENCE.arithmetic.flops_per_s["cuda"][1] / 3600
    assert warned(least * 0.9)
    assert not warned(least * 1.1)


def test_published_comparisons_are_those_of_the_task() -> None:
    def listed(task: str) -> set[str]:
        return {one["source"] for one in advise({**BASE, "task": task})["head_to_head"]}

    assert any("1503.02531" in source for source in listed("classification"))
    assert any("2306.08543" in source for source in listed("open_generation"))
    assert listed("classification").isdisjoint(listed("open_generation"))


def test_every_figure_has_a_source_or_says_that_there_is_none() -> None:
    for entry in outlook().values():
        assert entry == "no evidence" or {"low", "high", "unit", "source", "strength"} <= set(entry)
    untrained = outlook(**{"constraints.task_changes": "weekly"})
    assert set(untrained.values()) == {"no evidence"}
