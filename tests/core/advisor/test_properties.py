"""What must hold for any answers: unknowns never crash or reassure, labels favour fine-tuning."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distill_core.advisor import advise
from distill_core.advisor.answers import Answers, fields, parse, replace
from distill_core.advisor.conditions import judge
from distill_core.advisor.evidence import load
from distill_core.advisor.facts import derive
from distill_core.advisor.past_runs import NO_PAST, Past
from distill_core.advisor.scoring import score
from distill_core.recipe import recipe_yaml

EVIDENCE = load()
LEVELS = ["low", "medium", "high"]
YES_NO = [True, False]
ROWS = [
    0,
    3,
    9,
    10,
    30,
    49,
    50,
    99,
    199,
    200,
    400,
    999,
    1000,
    1999,
    2000,
    5000,
    9999,
    10_000,
    10**6,
]
TARGETS = [0.25, 2.0, 8.0, 80.0]
MEMORY = [1.0, 16.0, 80.0, 1000.0]
SIZES = [1e5, 2e5, 1e7, 1.3e8, 1e9, 3e9, 7e9, 7e10]

VALUES: dict[str, list[Any]] = {
    "goal": ["smaller_faster", "better_at_task", "both", "new_knowledge", "style"],
    "task": ["classification", "extraction", "open_generation", "chat", "reasoning"],
    "data.labelled_rows": ROWS,
    "data.unlabelled_rows": ROWS,
    "data.held_out_rows": [0, 100, 200, 500, 1000],
    "data.label_quality": ["clean", "mixed", "poor"],
    "data.source": ["starter", "rows.jsonl", "org/rows"],
    "data.held_out_source": ["test.jsonl"],
    "data.mean_tokens": [12.0, 900.0],
    "data.longest_tokens": [40.0, 9000.0],
    "data.answer_tokens": [8.0, 700.0],
    "data.duplicate_rows": [0, 500],
    "data.leaked_rows": [0, 3],
    "teacher.exists": YES_NO,
    "teacher.name": ["pocket-teacher", "smollm2-135m-instruct", "org/model"],
    "teacher.access": ["weights", "top_k", "text"],
    "teacher.good_at_task": YES_NO,
    "teacher.held_out_score": [0.0, 0.5, 0.99],
    "teacher.parameters": SIZES,
    "teacher.license": ["apache-2.0", "llama3.1", "gemma", "openai", "some-lab-1.0"],
    "teacher.same_tokenizer": YES_NO,
    "teacher.serves_several_students": YES_NO,
    "teacher.context_tokens": [512.0, 131072.0],
    "teacher.writes_text": YES_NO,
    "student.max_parameters": SIZES,
    "student.device_memory_gib": TARGETS,
    "student.latency_ms": [10.0, 500.0],
    "student.published_checkpoint": YES_NO,
    "student.name": ["org/small"],
    "student.untrained_score": [0.0, 0.5],
    "constraints.keep_general_skills": YES_NO,
    "constraints.will_share": YES_NO,
    "constraints.calls_per_month": [10.0, 1e6],
    "constraints.task_changes": ["rarely", "monthly", "weekly"],
    "constraints.budget_gpu_hours": [0.5, 100.0],
    "machine.device": ["cpu", "cuda", "mps"],
    "machine.memory_gib": MEMORY,
    "machine.fast_bf16": YES_NO,
}


def documents(unknown: bool) -> st.SearchStrategy[dict[str, Any]]:
    extra = [None] if unknown else []
    return st.fixed_dictionaries(
        {field: st.sampled_from([*values, *extra]) for field, values in VALUES.items()}
    )


def test_the_strategies_cover_every_answer() -> None:
    assert set(VALUES) == set(fields())


@given(documents(unknown=True))
@settings(max_examples=25, deadline=None)
def test_any_answers_give_a_complete_result(answers: dict[str, Any]) -> None:
    told = advise(answers)
    assert told["verdict"] in EVIDENCE.verdicts
    assert told["runner_up"]["verdict"] != told["verdict"]
    assert told == advise(dict(reversed(answers.items()))), "the same answers, the same result"
    json.dumps(told, allow_nan=False)
    assert told["confidence"]["why"]
    assert set(told["expected"]) == {"retention", "speed", "size", "memory", "time", "cost"}
    for entry in told["expected"].values():
        assert entry == "no evidence" or (entry["low"] <= entry["high"] and entry["source"])
    if told["recipe"] is not None:
        recipe_yaml.parse(told["recipe"])
    changes = told["runner_up"]["changes"]
    if changes:
        changed = replace(parse(answers), changes)
        assert score(changed, EVIDENCE).verdict == told["runner_up"]["verdict"]


@given(documents(unknown=True), st.sets(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_an_answer_that_becomes_unknown_never_raises_confidence(
    answers: dict[str, Any], forgotten: set[str]
) -> None:
    # what was measured outranks what was said; who forgets the measurement believes the word again
    assume(derive(parse(answers), EVIDENCE).teacher_is_good is answers["teacher.good_at_task"])
    before = score(parse(answers), EVIDENCE)
    after = score(parse({**answers, **dict.fromkeys(forgotten, "unknown")}), EVIDENCE)
    assert LEVELS.index(after.confidence) <= LEVELS.index(before.confidence)


PASTS = [NO_PAST, *(Past(winner=who, labelled_rows=800) for who in ("teacher", "labels", "even"))]


@given(
    documents(unknown=True),
    st.lists(st.sampled_from(ROWS), min_size=2, max_size=2),
    st.sampled_from(PASTS),
)
@settings(max_examples=300, deadline=None)
def test_more_labels_never_move_the_verdict_away_from_fine_tuning(
    answers: dict[str, Any], rows: list[int], past: Past
) -> None:
    on_labels = EVIDENCE.sets["on_labels"]
    few, many = sorted(rows)
    start = parse({**answers, "data.labelled_rows": few})
    more = replace(start, {"data.labelled_rows": many})
    if score(start, EVIDENCE, past).verdict in on_labels:
        assert score(more, EVIDENCE, past).verdict in on_labels


@given(documents(unknown=True), st.lists(st.sampled_from(MEMORY), min_size=2, max_size=2))
@settings(max_examples=150, deadline=None)
def test_more_memory_never_turns_fits_into_does_not_fit(
    answers: dict[str, Any], memory: list[float]
) -> None:
    """In the clauses that say so, for the machine that trains and for the one that answers."""

    def held(field: str, gib: float) -> dict[str, bool | None]:
        return judge(derive(parse({**answers, field: gib}), EVIDENCE), EVIDENCE)

    small, large = sorted(memory)
    for field in ("machine.memory_gib", "student.device_memory_gib"):
        before, after = held(field, small), held(field, large)
        for fits in ("R16.fits", "R19.fits", "R22.enough"):
            assert not before[fits] or after[fits], fits
        for lacks in ("R16.no_fit", "R16.nothing_fits", "R19.both", "R22.not_enough"):
            assert before[lacks] is not False or after[lacks] is False, lacks


UNUSED = ["data.source", "data.held_out_source", "data.mean_tokens", "data.answer_tokens"]
UNUSED += ["teacher.name", "student.name"]
"""Answers that only the recipe and the forecasts use."""


@given(documents(unknown=True), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_keys_and_answers_that_no_rule_uses_change_no_verdict(
    answers: dict[str, Any], random: Any
) -> None:
    before = score(parse(answers), EVIDENCE)
    shuffled = list(answers.items())
    random.shuffle(shuffled)
    assert score(parse(dict(shuffled)), EVIDENCE) == before
    others = {field: random.choice([*VALUES[field], None]) for field in UNUSED}
    after = score(parse({**answers, **others}), EVIDENCE)
    assert (after.verdict, after.scores) == (before.verdict, before.scores)
    assert after.confidence == before.confidence
    grouped: dict[str, Any] = {}
    for field, value in shuffled:
        group, _, last = field.rpartition(".")
        (grouped.setdefault(group, {}) if group else grouped)[last] = value
    text = yaml.safe_dump(grouped, sort_keys=False)
    assert score(parse(yaml.safe_load(text)), EVIDENCE) == before, "nested, as YAML"


@given(documents(unknown=True))
@settings(max_examples=10, deadline=None)
def test_the_same_answers_give_the_same_result_to_the_letter(answers: dict[str, Any]) -> None:
    assert json.dumps(advise(answers)) == json.dumps(advise(dict(answers)))


@given(documents(unknown=False), st.lists(st.sampled_from([1.0, 8.0, 24.0, 80.0]), min_size=2))
@settings(max_examples=15, deadline=None)
def test_more_memory_never_worsens_the_fit(answers: dict[str, Any], memory: list[float]) -> None:
    def fits(gib: float) -> list[bool]:
        facts = derive(replace(parse(answers), {"machine.memory_gib": gib}), EVIDENCE)
        assert facts.machine_bytes is not None
        needs = (facts.full_bytes, facts.lora_bytes, facts.both_bytes)
        return [need is not None and need <= facts.machine_bytes for need in needs]

    small, large = fits(min(memory)), fits(max(memory))
    assert all(after >= before for before, after in zip(small, large, strict=True))

    def warned(gib: float) -> set[str]:
        told = advise({**answers, "machine.memory_gib": gib})
        return {w["rule"] for w in told["warnings"]} & {"R16.nothing_fits", "R19.both"}

    if not warned(min(memory)) and advise(answers)["recipe"] is not None:
        assert not warned(max(memory))


def test_an_exact_tie_is_broken_by_the_order_of_the_evidence() -> None:
    assert score(Answers(), EVIDENCE).ranking == score(Answers(), EVIDENCE).ranking
    level = score(parse({"goal": "smaller_faster"}), EVIDENCE)
    assert level.ranking[:2] == ["distill", "progressive_distill"]
