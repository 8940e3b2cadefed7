"""Widths that fit are settled, others are refused with what would fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from distill_core.errors import ModelError
from distill_core.recipe import WidthPruneStudent
from distill_core.students.pruned_sizes import PrunedSizes, pruned_sizes
from distill_core.students.width_prune import kept_heads
from tests.core.students.families import FAMILIES

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
LLAMA, QWEN2 = LlamaConfig(**SIZES), Qwen2Config(**SIZES)


@pytest.mark.parametrize(
    ("config", "wanted", "settled"),
    [
        (LLAMA, {}, PrunedSizes(576, 9, 3, 1536)),
        (LLAMA, {"hidden_size": 432}, PrunedSizes(432, 9, 3, 1536)),
        (LLAMA, {"hidden_size": 384}, PrunedSizes(384, 6, 2, 1536)),  # 9 do not divide it
        (QWEN2, {"hidden_size": 384}, PrunedSizes(384, 9, 3, 1536)),  # nor need they
        (LLAMA, {"attention_heads": 3}, PrunedSizes(576, 3, 1, 1536)),
        (LLAMA, {"intermediate_size": 1000}, PrunedSizes(576, 9, 3, 1000)),
        (FAMILIES["gpt2"], {"hidden_size": 24}, PrunedSizes(24, 2, 2, 40)),
        (FAMILIES["gpt2"], {"attention_heads": 3}, PrunedSizes(36, 3, 3, 40)),
        (FAMILIES["distilbert"], {"attention_heads": 1}, PrunedSizes(12, 1, 1, 40)),
    ],
)
def test_widths_are_settled(config: Any, wanted: Any, settled: PrunedSizes) -> None:
    assert pruned_sizes(config, WidthPruneStudent(**wanted)) == settled


@pytest.mark.parametrize(
    ("config", "wanted", "message", "field"),
    [
        (LLAMA, {"hidden_size": 448}, "hidden_size 448 does not fit.*Choose 432 or 456", None),
        (LLAMA, {"hidden_size": 600}, "only 576", "hidden_size"),
        (LLAMA, {"intermediate_size": 2000}, "only 1536", "intermediate_size"),
        (LLAMA, {"attention_heads": 12}, "only 9", "attention_heads"),
        (LLAMA, {"attention_heads": 4}, "one of 3, 6, 9", "attention_heads"),
        (FAMILIES["bert"], {"hidden_size": 40}, "Choose 24 or 48", "hidden_size"),
        (FAMILIES["bert"], {"hidden_size": 24, "attention_heads": 4}, "one of 2", None),
    ],
)
def test_what_does_not_fit_is_told(config: Any, wanted: Any, message: str, field: Any) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        pruned_sizes(config, WidthPruneStudent(**wanted))
    assert caught.value.field == (field or next(reversed(wanted)))


def test_whole_groups_go_where_that_gives_the_number() -> None:
    importance = torch.tensor([9.0, 0, 0, 4, 4, 4, 1, 1, 8])
    assert kept_heads(importance, 3, heads=6) == ([3, 4, 5, 6, 7, 8], [1, 2])
    assert kept_heads(importance, 3, heads=3) == ([3, 4, 5], [1])


def test_else_every_group_keeps_its_best_heads() -> None:
    importance = torch.tensor([1.0, 5, 2, 0, 3, 3, 9, 1])
    assert kept_heads(importance, 2, heads=2) == ([1, 6], [0, 1])
    assert kept_heads(importance, 2, heads=6) == ([0, 1, 2, 4, 5, 6], [0, 1])
