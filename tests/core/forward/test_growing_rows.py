"""Rows that grow: as if each was read alone and anew, whatever the architecture remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from distill_core.generate import Continuation, continuations
from distill_core.teachers.mixture import Mixture

VOCABULARY = 101
STOPS = set(range(25))
PROMPTS = [
    [3 + (7 * place + 5 * length) % 90 for place in range(length)]
    for length in (1, 2, 3, 4, 6, 9, 13, 20)
]

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
RECURRENT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
}

HYBRID: dict[str, tuple[str, dict[str, Any]]] = {
    "lfm2": ("Lfm2Config", SIZES | {"layer_types": ["conv", "full_attention"]}),
    "qwen3_next": (
        "Qwen3NextConfig",
        SIZES | LINEAR | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "granite_hybrid": (
        "GraniteMoeHybridConfig",
        SIZES
        | MAMBA
        | {"layer_types": ["mamba", "attention"], "num_local_experts": 0, "num_experts_per_tok": 0},
    ),
    "bamba": ("BambaConfig", SIZES | MAMBA | {"attn_layer_indices": [1]}),
    "falcon_h1": ("FalconH1Config", SIZES | MAMBA | {"mamba_d_ssm": 64, "mamba_n_groups": 1}),
    "jamba": (
        "JambaConfig",
        SIZES
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8}
        | {"num_experts_per_tok": 1, "use_mamba_kernels": False},
    ),
}
"""Attention in some layers, a state in others: one cache holds both."""

STATE_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("MambaConfig", RECURRENT | {"state_size": 8}),
    "falcon_mamba": ("FalconMambaConfig", RECURRENT | {"state_size": 8}),
    "mamba2": (
        "Mamba2Config",
        RECURRENT | {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1},
    ),
}
"""Their memory has another name."""

FORGETFUL: dict[str, tuple[str, dict[str, Any]]] = {
    "rwkv": ("RwkvConfig", RECURRENT | {"attention_hidden_size": 32}),
    "xlstm": (
        "xLSTMConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 64, "num_blocks": 2, "num_heads": 2}
        | {"chunk_size": 16},
    ),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        RECURRENT
        | {"intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"lru_width": 32, "attention_window_size": 8},
    ),
    "openai_gpt": (
        "OpenAIGPTConfig",
        {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
        | {"initializer_range": 0.3},
    ),
}
"""They hand out nothing that could be gone on from, or do not heed a mask."""

ALL = HYBRID | STATE_ONLY | FORGETFUL


def built(name: str, seed: int = 0) -> Any:
    config, settings = ALL[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(getattr(transformers, config)(**settings)).eval()


@torch.no_grad()
def one_by_one(logits_of: Callable[[list[int]], torch.Tensor], tokens: int) -> list[Continuation]:
    """The likeliest tokens of each prompt alone, everything read anew for each of them."""
    found = []
    for prompt in PROMPTS:
        ids = list(prompt)
        while len(ids) < len(prompt) + tokens:
            ids.append(int(logits_of(ids).argmax()))
            if ids[-1] in STOPS:
                break
        new = ids[len(prompt) :]
        stopped = new[-1] in STOPS
        found.append(Continuation(new[:-1], new[-1]) if stopped else Continuation(new, None))
    return found


def last_logits(model: Any) -> Callable[[list[int]], torch.Tensor]:
    return lambda ids: model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def widths_and_answers(
    model: Any, listens_to: Any = None
) -> tuple[list[tuple[int, ...]], list[Continuation]]:
    """Shapes (B, T) of what the model was given, and what it wrote."""
    shapes: list[tuple[int, ...]] = []
    hook = (listens_to or model).register_forward_pre_hook(
        lambda module, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    answers = continuations(model, PROMPTS, stop_ids=STOPS, max_new_tokens=10)
    hook.remove()
    return shapes, answers


@pytest.mark.parametrize("name", ALL)
def test_rows_together_are_continued_as_each_alone(name: str) -> None:
    model = built(name)
    expected = one_by_one(last_logits(model), 10)
    assert len({len(answer.with_stop) for answer in expected}) > 1, "some leave before others"
    shapes, answers = widths_and_answers(model)
    assert answers == expected
    assert shapes[-1][0] < len(PROMPTS), "who has ended has left"


@pytest.mark.parametrize("name", HYBRID | STATE_ONLY)
def test_a_model_that_remembers_reads_each_token_once(name: str) -> None:
    shapes, _ = widths_and_answers(built(name))
    assert shapes[0] == (len(PROMPTS), 20)
    assert {width for _, width in shapes[1:]} == {1}


@pytest.mark.parametrize("members", [("mamba2", "bamba"), ("lfm2", "bamba"), ("rwkv", "lfm2")])
def test_teachers_together_remember_where_all_of_them_do(members: tuple[str, str]) -> None:
    both = [built(name, seed) for seed, name in enumerate(members)]
    mixture = Mixture(both, weights=[0.5, 0.5], vocab_size=VOCABULARY)
    sides = [last_logits(model) for model in both]
    expected = one_by_one(lambda ids: sum(side(ids).softmax(-1) for side in sides), 10)  # type: ignore[arg-type, return-value]
    shapes, answers = widths_and_answers(mixture, listens_to=both[1])
    assert answers == expected
    assert shapes[-1][0] < len(PROMPTS)
    assert (shapes[-1][1] == 1) == (members == ("lfm2", "bamba"))
