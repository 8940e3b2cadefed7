"""Sequences side by side: the same numbers as padded, and no sequence sees its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DogeConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhimoeConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

from distill_core.data.batches import Batch, collate
from distill_core.data.tokenize import Encoded
from distill_core.forward import packed
from distill_core.forward.network import Network, Wanted
from distill_core.forward.supervised import SupervisedLogits
from tests.core.definition import encoded

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "mistral, window of 4": MistralConfig(**SMALL | {"sliding_window": 4}),
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL),
    "gemma": GemmaConfig(**SMALL),
    "gemma3, window of 4": Gemma3TextConfig(**SMALL | {"sliding_window": 4}),
    "gpt2": GPT2Config(**GPT2, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0),
}


def made(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def rows(count: int = 6, *, side: Any = "right") -> Batch:
    return collate(encoded(count), pad_token_id=0, rows=range(count), padding_side=side)


def seen(model: Any, batch: Batch, *, whole: bool) -> tuple[Tensor, dict[str, Tensor], bool]:
    """Logits, gradients by parameter, and whether the sequences were packed."""
    model.zero_grad()
    network = SupervisedLogits(model, vocab_size=64)
    logits = network.logits(network.outputs(batch, whole=whole), batch)
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return logits, gradients, any(network._reach.values())


def row_by_row(outputs: Any, batch: Batch) -> tuple[Tensor, ...]:
    """Hidden states of each row of a batch that was packed."""
    assert isinstance(outputs, packed.SideBySide)
    return outputs.states.split(batch.real.lengths)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", CONFIGS)
def test_c1_packed_or_padded_logits_and_gradients_are_the_same(name: str, side: str) -> None:
    model, batch = made(CONFIGS[name]), rows(side=side)
    assert len(set(batch.real.lengths)) > 2, "rows of several lengths"
    one, gradients, was_packed = seen(model, batch, whole=False)
    other, expected, was_not = seen(model, batch, whole=True)
    assert (was_packed, was_not) == (True, False)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert list(gradients) == list(expected)
    for parameter, value in expected.items():
        torch.testing.assert_close(
            gradients[parameter], value, rtol=1e-3, atol=1e-5 * float(value.abs().max() + 1)
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_sequence_never_sees_its_neighbours(name: str) -> None:
    model, batch = made(CONFIGS[name]), rows()
    network = SupervisedLogits(model, vocab_size=64)
    before = row_by_row(network.outputs(batch), batch)
    batch.input_ids[2] = (batch.input_ids[2] + 7) % 64
    after = row_by_row(network.outputs(batch), batch)
    assert all(network._reach.values())
    for row in range(len(batch.rows)):
        assert torch.equal(before[row], after[row]) == (row != 2)


def test_no_work_is_done_on_padding() -> None:
    model, batch = made(CONFIGS["llama"]), rows()
    given: list[tuple[int, ...]] = []
    model.model.layers[0].mlp.register_forward_pre_hook(
        lambda module, args: given.append(tuple(args[0].shape[:2]))
    )
    network = SupervisedLogits(model, vocab_size=64)
    network.outputs(batch)
    assert given[-1] == (1, batch.real_tokens)
    assert batch.real_tokens < batch.input_ids.numel()


def test_a_row_alone_and_rows_that_are_looked_into_stay_as_they_are() -> None:
    model = made(CONFIGS["llama"])
    given: list[int] = []
    model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: given.append(args[0].shape[0]), with_kwargs=True
    )
    network = SupervisedLogits(model, vocab_size=64)
    network.outputs(rows(1))
    assert not network._reach
    for wanted in (
        Wanted(hidden_states=frozenset({1})),
        Wanted(attention=frozenset({1})),
        Wanted(values=frozenset({1})),
    ):
        given.clear()
        Network(made(CONFIGS["llama"]), vocab_size=64, wanted=wanted)
        looked = Network(model, vocab_size=64, wanted=wanted)
        looked(rows(4))
        assert given[-1] == 4
        model.set_attn_implementation("sdpa")


class Leaky(torch.nn.Module):
    """A body that adds to each token what stands before it, whosesoever that is."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Any) -> Any:
        output = self.model(**given)
        states = output.last_hidden_state
        output.last_hidden_state = states + 0.1 * states.roll(1, dims=1)
        return output


def test_a_body_that_mixes_sequences_is_found_out() -> None:
    model = made(CONFIGS["llama"])
    assert packed.reach(model.model, model.config)
    assert not packed.reach(Leaky(model.model), model.config)


