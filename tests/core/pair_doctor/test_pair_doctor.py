"""The verdict on pairs made for it: other ids, other templates, padded rows, other families."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from distill_core import api
from distill_core.errors import RecipeError
from distill_core.recipe import recipe_yaml

Change = Callable[[Path], None]
CHATML = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.fixture
def other(
    tmp_path: Path,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Callable[..., str]:
    """A student's folder, changed."""

    def make(*changes: Change) -> str:
        folder = tmp_path / "other"
        tiny_llama(hidden_size=16, seed=1).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        for change in changes:
            change(folder)
        return str(folder)

    return make


def edited(name: str, edit: Callable[[dict[str, Any]], Any]) -> Change:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        edit(content)
        (folder / name).write_text(json.dumps(content))

    return change


def report(teacher: Path | str, student: str) -> dict[str, Any]:
    return api.pair_report(str(teacher), {"init": "pretrained", "model": student})


def found(made: dict[str, Any], topic: str) -> list[dict[str, Any]]:
    return [finding for finding in made["findings"] if finding["topic"] == topic]


def swap(content: dict[str, Any]) -> None:
    words = content["model"]["vocab"]
    words["turn"], words["on"] = words["on"], words["turn"]


def template(text: str) -> Change:
    return lambda folder: (folder / "chat_template.jinja").write_text(text) and None


def test_a_student_of_the_teachers_own_shape(tiny_teacher_dir: Path) -> None:
    made = api.pair_report(str(tiny_teacher_dir), {"init": "layer_drop", "layers": 2})
    tokens = made["teacher"]["tokens"]
    assert made["verdict"] == f"Same tokenizer, {64 - tokens} padded rows: cut."
    assert (made["comparable"], made["loss"]) == (True, "forward_kl")
    (padded,) = found(made, "padded vocabulary")
    assert (padded["state"], padded["about"]) == ("note", "teacher")
    assert "64 rows" in padded["text"]
    assert made["student"]["layers"] == 2
    assert found(made, "end of an answer")[0]["text"].startswith("<eos>")


def test_c5_other_ids_under_the_same_size(tiny_teacher_dir: Path, other: Any) -> None:
    made = report(tiny_teacher_dir, other(edited("tokenizer.json", swap)))
    assert made["verdict"] == "Different tokenizers: cross-tokenizer loss or text."
    assert (made["comparable"], made["loss"]) == (False, "cross_tokenizer")
    (maps,) = found(made, "token → id map")
    tokens = made["teacher"]["tokens"]
    assert f"{tokens - 2} have the same id and {tokens} the same name" in maps["text"]
    assert "cross_tokenizer" in maps["fix"]


