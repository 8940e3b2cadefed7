"""What stands in for rows and models that the answers do not name, in words.

In: answers, and what the recipe uses. Out: sentences that say what to put in. Knows no recipe.
"""

from __future__ import annotations

from distill_core.advisor.answers import Answers
from distill_core.advisor.observed import STARTER

STAND_IN = "smollm2-135m-instruct"
"""Takes the place of a model that the answers do not name, where the rows are the user's own."""


def left_to_fill(
    answers: Answers, *, teacher: str, taught: bool, text_only: bool, is_pocket: bool, sized: bool
) -> list[str]:
    """What is left to put in, or to do, before the recipe is the user's own.

    Args:
        answers: what was said and seen.
        teacher: whom the recipe names.
        taught: the student learns from the teacher, not from labels alone.
        text_only: the teacher gives no probabilities.
        is_pocket: the built-in pair is used.
        sized: the student's sizes were counted, not worked out by a rule of thumb.
    """
    student, has_teacher = answers.student, answers.teacher.exists is not False
    left = []
    if not answers.data.source:
        left.append("The starter's rows stand in for yours: put your file in data.sources.")
    if has_teacher and not answers.teacher.name and not text_only:
        left.append(f"{teacher} stands in for your teacher: put its name or folder there.")
    if text_only and has_teacher and taught:
        left.append("Let the teacher answer your unlabelled rows, and add them as a file.")
    own_rows = answers.data.source not in {None, STARTER}
    if student.published_checkpoint and not student.name and has_teacher and not text_only:
        left.append("The student is made of the teacher: put your small model there instead.")
    elif (text_only or not has_teacher) and not student.name and own_rows:
        left.append(f"{STAND_IN} stands in for your small model: put its name or folder there.")
    elif not is_pocket and not student.name and not sized:
        left.append("Set the student's layers and width; Build shows its size as you do.")
    return left