class Rounding(torch.nn.Module):
    """A body that comes to something else without a mask, by what bf16 rounds away."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Any) -> Any:
        output = self.model(**given)
        if given["attention_mask"] is None:
            output.last_hidden_state = output.last_hidden_state * (1 + 2**-8)
        return output


def test_autocast_is_not_asked_for_the_digits_of_its_master_weights() -> None:
    """The last norm returns fp32 there, whatever was computed before it."""
    model, batch = made(CONFIGS["llama"]), rows()
    network = SupervisedLogits(model, vocab_size=64)
    assert network._parts is not None
    network._parts = (Rounding(model.model), network._parts[1])
    network.outputs(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert network.outputs(batch).states.dtype == torch.float32
        assert not packed.reach(Leaky(model.model), model.config)
    # each format is tried by itself: what holds in one need not hold in the other
    assert network._reach == {torch.float32: 0, torch.bfloat16: packed.UNLIMITED}


MIXED = {
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "router_jitter_noise": 0.0,
    "input_jitter_noise": 0.0,
}


@pytest.mark.parametrize(
    ("config", "reach"),
    [
        (PhimoeConfig(**SMALL | MIXED | {"sliding_window": 8}), 8),
        (PhimoeConfig(**SMALL | MIXED | {"sliding_window": None}), packed.UNLIMITED),
        (DogeConfig(**SMALL | {"sliding_window": 8}), 0),
        (
            Qwen2MoeConfig(
                **SMALL | MIXED | {"use_sliding_window": True, "sliding_window": 8},
                max_window_layers=3,
            ),
            8,
        ),
        (Qwen2MoeConfig(**SMALL | MIXED), packed.UNLIMITED),
        (MistralConfig(**SMALL | {"sliding_window": 8}), packed.UNLIMITED),
        (Gemma3TextConfig(**SMALL | {"sliding_window": 8}), packed.UNLIMITED),
    ],
    ids=["phimoe", "phimoe, none", "doge", "qwen2_moe", "qwen2_moe, none", "mistral", "gemma3"],
)
def test_c1_a_window_that_only_the_mask_knows_is_not_lost(config: Any, reach: int) -> None:
    """Such a body is packed as long as every row fits into the window; the others always are."""
    model = made(config)
    assert packed.reach(model.model, model.config) == reach
    for longest in (8, 20):
        lengths = (longest, 3, longest - 1)
        items = [Encoded([*range(5, 5 + n)], [*range(5, 5 + n)], True, False) for n in lengths]
        batch = collate(items, pad_token_id=0, rows=range(3))
        given: list[int] = []
        watched = model.model.layers[0].register_forward_pre_hook(
            lambda module, args, given=given: given.append(args[0].shape[0])
        )
        one, gradients, _ = seen(model, batch, whole=False)
        watched.remove()
        assert (given[-1] == 1) == (longest <= reach)
        other, expected, _ = seen(model, batch, whole=True)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        for parameter, value in expected.items():
            torch.testing.assert_close(
                gradients[parameter], value, rtol=1e-3, atol=1e-5 * float(value.abs().max() + 1)
            )


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SMALL | {"attn_logit_softcapping": 50.0, "sliding_window": 4}),
        GPTNeoXConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
        ),
    ],
    ids=["capped scores", "another family"],
)
def test_what_cannot_be_packed_is_padded(config: Any) -> None:
    model, batch = made(config), rows()
    before = model.config._attn_implementation
    one, _, was_packed = seen(model, batch, whole=False)
    other, _, _ = seen(model, batch, whole=True)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    if config.model_type == "gemma2":
        assert not was_packed
    assert model.config._attn_implementation == before


def test_half_precision_on_cuda_takes_all_sequences_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel itself needs a GPU: its arguments, and their meaning, are checked here."""
    heads, lengths = (4, 2), [5, 1, 3]
    q, k, v = (torch.randn(1, n, sum(lengths), 8, dtype=torch.bfloat16) for n in (4, 2, 2))
    asked: dict[str, Any] = {}

    def kernel(query: Tensor, key: Tensor, value: Tensor, *cut: Any, **more: Any) -> Tensor:
        assert query.shape == (9, heads[0], 8)
        assert key.shape == value.shape == (9, heads[1], 8)
        asked.update(more, cut=cut)
        return query

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    starts = torch.tensor([0, 5, 6, 9], dtype=torch.int32)
    told = packed._now.set(packed._Sequences(lengths, starts))
    try:
        found, _ = packed.attend(torch.nn.Identity(), q, k, v, None, scaling=0.3, sliding_window=4)
    finally:
        packed._now.reset(told)
    assert found.shape == (1, 9, 4, 8)
    assert asked["cut"] == (starts, starts, 5, 5)
    assert (asked["scale"], asked["window_size"], asked["enable_gqa"]) == (0.3, (3, 0), True)