def test_more_tokens_at_the_end_are_cut(tiny_teacher_dir: Path, other: Any) -> None:
    def longer(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["extra"] = len(content["model"]["vocab"])

    made = report(tiny_teacher_dir, other(edited("tokenizer.json", longer)))
    rows = 64 - made["teacher"]["tokens"]
    assert made["verdict"] == f"Same tokenizer, 1 extra tokens and {rows} padded rows: cut."
    assert made["comparable"] is True
    assert "the student has 1 more" in found(made, "token → id map")[0]["text"]


def test_other_templates_are_read_side_by_side(tiny_teacher_dir: Path, other: Any) -> None:
    made = report(tiny_teacher_dir, other(template(CHATML)))
    assert made["verdict"].endswith("cut; each reads its own chat template.")
    assert made["loss"] == "forward_kl"
    assert found(made, "chat template")[0]["state"] == "note"


def test_other_ends_of_an_answer_are_not_compared_by_id(tiny_teacher_dir: Path, other: Any) -> None:
    made = report(tiny_teacher_dir, other(template(CHATML.replace("<eos>", "<unk>"))))
    assert made["verdict"].startswith("Same tokenizer, but answers end differently")
    assert (made["comparable"], made["loss"]) == (False, "cross_tokenizer")
    (end,) = found(made, "end of an answer")
    assert end["state"] == "warning"
    assert "<eos>" in end["text"]
    assert "<unk>" in end["text"]


def test_context_architecture_and_licence(tiny_teacher_dir: Path, other: Any) -> None:
    student = other(edited("config.json", lambda c: c.update(max_position_embeddings=32)))
    (Path(student) / "README.md").write_text("---\nlicense: mit\n---\n")
    made = report(tiny_teacher_dir, student)
    assert found(made, "context length")[0]["text"] == "128 tokens → 32 tokens."
    assert found(made, "context length")[0]["state"] == "note"
    assert found(made, "architecture")[0]["text"] == (
        "LlamaForCausalLM, 4 × 32 → LlamaForCausalLM, 2 × 16 (layers × width)."
    )
    licences = found(made, "licence")
    assert [item["about"] for item in licences] == ["teacher", "student"]
    assert "mit" in licences[1]["text"]
    assert licences[0]["state"] == "note"  # not stated


def test_a_folder_that_mixes_two_models(tiny_teacher_dir: Path, other: Any) -> None:
    made = report(tiny_teacher_dir, other(edited("config.json", lambda c: c.update(vocab_size=20))))
    mixed = next(item for item in found(made, "padded vocabulary") if item["state"] == "error")
    assert mixed["about"] == "student"
    assert "only 20 rows" in mixed["text"]


def test_what_is_not_here_yet_is_said(
    tiny_teacher_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    made = report(tiny_teacher_dir, "smollm2-135m-instruct")
    assert made["comparable"] is None
    assert made["verdict"] == "The tokenizers are compared once both are on this machine."
    assert "smollm2-135m-instruct is not on this machine yet" in made["findings"][0]["text"]
    assert made["student"]["tokens"] is None


def test_no_weights_are_loaded(
    tiny_teacher_dir: Path, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = Path(other())
    (student / "model.safetensors").write_bytes(b"no weights at all")
    monkeypatch.setattr("safetensors.safe_open", lambda *a, **k: pytest.fail("read weights"))
    assert report(tiny_teacher_dir, str(student))["comparable"] is True


def test_a_model_that_is_not_there(tiny_teacher_dir: Path) -> None:
    with pytest.raises(RecipeError, match="There is no folder"):
        report(tiny_teacher_dir, "./nowhere")


def test_every_distil_stage_of_a_recipe_is_looked_at(tiny_teacher_dir: Path, other: Any) -> None:
    teacher, swapped = str(tiny_teacher_dir), other(edited("tokenizer.json", swap))
    stages = [
        {"kind": "fine_tune", "model": teacher},
        {"kind": "distill", "teacher": "previous", "student": {"init": "layer_drop", "layers": 1}},
        {
            "kind": "distill",
            "teacher": "previous",
            "student": {"init": "pretrained", "model": swapped},
        },
    ]
    recipe = recipe_yaml.parse({"data": {"sources": [{"kind": "starter"}]}, "stages": stages})
    made = api.pair_reports(recipe)
    assert [item["stage"] for item in made] == [1, 2]
    assert [item["comparable"] for item in made] == [True, False]
    shutil.rmtree(swapped)
    assert [item["stage"] for item in api.pair_reports(recipe)] == [1]


# --- classes --------------------------------------------------------------------------------


def of_classes(teacher: Path, student: str) -> dict[str, Any]:
    start = {"init": "pretrained", "model": student}
    return api.pair_report(str(teacher), start, task="text_classification")


def test_classifiers_have_no_chat_and_no_answer(tiny_teacher_dir: Path, other: Any) -> None:
    made = of_classes(tiny_teacher_dir, other(template(CHATML.replace("<eos>", "<unk>"))))
    assert made["verdict"] == "Same tokenizer: their classes are compared."
    assert (made["comparable"], made["loss"]) == (True, "forward_kl")
    topics = {finding["topic"] for finding in made["findings"]}
    assert topics == {"token → id map", "context length", "architecture", "licence"}


def test_classifiers_read_the_same_ids(tiny_teacher_dir: Path, other: Any) -> None:
    made = of_classes(tiny_teacher_dir, other(edited("tokenizer.json", swap)))
    assert made["verdict"] == "Different tokenizers: the two cannot read the same texts."
    assert (made["comparable"], made["loss"]) == (False, "forward_kl")
    (maps,) = found(made, "token → id map")
    assert maps["state"] == "error"
    assert f"only {made['teacher']['tokens'] - 2} have the same id" in maps["text"]
    assert "cross_tokenizer" not in maps["fix"]


def test_encoders_are_a_pair_too(tiny_encoder_dir: Path) -> None:
    shrunk = {"init": "layer_drop", "layers": 2}
    made = api.pair_report(str(tiny_encoder_dir), shrunk, task="text_classification")
    assert made["comparable"] is True
    with pytest.raises(RecipeError, match="is an encoder"):
        api.pair_report(str(tiny_encoder_dir), shrunk)
    with pytest.raises(RecipeError, match="task"):
        api.pair_report(str(tiny_encoder_dir), shrunk, task="chess")
