"""The advisor on this machine: what can be seen here is filled in, and past runs count.

In: answers, a runs folder. Out: what `rules.advise` returns, and what was filled in. Reads files,
configurations and past runs; the rules themselves know nothing of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill_core import estimate
from distill_core.advisor import answers as answer_fields
from distill_core.advisor import measured, observed
from distill_core.advisor.past_runs import past_runs
from distill_core.advisor.rules import advise, plans
from distill_core.advisor.student_sizes import Known
from distill_core.errors import DistillError
from distill_core.estimate import student_size
from distill_core.estimate.past_speeds import past_speeds
from distill_core.models import BUILT_IN, local_folder
from distill_core.recipe import ready_recipes


def advise_here(
    answers: Mapping[str, Any] | None, *, runs_dir: Path, hub: bool = False, forecast: bool = False
) -> dict[str, Any]:
    """Recommend (keys: `api.advise`); raises `RecipeError`."""
    seen = observed.complete(answer_fields.parse(answers), hub=hub)

    def foresee(recipe: dict[str, Any]) -> Mapping[str, Any] | None:
        if not forecast or not _all_here(recipe):
            return None
        try:
            return estimate.estimate(ready_recipes.read(recipe), history=past_speeds(runs_dir))
        except (DistillError, OSError):
            return None

    past = past_runs(seen.answers, runs_dir, plans(seen.answers, KNOWN_HERE))
    told = advise(
        seen.answers,
        known=KNOWN_HERE,
        past=measured.with_probe(past, seen.answers, runs_dir),
        forecast=foresee,
    )
    filled = [_plain(one) for one in seen.filled]
    return {**told, "filled": filled, "notes": seen.notes}


def observed_answers(answers: Mapping[str, Any] | None, *, hub: bool) -> dict[str, Any]:
    """What is seen of that which the answers leave open (keys: `api.observed_answers`)."""
    seen = observed.complete(answer_fields.parse(answers), hub=hub)
    return {"filled": [_plain(one) for one in seen.filled], "notes": seen.notes}


def _plain(seen: observed.Seen) -> dict[str, Any]:
    """As an answer is written: yes and no in words."""
    told = asdict(seen)
    if isinstance(seen.value, bool):
        told["value"] = "yes" if seen.value else "no"
    return told


def _facts_here(name: str) -> dict[str, Any] | None:
    try:
        return observed.model_here(name, hub=False)
    except (DistillError, OSError):
        return None


def _size_here(teacher: str, student: dict[str, Any]) -> int | None:
    try:
        shaped = ready_recipes.parse_student(student)
        return int(student_size.student_facts(teacher, shaped)["parameters"])
    except DistillError:
        return None  # widths that this architecture cannot have


def _all_here(recipe: dict[str, Any]) -> bool:
    """Whether all models and rows are on this machine: a forecast asks no network."""
    sources = [*recipe["data"]["sources"], recipe["data"].get("held_out")]
    if any(isinstance(one, dict) and one["kind"] == "hub" for one in sources):
        return False
    stages = recipe["stages"]
    names = {stage.get("teacher") or stage.get("model") for stage in stages}
    names |= {stage.get("student", {}).get("model") for stage in stages}
    try:
        return all(
            name in BUILT_IN or local_folder(name) is not None
            for name in names - {None, "previous"}
        )
    except DistillError:
        return False


KNOWN_HERE = Known(facts=_facts_here, size=_size_here)
"""What this machine knows of models."""
