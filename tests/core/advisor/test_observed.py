"""Answers that the machine, the rows and the models give: what is read, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core import api, models
from distill_core.advisor import observed
from distill_core.advisor.answers import Answers, get, parse


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def row(prompt: str, response: str | None = None) -> dict[str, Any]:
    return {"prompt": prompt} | ({"response": response} if response else {})


def complete(document: dict[str, Any]) -> tuple[Answers, dict[str, observed.Seen]]:
    found = observed.complete(parse(document))
    return found.answers, {seen.field: seen for seen in found.filled}


def test_rows_labels_lengths_and_duplicates_are_counted(tmp_path: Path) -> None:
    rows = [row(f"turn on light {n}", "on") for n in range(7)]
    rows += [row("dim the hall")] * 2 + [row("a much longer prompt than all the others" * 3)]
    answers, seen = complete({"data.source": write(tmp_path / "rows.jsonl", rows)})
    assert (answers.data.labelled_rows, answers.data.unlabelled_rows) == (7, 3)
    assert answers.data.duplicate_rows == 1
    assert answers.data.longest_tokens == 30, "120 letters, four to a token"
    assert answers.data.answer_tokens == 1
    letters = [len(one["prompt"]) for one in rows]
    tokens = [-(-count // 4) for count in letters]
    assert answers.data.mean_tokens == pytest.approx((sum(tokens) + 7) / 10, abs=0.06)
    assert "rows.jsonl" in seen["data.labelled_rows"].words
    assert "4 letters" in seen["data.mean_tokens"].words


def test_tokens_are_those_of_the_teacher_where_it_is_here(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row("turn on the kitchen light", "on")])
    answers, seen = complete({"data.source": path, "teacher.name": "pocket-teacher"})
    folder = models.local_folder("pocket-teacher")
    assert folder is not None
    tokenizer = models.load_tokenizer(folder)
    counts = [
        len(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in ("turn on the kitchen light", "on")
    ]
    assert answers.data.longest_tokens == sum(counts)
    assert "pocket-teacher" in seen["data.mean_tokens"].words


def test_rows_of_a_test_file_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [row(f"p{n}", "a") for n in range(30)])
    test = write(tmp_path / "test.jsonl", [row(f"P{n}", "a") for n in range(25, 40)])
    answers, _ = complete({"data.source": train, "data.held_out_source": test})
    assert answers.data.held_out_rows == 15
    assert answers.data.leaked_rows == 5, "case does not make another prompt"


@pytest.mark.parametrize(
    ("wrong", "quality"), [(0, None), (1, "mixed"), (10, "poor")], ids=["none", "one", "many"]
)
def test_labels_that_contradict_each_other_are_wrong_somewhere(
    wrong: int, quality: str | None, tmp_path: Path
) -> None:
    rows = [row(f"p{n}", "a") for n in range(40)]
    rows += [row(f"p{n}", "b" if n < wrong else "a") for n in range(40)]
    answers, seen = complete({"data.source": write(tmp_path / "rows.jsonl", rows)})
    assert answers.data.label_quality == quality
    if quality:
        words = seen["data.label_quality"].words
        assert f"Of 40 prompts in rows.jsonl that come more than once, {wrong}" in words


def test_too_few_repeated_prompts_say_nothing_of_the_labels(tmp_path: Path) -> None:
    rows = [row("p", "a"), row("p", "b")]
    answers, _ = complete({"data.source": write(tmp_path / "rows.jsonl", rows)})
    assert answers.data.label_quality is None


def test_the_starter_is_counted_like_any_other_rows() -> None:
    answers, _ = complete({"data.source": "starter", "teacher.name": "pocket-teacher"})
    assert answers.data.labelled_rows == 500
    assert answers.data.unlabelled_rows == 20_000
    assert answers.data.held_out_rows == 1000
    assert answers.data.leaked_rows == 0
    assert answers.teacher.held_out_score is not None


def test_a_teacher_says_its_size_licence_context_and_kind() -> None:
    answers, seen = complete({"teacher.name": "smollm2-135m-instruct"})
    assert answers.teacher.parameters == 134_515_008
    assert answers.teacher.license == "apache-2.0"
    assert answers.teacher.context_tokens == 8192
    assert answers.teacher.access == "weights"
    assert answers.teacher.writes_text is True
    assert answers.teacher.exists is True
    assert seen["teacher.parameters"].words == "Read from smollm2-135m-instruct."
    encoder, _ = complete({"teacher.name": "minilm-l6"})
    assert encoder.teacher.writes_text is False


def test_tokenizers_of_a_chosen_pair_are_compared(tiny_teacher_dir: Path) -> None:
    pair = {"teacher.name": "pocket-teacher", "student.name": str(tiny_teacher_dir)}
    other, seen = complete(pair)
    assert other.teacher.same_tokenizer is False
    assert "tokenizer" in seen["teacher.same_tokenizer"].words
    assert other.student.max_parameters == models_parameters(tiny_teacher_dir)
    assert other.student.published_checkpoint is True
    same, _ = complete({**pair, "teacher.name": str(tiny_teacher_dir)})
    assert same.teacher.same_tokenizer is True


def models_parameters(folder: Path) -> int:
    return int(api.model_facts(str(folder))["parameters"])


def test_a_student_made_of_its_teacher_has_its_tokenizer() -> None:
    made = {"teacher.name": "pocket-teacher", "student.published_checkpoint": "no"}
    assert complete(made)[0].teacher.same_tokenizer is True
    assert complete({"teacher.name": "pocket-teacher"})[0].teacher.same_tokenizer is None


def test_the_machine_is_read_unless_training_is_elsewhere() -> None:
    here = api.machine()
    answers, seen = complete({})
    assert answers.machine.device == here["device"]
    assert seen["machine.memory_gib"].words == "Read from this machine."
    elsewhere = "mps" if here["device"] != "mps" else "cuda"
    assert complete({"machine.device": elsewhere})[0].machine.memory_gib is None


def test_what_was_answered_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row(f"p{n}", "a") for n in range(9)])
    said: dict[str, Any] = {
        "data.source": path,
        "data.labelled_rows": 4,
        "teacher.name": "pocket-teacher",
        "teacher.parameters": 7e9,
        "machine.memory_gib": 3.0,
    }
    answers, seen = complete(said)
    for field, value in said.items():
        assert get(answers, field) == value
        assert field not in seen


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"data.source": "{tmp}/rows.jsonl"}, "no column has a name that says prompt"),
        ({"teacher.name": "{tmp}/nothing"}, "nothing"),
    ],
)
def test_what_cannot_be_read_is_told_and_stops_nothing(
    document: dict[str, str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"colour": "red"}\n', encoding="utf-8")
    named = {field: value.format(tmp=tmp_path) for field, value in document.items()}
    found = observed.complete(parse(named))
    assert any(words in note for note in found.notes), found.notes
    assert found.answers.machine.device is not None
    told = api.advise(named, runs_dir=tmp_path)
    assert told["notes"] == found.notes


def test_the_hub_is_not_asked_unless_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    facts = {"parameters": 5, "license": "mit", "max_seq_len": 9, "tasks": ["causal_lm"]}

    def look(name: str) -> dict[str, Any]:
        asked.append(name)
        return facts

    monkeypatch.setattr(observed.model_facts, "facts", look)
    document = parse({"teacher.name": "org/some-model"})
    assert observed.complete(document).answers.teacher.parameters is None
    assert asked == []
    assert observed.complete(document, hub=True).answers.teacher.parameters == 5


def test_advice_tells_what_it_filled_in_and_counts_with_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row(f"prompt {n}", "a") for n in range(400)])
    told = api.advise({"data": {"source": path, "labelled_rows": "unknown"}}, runs_dir=tmp_path)
    filled = {entry["field"]: entry["value"] for entry in told["filled"]}
    assert filled["data.labelled_rows"] == 400
    assert told["answers"]["data"]["labelled_rows"] == 400
    assert filled["machine.fast_bf16"] in {"yes", "no"}
    seen = api.observed_answers({"data": {"source": path}})
    assert {entry["field"]: entry["value"] for entry in seen["filled"]} == filled
    assert seen["notes"] == []
