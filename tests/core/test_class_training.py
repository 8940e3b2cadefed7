"""Whole recipes that tell classes apart, on tiny models: stages, resuming, what is on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill_core import api, evaluate, runs
from distill_core.comparing import compare, lineup
from distill_core.data.class_batches import collate_texts
from distill_core.data.classes import TextRow, encode_text
from distill_core.errors import DataError, ModelError, RunError
from distill_core.export import export_run
from distill_core.forward.class_logits import ClassLogits
from distill_core.models.weights import load_model
from tests.core import small_runs
from tests.core.small_runs import go, of

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")

WORDS = {"on": "turn on the light", "off": "turn off the fan", "dim": "dim the tv please"}


def write_rows(folder: Path) -> Path:
    """Sixty texts of three classes, every fifth without its class."""
    lines = []
    for row in range(60):
        label = ["on", "off", "dim"][row % 3]
        line = {"text": f"{WORDS[label]} {chr(97 + row % 26)} {chr(97 + row // 3)}"}
        if row % 5 != 4:
            line["label"] = label
        lines.append(json.dumps(line))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    return write_rows(tmp_path)


def optim(steps: int = 4, **more: Any) -> dict[str, Any]:
    return small_runs.optim(steps, **{"global_batch_size": 6, "micro_batch_size": 4} | more)


def distill(teacher: str, **more: Any) -> dict[str, Any]:
    stage = small_runs.distill(teacher, optim=optim())
    del stage["teacher_answers"]  # classes are not written
    return stage | more


def tune(model: str, **more: Any) -> dict[str, Any]:
    return {"kind": "fine_tune", "model": model, "optim": optim()} | more


def recipe(rows_file: Path, stages: list[dict[str, Any]], **more: Any) -> Any:
    watched = {"rows": 8, "samples": 2, "every_steps": 2, "final_rows": 1000}
    settings = {"task": "text_classification", "evaluation": watched}
    return small_runs.recipe(rows_file, stages, **settings | more)


WAYS: dict[str, Any] = {
    "fine_tune": lambda model: [tune(model)],
    "fine_tune a smaller one": lambda model: [
        tune(model, student={"init": "scratch", "layers": 1, "hidden_size": 16})
    ],
    "fine_tune with LoRA": lambda model: [tune(model, adapter={"kind": "lora", "rank": 2})],
    "fine_tune, then distill": lambda model: [tune(model), distill("previous")],
    "distill into new weights": lambda model: [
        tune(model),
        distill("previous", student={"init": "scratch", "layers": 1, "hidden_size": 16}),
    ],
    "two steps down": lambda model: [
        tune(model),
        distill("previous", student={"init": "layer_drop", "layers": 3}),
        distill("previous", student={"init": "layer_drop", "layers": 1}),
    ],
    "distill, then fine_tune": lambda model: [tune(model), distill("previous"), tune("previous")],
}


@pytest.mark.parametrize("model", ["encoder", "decoder"])
def test_a_teacher_of_classes_is_asked_once(
    model: str, rows_file: Path, tiny_encoder_dir: Path, tiny_teacher_dir: Path, run_dir: Path
) -> None:
    folder = str(tiny_encoder_dir if model == "encoder" else tiny_teacher_dir)
    told = {}
    for name, cache in {"online": None, "cached": {"kind": "hidden", "precision": "fp32"}}.items():
        other = run_dir.parent / name
        other.mkdir()
        stages = [tune(folder), distill("previous", teacher_cache=cache)]
        told[name] = go(recipe(rows_file, stages), other)
    kept = of(told["cached"], "rows_ready")[1]["cache"]
    assert kept["tokens"] == kept["rows"] == kept["asked"] > 0
    for kind in ("step", "evaluation", "sample"):
        for one, two in zip(of(told["cached"], kind), of(told["online"], kind), strict=True):
            for name in ("loss", "held_out_forward_kl", "held_out_teacher_accuracy"):
                if name in two.get("metrics", {}):
                    assert one["metrics"][name] == pytest.approx(two["metrics"][name], rel=1e-4)
            assert one.get("teacher") == two.get("teacher")


@pytest.mark.parametrize("model", ["encoder", "decoder"])
@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_combine_runs_to_the_end(
    way: str,
    model: str,
    rows_file: Path,
    tiny_encoder_dir: Path,
    tiny_teacher_dir: Path,
    run_dir: Path,
) -> None:
    folder = tiny_encoder_dir if model == "encoder" else tiny_teacher_dir
    made = recipe(rows_file, WAYS[way](str(folder)))
    events = go(made, run_dir)
    assert events[-1]["type"] == "run_finished"
    config = json.loads((run_dir / "student" / "config.json").read_text())
    assert config["id2label"] == {"0": "dim", "1": "off", "2": "on"}
    assert config["architectures"][0].endswith("ForSequenceClassification")
    assert config["pad_token_id"] == 0
    scores = events[-1]["evaluation"]["models"]
    assert {"student", "untrained_student"} <= set(scores)
    for one in scores.values():
        assert 0 <= one["accuracy"] <= 1
    if any(stage.kind == "distill" for stage in made.stages):
        assert scores["student"]["kl_to_teacher"] >= 0
    evaluated = of(events, "evaluation")[0]["metrics"]
    assert {"held_out_accuracy", "held_out_macro_f1", "held_out_cross_entropy"} <= set(evaluated)
    assert not list((run_dir / "checkpoints").iterdir())


def test_samples_name_both_classes_with_their_probability(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, [tune(str(tiny_encoder_dir)), distill("previous")])
    samples = of(go(made, run_dir), "sample")
    first, last = samples[0], samples[-1]
    assert (first["teacher"], first["teacher_probability"]) == (None, None)
    for sample in (first, last):
        assert sample["student"] in {"on", "off", "dim"}
        assert 1 / 3 <= sample["student_probability"] <= 1
        assert sample["match"] == (sample["student"] == sample["reference"])
    assert last["teacher"] in {"on", "off", "dim"}
    assert last["prompt"].startswith(("turn", "dim"))


def test_unlabelled_texts_are_learnt_from_by_soft_labels_alone(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, [tune(str(tiny_encoder_dir)), distill("previous")])
    events = go(made, run_dir)
    tuned, distilled = of(events, "rows_ready")
    assert distilled["rows"] - tuned["rows"] == 12
    assert distilled["answers"] is None
    assert not (run_dir.parent / "teacher_answers").exists()


def test_resuming_gives_the_losses_of_the_run_that_never_stopped(
    rows_file: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    def losses(events: list[dict[str, Any]]) -> dict[tuple[int, int], float]:
        return {(e["stage"], e["step"]): e["metrics"]["loss"] for e in of(events, "step")}

    made = recipe(rows_file, [tune(str(tiny_encoder_dir)), distill("previous", optim=optim(8))])
    folders = [tmp_path / "runs" / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir(parents=True)
    whole = losses(go(made, folders[0]))
    cut = losses(go(made, folders[1], stop_after=9))
    rest = losses(go(made, folders[1]))
    assert len(cut) < len(whole)
    assert cut | rest == whole
    weights = [load_file(folder / "student" / "model.safetensors") for folder in folders]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize(
    "term",
    [
        {"name": "hidden_states"},
        {"name": "attention"},
        {"name": "attention", "compares": "values"},
        {"name": "reverse_kl"},
        {"name": "jsd"},
        {"name": "forward_kl", "temperature": 4.0},
    ],
    ids=lambda term: "-".join(map(str, term.values())),
)
def test_c20_every_term_changes_what_a_classifier_learns(
    term: dict[str, Any], rows_file: Path, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    plain = [{"name": "forward_kl", "weight": 1.0}]
    students = []
    for name, losses in (("plain", plain), ("changed", [term])):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        stages = [tune(str(tiny_encoder_dir)), distill("previous", losses=losses)]
        events = go(recipe(rows_file, stages, evaluation={"rows": 2, "final_rows": 2}), folder)
        step = of(events, "step")[-1]["metrics"]
        assert losses[0]["name"] in step
        students.append(load_file(folder / "student" / "model.safetensors"))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(students[0][name], students[1][name])
    assert not [key for key in students[1] if "projector" in key]


# --- classes ----------------------------------------------------------------------------------


def test_named_classes_order_the_logits(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, [tune(str(tiny_encoder_dir))])
    data = made.data.model_copy(update={"classes": "on, off, dim"})
    go(made.model_copy(update={"data": data}), run_dir)
    config = json.loads((run_dir / "student" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["on", "off", "dim"]


def test_a_class_that_is_not_named_stops_the_run(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    made = recipe(rows_file, [tune(str(tiny_encoder_dir))])
    data = made.data.model_copy(update={"classes": "on, off"})
    with pytest.raises(DataError, match="'dim', which is none of the 2 classes"):
        go(made.model_copy(update={"data": data}), run_dir)


def test_a_teacher_without_a_head_stops_the_run(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    with pytest.raises(ModelError, match="no head that tells classes apart"):
        go(recipe(rows_file, [distill(str(tiny_encoder_dir))]), run_dir)


def test_a_teacher_of_its_own_gives_its_order_to_the_student(
    rows_file: Path, tiny_encoder_dir: Path, tiny_encoder_tokenizer: Any, run_dir: Path
) -> None:
    teacher = run_dir.parent / "teacher"
    labels = ("ON", "dim", "Off")
    model = load_model(
        tiny_encoder_dir, dtype=torch.float32, device="cpu", labels=labels, new_head_seed=1
    )
    model.save_pretrained(teacher)
    tiny_encoder_tokenizer.save_pretrained(teacher)
    go(recipe(rows_file, [distill(str(teacher))]), run_dir)
    config = json.loads((run_dir / "student" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["on", "dim", "off"]
    mine = load_file(run_dir / "student" / "model.safetensors")["classifier.weight"]
    assert mine.shape == (3, 32)


def published(source: Path, folder: Path, swap: bool) -> dict[str, Any]:
    """A published student: a copy of a model, perhaps with two tokens exchanged."""
    shutil.copytree(source, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    words = content["model"]["vocab"]
    if swap:
        words["turn"], words["on"] = words["on"], words["turn"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return {"init": "pretrained", "model": str(folder)}


def test_a_published_student_reads_the_ids_of_its_teacher(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path, tmp_path: Path
) -> None:
    tuned = tune(str(tiny_encoder_dir))
    same = published(tiny_encoder_dir, tmp_path / "same", swap=False)
    go(recipe(rows_file, [tuned, distill("previous", student=same)]), run_dir)
    found = json.loads((run_dir / "evaluation.json").read_text())
    assert found["models"]["student"]["kl_to_teacher"] >= 0
    other = published(tiny_encoder_dir, tmp_path / "other", swap=True)
    folder = run_dir.parent / "two"
    folder.mkdir()
    with pytest.raises(ModelError, match="have different tokenizers"):
        go(recipe(rows_file, [tuned, distill("previous", student=other)]), folder)


def test_losses_about_text_stop_the_run(
    rows_file: Path, tiny_encoder_dir: Path, run_dir: Path
) -> None:
    across = distill("previous", losses=[{"name": "cross_tokenizer"}])
    with pytest.raises(ModelError, match="these models tell classes apart"):
        go(recipe(rows_file, [tune(str(tiny_encoder_dir)), across]), run_dir)


@pytest.fixture
def teachers(
    tiny_encoder_dir: Path, tiny_encoder_tokenizer: Any, run_dir: Path
) -> Callable[..., list[dict[str, str]]]:
    """Two teachers in folders, each with its order of the classes."""

    def make(*orders: tuple[str, ...]) -> list[dict[str, str]]:
        folders = [run_dir.parent / f"teacher_{number}" for number in range(len(orders))]
        for seed, (folder, labels) in enumerate(zip(folders, orders, strict=True)):
            model = load_model(
                tiny_encoder_dir,
                dtype=torch.float32,
                device="cpu",
                labels=labels,
                new_head_seed=seed,
            )
            model.save_pretrained(folder)
            tiny_encoder_tokenizer.save_pretrained(folder)
        return [{"model": str(folder)} for folder in folders]

    return make


def test_a_second_teacher_of_another_order_stops_the_run(
    rows_file: Path, teachers: Any, run_dir: Path
) -> None:
    named = teachers(("on", "off", "dim"), ("dim", "off", "on"))
    with pytest.raises(ModelError, match="dim, off, on apart") as caught:
        go(recipe(rows_file, [distill("") | {"teacher": named}]), run_dir)
    assert caught.value.field == "stages.0.teacher.1.model"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_two_teachers_of_the_same_classes(
    rows_file: Path, teachers: Any, run_dir: Path, precision: str
) -> None:
    named = teachers(("on", "off", "dim"), ("on", "off", "dim"))
    both = distill("") | {"teacher": named, "teacher_precision": precision}
    found = go(recipe(rows_file, [both]), run_dir)[-1]["evaluation"]["models"]
    assert {"teacher", "teacher_1", "teacher_2", "student"} <= set(found)
    assert found["teacher_2"]["kl_to_teacher"] > 0
    device = torch.device("cpu")
    probabilities = []
    for key in ("teacher", "teacher_1", "teacher_2"):
        loaded = lineup.load(run_dir, lineup.member(run_dir, key), device=device)
        item = encode_text(TextRow(None, "turn on", "here"), loaded.tokenizer, 16, ())
        batch = collate_texts([item], pad_token_id=0, rows=[0])
        with torch.no_grad():
            probabilities.append(ClassLogits(loaded.model).eval()(batch).softmax(-1))
    torch.testing.assert_close(probabilities[0], (probabilities[1] + probabilities[2]) / 2)


# --- after training ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path) -> Path:
    """A run with a teacher, a student, a baseline; with the files that the api reads."""
    folder = tmp_path_factory.mktemp("finished")
    evaluation = {"rows": 4, "samples": 1, "baselines": ["fine_tuned_on_labels"]}
    evaluation["final_rows"] = 1000
    stages = [tune(str(tiny_encoder_dir)), distill("previous")]
    go(recipe(write_rows(folder), stages, evaluation=evaluation), folder / "run")
    return folder / "run"


@pytest.fixture
def finished(finished_once: Path, run_dir: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished_once, run_dir, dirs_exist_ok=True))


def test_the_evaluation_is_complete(finished: Path, tmp_path: Path) -> None:
    found = json.loads((finished / "evaluation.json").read_text())
    assert found["task"] == "text_classification"
    assert found["metric"]["name"] == "accuracy"
    members = {"teacher", "student", "untrained_student", "fine_tuned_on_labels"}
    assert set(found["models"]) == members
    for scores in found["models"].values():
        low, high = scores["accuracy_ci95"]
        assert low <= scores["accuracy"] <= high
        for name in ("macro_f1", "calibration_error", "cross_entropy", "rows_per_s"):
            assert scores[name] is not None
        assert scores["peak_memory_bytes"] > scores["bytes"]
    assert found["models"]["student"]["kl_to_teacher"] > 0
    assert "kl_to_teacher" not in found["models"]["teacher"]
    assert found["size_ratio"] > 1
    assert found["speedup"] > 0
    assert found["verdict_against"] == "fine_tuned_on_labels"
    assert found["verdict"] == "inconclusive"  # one seed

    rows = tmp_path / "more.jsonl"
    rows.write_text(
        "\n".join(json.dumps({"text": f"turn on {i}", "label": "on"}) for i in range(9))
    )
    again = evaluate.evaluate_run(finished, runs.load_recipe(finished), data=str(rows), rows=5)
    assert again["data"]["rows"] == 5
    assert set(again["models"]) == members


def test_models_are_compared_on_a_text(finished: Path) -> None:
    events = list(
        compare.compare(
            finished, "turn off the fan", models=None, max_new_tokens=5, sampling_temperature=0
        )
    )
    answers = {e["model"]: e for e in events if e["type"] == "answer"}
    assert set(answers) == {
        *("teacher", "student", "untrained_student", "fine_tuned_on_labels"),
    }
    for answer in answers.values():
        assert answer["text"] in {"on", "off", "dim"}
        assert sum(one["probability"] for one in answer["classes"]) == pytest.approx(1)
        assert answer["probability"] == answer["classes"][0]["probability"]
    told = {e["model"]: e for e in events if e["type"] == "tokens"}
    assert set(told) == set(answers) - {"teacher"}
    student = told["student"]["tokens"][0]
    assert student["agree"] == (answers["student"]["text"] == answers["teacher"]["text"])
    assert told["student"]["mean_kl"] == student["kl"] >= 0
    assert [one["text"] for one in student["teacher_top"]] == [
        one["text"] for one in answers["teacher"]["classes"]
    ]
    prompts = compare.held_out_prompts(finished, limit=3)
    assert {one["response"] for one in prompts} <= {"on", "off", "dim"}


def test_a_run_that_writes_cannot_be_compared_with_one_that_classifies(
    finished: Path, rows_file: Path, tiny_teacher_dir: Path
) -> None:
    other = finished.parent / "two"
    other.mkdir()
    texts = {"text": "text", "label": None}
    writer = recipe(rows_file, [tune(str(tiny_teacher_dir))], task="causal_lm")
    go(writer, other)
    assert texts
    for folder in (finished, other):
        (folder / "status.json").write_text("{}")
    with pytest.raises(RunError, match=r"run:two writes, and the models of this run classify"):
        list(
            compare.compare(
                finished, "turn", models=["run:two"], max_new_tokens=5, sampling_temperature=0
            )
        )


def test_the_export_is_a_pipeline_of_transformers(finished: Path, tmp_path: Path) -> None:
    from transformers import pipeline as transformers_pipeline

    folder = export_run(finished, "hf", tmp_path / "export")
    tell = transformers_pipeline("text-classification", model=str(folder), device="cpu")
    said = tell("turn off the fan", top_k=None)
    assert {one["label"] for one in said} == {"on", "off", "dim"}
    events = compare.compare(
        finished, "turn off the fan", models=["student"], max_new_tokens=1, sampling_temperature=0
    )
    answer = next(e for e in events if e["type"] == "answer")
    assert said[0]["label"] == answer["text"]
    assert said[0]["score"] == pytest.approx(answer["probability"], rel=1e-4)
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: text-classification" in card
    assert "accuracy [95 % interval]" in card
    assert 'pipeline("text-classification"' in card
    assert "small text classifier" in card
    assert not (folder / "chat_template.jinja").exists()


def test_a_row_is_shown_with_its_class(rows_file: Path, tiny_encoder_dir: Path) -> None:
    shown = api.preview(recipe(rows_file, [tune(str(tiny_encoder_dir))]))
    assert shown["label"] in {"on", "off", "dim", None}
    assert sum(shown["facts"]["classes"].values()) == shown["facts"]["labelled"]
    assert shown["tokens"][0]["text"] == "<bos>"
    assert not any(token["supervised"] for token in shown["tokens"])
