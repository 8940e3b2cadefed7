"""Who teaches a stage, and with which text: what is trained on, shown, and resumed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import pipeline
from distill_core.comparing import compare, kept_models, lineup
from distill_core.errors import DataError, ModelError
from distill_core.recipe import recipe_yaml
from distill_core.teachers.int8 import Int8Linear
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.mixture import Mixture
from tests.core import small_runs

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")


@pytest.fixture
def second(tmp_path: Path, tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> str:
    """Another teacher of the same family."""
    folder = tmp_path / "second"
    tiny_llama(layers=3, hidden_size=48, seed=7).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def go(
    rows_file: Path, tmp_path: Path, tiny_teacher_dir: Path
) -> Callable[..., list[dict[str, Any]]]:
    """Run one distil stage in a folder of that name; returns its events."""

    def run(name: str, *, stop_after: int | None = None, **stage: Any) -> list[dict[str, Any]]:
        recipe = small_runs.recipe(
            rows_file,
            [small_runs.distill(str(tiny_teacher_dir)) | stage],
            device="cpu",
            evaluation={"rows": 4, "samples": 1, "max_new_tokens": 4},
            checkpoints={"every_steps": 1},
        )
        return small_runs.go(recipe, tmp_path / "runs" / name, stop_after=stop_after)

    return run


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["metrics"]["forward_kl"] for event in events if event["type"] == "step"]


def first_loss(go: Any, name: str, **stage: Any) -> float:
    """Of a run that is stopped after its first step."""
    (loss,) = losses(go(name, stop_after=1, **stage))
    return loss


def started(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next(event for event in events if event["type"] == "stage_started")


def two(first: Path, second: str, weight: float = 1.0) -> list[dict[str, Any]]:
    return [{"model": str(first), "weight": weight}, {"model": second}]


def test_c20_each_teacher_and_its_weight_changes_the_first_loss(
    go: Any, tiny_teacher_dir: Path, second: str
) -> None:
    mixture = {"teacher": two(tiny_teacher_dir, second), "student": STUDENT}
    first = {
        name: first_loss(go, name, **settings)
        for name, settings in {
            "alone": {"student": STUDENT},
            "even": mixture,
            "tilted": mixture | {"teacher": two(tiny_teacher_dir, second, weight=9)},
            "int8": mixture | {"teacher_precision": "int8"},
            "bf16": mixture | {"teacher_precision": "bf16"},
        }.items()
    }
    assert len(set(first.values())) == len(first)
    assert abs(first["tilted"] - first["alone"]) < abs(first["even"] - first["alone"])
    assert first["int8"] == pytest.approx(first["even"], rel=0.02)
    assert first["bf16"] == pytest.approx(first["even"], rel=0.02)


STUDENT = {"init": "scratch", "layers": 1, "hidden_size": 16}


def test_the_mixture_and_each_of_its_teachers_can_answer(
    go: Any, tmp_path: Path, tiny_teacher_dir: Path, second: str
) -> None:
    events = go("one", teacher=two(tiny_teacher_dir, second))
    facts = started(events)["teacher"]
    assert facts["name"] == f"{tiny_teacher_dir} + {second}"
    run_dir = tmp_path / "runs" / "one"
    members = {found.key: found for found in lineup.read(run_dir)}
    assert list(members)[:3] == ["teacher", "teacher_1", "teacher_2"]
    assert members["teacher"].title == "teacher, a mixture of 2"
    assert facts["parameters"] == members["teacher"].parameters
    assert members["teacher"].parameters == sum(
        members[key].parameters for key in ("teacher_1", "teacher_2")
    )
    assert isinstance(
        lineup.load(run_dir, members["teacher"], device=torch.device("cpu")).model, Mixture
    )
    scores = events[-1]["evaluation"]["models"]
    assert {"teacher", "teacher_1", "teacher_2", "student"} <= set(scores)
    marks = {scores[key]["fingerprint"] for key in ("teacher", "teacher_1", "teacher_2")}
    assert len(marks) == 3
    assert scores["teacher_1"]["kl_to_teacher"] > 0
    roles = {entry["key"]: entry["role"] for entry in compare.comparable(run_dir)}
    assert (roles["teacher"], roles["teacher_1"]) == ("teacher", "other")
    kept_models.forget()
    said = compare.compare(
        run_dir, "dim the fan", models=None, max_new_tokens=3, sampling_temperature=0
    )
    answers = [item for item in said if item["type"] == "answer"]
    assert {item["model"] for item in answers} == {"teacher", "student", "untrained_student"}


def test_an_int8_teacher_is_scored_as_it_taught(go: Any, tmp_path: Path) -> None:
    events = go("one", teacher_precision="int8")
    run_dir = tmp_path / "runs" / "one"
    teacher = lineup.member(run_dir, "teacher")
    assert teacher.title == "teacher (int8)"
    told = started(events)["teacher"]
    assert told["precision"] == "int8"
    assert told["rounding"]["kl_to_fp32"] > 0
    assert "in fp32" in told["rounding"]["words"]
    assert teacher.bytes < 4 * teacher.parameters
    loaded = lineup.load(run_dir, teacher, device=torch.device("cpu"))
    assert any(isinstance(layer, Int8Linear) for layer in loaded.model.modules())
    assert loaded.fingerprint.endswith("@int8")
    plain = started(go("two"))["teacher"]
    assert plain["parameters"] == told["parameters"]
    assert plain["rounding"] is None


def test_a_format_that_this_machine_lacks_is_looked_at_in_fp32(go: Any, tmp_path: Path) -> None:
    go("one")
    run_dir = tmp_path / "runs" / "one"
    teacher = lineup.member(run_dir, "teacher").model_copy(update={"precision": "int4"})
    loaded = lineup.load(run_dir, teacher, device=torch.device("cpu"))
    assert loaded.model.dtype == torch.float32
    assert "@" not in loaded.fingerprint


@pytest.mark.parametrize("at", [1, 3])
def test_a_stopped_stage_with_two_int8_teachers_resumes_to_the_same_losses(
    go: Any, tiny_teacher_dir: Path, second: str, at: int
) -> None:
    stage = {"teacher": two(tiny_teacher_dir, second), "teacher_precision": "int8"}
    whole = losses(go("whole", **stage))
    cut = losses(go("cut", stop_after=at, **stage))
    assert cut + losses(go("cut", **stage)) == whole


def test_c5_other_ids_are_refused_when_the_run_begins(
    go: Any, tiny_teacher_dir: Path, second: str
) -> None:
    path = Path(second) / "tokenizer.json"
    text = path.read_text().replace('"light"', '"LIGHT"').replace('"fan"', '"light"')
    path.write_text(text.replace('"LIGHT"', '"fan"'))
    with pytest.raises(ModelError, match="cannot be mixed") as caught:
        go("one", teacher=two(tiny_teacher_dir, second))
    assert caught.value.field == "stages.0.teacher.1.model"


def test_the_stage_before_may_be_one_of_several(
    go: Any, tmp_path: Path, tiny_teacher_dir: Path, second: str
) -> None:
    go("one")
    recipe = recipe_yaml.load(tmp_path / "runs" / "one" / "recipe.yaml")
    stages = recipe.model_dump(mode="json")["stages"]
    later = stages[0] | {"teacher": [{"model": "previous"}, {"model": second}]}
    both = recipe_yaml.parse(recipe.model_dump(mode="json") | {"stages": [stages[0], later]})
    folder = tmp_path / "runs" / "chain"
    folder.mkdir()
    events = list(pipeline.run(both, folder))
    assert events[-1]["type"] == "run_finished"
    names = [event["teacher"]["name"] for event in events if event["type"] == "stage_started"]
    assert names == [str(tiny_teacher_dir), f"models/stage_0 + {second}"]


# --- answers of the student, text of the teacher --------------------------------------------------


OWN = {"on_policy_fraction": 1.0, "student_answers": {"max_new_tokens": 6}}


def test_c20_each_setting_of_the_student_s_answers_changes_the_first_loss(go: Any) -> None:
    first = {
        name: first_loss(go, name, **settings)
        for name, settings in {
            "never": {},
            "always": OWN,
            "cooler": OWN | {"student_answers": {"max_new_tokens": 6, "sampling_temperature": 0.2}},
            "shorter": OWN | {"student_answers": {"max_new_tokens": 2}},
        }.items()
    }
    assert len(set(first.values())) == len(first)


@pytest.mark.parametrize("at", [1, 3])
def test_a_stopped_on_policy_stage_resumes_to_the_same_losses(go: Any, at: int) -> None:
    stage = OWN | {"on_policy_fraction": 0.5, "student": STUDENT}
    whole = losses(go("whole", **stage))
    cut = losses(go("cut", stop_after=at, **stage))
    assert cut + losses(go("cut", **stage)) == whole


def test_c18_no_label_reaches_the_student_s_own_answers(go: Any) -> None:
    text = {"name": "cross_entropy", "weight": 0.5, "targets": "labels_and_teacher_text"}
    plain = go("plain", losses=[{"name": "forward_kl", "weight": 0.5}], **OWN)
    hard = go("hard", losses=[{"name": "forward_kl", "weight": 0.5}, text], **OWN)
    assert losses(hard) == losses(plain)
    for event in hard:
        if event["type"] == "step":
            assert "cross_entropy" not in event["metrics"]


def test_texts_that_ask_nothing_are_refused(go: Any, tmp_path: Path) -> None:
    go("one")
    recipe = recipe_yaml.load(tmp_path / "runs" / "one" / "recipe.yaml")
    lines = [{"text": f"dim the fan {chr(97 + row)}"} for row in range(24)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    made = recipe.model_dump(mode="json")
    made["data"]["sources"] = [{"kind": "file", "path": str(tmp_path / "texts.jsonl")}]
    made["stages"][0] |= OWN
    folder = tmp_path / "runs" / "texts"
    folder.mkdir()
    with pytest.raises(DataError, match="ask nothing") as caught:
        list(pipeline.run(recipe_yaml.parse(made), folder))
    assert caught.value.field == "stages.0.on_policy_fraction"


def hard_labels(go: Any, name: str, rows: str, targets: str) -> list[float | None]:
    terms = [{"name": "forward_kl"}, {"name": "cross_entropy", "targets": targets}]
    answers = {"max_new_tokens": 4, "rows": rows}
    events = go(name, losses=terms, teacher_answers=answers)
    steps = [event["metrics"] for event in events if event["type"] == "step"]
    return [metrics.get("cross_entropy") for metrics in steps]


def test_c20_the_teacher_s_text_may_be_a_label(go: Any) -> None:
    both = "labels_and_teacher_text"
    assert hard_labels(go, "aside", "all", "labels") == [None] * 4
    assert None not in hard_labels(go, "text", "all", both)
    beside = hard_labels(go, "beside", "unlabelled", both)
    assert beside != hard_labels(go, "labels", "unlabelled", "labels")


def test_text_alone_teaches_and_the_teacher_is_not_asked_again(
    go: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequence-level distillation: the teacher writes first, then only its text is read."""

    def refuse(self: Any, batch: Any) -> Any:
        raise AssertionError("no step asks the teacher")

    monkeypatch.setattr(LocalTeacher, "view", refuse)
    term = {"name": "cross_entropy", "weight": 1.0, "targets": "labels_and_teacher_text"}
    events = go("one", losses=[term], teacher_answers={"rows": "all", "max_new_tokens": 4})
    begun = next(event for event in events if event["type"] == "rows_ready")
    assert begun["answers"]["asked"] > begun["rows"] - 1, "rows without labels take part"
    steps = [event["metrics"] for event in events if event["type"] == "step"]
    assert all(shown["loss"] == pytest.approx(shown["cross_entropy"]) for shown in steps)


def test_a_student_whose_ids_the_teacher_reads_otherwise_is_refused(
    go: Any, second: str, tiny_tokenizer: Any
) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(second)
    student = {"init": "pretrained", "model": second}
    text = {"name": "cross_entropy", "targets": "labels_and_teacher_text"}
    for name, loss in {"one": text, "two": {"name": "cross_tokenizer"}}.items():
        with pytest.raises(ModelError, match="both read the same ids") as caught:
            go(name, **OWN | {"student": student, "losses": [loss]})
        assert caught.value.field == "stages.0.on_policy_fraction"
