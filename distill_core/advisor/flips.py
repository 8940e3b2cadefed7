"""What would have to be different: the nearest change of answers that turns the verdict.

In: answers and the verdict wanted. Out: the change in words, found by changing answers and asking
again. Knows no rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from distill_core.advisor import answers as answer_fields
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import Evidence
from distill_core.advisor.facts import gib, parameters
from distill_core.advisor.past_runs import NO_PAST, Past
from distill_core.advisor.scoring import Scoring, score, verdict_of

_STEPS = (1, 2, 5)
_ROWS = [step * 10**power for power in range(1, 6) for step in _STEPS]

_TRIED: dict[str, list[Any]] = {
    "data.labelled_rows": [0, *_ROWS],
    "data.label_quality": ["clean", "mixed"],
    "data.unlabelled_rows": [0, *_ROWS],
    "data.held_out_rows": [0, 200, 600],
    "teacher.exists": [True, False],
    "teacher.good_at_task": [True, False],
    "teacher.access": ["weights", "text"],
    "teacher.serves_several_students": [True, False],
    "student.max_parameters": [step * 10.0**power for power in range(5, 11) for step in _STEPS],
    "student.device_memory_gib": [2.0**power for power in range(-2, 9)],
    "constraints.keep_general_skills": [True, False],
    "constraints.task_changes": ["rarely", "weekly"],
    "constraints.calls_per_month": [100.0, 10_000.0],
    "machine.memory_gib": [2.0**power for power in range(0, 10)],
    "constraints.budget_gpu_hours": [1.0, 10.0, 100.0],
    "teacher.parameters": [1e6, 1e8, 1e9, 7e9, 7e10],
    "goal": ["smaller_faster", "better_at_task", "both", "new_knowledge", "style"],
}
"""Values to try, nearest field first: what a user could go and get comes before what is given."""

_PAIRS = [
    ("data.labelled_rows", "data.label_quality"),
    ("data.labelled_rows", "teacher.good_at_task"),
    ("data.labelled_rows", "data.unlabelled_rows"),
    ("data.unlabelled_rows", "teacher.good_at_task"),
    ("data.held_out_rows", "data.labelled_rows"),
    ("student.max_parameters", "student.device_memory_gib"),
    ("student.max_parameters", "teacher.parameters"),
]


def flips_when(
    answers: Answers, wanted: str, evidence: Evidence, past: Past = NO_PAST
) -> dict[str, Any] | None:
    """Find the nearest change that makes `wanted` the verdict.

    Returns `{"changes": {field: value}, "words": "with 2,000 labelled rows instead of 400"}`, or
    None when neither one answer nor two together would do.
    """
    own_data = [field for field in _TRIED if field.startswith("data.")]
    others = [field for field in _TRIED if field not in own_data]
    tried = (_one_at_a_time(answers, own_data), _two_at_once(answers, _PAIRS[:1]))
    later = (_one_at_a_time(answers, others), _two_at_once(answers, _PAIRS[1:]))
    for changes in itertools.chain(*tried, *later):
        changed = answer_fields.replace(answers, changes)
        if verdict_of(changed, evidence, past) == wanted:
            return {"changes": changes, "words": _words(answers, changes)}
    return None


def _nearest(answers: Answers, field: str) -> list[Any]:
    """Other values of one answer, those closest to it first."""
    now = answer_fields.get(answers, field)
    values = [value for value in _TRIED[field] if value != now]
    if isinstance(now, bool) or not isinstance(now, int | float):
        return values
    return sorted(values, key=lambda value: abs(math.log1p(value) - math.log1p(now)))


def _one_at_a_time(answers: Answers, names: list[str]) -> Iterator[dict[str, Any]]:
    return ({field: value} for field in names for value in _nearest(answers, field))


def _two_at_once(answers: Answers, pairs: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for first, second in pairs:
        nearest = _nearest(answers, second)
        for value in _nearest(answers, first):
            for other in nearest[:: max(1, len(nearest) // 4)]:
                yield {first: value, second: other}


# --- words ------------------------------------------------------------------------------------

_NOUNS = {
    "data.labelled_rows": "labelled rows",
    "data.unlabelled_rows": "unlabelled rows",
    "data.held_out_rows": "held-out rows",
    "constraints.calls_per_month": "calls a month",
    "constraints.budget_gpu_hours": "hours of training",
}

_CLAUSES: dict[tuple[str, Any], str] = {
    ("data.label_quality", "clean"): "if the labels were clean",
    ("data.label_quality", "mixed"): "if some labels were wrong",
    ("teacher.exists", True): "if there were a teacher",
    ("teacher.exists", False): "without a teacher",
    ("teacher.good_at_task", True): "if the teacher were good at the task",
    ("teacher.good_at_task", False): "if the teacher were bad at the task",
    ("teacher.access", "weights"): "with the teacher's weights",
    ("teacher.access", "text"): "if the teacher gave text only",
    ("teacher.serves_several_students", True): "if the teacher served several students",
    ("teacher.serves_several_students", False): "if the teacher served one student only",
    ("constraints.keep_general_skills", True): "if general skills had to stay",
    ("constraints.keep_general_skills", False): "if general skills need not stay",
    ("constraints.task_changes", "rarely"): "if the task changed rarely",
    ("constraints.task_changes", "weekly"): "if the task changed every week",
    ("goal", "smaller_faster"): "if the goal were a smaller, faster model",
    ("goal", "better_at_task"): "if the goal were better answers",
    ("goal", "both"): "if it had to become smaller and better",
    ("goal", "new_knowledge"): "if the goal were new knowledge",
    ("goal", "style"): "if the goal were a style",
}


def _words(answers: Answers, changes: dict[str, Any]) -> str:
    if set(changes) == set(_PAIRS[0]):
        rows, quality = (changes[field] for field in _PAIRS[0])
        now = answers.data.labelled_rows
        before = "" if now is None else f" instead of {now:,.0f}"
        kind = "clean labels" if quality == "clean" else "labels, some of them wrong,"
        return f"with {rows:,.0f} {kind}{before}"
    return ", and ".join(
        _one(field, value, answer_fields.get(answers, field)) for field, value in changes.items()
    )


def _one(field: str, value: Any, now: Any) -> str:
    if (field, value) in _CLAUSES:
        return _CLAUSES[field, value]
    if field in _NOUNS:
        before = "" if now is None else f" instead of {now:,.0f}"
        return f"with {value:,.0f} {_NOUNS[field]}{before}"
    if field == "student.max_parameters":
        before = "" if now is None else f" instead of {parameters(now)}"
        return f"with a student of up to {parameters(value)} parameters{before}"
    if field == "teacher.parameters":
        before = "" if now is None else f" instead of {parameters(now)}"
        return f"with a teacher of {parameters(value)} parameters{before}"
    where = "on this machine" if field.startswith("machine") else "where it will run"
    before = "" if now is None else f" instead of {gib(now * 2**30)}"
    return f"with {gib(value * 2**30)} of memory {where}{before}"


# --- what is open -----------------------------------------------------------------------------

_MORE_VALUES: dict[str, list[Any]] = {
    "teacher.license": ["apache-2.0", "llama", "hosted"],
    "teacher.same_tokenizer": [True, False],
    "constraints.will_share": [True, False],
}

DECIDING = [*_TRIED, *_MORE_VALUES]
"""Answers that votes or vetoes depend on; a test finds the same ones from the conditions."""


def open_answers(
    answers: Answers, evidence: Evidence, past: Past = NO_PAST
) -> list[dict[str, Any]]:
    """Find the unknown answers that would settle something, the weightiest first.

    Each `{"field", "settles": votes and vetoes now open, "turns": bool}`; `turns` says whether
    some value of it would change the verdict. A veto counts as much as the largest vote.
    """
    now = score(answers, evidence, past)
    found = []
    for field, values in {**_TRIED, **_MORE_VALUES}.items():
        if answer_fields.get(answers, field) is not None:
            continue
        tried = [score(answer_fields.replace(answers, {field: v}), evidence, past) for v in values]
        settles = max(_settled(now, other, evidence) for other in tried)
        if settles > 0:
            turns = any(other.verdict != now.verdict for other in tried)
            found.append({"field": field, "settles": settles, "turns": turns})
    return sorted(found, key=lambda entry: (not entry["turns"], -entry["settles"]))


def _settled(before: Scoring, after: Scoring, evidence: Evidence) -> float:
    veto_weight = max(evidence.max_vote.values())
    total = 0.0
    for clause_id, _, clause in evidence.clauses():
        if before.known[clause_id] is None and after.known[clause_id] is not None:
            votes = evidence.votes(clause).values()
            total += max((abs(vote) for vote in votes), default=0.0)
            total += veto_weight if clause.veto else 0.0
    return total
