"""Everything that is wrong or doubtful in a recipe, all at once, before anything is loaded.

In: a valid `Recipe`. Out: problems, errors first. Rules that look at one stage are in
`check_stages.py`, those that compare models in `check_models.py`, those about teachers in
`check_teachers.py`, those about what is kept of them in `check_caches.py`, those about rows in
`check_rows.py`, those about what models see of them in `check_tokens.py`, those about the task and
its classes in `check_task.py`, those about this machine in `check_machine.py`. Loads no weights.
"""

from __future__ import annotations

from distill_core.checks import (
    check_caches,
    check_machine,
    check_models,
    check_rows,
    check_stages,
    check_task,
    check_teachers,
    check_tokens,
)
from distill_core.errors import Problem
from distill_core.estimate.row_facts import data_facts
from distill_core.estimate.shapes import stage_shapes
from distill_core.recipe import Recipe

_ORDER = {"error": 0, "warning": 1, "info": 2}


def check(recipe: Recipe) -> list[Problem]:
    """Find all problems, the worst first; within a severity in the order of the rules."""
    shapes = stage_shapes(recipe)
    data = data_facts(recipe.data, recipe.task)
    found = [problem for shape in shapes for problem in shape.problems]
    for shape in shapes:
        for stage_rule in check_stages.RULES:
            found += stage_rule(shape)
        for model_rule in check_models.RULES:
            found += model_rule(shape, recipe)
        for teacher_rule in (*check_teachers.RULES, *check_caches.RULES):
            found += teacher_rule(shape, recipe)
    found += data.problems
    for row_rule in (*check_rows.RULES, *check_task.RULES):
        found += row_rule(recipe, data)
    found += check_tokens.problems(recipe, shapes)
    counted = not any(problem.severity == "error" for problem in found)
    for machine_rule in check_machine.RULES:
        found += machine_rule(recipe, counted)
    return sorted(dict.fromkeys(found), key=lambda problem: _ORDER[problem.severity])
