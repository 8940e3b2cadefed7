"""How much is trained: rows, steps and the student's size, of a plan and of a past run.

In: a recipe, counts of rows. Out: `Extent`, and why a run is too unlike a plan to speak for it.
Reads no file and knows no rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distill_core.advisor.answers import Answers
from distill_core.advisor.student_sizes import Known
from distill_core.recipe import PretrainedStudent, Recipe
from distill_core.recipe.plan import PlannedStage, plan, student_origin

ENOUGH = 0.5
"""Share of the plan's rows and steps from which a run counts."""

SIZE_WITHIN = 2.0
"""Students within this factor speak for each other."""


@dataclass(frozen=True)
class Extent:
    """What a recipe trains; None where it is not known."""

    rows: int | None = None
    """Different rows, the held-out ones not counted."""
    steps: int | None = None
    parameters: float | None = None
    """Of the student."""
    counted: bool = False
    """Whether the student's size is that of the recipe, not the largest that is allowed."""


def extent(
    recipe: Recipe, *, rows: tuple[int, int] | None, parameters: float | None = None
) -> Extent:
    """Measure a recipe; `rows` are labelled and unlabelled ones, None where they are not known."""
    labelled, unlabelled = rows or (0, 0)
    planned = plan(recipe, labelled=labelled, unlabelled=unlabelled)
    stages = [stage for stage in planned if not stage.baseline]
    by_steps = all(stage.settings.optim.max_steps for stage in stages)
    return Extent(
        rows=max(stage.rows for stage in stages) if rows else None,
        steps=sum(stage.total_steps for stage in stages) if rows or by_steps else None,
        parameters=parameters,
    )


def planned(recipe: Recipe, answers: Answers, known: Known, *, complete: bool) -> Extent:
    """Measure a recipe of the advisor's; the student of one that is not `complete` is as asked."""
    data = answers.data
    counts = None
    if data.labelled_rows is not None or data.unlabelled_rows is not None:
        counts = (data.labelled_rows or 0, data.unlabelled_rows or 0)
    size = None
    if complete:
        size = _parameters(plan(recipe, labelled=0, unlabelled=0), known)
    found = extent(recipe, rows=counts, parameters=size or answers.student.max_parameters)
    return replace(found, counted=size is not None)


def _parameters(stages: list[PlannedStage], known: Known) -> float | None:
    """Parameters of the student that the last stage leaves."""
    student, source, _ = student_origin(stages)
    source = stages[0].source if source == "previous" else source
    if isinstance(student, PretrainedStudent):
        return (known.facts(student.model or source) or {}).get("parameters")
    return known.size(source, student.model_dump(mode="json", exclude_none=True))


def unlike(run: Extent, plan_: Extent) -> str:
    """Why a run says nothing of a plan, in words; empty where it does, or nobody can tell."""
    short = [
        f"{done:,} {noun} against {wanted:,}"
        for noun, done, wanted in (
            ("steps", run.steps, plan_.steps),
            ("rows", run.rows, plan_.rows),
        )
        if done is not None and wanted is not None and done < ENOUGH * wanted
    ]
    factor = run.parameters / plan_.parameters if run.parameters and plan_.parameters else 1.0
    if max(factor, 1 / factor) > SIZE_WITHIN:
        way = f"{factor:.2g} × larger" if factor > 1 else f"{1 / factor:.2g} × smaller"
        short.append(f"a student {way}")
    kind = "another size" if short and short[0].startswith("a student") else "a short trial"
    return f"{kind}, not counted: {', '.join(short)}" if short else ""
