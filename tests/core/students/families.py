"""Tiny random networks of every family that students are made of, with calibration rows.

In: a family's name. Out: a model in eval mode, the same each time. Weights are spread widely, so
that no part of a network is close to doing nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from distill_core.data.tokenize import Encoded
from distill_core.students.calibration import Calibration

LAYERS, HIDDEN, HEADS, UNITS, WIDTH = 4, 48, 4, 40, 12
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_ENCODER: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": UNITS,
    "pad_token_id": 0,
}
_DECODER: dict[str, Any] = {**_ENCODER, "num_key_value_heads": 2, **_IDS}
_WINDOWS = {
    "sliding_window": 3,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}

CAUSAL: dict[str, Any] = {
    "llama": LlamaConfig(**_DECODER, attention_bias=True, mlp_bias=True),
    "llama-tied": LlamaConfig(**_DECODER, tie_word_embeddings=True),
    "mistral": MistralConfig(**_DECODER),
    "qwen2": Qwen2Config(**_DECODER),
    "qwen3": Qwen3Config(**_DECODER, head_dim=WIDTH),
    "gemma": GemmaConfig(**_DECODER, head_dim=WIDTH),
    "gemma2": Gemma2Config(**_DECODER, head_dim=WIDTH, **_WINDOWS),
    "gemma3": Gemma3TextConfig(**_DECODER, head_dim=WIDTH, **_WINDOWS),
    "gpt2": GPT2Config(
        **_IDS, vocab_size=64, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_inner=UNITS
    ),
}
ENCODERS: dict[str, Any] = {
    "bert": BertConfig(**_ENCODER),
    "bert-masked": BertConfig(**_ENCODER),
    "roberta": RobertaConfig(**{**_ENCODER, "pad_token_id": 1}),
    "distilbert": DistilBertConfig(
        vocab_size=64, dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=UNITS
    ),
}
FAMILIES = CAUSAL | ENCODERS


def tiny(family: str) -> PreTrainedModel:
    """A random model of the family; encoders have a head that tells two classes apart."""
    kind: Any = AutoModelForCausalLM
    if family in ENCODERS:
        kind = AutoModelForSequenceClassification
    if family.endswith("masked"):
        kind = AutoModelForMaskedLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind.from_config(FAMILIES[family])
        for value in model.parameters():
            spread = 0.3 if value.dim() > 1 else 0.1
            value.data += spread * torch.randn_like(value)
    return model.eval()


ROWS = [
    Encoded([5, 6, 7, 8, 9], [5, 6, 7, 8, 9], True, False),
    Encoded([11, 12], [11, 12], True, False),
    Encoded([20, 21, 22, 23], [20, 21, 22, 23], True, False),
]


def batches(count: int = 3) -> Any:
    """Calibration rows of unequal length, so that some of them are padded."""
    return Calibration(ROWS, pad_token_id=0).batches(count, seed=0)


def logits(model: Any) -> torch.Tensor:
    """What the model says about one row."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.tensor([[5, 6, 7, 8, 3, 4]])).logits
    return found
