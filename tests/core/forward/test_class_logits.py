"""Logits of classifiers do not depend on padding, and read segments where the model has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)

from distill_core.data.class_batches import collate_texts
from distill_core.data.classes import EncodedText
from distill_core.forward.class_logits import ClassLogits
from distill_core.models.classifiers import with_labels
from distill_core.recipe import LoraSettings
from distill_core.students.adapters import with_adapter
from distill_core.teachers.mixture import Mixture

SIZES: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "intermediate_size": 64}
CONFIGS: dict[str, Any] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "distilbert": DistilBertConfig(vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}
PAD = 1
TEXTS = [[3, 5, 6, 4], [3, 7, 8, 9, 10, 11, 4], [3, 4]]


def model_of(name: str) -> Any:
    config = with_labels(CONFIGS[name], ("a", "b", "c"))
    return AutoModelForSequenceClassification.from_config(config).eval()


def batch(texts: list[list[int]], segments: list[list[int]] | None = None, **more: int) -> Any:
    items = [
        EncodedText(ids, segments[i] if segments else None, 0, True, False)
        for i, ids in enumerate(texts)
    ]
    return collate_texts(items, pad_token_id=PAD, rows=range(len(items)), **more)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_c1_padding_changes_nothing(name: str) -> None:
    network = ClassLogits(model_of(name))
    with torch.no_grad():
        alone = torch.cat([network(batch([ids])) for ids in TEXTS])
        together = network(batch(TEXTS, pad_to=20))
    assert together.shape == (3, 3)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_decoder_decides_at_its_last_real_token(name: str) -> None:
    model = model_of(name)
    made = batch(TEXTS, pad_to=12)
    with torch.no_grad():
        got = ClassLogits(model)(made)
        body = model.base_model(
            input_ids=made.input_ids, attention_mask=made.attention_mask
        ).last_hidden_state
        last = torch.tensor([len(ids) - 1 for ids in TEXTS])
        expected = model.score(body[torch.arange(3), last])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert model.config.pad_token_id == PAD  # so that the saved model pools in the same place


def test_segments_are_read_where_the_model_has_them() -> None:
    plain, split = [[0, 0, 0, 0]], [[0, 0, 1, 1]]
    for name, differs in (("bert", True), ("distilbert", False)):
        network = ClassLogits(model_of(name))
        with torch.no_grad():
            logits = [network(batch([TEXTS[0]], segments)) for segments in (plain, split)]
        assert (not torch.equal(*logits)) is differs


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_an_adapter_is_seen_through(name: str) -> None:
    model = with_adapter(model_of(name), LoraSettings(rank=2), seed=0).eval()
    logits = ClassLogits(model)(batch(TEXTS))
    logits.sum().backward()
    trained = [value for value in model.parameters() if value.requires_grad]
    assert all(value.grad is not None for value in trained)


def test_what_is_inside_is_shown_on_wish() -> None:
    network = ClassLogits(model_of("bert"))
    outputs = network.outputs(batch(TEXTS), output_hidden_states=True)
    assert len(outputs.hidden_states) == 3


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_several_classifiers_give_the_mean_of_their_probabilities(name: str) -> None:
    members = [model_of(name), model_of("bert")]
    segments = [[0] * (len(ids) - 2) + [1, 1] for ids in TEXTS]
    given = batch(TEXTS, segments, pad_to=9)
    with torch.no_grad():
        got = ClassLogits(Mixture(members, weights=[0.75, 0.25], vocab_size=3))(given)
        first, second = (ClassLogits(one)(given).softmax(-1) for one in members)
    torch.testing.assert_close(got.softmax(-1), 0.75 * first + 0.25 * second)
