"""The advisor's answer: a verdict with its reasons, its rival, what to expect and a recipe.

In: answers (see `answers.py`). Out: one plain dictionary, ready for JSON. Knows no file but the
evidence and the ready recipes, starts nothing, and gives the same result for the same answers.

`advise` returns:

    verdict, title, summary      what to do; a key of `evidence.yaml`'s verdicts, and its words
    confidence                   {"level": high|medium|low, "why", "lead": votes or None}
    reasons                      2–3 × {"rule", "headline", "sentence", "published", "source",
                                 "url", "strength"}
    runner_up                    {"verdict", "title", "why_lost", "rule", "source", "url",
                                 "strength", "flips_when": words or None, "changes": {field: value}}
    votes                        per verdict, best first: {"verdict", "title", "score", "low",
                                 "high", "vetoed": words or "", "votes": {clause: vote}}
    warnings                     {"rule", "sentence", "source", "url", "strength"}
    conflicts                    {"rule", "sentence"}: where sources disagree
    method, expected             see `plan.py`
    license                      {"name", "outputs", "text", "url", "strength", "note"} or None
    recipe, recipe_yaml          a mapping and its YAML, or None and "" where nothing is trained
    next_steps                   what to do in words; what to fill in where there is a recipe
    leaning                      {"answered", "of", "open": [{"field", "settles"}]}
    roads                        {"teacher", "labels"}: the best of each road: {"verdict", "title",
                                 "ruled_out": words or "", "expected", "recipe", "to_fill"}
    published                    the studies' points: {"name", "ratio", "kept", "speed", "what",
                                 "source", "url", "strength"}
    note                         how to read the numbers
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distill_core import recipe_yaml
from distill_core.advisor import answers as answer_fields
from distill_core.advisor import flips, plan, reasons, recipes
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence, load
from distill_core.advisor.facts import fill, words
from distill_core.advisor.scoring import Scoring, score

PUBLISHED = "published, not promised"


def advise(
    answers: Mapping[str, Any] | None, *, model_facts: recipes.ModelFacts = lambda name: None
) -> dict[str, Any]:
    """Recommend; `answers` is the document of answers, any field of which may be missing.

    Raises:
        RecipeError: with one problem per answer that is not allowed.
    """
    parsed = answer_fields.parse(answers)
    evidence = load()
    scoring = score(parsed, evidence)
    settings = plan.method(scoring, evidence)
    recipe, left = recipes.write(scoring, settings, evidence, model_facts)
    verdict = evidence.verdicts[scoring.verdict]
    return {
        "verdict": scoring.verdict,
        "title": verdict.title,
        "summary": verdict.summary,
        "confidence": reasons.confidence(parsed, scoring, evidence),
        "reasons": reasons.reasons(scoring, evidence),
        "runner_up": reasons.runner_up(parsed, scoring, evidence),
        "votes": _votes(scoring, evidence),
        "warnings": _warnings(scoring, evidence),
        "conflicts": _conflicts(scoring, evidence),
        "method": settings,
        "expected": plan.expected(scoring, evidence),
        "license": _license(scoring, evidence),
        "recipe": recipe,
        "recipe_yaml": recipe_yaml.dumps(recipe_yaml.parse(recipe)) if recipe else "",
        "next_steps": left if recipe else verdict.next_steps,
        "leaning": _leaning(parsed, evidence),
        "roads": _roads(scoring, evidence, model_facts),
        "published": _published(evidence),
        "note": f"Figures from studies are {PUBLISHED}: measure on your own held-out rows.",
    }


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


def _leaning(answers: Answers, evidence: Evidence) -> dict[str, Any]:
    deciding = flips.DECIDING
    answered = sum(answer_fields.get(answers, field) is not None for field in deciding)
    return {
        "answered": answered,
        "of": len(deciding),
        "open": flips.open_answers(answers, evidence),
    }


def _roads(
    scoring: Scoring, evidence: Evidence, model_facts: recipes.ModelFacts
) -> dict[str, dict[str, Any]]:
    """The best verdict of each road, as if it had won; those ruled out come after the others."""
    roads: dict[str, dict[str, Any]] = {}
    for verdict in scoring.ranking:
        road = evidence.verdicts[verdict].road
        if road == "none" or road in roads:
            continue
        as_if = replace(scoring, ranking=[verdict, *(v for v in scoring.ranking if v != verdict)])
        settings = plan.method(as_if, evidence)
        recipe, to_fill = recipes.write(as_if, settings, evidence, model_facts)
        ruled_out = next(row for row in _votes(scoring, evidence) if row["verdict"] == verdict)
        roads[road] = {
            "verdict": verdict,
            "title": evidence.verdicts[verdict].title,
            "ruled_out": ruled_out["vetoed"],
            "expected": plan.expected(as_if, evidence),
            "recipe": recipe,
            "to_fill": to_fill,
        }
    return roads


def _published(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            **point.model_dump(exclude={"id", "tasks"}),
            **plan.cite(point.id, point.strength, evidence),
        }
        for point in evidence.ranges
    ]
