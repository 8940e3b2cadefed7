"""Hidden states, attention and values as a full forward pass shows them; projectors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, Qwen2Config

from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.errors import ModelError
from distill_core.forward.network import Network, Wanted, value_relations
from distill_core.losses.matching import match
from distill_core.recipe import AttentionLoss, HiddenStatesLoss, LoraSettings
from distill_core.students.adapters import with_adapter

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "qwen2": Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2),
    "gemma2": Gemma2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8),
}
EVERYTHING = Wanted(
    hidden_states=frozenset({1, 2}),
    attention=frozenset({1, 2}),
    values=frozenset({1, 2}),
    relation_heads=2,
)


def batch(padding_side: Any = "right") -> Any:
    rows = [
        Encoded([5, 6, 7, 8], [IGNORE_INDEX, IGNORE_INDEX, 7, 8], True, False),
        Encoded([9, 10], [IGNORE_INDEX, 10], True, False),
    ]
    return collate(rows, pad_token_id=0, rows=[0, 1], padding_side=padding_side)


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_equals_each_row_alone(name: str, side: str) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    view = Network(model, vocab_size=64, wanted=EVERYTHING)(batch(side))
    features = view.features
    assert features is not None
    places = [([5, 6, 7, 8], 1), ([5, 6, 7, 8], 2), ([9, 10], 0)]
    for number, (ids, place) in enumerate(places):
        alone = model(
            input_ids=torch.tensor([ids]), output_hidden_states=True, output_attentions=True
        )
        for layer in (1, 2):
            torch.testing.assert_close(
                features.hidden_states[layer][number],
                alone.hidden_states[layer][0, place],
                rtol=1e-4,
                atol=1e-5,
            )
            start = 0 if side == "right" else 4 - len(ids)
            seen = features.attention[layer][number][:, start : start + len(ids)]
            expected = alone.attentions[layer - 1][0, :, place]
            torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)
            assert features.attention[layer][number].sum(-1) == pytest.approx(1, abs=1e-5)
            related = features.value_relations[layer][number]
            assert related.shape == (2, 4)
            assert related.sum(-1) == pytest.approx(1, abs=1e-5)
            assert related[:, start + place + 1 :].sum() == 0


def test_relations_are_what_minilm_defines() -> None:
    values = torch.randn(1, 3, 8)
    got = value_relations(values, torch.ones(1, 3), heads=2, causal=False)
    for head in range(2):
        part = values[0, :, head * 4 : head * 4 + 4]
        for place in range(3):
            products = torch.stack([part[place] @ part[key] / 2 for key in range(3)])
            torch.testing.assert_close(got[0, head, place], products.exp() / products.exp().sum())
    masked = value_relations(values, torch.tensor([[0, 1, 1]]), heads=2, causal=True)
    assert masked[0, :, 1].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert torch.isfinite(masked).all()


def test_projectors_bridge_widths_train_and_stay_out_of_the_model(
    tiny_llama: Callable[..., Any],
) -> None:
    student, teacher = tiny_llama(), tiny_llama(layers=4, hidden_size=48)
    found = match([HiddenStatesLoss()], student.config, teacher.config, seed=3)
    assert found.words["hidden_states"].startswith("student layer 1 learns from teacher layer 2")
    assert sorted(found.projectors) == ["1", "2"]
    network = Network(student, vocab_size=64, wanted=found.student, projectors=found.projectors)
    features = network(batch()).features
    assert features is not None
    assert features.hidden_states[2].shape == (3, 48)
    names = [name for name, _ in network.named_parameters() if name.startswith("projectors")]
    assert names == ["projectors.1.weight", "projectors.2.weight"]
    assert not any("projector" in name for name in student.state_dict())
    again = match([HiddenStatesLoss()], student.config, teacher.config, seed=3)
    other = match([HiddenStatesLoss()], student.config, teacher.config, seed=4)
    first = found.projectors["1"].weight
    assert torch.equal(first, again.projectors["1"].weight)
    assert not torch.equal(first, other.projectors["1"].weight)
    assert not len(match([HiddenStatesLoss()], student.config, student.config).projectors)


def test_values_are_found_through_an_adapter(tiny_llama: Callable[..., Any]) -> None:
    model = with_adapter(tiny_llama(), LoraSettings(rank=2), seed=0)
    wanted = Wanted(values=frozenset({2}), relation_heads=2)
    features = Network(model, vocab_size=64, wanted=wanted)(batch()).features
    assert features is not None
    assert sorted(features.value_relations) == [2]


def test_relation_heads_that_do_not_fit_are_refused(tiny_llama: Callable[..., Any]) -> None:
    config = tiny_llama().config
    with pytest.raises(ModelError, match="relation_heads = 3 does not divide"):
        match([AttentionLoss(compares="values", relation_heads=3)], config, config)
    found = match([AttentionLoss(compares="values", relation_heads=2)], config, config)
    assert found.student.relation_heads == 2
    assert match([AttentionLoss(compares="values")], config, config).student.relation_heads == 4


def test_nothing_is_looked_into_unless_it_is_wanted(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    before = model.config._attn_implementation
    assert Network(model, vocab_size=64)(batch()).features is None
    assert model.config._attn_implementation == before
    Network(model, vocab_size=64, wanted=Wanted(attention=frozenset({1})))
    assert model.config._attn_implementation == "eager"


class Searches(TorchDispatchMode):
    """Counts what makes a device be waited for: how many places a mask has."""

    found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masks = args[1] if func is torch.ops.aten.index.Tensor else ()
        self.found += any(one is not None and one.dtype == torch.bool for one in masks)
        self.found += func in {torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default}
        return func(*args, **(kwargs or {}))


def test_nothing_is_searched_for_on_the_device() -> None:
    model, other = (
        AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS["qwen2"])).eval() for _ in range(2)
    )
    given = batch().to("cpu")
    other.set_attn_implementation("sdpa")
    looked = Network(model, vocab_size=64, wanted=EVERYTHING)
    side_by_side = Network(other, vocab_size=64)
    assert side_by_side.longest_packed()
    with Searches() as seen:
        looked(given)
        side_by_side(given)
    assert seen.found == 0
