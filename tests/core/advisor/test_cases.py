"""Written cases: what a practitioner would accept, and that every clause is reached."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_core import api
from distill_core.advisor import advise
from distill_core.advisor.answers import parse
from distill_core.advisor.conditions import judge
from distill_core.advisor.evidence import load
from distill_core.advisor.facts import derive
from distill_core.advisor.past_runs import Past
from distill_core.recipe import recipe_yaml

WRITTEN = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = WRITTEN["cases"]
EVIDENCE = load()
CLAUSES = [clause_id for clause_id, _, _ in EVIDENCE.clauses()]


@functools.cache
def told_of(number: int) -> dict[str, Any]:
    return advise(answers_of(CASES[number]), past=past_of(CASES[number]))


def answers_of(case: dict[str, Any]) -> dict[str, Any]:
    return case["answers"] if case.get("alone") else {**WRITTEN["usual"], **case["answers"]}


def past_of(case: dict[str, Any]) -> Past:
    return Past(**case.get("past", {}))


def truths(case: dict[str, Any]) -> dict[str, bool | None]:
    return judge(derive(parse(answers_of(case)), EVIDENCE, past_of(case)), EVIDENCE)


def test_there_are_enough_cases_and_each_says_why_with_its_source() -> None:
    assert len(CASES) >= 40
    assert len({case["case"] for case in CASES}) == len(CASES)
    for case in CASES:
        assert case["why"]
        assert case["source"], case["case"]
        assert set(case["source"]) <= set(EVIDENCE.sources), case["case"]


ALL_TRUTHS = [truths(case) for case in CASES]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["case"] for case in CASES])
def test_case(number: int) -> None:
    case, told = CASES[number], told_of(number)
    assert told["verdict"] in case["verdicts"], told["votes"]
    assert told["confidence"]["level"] in case.get("confidence", ["high", "medium", "low"])
    held = ALL_TRUTHS[number]
    assert [clause for clause in case.get("fires", []) if held[clause] is not True] == []
    warned = {warning["rule"] for warning in told["warnings"]}
    assert set(case.get("warns", [])) <= warned
    for setting, value in case.get("method", {}).items():
        assert told["method"][setting]["value"] == value
    if told["recipe"] is None:
        assert told["next_steps"]
    else:
        recipe = recipe_yaml.parse(told["recipe"])
        assert recipe_yaml.loads(told["recipe_yaml"]) == recipe
        assert [problem for problem in api.check(recipe) if problem.severity == "error"] == []


@pytest.mark.parametrize("clause", CLAUSES)
def test_some_case_triggers_each_clause_and_some_case_does_not(clause: str) -> None:
    seen = {held[clause] for held in ALL_TRUTHS}
    assert True in seen, f"no case triggers {clause}"
    assert False in seen, f"every case triggers {clause}"


def test_all_rules_of_the_evidence_are_there() -> None:
    assert set(EVIDENCE.rules) == {"G", "D", "P", *(f"R{number}" for number in range(25))}


def test_every_verdict_is_the_answer_to_some_case() -> None:
    given = {told_of(number)["verdict"] for number in range(len(CASES))}
    assert given == set(EVIDENCE.verdicts)
