"""Which two ways a probe compares, and whether it can: from answers to `Probe`.

In: answers, minutes. Out: a `Probe` and what it will do in words, or problems at the answers that
stand in its way. Starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from distill_core import checks
from distill_core.advisor import plan as methods
from distill_core.advisor import recipes
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence, load
from distill_core.advisor.measured import fingerprint
from distill_core.advisor.observed import STARTER
from distill_core.advisor.scoring import Scoring, score
from distill_core.advisor.student_sizes import Known
from distill_core.errors import Problem, RecipeError
from distill_core.probe.looks import FIRST_LOOK, MOST_SEEDS
from distill_core.probe.probe_file import Arm, Probe
from distill_core.recipe import Recipe, recipe_yaml
from distill_core.recipe.plan import cast, plan, student_origin

LEAST_MINUTES, MOST_MINUTES = 1.0, 24 * 60.0
MINUTES = 10.0


@dataclass(frozen=True)
class Planned:
    """A probe that can be started, and what it will do."""

    probe: Probe
    recipe: Recipe
    """Of the run: the first arm's, under the probe's name."""
    words: list[str]


def planned(answers: Answers, *, minutes: float, known: Known) -> Planned:
    """Choose the best way of each road, else the two best; `answers` are filled in already.

    Raises:
        RecipeError: with a problem at each answer that a probe lacks, or at `minutes`.
    """
    evidence = load()
    _refuse(_problems(answers, minutes))
    scoring = score(answers, evidence)
    arms = _arms(scoring, answers, evidence, known)
    if not arms:
        why = "Nothing that trains is open to these answers, so there is nothing to measure."
        _refuse([_problem("", why, "See what rules it out in the reckoning.")])
    found: list[Problem] = []
    for arm in arms:
        for problem in checks.check(arm.recipe):
            told = problem.model_copy(update={"field": _answer_of(problem.field)})
            if problem.severity == "error" and told not in found:
                found.append(told)
    _refuse(found)
    name = "-vs-".join(arm.verdict.replace("_", "-") for arm in arms)
    probe = Probe(arms=arms, fingerprint=fingerprint(answers), minutes=minutes)
    recipe = arms[0].recipe.model_copy(update={"name": f"probe-{name}"[:60]})
    return Planned(probe, recipe, _words(answers, arms, minutes))


# --- what stands in the way -------------------------------------------------------------------


def _problem(field: str, message: str, fix: str) -> Problem:
    return Problem(severity="error", field=field, message=message, fix=fix)


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise RecipeError(problems)


def _problems(answers: Answers, minutes: float) -> list[Problem]:
    """What has to be answered before anything can be measured."""
    found = []
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        limits = f"Use {LEAST_MINUTES:g} to {MOST_MINUTES:g} minutes."
        found.append(_problem("minutes", f"{minutes:g} minutes is no time for a probe.", limits))
    if not answers.data.source:
        why = "A probe trains on your own rows, and none are named."
        found.append(_problem("data.source", why, "Name a file, or `starter`."))
    if answers.teacher.exists is not False:
        if answers.teacher.access in ("text", "top_k"):
            why = "A probe asks the teacher for probabilities, which this access does not give."
            fix = "Name a teacher whose weights are here, or say that there is none."
            found.append(_problem("teacher.access", why, fix))
        elif not answers.teacher.name and answers.data.source != STARTER:
            why = "A probe needs the teacher itself, and none is named."
            fix = "Give its name or folder, or say that there is none."
            found.append(_problem("teacher.name", why, fix))
    elif not answers.student.name and answers.data.source != STARTER:
        why = "A probe needs the model that is to be trained, and none is named."
        found.append(_problem("student.name", why, "Give its name or folder."))
    return found


_ANSWERS = (
    ("data.held_out", "data.held_out_source"),
    ("data.", "data.source"),
    (".teacher", "teacher.name"),
    (".student", "student.name"),
    (".model", "student.name"),
)
"""A part of a recipe's field → the answer that it was made of."""


def _answer_of(field: str) -> str:
    return next((answer for part, answer in _ANSWERS if part in field), "")


# --- candidates -------------------------------------------------------------------------------


def _arms(scoring: Scoring, answers: Answers, evidence: Evidence, known: Known) -> list[Arm]:
    """The best candidate, and its best rival whose student is the same."""
    roads = ["labels"] if answers.teacher.exists is False else ["labels", "teacher"]
    able = [
        verdict
        for verdict in scoring.ranking
        if evidence.verdicts[verdict].road in roads and not scoring.vetoed_by[verdict]
    ]
    made = [_arm(verdict, scoring, answers, evidence, known) for verdict in able]
    if not made:
        return []
    best = made[0]
    alike = [arm for arm in made[1:] if _student_of(arm.recipe) == _student_of(best.recipe)]
    own = evidence.verdicts[best.verdict].road
    # distilling or fine-tuning is the question: the other road's best goes before this one's second
    alike.sort(key=lambda arm: evidence.verdicts[arm.verdict].road == own)
    return [best, *alike[:1]]


def _arm(verdict: str, scoring: Scoring, answers: Answers, evidence: Evidence, known: Known) -> Arm:
    as_if = replace(scoring, ranking=[verdict, *(v for v in scoring.ranking if v != verdict)])
    written, _ = recipes.write(as_if, methods.method(as_if, evidence), evidence, known)
    assert written is not None, "verdicts with a road train something"
    recipe = recipe_yaml.parse(written)
    bare = recipe.evaluation.model_copy(update={"baselines": []})
    recipe = recipe.model_copy(update={"evaluation": bare})
    stages = plan(
        recipe,
        labelled=answers.data.labelled_rows or 1,
        unlabelled=answers.data.unlabelled_rows or 0,
    )
    entry = evidence.verdicts[verdict]
    return Arm(
        verdict=verdict,
        title=entry.title,
        doing=entry.doing,
        recipe=recipe,
        stage_steps=[stage.total_steps for stage in stages],
        origin=cast(stages).origin,
    )


def _student_of(recipe: Recipe) -> dict[str, Any]:
    """What the student is made of and how large it is; a checkpoint by its name."""
    student, source, _ = student_origin(plan(recipe, labelled=1, unlabelled=0))
    made = student.model_dump()
    return made | {"model": made.get("model") or source} if made["init"] == "pretrained" else made


# --- words ------------------------------------------------------------------------------------


def _words(answers: Answers, arms: list[Arm], minutes: float) -> list[str]:
    """What will be done, on which rows, for how long."""
    rows = "the starter's rows" if answers.data.source == STARTER else str(answers.data.source)
    aside = answers.data.held_out_source or "rows that are kept aside for it"
    doings = [arm.doing.rstrip(",") for arm in arms]
    both = " and ".join(doings) if len(arms) > 1 else f"{doings[0]} and the student as it is"
    return [
        f"Compares {both}, trained on {rows}: the same student, the same steps, the same number of "
        "rows in each.",
        f"Scores them, and the student before training, on {aside}.",
        f"Seed after seed, {FIRST_LOOK} to {MOST_SEEDS}, until one is surely better or "
        f"{minutes:g} minutes of work are over.",
    ]
