"""The advisor's answer: a verdict with its reasons, its rival, what to expect and a recipe.

In: answers (see `answers.py`), past runs on such rows, what is known of named models. Out: one
plain dictionary, ready for JSON. Knows no file but the evidence and the ready recipes, starts
nothing, and gives the same result for the same answers and runs.

`advise` returns:

    verdict, title, summary      what to do; a key of `evidence.yaml`'s verdicts, and its words
    confidence                   {"level": high|medium|low, "why", "lead": votes or None}
    reasons                      2–3 × {"rule", "headline", "sentence", "published", "source",
                                 "url", "strength"}
    runner_up                    {"verdict", "title", "why_lost", "rule", "source", "url",
                                 "strength", "flips_when": words or None, "changes": {field: value}}
    other_road                   the best of the road not taken: {"verdict", "title", "ruled_out",
                                 "speaks_for", "speaks_against": reasons, "flips_when", "changes"}
    votes                        per verdict, best first: {"verdict", "title", "score", "low",
                                 "high", "vetoed": words or "", "votes": {clause: vote}}
    warnings                     {"rule", "sentence", "source", "url", "strength"}
    conflicts                    {"rule", "sentence"}: where sources disagree
    method, expected             see `plan.py`, `outlook.py`
    head_to_head                 published comparisons of the two roads: {"what", "distilled",
                                 "fine_tuned", "better": "teacher" or "labels", "source", …}
    measured                     what a probe of these answers has found, which stands before the
                                 rules: {"run", "words", "why", "winner", "loser", "seeds",
                                 "used_s", "rules_said": verdict, "rules_title"} or None
    past_runs                    your finished runs on these rows: {"run", "name", "road", "score",
                                 "metric", "retention", "size_ratio", "speedup", "seconds",
                                 "not_counted": why a run proves nothing here, or ""}
    license                      {"name", "outputs", "text", "url", "strength", "note"} or None
    recipe, recipe_yaml          a mapping and its YAML, or None and "" where nothing is trained
    answers                      the answers as one document, what was filled in included
    next_steps                   what to do in words; what to fill in where there is a recipe
    leaning                      {"answered", "of", "open": [{"field", "settles"}]}
    roads                        {"teacher", "labels"}: the best of each road: {"verdict", "title",
                                 "ruled_out": words or "", "expected", "recipe", "to_fill",
                                 "student": {"parameters", "ratio": times smaller than the teacher,
                                 "counted": False where it is the largest one that is allowed}}
    published                    the studies' points: {"name", "ratio", "kept", "speed", "what",
                                 "source", "url", "strength"}
    note                         how to read the numbers
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from distill_core.advisor import answers as answer_fields
from distill_core.advisor import extents, flips, outlook, plan, reasons, recipes
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence, Road, load
from distill_core.advisor.extents import Extent
from distill_core.advisor.facts import fill, words
from distill_core.advisor.past_runs import NO_PAST, Past, PastRun
from distill_core.advisor.scoring import Scoring, score, verdict_of
from distill_core.advisor.student_sizes import NOTHING, Known
from distill_core.recipe import recipe_yaml

PUBLISHED = "published, not promised"


def advise(
    answers: Mapping[str, Any] | Answers | None,
    *,
    known: Known = NOTHING,
    past: Past = NO_PAST,
    forecast: Callable[[dict[str, Any]], Mapping[str, Any] | None] = lambda recipe: None,
) -> dict[str, Any]:
    """Recommend; `answers` is the document of answers, any field of which may be missing.

    Args:
        answers: as a mapping, or parsed already.
        known: facts of named models, and sizes of students made of them.
        past: what the user's own runs on these rows have shown.
        forecast: memory and time of a recipe on this machine (`api.estimate`), or None.

    Raises:
        RecipeError: with one problem per answer that is not allowed.
    """
    parsed = answers if isinstance(answers, Answers) else answer_fields.parse(answers)
    evidence = load()
    scoring = score(parsed, evidence, past)
    settings = plan.method(scoring, evidence)
    recipe, left = recipes.write(scoring, settings, evidence, known)
    foreseen = forecast(recipe) if recipe and not left else None
    verdict = evidence.verdicts[scoring.verdict]
    return {
        "verdict": scoring.verdict,
        "title": verdict.title,
        "summary": verdict.summary,
        "confidence": reasons.confidence(parsed, scoring, evidence),
        "reasons": reasons.reasons(scoring, evidence),
        "runner_up": reasons.runner_up(parsed, scoring, evidence),
        "other_road": reasons.other_road(parsed, scoring, evidence),
        "votes": _votes(scoring, evidence),
        "warnings": _warnings(scoring, evidence),
        "conflicts": _conflicts(scoring, evidence),
        "method": settings,
        "expected": outlook.expected(
            scoring, evidence, foreseen, _extent(recipe, left, parsed, known)
        ),
        "head_to_head": outlook.head_to_head(scoring, evidence),
        "measured": _measured(parsed, past, evidence),
        "past_runs": [_past_run(run) for run in past.runs],
        "license": _license(scoring, evidence),
        "recipe": recipe,
        "recipe_yaml": recipe_yaml.dumps(recipe_yaml.parse(recipe)) if recipe else "",
        "answers": answer_fields.document(parsed),
        "next_steps": left if recipe else verdict.next_steps,
        "leaning": _leaning(parsed, scoring, evidence),
        "roads": _roads(scoring, evidence, known),
        "published": _published(evidence),
        "note": f"Figures from studies are {PUBLISHED}: measure on your own held-out rows.",
    }


def plans(answers: Answers, known: Known) -> dict[str, Extent]:
    """What either road would train, by road; the user's own runs are not asked yet."""
    evidence = load()
    found: dict[str, Extent] = {}
    for road, as_if in _as_if(score(answers, evidence), evidence).items():
        recipe, left = recipes.write(as_if, plan.method(as_if, evidence), evidence, known)
        found[road] = _extent(recipe, left, answers, known)
    return found


