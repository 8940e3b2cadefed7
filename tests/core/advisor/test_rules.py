"""The result: its reasons, its rival, its sources, its recipe; and the evidence behind it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from distill_core import api
from distill_core.advisor import advise, conditions, default_answers, flips
from distill_core.advisor.answers import fields, parse, replace
from distill_core.advisor.evidence import PATH, Evidence, load
from distill_core.advisor.facts import all_of, any_of, derive, negate
from distill_core.advisor.scoring import level, score
from distill_core.advisor.student_sizes import Known
from distill_core.recipe import ready_recipes, recipe_yaml

EVIDENCE = load()
STARTER = default_answers(
    {"device": "cpu", "dtype": "fp32", "memory_total_bytes": 16 * 2**30, "name": "CPU"}
)
LABELS = {
    **STARTER,
    "data.source": "rows.jsonl",
    "data.labelled_rows": 20_000,
    "data.label_quality": "clean",
    "teacher.exists": "no",
    "teacher.name": "unknown",
    "student.published_checkpoint": "yes",
}


# --- the evidence -----------------------------------------------------------------------------


def test_conditions_and_evidence_name_the_same_clauses() -> None:
    assert list(conditions.CONDITIONS) == [clause_id for clause_id, _, _ in EVIDENCE.clauses()]


def test_no_vote_is_heavier_than_its_strength_allows() -> None:
    for clause_id, rule, clause in EVIDENCE.clauses():
        limit = EVIDENCE.max_vote[clause.strength or rule.strength]
        assert all(abs(vote) <= limit for vote in EVIDENCE.votes(clause).values()), clause_id


def test_every_clause_says_its_condition_and_has_an_effect_in_words() -> None:
    for clause_id, rule, clause in EVIDENCE.clauses():
        assert clause.when, clause_id
        assert clause.votes or clause.veto or clause.warning or clause.method, clause_id
        if clause.votes or clause.veto:
            assert clause.headline, clause_id
            assert clause.sentence, clause_id
        assert rule.conflict or not clause.conflicting, clause_id


def test_evidence_with_a_misspelt_verdict_is_refused() -> None:
    data = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    broken = copy.deepcopy(data)
    broken["rules"]["R3"]["clauses"]["exists"]["votes"] = {"distil": 1}
    with pytest.raises(ValueError, match="unknown verdicts"):
        Evidence.model_validate(broken)
    data["rules"]["R3"]["source"] = "hearsay"
    with pytest.raises(ValueError, match="unknown source"):
        Evidence.model_validate(data)


def test_the_deciding_answers_are_those_that_votes_depend_on() -> None:
    """Forgetting an answer leaves a voting clause open for exactly the answers listed."""
    found = set()
    bases = [STARTER, LABELS, {**LABELS, "teacher.exists": "yes", "teacher.license": "openai"}]
    bases.append({**STARTER, "constraints.will_share": "yes", "teacher.license": "openai"})
    bases.append({**STARTER, "student.max_parameters": 2e6})
    bases.append({**STARTER, "data.labelled_rows": 100})
    for base in bases:
        known = score(parse(base), EVIDENCE)
        for field in fields():
            forgotten = score(parse({**base, field: "unknown"}), EVIDENCE)
            for clause_id, votes, vetoes in EVIDENCE.ballots:
                changed = forgotten.known[clause_id] != known.known[clause_id]
                if changed and (votes or vetoes):
                    found.add(field)
    assert found == set(flips.DECIDING)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("Llama-3.1-8B", "conditions"),
        ("gemma", "conditions"),
        ("OpenAI terms of use", "restricted"),
        ("apache-2.0", "free"),
        ("MIT", "free"),
        ("some-lab-1.0", None),
        (None, None),
    ],
)
def test_licences_are_found_by_name(name: str | None, outputs: str | None) -> None:
    entry = EVIDENCE.license(name)
    assert (entry.outputs if entry else None) == outputs


# --- logic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False, None])
@pytest.mark.parametrize("second", [True, False, None])
def test_unknown_stays_unknown_unless_the_rest_decides(
    first: bool | None, second: bool | None
) -> None:
    def possible(value: bool | None) -> list[bool]:
        return [True, False] if value is None else [value]

    both = {a and b for a in possible(first) for b in possible(second)}
    one = {a or b for a in possible(first) for b in possible(second)}
    assert all_of(first, second) == (both.pop() if len(both) == 1 else None)
    assert any_of(first, second) == (one.pop() if len(one) == 1 else None)
    assert negate(first) == (None if first is None else not first)


def test_the_score_is_the_sum_of_the_votes_shown() -> None:
    told = advise(STARTER)
    for row in told["votes"]:
        prior = EVIDENCE.prior.get(row["verdict"], 0.0)
        assert row["score"] == pytest.approx(prior + sum(row["votes"].values()))
    assert [row["verdict"] for row in told["votes"]][:2] == [
        told["verdict"],
        told["runner_up"]["verdict"],
    ]


@pytest.mark.parametrize(
    ("lead", "name"), [(3.0, "high"), (2.9, "medium"), (1.0, "medium"), (0.9, "low"), (-1, "low")]
)
def test_levels_of_confidence(lead: float, name: str) -> None:
    assert level(lead, EVIDENCE) == name


def test_a_forgotten_answer_that_matters_lowers_confidence() -> None:
    sure = advise(STARTER)["confidence"]["level"]
    unsure = advise({**STARTER, "teacher.good_at_task": "unknown"})
    assert (sure, unsure["confidence"]["level"]) == ("high", "low")
    assert unsure["leaning"]["open"][0]["field"] == "teacher.good_at_task"
    assert unsure["leaning"]["answered"] == advise(STARTER)["leaning"]["answered"] - 1


@pytest.mark.parametrize("open_answer", ["teacher.exists", "teacher.good_at_task"])
def test_a_good_teacher_is_assumed_but_asked_for_and_said_to_be_assumed(open_answer: str) -> None:
    told = advise({**STARTER, open_answer: "unknown"})
    assert told["verdict"] == "distill"
    assert told["confidence"]["level"] == "low"
    assert told["leaning"]["open"][0]["field"] == open_answer
    assert any("nobody has said so" in reason["sentence"] for reason in told["reasons"])


def test_rows_alone_lean_towards_a_teacher_that_could_label_them() -> None:
    rows = {"data.labelled_rows": 500, "data.unlabelled_rows": 20_000, "data.held_out_rows": 1000}
    assert advise(rows)["verdict"] == "distill"
    assert advise({**rows, "teacher.exists": "no"})["verdict"] == "fine_tune"


# --- the result -------------------------------------------------------------------------------


def test_the_starter_is_distilled_with_its_own_recipe() -> None:
    told = advise(STARTER)
    assert (told["verdict"], told["confidence"]["level"]) == ("distill", "high")
    assert recipe_yaml.parse(told["recipe"]) == ready_recipes.read("pocket_student")
    assert told["runner_up"]["verdict"] == "fine_tune"
    assert told["roads"]["teacher"]["verdict"] == "distill"
    assert told["roads"]["teacher"]["recipe"] == told["recipe"]
    assert told["roads"]["labels"]["verdict"] == "fine_tune"
    assert told["roads"]["labels"]["recipe"]["stages"][0]["kind"] == "fine_tune"
    ruled_out = advise(LABELS)["roads"]["teacher"]["ruled_out"]
    assert ruled_out == "There is no teacher."
    assert not [p for p in api.check(api.load_recipe(told["recipe"])) if p.severity == "error"]


def test_reasons_are_two_or_three_with_sources_and_name_the_users_numbers() -> None:
    told = advise(STARTER)
    assert 2 <= len(told["reasons"]) <= 3
    assert all(reason["source"] and reason["strength"] in "ABC" for reason in told["reasons"])
    assert any("20,000" in reason["sentence"] for reason in told["reasons"])
    assert told["reasons"][0]["published"].startswith("with 3 % of the speech data")


def test_the_reasons_speak_of_the_other_road_too() -> None:
    told = advise(LABELS)
    assert told["runner_up"]["verdict"] == "lora_fine_tune"
    headlines = [reason["headline"] for reason in told["reasons"]]
    assert "There is no teacher." in headlines
    assert "Labels by the thousand." in headlines


def test_reasons_speak_for_the_verdict_and_for_no_other_road() -> None:
    weekly = {"goal": "new_knowledge", "task": "chat", "constraints.task_changes": "weekly"}
    told = advise({**STARTER, **weekly})
    assert told["verdict"] == "retrieve"
    assert [reason["rule"] for reason in told["reasons"]] == ["R1.new_facts", "R21.changes"]
    assert "fine-tuning" not in told["runner_up"]["why_lost"]
    assert "Measure" not in told["confidence"]["why"], "nothing is trained"


def test_the_teacher_is_asked_for_text_only_where_it_teaches() -> None:
    hosted = {"teacher.access": "text", "teacher.license": "hosted", "constraints.will_share": True}
    labels = {"data.labelled_rows": 20_000, "data.label_quality": "clean"}
    told = advise({**STARTER, **hosted, **labels, "data.unlabelled_rows": 1000})
    assert told["roads"]["labels"]["verdict"] == told["verdict"]
    assert "Let the teacher answer" not in str(told["next_steps"])
    assert "Let the teacher answer" in str(told["roads"]["teacher"]["to_fill"])


def test_what_is_our_own_is_not_told_as_published() -> None:
    told = advise({**STARTER, "constraints.task_changes": "weekly"})
    own = [reason for reason in told["reasons"] if reason["source"] == "Our own inference"]
    assert own
    assert {reason["published"] for reason in own} == {""}


def test_the_starters_own_recipe_needs_no_facts_of_its_teacher() -> None:
    def asked(name: str, *_: Any) -> Any:
        raise AssertionError(f"facts of {name} were asked for")

    told = advise(STARTER, known=Known(facts=asked, size=lambda *_: None))
    assert told["recipe"] == advise(STARTER)["recipe"]


def test_the_flip_is_found_by_asking_again() -> None:
    told = advise(STARTER)
    assert told["runner_up"]["flips_when"] == "with 5,000 clean labels instead of 500"
    changed = advise({**STARTER, **told["runner_up"]["changes"]})
    assert changed["verdict"] == "fine_tune"
    fewer = {**told["runner_up"]["changes"], "data.labelled_rows": 1000}
    assert advise({**STARTER, **fewer})["verdict"] == "distill"


def test_more_labels_flip_a_plain_case() -> None:
    answers = {**STARTER, "data.label_quality": "clean", "data.unlabelled_rows": 5000}
    told = advise(answers)
    assert told["verdict"] == "distill"
    assert told["runner_up"]["flips_when"] == "with 2,000 labelled rows instead of 500"


def test_without_any_change_that_turns_it_the_flip_is_none() -> None:
    told = parse({**STARTER, "teacher.exists": "no", "constraints.task_changes": "weekly"})
    assert flips.flips_when(told, "fine_tune_then_distill", EVIDENCE) is None


def test_conflicts_between_sources_are_said() -> None:
    told = advise(
        {**STARTER, "task": "chat", "teacher.parameters": 7e9, "student.max_parameters": 1e8}
    )
    assert {conflict["rule"] for conflict in told["conflicts"]} == {"R8", "R12"}
    classes = advise({**STARTER, "task": "classification"})
    assert "R10" in {conflict["rule"] for conflict in classes["conflicts"]}
    assert "2 to 4" in classes["method"]["temperature"]["conflict"]


def test_published_ranges_need_a_comparable_size() -> None:
    near = advise(STARTER)["expected"]["retention"]
    assert (near["low"], near["high"]) == (80, 96.8)
    assert "TinyBERT" in near["what"]
    assert "1909.10351" in near["source"]
    far = advise({**STARTER, "student.max_parameters": 20_000})["expected"]
    assert far["retention"] == "no evidence"
    assert advise(LABELS)["expected"]["retention"] == "no evidence"
    chat = advise({**STARTER, "task": "chat"})["expected"]["retention"]
    assert "TinyBERT" not in chat["what"]


def test_quantising_quotes_its_own_figure() -> None:
    told = advise({**STARTER, "student.max_parameters": 2e6, "data.unlabelled_rows": 0})
    assert told["verdict"] == "quantize_only"
    assert told["expected"]["retention"]["low"] == 99.75
    assert told["recipe"] is None
    assert told["next_steps"]


def test_memory_is_the_papers_arithmetic() -> None:
    facts = derive(parse({"student.max_parameters": 1e9, "teacher.parameters": 7e9}), EVIDENCE)
    assert facts.full_bytes == pytest.approx(18e9 * 1.2)
    assert facts.both_bytes == pytest.approx(18e9 * 1.2 + 14e9)
    assert facts.size_ratio == 7


def test_standard_error_of_six_hundred_rows_is_one_point_two() -> None:
    facts = derive(parse({"data.held_out_rows": 600}), EVIDENCE)
    assert facts.score_error == pytest.approx(1.22, abs=0.01)
    both = {"teacher.held_out_score": 0.5, "student.untrained_score": 0.5}
    paired = derive(parse({"data.held_out_rows": 100, **both}), EVIDENCE)
    assert paired.two_errors == pytest.approx(2 * 100 * (2 * 0.25 / 100) ** 0.5)


def test_the_licence_is_told_and_not_asked_of_nobody() -> None:
    told = advise({**STARTER, "teacher.license": "llama3.1"})
    assert told["license"]["outputs"] == "conditions"
    assert "Llama" in told["license"]["text"]
    assert any(warning["rule"] == "R2.conditions" for warning in told["warnings"])
    assert advise({**LABELS, "teacher.license": "llama3.1"})["license"] is None


def test_replacing_answers_by_dotted_name_is_what_flips_do() -> None:
    answers = parse(STARTER)
    assert replace(answers, {"data.labelled_rows": 500}) == answers
