"""lm-eval's scores of a run's models, against a count made with plain transformers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill_core import api, cli, files, harness
from distill_core.comparing import lineup
from distill_core.errors import DistillError, RunError
from distill_core.students import build
from tests.core.harness.local_tasks import ROWS, write_tasks

KEYS = ["teacher", "student", "untrained_student"]


def right_by_hand(network: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> list[int]:
    """Whether the choice of the highest likelihood is the right one, row by row."""
    found = []
    for row in rows:
        nats = []
        for choice in row["choices"]:
            start, ids = (tokenizer.encode(row["question"] + text) for text in ("", choice))
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            nats.append(sum(float(logits[at - 1, ids[at]]) for at in range(len(start), len(ids))))
        found.append(int(max(range(len(nats)), key=nats.__getitem__) == row["gold"]))
    return found


def score(found: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    rows = [row for row in found["scores"] if wanted.items() <= row.items()]
    assert len(rows) == 1, wanted
    return rows[0]


def test_every_member_of_a_run_equals_a_count_by_hand(
    make_run: Callable[..., Path], tasks_dir: Path, tiny_teacher_dir: Path
) -> None:
    run_dir = make_run()
    found = api.harness(str(run_dir), ["pick"], tasks_dir=tasks_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher_dir)
    built = lineup.member(run_dir, "untrained_student").build
    assert built is not None
    networks = {
        "teacher": AutoModelForCausalLM.from_pretrained(tiny_teacher_dir),
        "student": AutoModelForCausalLM.from_pretrained(run_dir / "student"),
        "untrained_student": build.build_student(built, source=tiny_teacher_dir, seed=0),
    }
    counts = {key: right_by_hand(one.eval(), tokenizer, ROWS) for key, one in networks.items()}
    assert len({sum(count) for count in counts.values()}) > 1, "the models can be told apart"
    for key, right in counts.items():
        share = sum(right) / len(right)
        row = score(found, model=key, task="pick", metric="acc")
        assert row["value"] == pytest.approx(share)
        assert row["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / (len(right) - 1)))
        assert (row["n_samples"], row["n_shot"], row["version"]) == (len(ROWS), 0, 2.0)
        assert row["higher_is_better"] is True
        assert row["filter"] == "none"


def test_the_starters_teacher_knows_its_commands(tmp_path: Path) -> None:
    """On real weights and text: the right command against those of other rows."""
    from distill_core.models import resolve

    folder = resolve("pocket-teacher")
    pairs = [(r["prompt"], r["response"]) for r in held_out_commands(12)]
    rows = [
        {
            "question": f"<user> {prompt}<assistant>",
            "choices": [pairs[(at + step) % len(pairs)][1] for step in (0, 1, 2)],
            "gold": 0,
        }
        for at, (prompt, _) in enumerate(pairs)
    ]
    tasks = write_tasks(tmp_path / "tasks", rows)
    found = api.harness("pocket-teacher", ["pick"], tasks_dir=tasks)
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    right = right_by_hand(network, AutoTokenizer.from_pretrained(folder), rows)
    assert found["run"] is None
    assert score(found, metric="acc")["value"] == pytest.approx(sum(right) / len(right))
    assert sum(right) >= 10


def held_out_commands(count: int) -> list[dict[str, str]]:
    from distill_core.starter import splits

    rows: list[dict[str, str]] = []
    for row in splits.rows("held_out"):
        rows.append({"prompt": str(row["prompt"]), "response": str(row["response"])})
        if len(rows) == count:
            break
    return rows


def test_a_member_that_is_several_teachers(
    make_run: Callable[..., Path], tasks_dir: Path, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    shares = [
        lineup.Share(source=str(tiny_teacher_dir), weight=0.5),
        lineup.Share(source=str(tiny_student_dir), weight=0.5),
    ]
    run_dir = make_run(mixture=shares)
    found = api.harness(str(run_dir), ["mine"], tasks_dir=tasks_dir, models=["teacher"])
    assert {row["task"] for row in found["scores"]} == {"pick", "write"}
    assert {row["model"] for row in found["scores"]} == {"teacher"}


def test_settings_reach_lm_eval(make_run: Callable[..., Path], tasks_dir: Path) -> None:
    run = str(make_run())

    def asked(**settings: Any) -> dict[str, Any]:
        return api.harness(run, ["pick"], tasks_dir=tasks_dir, models=["student"], **settings)

    assert score(asked(limit=7), metric="acc")["n_samples"] == 7
    assert score(asked(shots=2), metric="acc")["n_shot"] == 2
    assert score(asked(batch_size=1), metric="acc") == score(asked(batch_size=20), metric="acc")
    with pytest.raises(DistillError, match="no chat template"):
        asked(chat_template=True)


def test_shots_change_the_question(make_run: Callable[..., Path], tasks_dir: Path) -> None:
    run = str(make_run())
    found = [api.harness(run, ["mine"], tasks_dir=tasks_dir, shots=shots) for shots in (0, 3)]
    values = [[row["value"] for row in one["scores"]] for one in found]
    assert values[0] != values[1]


def test_a_run_keeps_each_measurement_once(make_run: Callable[..., Path], tasks_dir: Path) -> None:
    run_dir = make_run()

    def asked(**settings: Any) -> dict[str, Any]:
        return api.harness(str(run_dir), ["pick"], tasks_dir=tasks_dir, **settings)

    asked()
    asked(limit=5, models=["student"])
    asked(models=["student"])
    kept = api.show(str(run_dir))["harness"]
    assert kept["run"] == run_dir.name
    assert kept["harness"].startswith("lm-eval 0.")
    accuracy = [(r["model"], r["n_samples"]) for r in kept["scores"] if r["metric"] == "acc"]
    assert sorted(accuracy) == sorted([*((key, len(ROWS)) for key in KEYS), ("student", 5)])


def test_what_other_weights_scored_is_forgotten(
    make_run: Callable[..., Path], tasks_dir: Path
) -> None:
    run_dir = make_run()
    api.harness(str(run_dir), ["pick"], tasks_dir=tasks_dir, limit=5, models=["student"])
    weights = AutoModelForCausalLM.from_pretrained(run_dir / "student")
    with torch.no_grad():
        weights.model.norm.weight.mul_(2)
    weights.save_pretrained(run_dir / "student")
    api.harness(str(run_dir), ["pick"], tasks_dir=tasks_dir, models=["student"])
    kept = files.read_json(run_dir / harness.FILE)["scores"]
    assert {row["n_samples"] for row in kept} == {len(ROWS)}


def test_what_cannot_be_scored_is_said(make_run: Callable[..., Path], tasks_dir: Path) -> None:
    run_dir = make_run()
    with pytest.raises(RunError, match="it has: teacher, student, untrained_student"):
        api.harness(str(run_dir), ["pick"], tasks_dir=tasks_dir, models=["nobody"])
    long = write_tasks(tasks_dir, generation_kwargs={"until": ["x"], "max_gen_toks": 5000})
    with pytest.raises(DistillError, match=r"lm-eval stopped in write: .*5000"):
        api.harness(str(run_dir), ["write"], tasks_dir=long, models=["student"])
    unsafe = write_tasks(tasks_dir, unsafe_code=True)
    with pytest.raises(DistillError, match="pick runs the code that a model writes"):
        api.harness(str(run_dir), ["pick"], tasks_dir=unsafe)


def test_classifiers_are_sent_to_the_own_scores(make_run: Callable[..., Path]) -> None:
    run_dir = make_run()
    recipe = run_dir / "recipe.yaml"
    recipe.write_text("task: text_classification\n" + recipe.read_text())
    with pytest.raises(RunError, match="distill-studio evaluate"):
        api.harness(str(run_dir), ["pick"])


def test_without_the_extra_its_installation_is_told(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(make_run())
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for name in (run, "pocket-teacher"):
        with pytest.raises(DistillError, match=r"pip install 'distill-studio\[lm-eval\]'"):
            api.harness(name, ["pick"])


@pytest.mark.parametrize(
    ("name", "is_model"),
    [("pocket-teacher", True), ("org/name", True), ("latest", False), ("2026-a", False)],
)
def test_names_of_models_and_of_runs(name: str, is_model: bool) -> None:
    assert harness.names_a_model(name) is is_model


def test_folders_of_models_and_of_runs(make_run: Callable[..., Path]) -> None:
    run_dir = make_run()
    assert not harness.names_a_model(str(run_dir))
    assert harness.names_a_model(str(run_dir / "student"))
    assert not harness.names_a_model(str(run_dir.parent / "gone"))


# --- the command ------------------------------------------------------------------------------


def test_the_command_prints_one_document(
    make_run: Callable[..., Path], tasks_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(make_run())
    given = ["harness", run, "pick,write", "--tasks-dir", str(tasks_dir), "--limit", "4"]
    assert cli.main([*given, "--model", "student", "--model", "teacher", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert {(row["model"], row["task"]) for row in found["scores"]} == {
        (model, task) for model in ("student", "teacher") for task in ("pick", "write")
    }
    assert "Scoring the student" in told.err
    assert cli.main(["show", run]) == 0
    shown = capsys.readouterr().out
    assert "lm-eval 0." in shown
    assert "exact_match ↑" in shown


def test_the_command_tells_a_wrong_name(
    make_run: Callable[..., Path], tasks_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(make_run())
    assert cli.main(["harness", run, "pik", "--tasks-dir", str(tasks_dir), "--json"]) == 1
    told = capsys.readouterr()
    assert "Did you mean 'pick'" in json.loads(told.out)["error"]["message"]
    assert "Traceback" not in told.err


# --- lm-eval's results ------------------------------------------------------------------------


def test_groups_and_missing_errors_become_rows() -> None:
    results = {
        "results": {
            "one": {"alias": "one", "sample_len": 3, "acc,none": 0.5, "acc_stderr,none": "N/A"},
            "two": {"f1,strict": 0.25, "f1_stderr,strict": 0.1, "note,strict": "words"},
        },
        "groups": {"both": {"alias": "both", "acc,none": 0.4, "acc_stderr,none": 0.2}},
        "versions": {"one": 1.0},
        "n-shot": {"one": 0, "two": 5},
        "higher_is_better": {"one": {"acc": True}, "two": {"f1": None}},
        "n-samples": {"one": {"original": 9, "effective": 3}},
    }
    found = [
        (r["task"], r["metric"], r["filter"], r["value"], r["stderr"], r["n_samples"], r["n_shot"])
        for r in harness.rows_of(results)
    ]
    assert found == [
        ("one", "acc", "none", 0.5, None, 3, 0),
        ("two", "f1", "strict", 0.25, 0.1, None, 5),
        ("both", "acc", "none", 0.4, 0.2, None, None),
    ]
