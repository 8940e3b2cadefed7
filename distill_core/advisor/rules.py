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
    two_roads                    {"teacher", "labels"}: best verdict of each road, or None
    note                         how to read the numbers
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distill_core import recipe_yaml
from distill_core.advisor import answers as answer_fields
from distill_core.advisor import flips, plan, recipes
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Clause, Evidence, Rule, load
from distill_core.advisor.facts import fill, words
from distill_core.advisor.scoring import Scoring, score

PUBLISHED = "published, not promised"
MAX_REASONS = 3
LEVEL = "What is known so far speaks for both alike; the simpler one goes first."


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
        "confidence": _confidence(parsed, scoring, evidence),
        "reasons": _reasons(scoring, evidence),
        "runner_up": _runner_up(parsed, scoring, evidence),
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
        "two_roads": _two_roads(scoring, evidence),
        "note": f"Figures from studies are {PUBLISHED}: measure on your own held-out rows.",
    }


# --- why --------------------------------------------------------------------------------------


def _holding(scoring: Scoring, evidence: Evidence) -> list[tuple[str, Rule, Clause]]:
    return [item for item in evidence.clauses() if scoring.truths[item[0]]]


def _reason(item: tuple[str, Rule, Clause], scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    clause_id, rule, clause = item
    values = words(scoring.facts)
    return {
        "rule": clause_id,
        "headline": clause.headline,
        "sentence": fill(clause.sentence, values),
        "published": rule.published,
        **plan.cite(clause.source or rule.source, clause.strength or rule.strength, evidence),
    }


def _reasons(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    """The clauses that did most to put the winner before the runner-up, and before the rest."""
    winner, rival = scoring.ranking[:2]
    veto_weight = max(evidence.max_vote.values())

    def push(item: tuple[str, Rule, Clause]) -> tuple[float, str, str]:
        votes, vetoes = evidence.votes(item[2]), evidence.vetoes(item[2])
        gain = votes.get(winner, 0.0) - votes.get(rival, 0.0)
        gain += veto_weight if rival in vetoes else 0.0
        gain += 0.1 * len(vetoes) + (0.5 if votes.get(winner, 0.0) > 0 else 0.0)
        return (-gain, item[2].strength or item[1].strength, item[0])

    useful = [
        item
        for item in _holding(scoring, evidence)
        if item[2].headline and winner not in evidence.vetoes(item[2]) and push(item)[0] < 0
    ]
    chosen: list[tuple[str, Rule, Clause]] = []
    for item in sorted(useful, key=push):
        if not _says_the_same(item[0], [other[0] for other in chosen]):
            chosen.append(item)
    best = sorted(chosen[:MAX_REASONS], key=lambda item: item[2].strength or item[1].strength)
    return [_reason(item, scoring, evidence) for item in best]


_SAME = [
    {"R1.good", "R3.exists"},
    {"R3.no_teacher", "R3.train_for_one"},
    {"R1.weak", "R3.train_for_one"},
    {"R6.noisy", "R6.averaged"},
]
"""Clauses that would tell the reader the same thing twice."""


def _says_the_same(clause_id: str, others: list[str]) -> bool:
    return any(clause_id in pair and pair & set(others) for pair in _SAME)


def _confidence(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    lead, level = scoring.lead, scoring.confidence
    known_lead = scoring.scores[scoring.verdict] - max(
        (scoring.scores[v] for v in scoring.ranking[1:] if not scoring.vetoed_by[v]),
        default=-math.inf,
    )
    open_answers = flips.open_answers(answers, evidence)
    if not open_answers:
        if math.isinf(known_lead):
            why = "Everything else is ruled out."
        elif level == "high":
            why = f"It leads by {known_lead:g} votes, and no answer that decides is missing."
        else:
            why = f"A close call: it leads by only {known_lead:g} votes. Measure both."
    elif level == "high":
        why = "It would still lead if every open answer spoke against it."
    elif level == "medium":
        why = "Open answers could make it close."
    else:
        turning = sum(entry["turns"] for entry in open_answers)
        why = (
            f"{_number(turning)} that could turn it {_verb(turning)} open."
            if turning
            else f"{_number(len(open_answers))} that matter {_verb(len(open_answers))} open."
        )
    return {"level": level, "why": why, "lead": lead if math.isfinite(lead) else None}


def _number(count: int) -> str:
    return "One answer" if count == 1 else f"{count} answers"


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def _runner_up(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    winner, rival = scoring.ranking[:2]
    holding = _holding(scoring, evidence)
    ruled_out = scoring.vetoed_by[rival]

    def against(item: tuple[str, Rule, Clause]) -> float:
        votes = evidence.votes(item[2])
        return votes.get(winner, 0.0) - votes.get(rival, 0.0)

    found = {"why_lost": LEVEL, "rule": "", **plan.cite("own", "C", evidence)}
    if ruled_out:
        candidates = [entry for entry in holding if entry[0] == ruled_out[0]]
    else:
        own = [entry for entry in holding if evidence.votes(entry[2]).get(rival, 0.0) < 0]
        candidates = [entry for entry in own or holding if against(entry) > 0]
    if candidates:
        reason = _reason(max(candidates, key=against), scoring, evidence)
        found = {key: reason[key] for key in ("rule", "source", "url", "strength")}
        found["why_lost"] = f"{reason['headline']} {reason['sentence']}"
    flip = flips.flips_when(answers, rival, evidence)
    return {
        "verdict": rival,
        "title": evidence.verdicts[rival].title,
        **found,
        "flips_when": flip["words"] if flip else None,
        "changes": flip["changes"] if flip else {},
    }


def _votes(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    holding = _holding(scoring, evidence)
    table = []
    for verdict in scoring.ranking:
        low, high = scoring.bounds[verdict]
        ids = scoring.vetoed_by[verdict]
        veto = next((item for item in holding if ids and item[0] == ids[0]), None)
        each = {item[0]: evidence.votes(item[2]).get(verdict, 0.0) for item in holding}
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
    for item in _holding(scoring, evidence):
        about_training = item[0].partition(".")[0] not in evidence.warnings_for_none
        if item[2].warning and not (road == "none" and about_training):
            reason = _reason(item, scoring, evidence)
            found.append(
                {
                    "rule": item[0],
                    "sentence": fill(item[2].warning, values),
                    **{key: reason[key] for key in ("source", "url", "strength")},
                }
            )
    return found


def _conflicts(scoring: Scoring, evidence: Evidence) -> list[dict[str, str]]:
    seen = {
        item[0].partition(".")[0]: item[1].conflict
        for item in _holding(scoring, evidence)
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


def _two_roads(scoring: Scoring, evidence: Evidence) -> dict[str, str | None]:
    """The best verdict of each road, ruled out or not; a road ruled out whole is None."""
    roads: dict[str, str | None] = {"teacher": None, "labels": None}
    for verdict in reversed(scoring.ranking):
        road = evidence.verdicts[verdict].road
        if road in roads and not scoring.vetoed_by[verdict]:
            roads[road] = verdict
    return roads
