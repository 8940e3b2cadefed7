"""Answers: unknown in all its spellings, and mistakes told with the field and the cure."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from distill_core.advisor import advise, default_answers, is_asked, questions
from distill_core.advisor.answers import Answers, document, fields, get, parse, replace
from distill_core.errors import RecipeError

DOCUMENT = """
goal: smaller_faster
task: classification
data: {labelled_rows: 400, unlabelled_rows: 30000, held_out_rows: 500, label_quality: mixed}
teacher: {exists: true, access: weights, good_at_task: yes, parameters: 7.0e9,
  license: apache-2.0, same_tokenizer: yes, serves_several_students: no}
student: {max_parameters: 5.0e8, device_memory_gib: 8, latency_ms: null, published_checkpoint: yes}
constraints: {keep_general_skills: no, will_share: yes, calls_per_month: 2000000,
  task_changes: rarely, budget_gpu_hours: 10}
"""


def test_the_documented_example_is_read_in_full() -> None:
    answers = parse(yaml.safe_load(DOCUMENT))
    assert answers.teacher.parameters == 7e9
    assert answers.teacher.good_at_task is True
    assert answers.constraints.will_share is True
    assert answers.student.latency_ms is None


def test_dotted_names_and_groups_mean_the_same() -> None:
    grouped = parse({"goal": "both", "data": {"labelled_rows": 3, "held_out_rows": 5}})
    assert parse({"goal": "both", "data.labelled_rows": 3, "data.held_out_rows": 5}) == grouped
    assert parse({"data": {"labelled_rows": 3}, "data.held_out_rows": 5, "goal": "both"}) == grouped


@pytest.mark.parametrize("unknown", [None, "unknown", "", " Unknown ", "I don't know"])
def test_every_field_may_be_unknown(unknown: object) -> None:
    assert parse(dict.fromkeys(fields(), unknown)) == Answers()


@pytest.mark.parametrize("group", ["data", "teacher", "student", "constraints", "machine"])
@pytest.mark.parametrize("unknown", [None, "unknown", {}])
def test_a_group_may_be_unknown(group: str, unknown: object) -> None:
    assert parse({group: unknown}) == Answers()


@pytest.mark.parametrize(
    ("value", "read"), [("yes", True), ("No", False), (True, True), ("false", False)]
)
def test_yes_and_no_are_read_in_words(value: object, read: bool) -> None:
    assert parse({"teacher.exists": value}).teacher.exists is read


def test_numbers_may_have_separators() -> None:
    assert parse({"data.labelled_rows": "20,000"}).data.labelled_rows == 20_000


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"gaol": "both"}, "gaol", "no answer called 'gaol'.*Did you mean 'goal'"),
        ({"data": {"labeled_rows": 1}}, "data.labeled_rows", "Did you mean 'labelled_rows'"),
        ({"data.labelled_rows": -4}, "data.labelled_rows", "-4 is no answer.*at least 0"),
        ({"data.labelled_rows": "many"}, "data.labelled_rows", "'many'.*Use a number, or unknown"),
        ({"data.labelled_rows": True}, "data.labelled_rows", "Use a number"),
        ({"teacher.exists": "maybe"}, "teacher.exists", "'maybe'.*yes, no or unknown"),
        ({"teacher.held_out_score": 99}, "teacher.held_out_score", "at most 1"),
        ({"student.max_parameters": 0}, "student.max_parameters", "above 0"),
        ({"student.max_parameters": float("nan")}, "student.max_parameters", "Use a number"),
        ({"goal": "fame"}, "goal", "'fame'.*smaller_faster.*or unknown"),
        ({"teacher.license": ["a"]}, "teacher.license", "short text"),
        ({"data": 5}, "data", "group of answers"),
    ],
)
def test_a_wrong_answer_is_told_with_its_field_and_a_cure(
    document: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=f"(?s){message}") as caught:
        advise(document)
    assert [problem.field for problem in caught.value.problems] == [field]
    assert len(str(caught.value).splitlines()) == 1


def test_all_wrong_answers_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        advise({"goal": "fame", "data": {"held_out_rows": -1}, "teacher": {"excess": "yes"}})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("document", [[1], "distill", 3])
def test_answers_are_a_mapping(document: Any) -> None:
    with pytest.raises(RecipeError, match="YAML mapping"):
        advise(document)


def test_replace_changes_only_what_it_names() -> None:
    before = parse({"goal": "both", "data.labelled_rows": 5, "teacher.exists": True})
    after = replace(before, {"data.labelled_rows": 7, "goal": "style"})
    assert (after.data.labelled_rows, after.goal, after.teacher.exists) == (7, "style", True)
    assert before.data.labelled_rows == 5


# --- questions --------------------------------------------------------------------------------

MACHINE = {"device": "cuda", "dtype": "bf16", "device_memory_total_bytes": 24 * 2**30}


def test_questions_ask_for_fields_that_exist_once_each() -> None:
    asked = [question["field"] for question in questions()]
    assert len(asked) == len(set(asked))
    assert set(asked) <= set(fields())


def test_every_question_has_a_title_a_help_and_a_way_not_to_know() -> None:
    for question in questions():
        assert question["title"]
        assert question["help"].endswith(".")
        values = [choice["value"] for choice in question["choices"]]
        assert question["kind"] in {"number", "text"} or "unknown" in values
        assert question["kind"] in {"number", "text"} or question["default"] in values


@pytest.mark.parametrize("question", questions(), ids=lambda question: question["field"])
def test_every_choice_is_an_answer(question: dict[str, Any]) -> None:
    for choice in question["choices"]:
        parse({question["field"]: choice["value"]})
    parse({question["field"]: question["default"]})


def test_a_question_is_asked_only_where_it_matters() -> None:
    asked = {question["field"]: question for question in questions()}
    assert is_asked(asked["teacher.name"], {"teacher.exists": "yes"})
    assert is_asked(asked["teacher.name"], {}), "not known yet"
    assert not is_asked(asked["teacher.name"], {"teacher.exists": "no"})
    assert is_asked(asked["goal"], {"teacher.exists": "no"})
    known = set(fields())
    for question in questions():
        for field, values in question["when"].items():
            assert field in known
            for value in values:
                parse({field: value})


def test_answers_are_written_as_the_document_that_is_read() -> None:
    answers = parse(yaml.safe_load(DOCUMENT))
    written = document(answers)
    assert list(written) == ["goal", "task", "data", "teacher", "student", "constraints"]
    assert written["data"]["labelled_rows"] == 400
    assert "latency_ms" not in written["student"]
    assert parse(yaml.safe_load(yaml.safe_dump(written))) == answers


def test_the_machine_answers_for_itself() -> None:
    defaults = default_answers(MACHINE)
    assert defaults["machine.device"] == "cuda"
    assert defaults["machine.memory_gib"] == 24.0
    assert defaults["machine.fast_bf16"] == "yes"
    assert default_answers()["machine.device"] == "unknown"


def test_asking_twice_gives_fresh_questions() -> None:
    questions()[0]["default"] = "spoilt"
    questions()[0]["choices"].clear()
    assert questions()[0]["default"] == "smaller_faster"
    assert questions()[0]["choices"]
    assert get(parse(default_answers()), "goal") == "smaller_faster"
