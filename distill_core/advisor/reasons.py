"""Why: the reasons that decided, how sure the verdict is, and what its rival lacked.

In: a `Scoring`. Out: plain dictionaries whose words come from the evidence. Knows no recipe.
"""

from __future__ import annotations

import math
from typing import Any

from distill_core.advisor import flips, plan
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import STRENGTHS, Clause, Evidence, Rule
from distill_core.advisor.facts import fill, words
from distill_core.advisor.scoring import Scoring

MAX_REASONS = 3
LEVEL = "What is known so far speaks for both alike; the simpler one goes first."


def holding(scoring: Scoring, evidence: Evidence) -> list[tuple[str, Rule, Clause]]:
    """The clauses that hold, each with its id and rule."""
    return [item for item in evidence.clauses() if scoring.truths[item[0]]]


def reason(item: tuple[str, Rule, Clause], scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    """A clause in words, with the user's numbers and its source."""
    clause_id, rule, clause = item
    values = words(scoring.facts)
    return {
        "rule": clause_id,
        "headline": clause.headline,
        "sentence": fill(clause.sentence, values),
        "published": "" if clause.source else rule.published,
        **plan.cite(clause.source or rule.source, clause.strength or rule.strength, evidence),
    }


def reasons(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    """The clauses that did most to put the winner before its rivals.

    Rivals are the runner-up and the other road's best, which a veto may have put last.
    """
    winner = scoring.ranking[0]
    rivals = {scoring.ranking[1], _other_road(scoring, evidence)}
    veto_weight = max(evidence.max_vote.values())

    def gains(item: tuple[str, Rule, Clause]) -> tuple[float, float, int]:
        """Votes gained on the rivals, votes for the winner, verdicts ruled out."""
        votes, vetoes = evidence.votes(item[2]), evidence.vetoes(item[2])
        lead = sum(votes.get(winner, 0.0) - votes.get(rival, 0.0) for rival in rivals)
        ruled_out = len(rivals & set(vetoes))
        return lead + veto_weight * ruled_out, votes.get(winner, 0.0), len(vetoes)

    def push(item: tuple[str, Rule, Clause]) -> tuple[Any, ...]:
        return *(-gain for gain in gains(item)), _strength(item), item[0]

    useful = [
        item
        for item in holding(scoring, evidence)
        if item[2].headline
        and winner not in evidence.vetoes(item[2])
        and _supports(item, winner, rivals, evidence)
        and gains(item)[0] >= 0
        and max(gains(item)) > 0
    ]
    deciding = [item for item in useful if gains(item)[0] > 0]
    chosen: list[tuple[str, Rule, Clause]] = []
    for item in sorted(deciding if len(deciding) > 1 else useful, key=push):
        if not _says_the_same(item[0], [other[0] for other in chosen]):
            chosen.append(item)
    best = sorted(chosen[:MAX_REASONS], key=lambda one: (gains(one)[0] <= 0, _strength(one)))
    return [reason(item, scoring, evidence) for item in best]


def _supports(
    item: tuple[str, Rule, Clause], winner: str, rivals: set[str], evidence: Evidence
) -> bool:
    """Whether a clause speaks for the winner, and not only for another road against its rival."""
    votes, own = evidence.votes(item[2]), evidence.verdicts[winner].road
    if votes.get(winner, 0.0) > 0 or rivals & set(evidence.vetoes(item[2])):
        return True
    return not any(vote > 0 and evidence.verdicts[v].road != own for v, vote in votes.items())


def _strength(item: tuple[str, Rule, Clause]) -> int:
    """The strongest first."""
    return STRENGTHS.index(item[2].strength or item[1].strength)


def _other_road(scoring: Scoring, evidence: Evidence) -> str:
    """The verdict with most votes on another road than the winner's, ruled out or not."""
    own = evidence.verdicts[scoring.verdict].road
    others = [v for v in scoring.ranking if evidence.verdicts[v].road not in {own, "none"}]
    return max(others or scoring.ranking[1:], key=lambda verdict: scoring.scores[verdict])


_SAME = [
    {"R1.good", "R3.exists"},
    {"R3.no_teacher", "R3.train_for_one"},
    {"R1.weak", "R3.train_for_one"},
    {"R6.noisy", "R6.averaged"},
    {"R4.first_gains", "R4.thousand"},
    {"R3.several", "R3.shared_correction"},
]
"""Clauses that would tell the reader the same thing twice."""


def _says_the_same(clause_id: str, others: list[str]) -> bool:
    return any(clause_id in pair and pair & set(others) for pair in _SAME)


def confidence(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    """The level of confidence, and what it rests on."""
    lead, level = scoring.lead, scoring.confidence
    known_lead = scoring.scores[scoring.verdict] - max(
        (scoring.scores[v] for v in scoring.ranking[1:] if not scoring.vetoed_by[v]),
        default=-math.inf,
    )
    open_answers = flips.open_answers(answers, evidence, scoring.facts.past)
    if not open_answers:
        if math.isinf(known_lead):
            why = "Everything else is ruled out."
        elif round(known_lead, 6) == 0:
            why = f"A tie: the runner-up has as many votes. {_settle(scoring, evidence)}"
        elif level == "high":
            why = f"It leads by {_votes(known_lead)}, and no answer that decides is missing."
        else:
            why = (
                f"A close call: it leads by only {_votes(known_lead)}. {_settle(scoring, evidence)}"
            )
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


def _settle(scoring: Scoring, evidence: Evidence) -> str:
    """How to settle a close call: only what is trained can be measured."""
    trained = all(evidence.verdicts[one].road != "none" for one in scoring.ranking[:2])
    return "Measure both." if trained else "Try both on a few rows."


def _votes(lead: float) -> str:
    return "1 vote" if lead == 1 else f"{lead:g} votes"


def _number(count: int) -> str:
    return "One answer" if count == 1 else f"{count} answers"


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"


def runner_up(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    """The second best: why it lost, and what would turn the verdict to it."""
    winner, rival = scoring.ranking[:2]
    held = holding(scoring, evidence)
    ruled_out = scoring.vetoed_by[rival]

    def against(item: tuple[str, Rule, Clause]) -> float:
        votes = evidence.votes(item[2])
        return votes.get(winner, 0.0) - votes.get(rival, 0.0)

    found = {"why_lost": LEVEL, "rule": "", **plan.cite("own", "C", evidence)}
    if ruled_out:
        candidates = [entry for entry in held if entry[0] == ruled_out[0]]
    else:
        own = [entry for entry in held if evidence.votes(entry[2]).get(rival, 0.0) < 0]
        ours = [one for one in held if _supports(one, winner, {rival}, evidence)]
        candidates = [one for one in own if one in ours and against(one) > 0]
        candidates = candidates or [one for one in ours if against(one) > 0]
    if candidates:
        lost = reason(max(candidates, key=against), scoring, evidence)
        found = {key: lost[key] for key in ("rule", "source", "url", "strength")}
        found["why_lost"] = f"{lost['headline']} {lost['sentence']}"
    flip = flips.flips_when(answers, rival, evidence, scoring.facts.past)
    return {
        "verdict": rival,
        "title": evidence.verdicts[rival].title,
        **found,
        "flips_when": flip["words"] if flip else None,
        "changes": flip["changes"] if flip else {},
    }


def other_road(answers: Answers, scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    """The best of the road that was not taken: what speaks for it, what against it, what turns.

    Returns `{"verdict", "title", "ruled_out": words or "", "speaks_for", "speaks_against": reasons,
    "flips_when": words or None, "changes"}`.
    """
    winner, other = scoring.verdict, _other_road(scoring, evidence)
    ruled_out = scoring.vetoed_by[other]

    def gain(item: tuple[str, Rule, Clause]) -> float:
        votes = evidence.votes(item[2])
        return votes.get(other, 0.0) - votes.get(winner, 0.0)

    held = [item for item in holding(scoring, evidence) if item[2].headline]
    vetoes = [item for item in held if item[0] in ruled_out]
    pro = sorted((item for item in held if gain(item) > 0), key=lambda item: -gain(item))
    con = sorted((item for item in held if gain(item) < 0), key=gain)
    flip = flips.flips_when(answers, other, evidence, scoring.facts.past)
    return {
        "verdict": other,
        "title": evidence.verdicts[other].title,
        "ruled_out": vetoes[0][2].headline if vetoes else "",
        "speaks_for": [reason(item, scoring, evidence) for item in _once(pro)],
        "speaks_against": [reason(item, scoring, evidence) for item in _once([*vetoes, *con])],
        "flips_when": flip["words"] if flip else None,
        "changes": flip["changes"] if flip else {},
    }


def _once(items: list[tuple[str, Rule, Clause]]) -> list[tuple[str, Rule, Clause]]:
    """At most three that do not say the same."""
    chosen: list[tuple[str, Rule, Clause]] = []
    for item in items:
        if item not in chosen and not _says_the_same(item[0], [other[0] for other in chosen]):
            chosen.append(item)
    return chosen[:MAX_REASONS]
