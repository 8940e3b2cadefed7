"""The exported folder: loads elsewhere, says what it is, and never destroys anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill_core import api, files, runs
from distill_core.errors import DiskFullError, DistillError, RunError
from distill_core.export import hugging_face
from distill_core.recipe import recipe_yaml

EVALUATION: dict[str, Any] = {
    "data": {"rows": 500},
    "models": {
        "teacher": {
            **{"parameters": 4000, "exact_match": 0.98, "exact_match_ci95": [0.963, 0.989]},
            **{"cross_entropy": 0.051, "tokens_per_s": 70.0},
        },
        "student": {
            **{"parameters": 1000, "exact_match": 0.96, "exact_match_ci95": [0.939, 0.974]},
            **{"cross_entropy": 0.071, "kl_to_teacher": 0.022, "tokens_per_s": 140.0},
        },
    },
    **{"retention": 0.9796, "retention_ci95": [0.96, 0.99], "size_ratio": 4.0},
    **{"verdict": "beats", "verdict_reason": "+40 points, 3 seeds."},
}


@pytest.fixture
def finished(tmp_path: Path, tiny_teacher_dir: Path, tiny_student_dir: Path) -> Path:
    """The folder of a finished run."""
    rows = tmp_path / "private" / "rows.jsonl"
    recipe = recipe_yaml.parse(
        {
            "name": "lamp-student",
            "data": {"sources": [{"kind": "file", "path": str(rows)}]},
            "stages": [
                {
                    "kind": "distill",
                    "teacher": str(tiny_teacher_dir),
                    "student": {"init": "scratch", "layers": 2, "hidden_size": 16},
                }
            ],
        }
    )
    run_dir = runs.create(recipe, tmp_path / "runs")
    shutil.copytree(tiny_student_dir, run_dir / "student")
    config = json.loads((run_dir / "student" / "config.json").read_text())
    config["_name_or_path"] = str(tiny_teacher_dir)
    (run_dir / "student" / "config.json").write_text(json.dumps(config))
    files.replace_json(run_dir / "evaluation.json", EVALUATION)
    facts = {"rows": 900, "labelled": 400, "unlabelled": 500, "held_out": 500, "overlap": 3}
    line = json.dumps({"type": "run_started", "data": facts})
    (run_dir / "events.jsonl").write_text(line + "\n")
    return run_dir


def test_the_export_gives_the_students_logits(finished: Path, tmp_path: Path) -> None:
    out = api.export(str(finished), out=tmp_path / "out")
    assert out == tmp_path / "out"
    ids = torch.tensor([[1, 5, 9, 2]])
    exported = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    student = AutoModelForCausalLM.from_pretrained(finished / "student").eval()
    assert torch.equal(exported(ids).logits, student(ids).logits)


def test_without_a_target_it_goes_into_the_run(finished: Path) -> None:
    out = api.export(str(finished))
    assert out == finished / "export" / "hf"
    assert (out / "model.safetensors").is_file()


def test_prompts_are_framed_as_they_were_in_training(finished: Path, tmp_path: Path) -> None:
    from distill_core.data.formats import Row
    from distill_core.data.tokenize import encode_prompt

    student = AutoTokenizer.from_pretrained(finished / "student")
    assert student.chat_template is None
    exported = AutoTokenizer.from_pretrained(api.export(str(finished), out=tmp_path / "out"))
    messages = [{"role": "user", "content": "turn on the light"}]
    row = Row(messages=tuple(messages), text=None, origin="here")
    ids = exported.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ids == encode_prompt(row, student)


def test_nothing_names_this_machine(finished: Path, tmp_path: Path) -> None:
    out = api.export(str(finished), out=tmp_path / "out")
    texts = [path for path in out.iterdir() if path.suffix in {".json", ".md", ".jinja"}]
    assert {path.name for path in texts} >= {"config.json", "README.md", hugging_face.MARKER}
    for path in texts:
        assert str(tmp_path) not in path.read_text(encoding="utf-8"), path.name
        assert str(tmp_path.parent.parent) not in path.read_text(encoding="utf-8"), path.name


def test_the_card_can_be_read_and_tells_the_scores(finished: Path, tmp_path: Path) -> None:
    out = api.export(str(finished), out=tmp_path / "out")
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.eval_results[0].metric_value == 0.96
    text = card.text
    for expected in (
        "# lamp-student",
        "| **This student** | 1,000 | 96.0% [93.9%, 97.4%] | 0.071 | 0.022 | 140 |",
        "500 held-out rows; keeps 98.0% of the teacher's exact match [96.0%, 99.0%].",
        "Verdict: beats. +40 points, 3 seeds.",
        "900 training rows, 400 labelled and 500 answered by the teacher",
        "path: rows.jsonl",
        "0.9 × forward_kl (temperature 1), 0.1 × cross_entropy",
        "## Licence",
        "## Intended use and limits",
        runs.load_recipe(finished).name,
    ):
        assert expected in text


def test_the_card_tells_what_lm_eval_found(finished: Path, tmp_path: Path) -> None:
    shared = {"metric": "acc", "filter": "none", "n_samples": 50, "chat_template": False}
    rows = [
        {"model": model, "task": "arc_easy", "value": value, "stderr": 0.07, "n_shot": 0} | shared
        for model, value in (("teacher", 0.5), ("untrained_student", 0.2), ("student", 0.4))
    ]
    found = {"harness": "lm-eval 0.4.13", "scores": rows}
    files.replace_json(finished / "harness.json", found)
    text = (api.export(str(finished), out=tmp_path / "out") / "README.md").read_text()
    assert "Tasks of lm-eval 0.4.13:" in text
    assert "| arc_easy | 50 | 0 | acc | student | 0.4000 ± 0.0700 |" in text
    assert "| arc_easy | 50 | 0 | acc | teacher | 0.5000 ± 0.0700 |" in text
    assert "untrained_student | 0.2" not in text


def test_a_run_that_was_not_evaluated_can_be_exported(finished: Path, tmp_path: Path) -> None:
    (finished / "evaluation.json").unlink()
    out = api.export(str(finished), out=tmp_path / "out")
    assert "This run has not been evaluated." in (out / "README.md").read_text()


def test_a_binding_licence_is_told(finished: Path, tmp_path: Path, tiny_teacher_dir: Path) -> None:
    gemma = Path(shutil.copytree(tiny_teacher_dir, tmp_path / "gemma-2b"))
    recipe = recipe_yaml.load(finished / "recipe.yaml", [f"stages.0.teacher={gemma}"])
    (finished / "recipe.yaml").write_text(recipe_yaml.dumps(recipe))
    text = (api.export(str(finished), out=tmp_path / "out") / "README.md").read_text()
    assert "Model Derivative" in text
    assert "https://ai.google.dev/gemma/terms" in text
    assert "license: other" in text


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ("{init: layer_drop, layers: 2}", ["HuggingFaceTB/SmolLM2-135M-Instruct"]),
        ("{init: scratch, layers: 2}", None),
    ],
)
def test_a_base_model_is_named_where_its_weights_were_taken(
    finished: Path, tmp_path: Path, init: str, expected: list[str] | None
) -> None:
    overrides = ["stages.0.teacher=smollm2-135m-instruct", f"stages.0.student={init}"]
    recipe = recipe_yaml.load(finished / "recipe.yaml", overrides)
    (finished / "recipe.yaml").write_text(recipe_yaml.dumps(recipe))
    card = ModelCard.load(api.export(str(finished), out=tmp_path / "out") / "README.md")
    assert card.data.base_model == expected


# --- what must not happen --------------------


def test_an_earlier_export_is_replaced(finished: Path, tmp_path: Path) -> None:
    out = api.export(str(finished), out=tmp_path / "out")
    (out / "config.json").write_text("{}")
    api.export(str(finished), out=out)
    assert json.loads((out / "config.json").read_text())["model_type"] == "llama"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize("earlier", [False, True])
def test_foreign_files_are_never_lost(finished: Path, tmp_path: Path, earlier: bool) -> None:
    out = tmp_path / "out"
    if earlier:
        api.export(str(finished), out=out)
    out.mkdir(exist_ok=True)
    (out / "thesis.txt").write_text("four years")
    with pytest.raises(DistillError, match=r"such as thesis\.txt"):
        api.export(str(finished), out=out)
    assert (out / "thesis.txt").read_text() == "four years"


def test_an_empty_folder_is_taken_and_a_file_is_not(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (api.export(str(finished), out=tmp_path / "empty") / "README.md").is_file()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DistillError, match="is a file"):
        api.export(str(finished), out=tmp_path / "file")


def test_a_run_without_a_student(finished: Path, tmp_path: Path) -> None:
    shutil.rmtree(finished / "student")
    with pytest.raises(RunError, match="no finished student yet"):
        api.export(str(finished), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_room_is_told_first(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match="MB are free"):
        api.export(str(finished), out=tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()


def _full(*args: Any, **kwargs: Any) -> None:
    raise OSError(28, "No space left on device")


def _broken(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("something else")


@pytest.mark.parametrize(("failure", "kind"), [(_full, DiskFullError), (_broken, RuntimeError)])
def test_a_failure_on_the_way_leaves_what_was_there(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[..., None],
    kind: type[Exception],
) -> None:
    out = api.export(str(finished), out=tmp_path / "out")
    before = sorted((path.name, path.read_bytes()) for path in out.iterdir())
    monkeypatch.setattr(hugging_face, "write_card", failure)
    with pytest.raises(kind):
        api.export(str(finished), out=out)
    assert sorted((path.name, path.read_bytes()) for path in out.iterdir()) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize(
    ("format", "message"), [("gguf", "not available yet"), ("onnx", "no format that is known")]
)
def test_other_formats_say_what_there_is(finished: Path, format: str, message: str) -> None:
    with pytest.raises(DistillError, match=f"{message}(.|\n)*Use one of: hf"):
        api.export(str(finished), format=format)
