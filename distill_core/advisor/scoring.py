"""Votes and vetoes: which verdict the answers speak for, and how sure that is.

In: `Answers` and `Evidence`. Out: `Scoring`. No constant of its own: every number comes from the
evidence. Knows nothing of recipes or of words.

Each clause is true, false or unknown. A verdict's score adds the votes of the clauses that hold.
Confidence is the smallest lead over any rival that is left when every unknown clause turns out as
it suits that rival, so that an answer that becomes unknown can only lower it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from distill_core.advisor import answers as answer_fields
from distill_core.advisor.answers import Answers
from distill_core.advisor.conditions import judge
from distill_core.advisor.evidence import Evidence
from distill_core.advisor.facts import Facts, Truth, derive
from distill_core.advisor.past_runs import NO_PAST, Past

Level = Literal["high", "medium", "low"]


@dataclass(frozen=True)
class Scoring:
    """Scores per verdict, and the clauses behind them."""

    facts: Facts
    truths: dict[str, Truth]
    """Clause id → whether it holds, with the best guess for what was left out."""
    known: dict[str, Truth]
    """The same without guesses; what depends on an open answer is None."""
    scores: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    """Verdict → lowest and highest score that the unknown answers leave open."""
    vetoed_by: dict[str, list[str]]
    """Verdict → ids of the clauses that rule it out; empty where none does."""
    ranking: list[str]
    """Verdicts from best to worst; those ruled out come last."""
    lead: float
    """What is left of the winner's lead when all unknown answers speak against it."""
    confidence: Level

    @property
    def verdict(self) -> str:
        """The verdict that won."""
        return self.ranking[0]


def score(answers: Answers, evidence: Evidence, past: Past = NO_PAST) -> Scoring:
    """Weigh the answers; the same answers, and the same past runs, give the same result."""
    facts = derive(answers, evidence, past)
    strict = judge(facts, evidence)
    guessed = _with_guesses(answers)
    truths = strict if guessed is answers else judge(derive(guessed, evidence, past), evidence)

    scores, vetoed_by = _count(truths, evidence)
    ranking = _measured_first(_rank(scores, vetoed_by), vetoed_by, past)
    bounds = _bounds(strict, evidence)
    # against a rival that it has beaten in a probe no votes are needed
    beaten = past.measured.loser if past.measured and past.measured.winner == ranking[0] else None
    lead = min(_lead(ranking[0], one, strict, evidence) for one in ranking[1:] if one != beaten)
    return Scoring(
        facts=facts,
        truths=truths,
        known=strict,
        scores=scores,
        bounds=bounds,
        vetoed_by=vetoed_by,
        ranking=ranking,
        lead=lead,
        confidence=level(lead, evidence),
    )


def level(lead: float, evidence: Evidence) -> Level:
    """Name a lead."""
    if math.isnan(lead) or lead < evidence.confidence.medium:
        return "low"
    return "high" if lead >= evidence.confidence.high else "medium"


def verdict_of(answers: Answers, evidence: Evidence, past: Past = NO_PAST) -> str:
    """The verdict alone, for those who ask often."""
    facts = derive(_with_guesses(answers), evidence, past)
    scores, vetoed_by = _count(judge(facts, evidence), evidence)
    return _measured_first(_rank(scores, vetoed_by), vetoed_by, past)[0]


def _count(
    truths: dict[str, Truth], evidence: Evidence
) -> tuple[dict[str, float], dict[str, list[str]]]:
    """Add the votes of the clauses that hold, and note their vetoes."""
    scores = {verdict: evidence.prior.get(verdict, 0.0) for verdict in evidence.verdicts}
    vetoed_by: dict[str, list[str]] = {verdict: [] for verdict in evidence.verdicts}
    for clause_id, votes, vetoes in evidence.ballots:
        if truths[clause_id]:
            for verdict, vote in votes.items():
                scores[verdict] += vote
            for verdict in vetoes:
                vetoed_by[verdict].append(clause_id)
    return scores, vetoed_by


def _rank(scores: dict[str, float], vetoed_by: dict[str, list[str]]) -> list[str]:
    """Best first; those ruled out last; the evidence's order (that of `scores`) breaks ties."""
    return sorted(scores, key=lambda v: (bool(vetoed_by[v]), -round(scores[v], 6)))


def _measured_first(ranking: list[str], vetoed_by: dict[str, list[str]], past: Past) -> list[str]:
    """Put the winner of a probe before its loser, whatever the votes; a veto stays a veto."""
    found = past.measured
    if found is None or found.winner not in ranking or found.loser not in ranking:
        return ranking
    if vetoed_by[found.winner] or ranking.index(found.winner) < ranking.index(found.loser):
        return ranking
    others = [verdict for verdict in ranking if verdict != found.winner]
    place = others.index(found.loser)
    return [*others[:place], found.winner, *others[place:]]


def _lead(winner: str, rival: str, truths: dict[str, Truth], evidence: Evidence) -> float:
    """Votes by which `winner` leads `rival` at worst; infinite where one of them is ruled out."""
    lead = evidence.prior.get(winner, 0.0) - evidence.prior.get(rival, 0.0)
    for clause_id, votes, vetoes in evidence.ballots:
        truth = truths[clause_id]
        if truth is False:
            continue
        gain = votes.get(winner, 0.0) - votes.get(rival, 0.0)
        if (winner in vetoes) != (rival in vetoes):
            gain = -math.inf if winner in vetoes else math.inf
        change = gain if truth else min(gain, 0.0)
        if math.isinf(lead) and math.isinf(change) and lead != change:
            return -math.inf  # each is ruled out by another clause: nothing is certain
        lead += change
    return lead


def _bounds(truths: dict[str, Truth], evidence: Evidence) -> dict[str, tuple[float, float]]:
    low = {verdict: evidence.prior.get(verdict, 0.0) for verdict in evidence.verdicts}
    high = dict(low)
    for clause_id, votes, vetoes in evidence.ballots:
        truth = truths[clause_id]
        if truth is False:
            continue
        for verdict, vote in votes.items():
            low[verdict] += vote if truth else min(vote, 0.0)
            high[verdict] += vote if truth else max(vote, 0.0)
        for verdict in vetoes:
            low[verdict] = -math.inf
            if truth:
                high[verdict] = -math.inf
    return {verdict: (low[verdict], high[verdict]) for verdict in low}


def _with_guesses(answers: Answers) -> Answers:
    """Who describes a teacher, or counts unlabelled rows, is taken to have a good teacher.

    Used for the verdict, never for its confidence.
    """
    teacher = answers.teacher
    described = teacher.access or teacher.good_at_task or teacher.held_out_score is not None
    guesses: dict[str, bool] = {}
    if teacher.exists is None and (described or answers.data.unlabelled_rows):
        guesses["teacher.exists"] = True
    if teacher.good_at_task is None and (teacher.exists or guesses):
        guesses["teacher.good_at_task"] = True
    return answer_fields.replace(answers, guesses) if guesses else answers
