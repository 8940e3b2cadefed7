"""Logits at supervised positions equal the full forward pass, also where heads do more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, Qwen2Config

from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.forward.supervised import SupervisedLogits
from distill_core.recipe import LoraSettings
from distill_core.students.adapters import with_adapter

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "qwen2": Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2),
    "gemma2 (caps its logits)": Gemma2Config(
        **SIZES, intermediate_size=64, num_key_value_heads=2, head_dim=8
    ),
}


def batch() -> Any:
    rows = [
        Encoded([5, 6, 7, 8], [IGNORE_INDEX, IGNORE_INDEX, 7, 8], True, False),
        Encoded([9, 10], [IGNORE_INDEX, 10], True, False),
    ]
    return collate(rows, pad_token_id=0, rows=[0, 1])


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_equals_the_full_forward_pass(name: str) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    given = batch()
    got = SupervisedLogits(model, vocab_size=60)(given)
    full = model(
        input_ids=given.input_ids,
        attention_mask=given.attention_mask,
        position_ids=given.position_ids,
    ).logits
    expected = torch.stack([full[0, 1], full[0, 2], full[1, 0]])[:, :60]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_head_sees_only_supervised_rows_through_an_adapter_too(
    tiny_llama: Callable[..., Any],
) -> None:
    for adapter in (None, LoraSettings(rank=2)):
        model = with_adapter(tiny_llama(), adapter, seed=0)
        base = model.get_base_model() if adapter else model
        seen: list[tuple[int, ...]] = []
        base.get_output_embeddings().register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(tuple(inputs[0].shape))
        )
        network = SupervisedLogits(model, vocab_size=64)
        seen.clear()  # the trial at construction
        network(batch())
        assert seen == [(3, 32)]
