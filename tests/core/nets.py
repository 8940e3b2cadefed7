"""Tiny networks with random weights, for tests and for the processes that tests start.

In: sizes and a seed. Out: a model in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def tiny_llama(
    *, layers: int = 2, hidden_size: int = 32, seed: int = 0, vocab_size: int = 64
) -> LlamaForCausalLM:
    """A Llama of 2 layers × 32, vocabulary 64, unless told otherwise."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