def _extent(
    recipe: dict[str, Any] | None, left: list[str], answers: Answers, known: Known
) -> Extent:
    if recipe is None:
        return Extent()
    return extents.planned(recipe_yaml.parse(recipe), answers, known, complete=not left)


# --- tables ---------------------------------------------------------------------------------


def _votes(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    held = reasons.holding(scoring, evidence)
    table = []
    for verdict in scoring.ranking:
        low, high = scoring.bounds[verdict]
        ids = scoring.vetoed_by[verdict]
        veto = next((item for item in held if ids and item[0] == ids[0]), None)
        each = {item[0]: evidence.votes(item[2]).get(verdict, 0.0) for item in held}
        table.append(
            {
                "verdict": verdict,
                "title": evidence.verdicts[verdict].title,
                "score": scoring.scores[verdict],
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
                "vetoed": veto[2].headline if veto else "",
                "vetoed_by": ids,
                "votes": {clause: vote for clause, vote in each.items() if vote},
            }
        )
    return table


def _warnings(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    values, road = words(scoring.facts), evidence.verdicts[scoring.verdict].road
    found = []
    for item in reasons.holding(scoring, evidence):
        about_training = item[0].partition(".")[0] not in evidence.warnings_for_none
        if item[2].warning and not (road == "none" and about_training):
            told = reasons.reason(item, scoring, evidence)
            found.append(
                {
                    "rule": item[0],
                    "sentence": fill(item[2].warning, values),
                    **{key: told[key] for key in ("source", "url", "strength")},
                }
            )
    return found


def _conflicts(scoring: Scoring, evidence: Evidence) -> list[dict[str, str]]:
    seen = {
        item[0].partition(".")[0]: item[1].conflict
        for item in reasons.holding(scoring, evidence)
        if item[2].conflicting
    }
    return [{"rule": rule, "sentence": sentence} for rule, sentence in seen.items()]


def _license(scoring: Scoring, evidence: Evidence) -> dict[str, Any] | None:
    entry = scoring.facts.license
    if entry is None or scoring.facts.answers.teacher.exists is False:
        return None
    facts = entry.model_dump(include={"name", "outputs", "text", "url", "strength"})
    return {**facts, "note": evidence.licence_note}


def _past_run(run: PastRun) -> dict[str, Any]:
    told = asdict(run)
    return {key: told[key] for key in _OF_A_RUN}


def _measured(answers: Answers, past: Past, evidence: Evidence) -> dict[str, Any] | None:
    """What was measured, beside what the rules would have said without it."""
    found = past.measured
    if found is None:
        return None
    said = verdict_of(answers, evidence, found.without)
    told = {key: getattr(found, key) for key in _OF_A_PROBE}
    return {**told, "rules_said": said, "rules_title": evidence.verdicts[said].title}


_OF_A_PROBE = ("run", "words", "why", "winner", "loser", "seeds", "used_s")

_OF_A_RUN = (
    *("run", "name", "road", "metric", "score", "retention", "size_ratio", "speedup"),
    *("seconds", "winner", "words", "not_counted"),
)


def _leaning(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    deciding = flips.DECIDING
    answered = sum(answer_fields.get(answers, field) is not None for field in deciding)
    return {
        "answered": answered,
        "of": len(deciding),
        "open": flips.open_answers(answers, evidence, scoring.facts.past),
    }


def _roads(scoring: Scoring, evidence: Evidence, known: Known) -> dict[str, dict[str, Any]]:
    """The best verdict of each road, as if it had won; those ruled out come after the others."""
    roads: dict[str, dict[str, Any]] = {}
    ruled_out = {row["verdict"]: row["vetoed"] for row in _votes(scoring, evidence)}
    for road, as_if in _as_if(scoring, evidence).items():
        settings = plan.method(as_if, evidence)
        recipe, to_fill = recipes.write(as_if, settings, evidence, known)
        trained = _extent(recipe, to_fill, scoring.facts.answers, known)
        roads[road] = {
            "verdict": as_if.verdict,
            "title": evidence.verdicts[as_if.verdict].title,
            "ruled_out": ruled_out[as_if.verdict],
            "expected": outlook.expected(as_if, evidence, planned=trained),
            "student": {
                "parameters": trained.parameters,
                "ratio": outlook.times_smaller(scoring.facts, trained),
                "counted": trained.counted,
            },
            "recipe": recipe,
            "to_fill": to_fill,
        }
    return roads


def _as_if(scoring: Scoring, evidence: Evidence) -> dict[Road, Scoring]:
    """By road, the scoring as if its best verdict had won."""
    best: dict[Road, str] = {}
    for verdict in scoring.ranking:
        best.setdefault(evidence.verdicts[verdict].road, verdict)
    return {
        road: replace(scoring, ranking=[verdict, *(v for v in scoring.ranking if v != verdict)])
        for road, verdict in best.items()
        if road != "none"
    }


def _published(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            **point.model_dump(exclude={"id", "tasks"}),
            **plan.cite(point.id, point.strength, evidence),
        }
        for point in evidence.ranges
    ]
