"""Assistants: students of middle size between a teacher and a much smaller student.

In: a recipe, and how many assistants. Out: the same recipe with one distil stage for each of them,
their sizes falling by equal factors from the teacher's to the student's. Loads no weights.
"""

from __future__ import annotations

import itertools
from typing import Any, NoReturn

from distill_core.errors import ModelError, Problem, RecipeError
from distill_core.estimate.shapes import stage_shapes
from distill_core.estimate.student_size import student_shape
from distill_core.models import model_facts
from distill_core.recipe import (
    PREVIOUS,
    DistillStage,
    LayerDropStudent,
    PretrainedStudent,
    Recipe,
    ScratchStudent,
    Student,
    WidthPruneStudent,
)
from distill_core.recipe.plan import cast, plan

MOST_ASSISTANTS = 4
"""A recipe has eight stages at most; more steps than this help nobody (arXiv 1902.03393)."""

_WIDTH_STEP = 8


def assistants(recipe: Recipe) -> int:
    """How many students on the way a recipe has."""
    return len(cast(plan(recipe, labelled=1, unlabelled=1)).assistants)


def with_assistants(recipe: Recipe, count: int) -> Recipe:
    """Put `count` assistants between the recipe's teacher and its student, in place of its own.

    Assistant i of n has teacher^(1 − i/(n+1)) · student^(i/(n+1)) parameters, as near as whole
    layers and widths allow: each step is smaller by the same factor (Mirzadeh et al. 2020, arXiv
    1902.03393). Losses and optimiser are those of the student's own stage.

    Raises:
        RecipeError: if no stage teaches a smaller student, or there is no size in between.
    """
    parts = cast(plan(recipe, labelled=1, unlabelled=1))
    if parts.taught_in is None or parts.teacher_of is None:
        _refuse("stages", "No stage teaches the student.", "Add a distil stage first.")
    if not 0 <= count <= MOST_ASSISTANTS:
        _refuse("stages", f"{count} assistants are asked for.", f"Choose 0 to {MOST_ASSISTANTS}.")
    first, last = parts.teacher_of, parts.taught_in
    stage = recipe.stages[last]
    assert isinstance(stage, DistillStage)
    chain = recipe.stages[first]
    assert isinstance(chain, DistillStage)
    field = f"stages.{last}.student"
    students = _students(recipe, first, last, count, field) if count else []
    made: list[Any] = [stage.model_copy(update={"student": student}) for student in students]
    made.append(stage)
    teachers = [chain.teacher, *[PREVIOUS] * count]
    made = [
        one.model_copy(update={"teacher": teacher})
        for one, teacher in zip(made, teachers, strict=True)
    ]
    stages = [*recipe.stages[:first], *made, *recipe.stages[last + 1 :]]
    return Recipe.model_validate(recipe.model_copy(update={"stages": stages}).model_dump())


def _students(recipe: Recipe, first: int, last: int, count: int, field: str) -> list[Student]:
    shapes = stage_shapes(recipe)
    teacher, student = shapes[first].source, shapes[last].student
    if teacher is None or student is None:
        problems = [problem for shape in shapes for problem in shape.problems]
        raise RecipeError(problems)
    large, small = model_facts.parameters(teacher), model_facts.parameters(student)
    settings = recipe.stages[last].student
    found: list[Student] = []
    for number in range(1, count + 1):
        share = number / (count + 1)
        target = large ** (1 - share) * small**share
        found.append(_nearest(teacher, student, settings, share, target, field))
    sizes = [large, *[_size(teacher, one) for one in found], small]
    if any(a <= b for a, b in itertools.pairwise(sizes)):
        words = " → ".join(f"{size:,}" for size in sizes)
        _refuse(
            field,
            f"Between {large:,} and {small:,} parameters there is no room for {count}: {words}.",
            "Ask for fewer assistants, or a smaller student.",
        )
    return found


def _nearest(
    teacher: Any, student: Any, settings: Student, share: float, target: float, field: str
) -> Student:
    """The assistant of the student's kind whose parameters are nearest to `target`."""
    tries: list[Student] = []
    layers = _between(teacher.num_hidden_layers, student.num_hidden_layers, share)
    if isinstance(settings, ScratchStudent | WidthPruneStudent):
        tries = _widths(teacher, student, settings, layers)
    elif isinstance(settings, LayerDropStudent) or settings.model:
        kept = {} if isinstance(settings, PretrainedStudent) else {"keep": settings.keep}
        every = range(1, teacher.num_hidden_layers + 1)
        tries = [LayerDropStudent(layers=count, **kept) for count in every]
    if not tries:
        _refuse(
            field,
            "The student is as large as its teacher, so nothing lies between them.",
            "Choose a smaller student first.",
        )
    sized = []
    for one in tries:
        try:
            sized.append((abs(_size(teacher, one) - target), one))
        except ModelError:
            continue  # a width that this architecture cannot have
    if not sized:
        _refuse(field, "No size in between fits this architecture.", "Leave the assistants out.")
    return min(sized, key=lambda pair: pair[0])[1]


def _widths(
    teacher: Any, student: Any, settings: ScratchStudent | WidthPruneStudent, layers: int
) -> list[Student]:
    """Assistants of every width between student and teacher, with as many layers."""
    tries: list[Student] = []
    for width in range(student.hidden_size, teacher.hidden_size + 1, _WIDTH_STEP):
        if isinstance(settings, ScratchStudent):
            inner = width * student.intermediate_size / student.hidden_size
            inner = round(inner / _WIDTH_STEP) * _WIDTH_STEP
            tries.append(ScratchStudent(layers=layers, hidden_size=width, intermediate_size=inner))
            continue
        tries.append(
            WidthPruneStudent(
                layers=layers,
                hidden_size=width,
                intermediate_size=round(teacher.intermediate_size * width / teacher.hidden_size),
                calibration_rows=settings.calibration_rows,
            )
        )
    return tries


def _between(large: int, small: int, share: float) -> int:
    """A whole number on the geometric way from `large` to `small`."""
    return max(1, round(large ** (1 - share) * small**share))


def _size(teacher: Any, student: Student) -> int:
    return model_facts.parameters(student_shape(teacher, student))


def _refuse(field: str, message: str, fix: str) -> NoReturn:
    raise RecipeError([Problem(severity="error", field=field, message=message, fix=fix)])
