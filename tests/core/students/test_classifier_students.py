"""Students that tell classes apart: encoders and decoders, every start, LoRA with its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    LlamaConfig,
    RobertaConfig,
)

from distill_core.models.classifiers import with_labels
from distill_core.recipe import LayerDropStudent, LoraSettings, PretrainedStudent, ScratchStudent
from distill_core.students.adapters import merged, with_adapter
from distill_core.students.build import build_student

LABELS = ("bad", "good", "so-so")
SIZES: dict[str, Any] = {"vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "intermediate_size": 96}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES, pad_token_id=1),
    "distilbert": DistilBertConfig(vocab_size=64, dim=48, n_layers=4, n_heads=4, hidden_dim=96),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2, pad_token_id=0),
}
LAYERS = {
    "bert": "bert.encoder.layer",
    "roberta": "roberta.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
    "llama": "model.layers",
}


@pytest.fixture(params=sorted(CONFIGS))
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A classifier, saved in the folder `teacher`; `kind` is its architecture."""
    config = with_labels(CONFIGS[request.param], LABELS)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "teacher")
    model.kind = request.param
    return model


def ask(model: Any) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_the_whole_model_is_the_whole_model(teacher: Any, tmp_path: Path) -> None:
    student = build_student(PretrainedStudent(), source=tmp_path / "teacher", seed=9, labels=LABELS)
    assert torch.equal(ask(student), ask(teacher))


def test_layer_drop_keeps_the_head_and_the_named_layers(teacher: Any, tmp_path: Path) -> None:
    settings = LayerDropStudent(layers=2, keep="first_and_last")
    student = build_student(settings, source=tmp_path / "teacher", seed=9, labels=LABELS)
    theirs, mine = teacher.state_dict(), student.state_dict()
    prefix = LAYERS[teacher.kind]
    for name, value in mine.items():
        source = name.replace(f"{prefix}.1.", f"{prefix}.3.")
        assert torch.equal(value, theirs[source]), name
    assert len([name for name in mine if name.startswith(f"{prefix}.")]) * 2 == len(
        [name for name in theirs if name.startswith(f"{prefix}.")]
    )
    assert tuple(student.config.id2label.values()) == LABELS
    # the teacher with its middle layers taken out says the same
    stack = teacher.get_submodule(prefix)
    setattr(
        teacher.get_submodule(prefix.rpartition(".")[0]),
        prefix.rpartition(".")[2],
        torch.nn.ModuleList([stack[0], stack[3]]),
    )
    teacher.config.num_hidden_layers, teacher.config.use_cache = 2, False
    assert torch.allclose(ask(student), ask(teacher), atol=1e-6)


def test_new_weights_have_the_asked_sizes_and_classes(teacher: Any, tmp_path: Path) -> None:
    settings = ScratchStudent(layers=1, hidden_size=16)

    def build(seed: int) -> Any:
        return build_student(settings, source=tmp_path / "teacher", seed=seed, labels=LABELS)

    student = build(1)
    assert ask(student).shape == (2, 3)
    assert (student.config.hidden_size, student.config.num_hidden_layers) == (16, 1)
    inner = [tuple(v.shape) for v in student.parameters() if v.dim() == 2 and 32 in v.shape]
    assert inner, "the feed-forward keeps the teacher's ratio of two"
    weights = [torch.cat([v.flatten() for v in build(seed).parameters()]) for seed in (1, 2)]
    assert torch.equal(torch.cat([v.flatten() for v in student.parameters()]), weights[0])
    assert not torch.equal(*weights)


def test_a_bare_encoder_gets_the_same_head_for_every_start(tiny_encoder_dir: Path) -> None:
    whole = build_student(PretrainedStudent(), source=tiny_encoder_dir, seed=3, labels=LABELS)
    part = build_student(LayerDropStudent(layers=2), source=tiny_encoder_dir, seed=3, labels=LABELS)
    assert torch.equal(whole.classifier.weight, part.classifier.weight)  # type: ignore[union-attr]


# --- LoRA -------------------------------------------------------------------------------------


def test_lora_trains_the_body_by_adapters_and_the_head_as_a_whole(teacher: Any) -> None:
    model = with_adapter(teacher, LoraSettings(rank=2), seed=0)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    heads = {"classifier", "pre_classifier", "score"}
    whole = {name for name in trained if heads & set(name.split("."))}
    assert whole
    assert all("lora_" not in name for name in whole)
    assert all("lora_" in name for name in trained - whole)
    assert any(LAYERS[teacher.kind] in name for name in trained - whole)


def test_a_merged_adapter_says_what_the_adapter_said(teacher: Any) -> None:
    before = ask(teacher)
    model = with_adapter(teacher, LoraSettings(rank=2), seed=0)
    torch.testing.assert_close(ask(model), before, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    trained = ask(model)
    assert (trained - before).abs().max() > 0.01
    plain = merged(model)
    torch.testing.assert_close(ask(plain), trained, rtol=1e-3, atol=1e-4)
    assert not [name for name, _ in plain.named_parameters() if "lora" in name or "save" in name]
