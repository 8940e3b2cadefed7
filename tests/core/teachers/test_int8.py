"""int8 layers against a product of whole numbers written in NumPy, and what must not matter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.errors import ModelError
from distill_core.teachers import int8
from distill_core.teachers.int8 import Int8Linear, weight_levels, with_int8_layers
from distill_core.teachers.local import LocalTeacher


def by_hand(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, levels: int, *, twice: bool
) -> np.ndarray:
    """Whole numbers in int64, scales in float64."""
    s_x = np.abs(x).max(1, keepdims=True) / 127
    s_w = np.abs(weight).max(1, keepdims=True) / levels
    q_x, q_w = np.round(x / s_x), np.round(weight / s_w)
    product = q_x.astype(np.int64) @ q_w.astype(np.int64).T
    y = product.astype(np.float64)
    if twice:
        fine = np.round((x / s_x - q_x) * 254)
        y = y + (fine.astype(np.int64) @ q_w.astype(np.int64).T) / 254
    y = y * s_x * s_w.T
    return y if bias is None else y + bias


@pytest.mark.parametrize(("wide", "narrow"), [(24, 40), (40, 24)], ids=["widens", "narrows"])
@pytest.mark.parametrize("levels", [127, 63])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_layer_equals_its_definition(wide: int, narrow: int, levels: int, has_bias: bool) -> None:
    layer = nn.Linear(wide, narrow, bias=has_bias)
    inputs = torch.randn(3, 5, wide) * torch.tensor([1e-3, 1.0, 50.0]).view(3, 1, 1)
    made = Int8Linear(layer.weight.detach(), layer.bias, levels=levels)
    got = made(inputs)
    assert got.shape == (3, 5, narrow)
    bias = layer.bias.detach().numpy().astype(np.float64) if has_bias else None
    expected = by_hand(
        inputs.reshape(-1, wide).double().numpy(),
        layer.weight.detach().double().numpy(),
        bias,
        levels,
        twice=narrow < wide,
    )
    exact = layer(inputs).detach().reshape(-1, narrow)
    np.testing.assert_allclose(got.reshape(-1, narrow).numpy(), expected, rtol=2e-3, atol=2e-2)
    error = (got.reshape(-1, narrow) - exact).norm() / exact.norm()
    assert error < (0.006 if levels == 127 else 0.012) * (1 if narrow < wide else 1.7)


def test_a_narrowing_layer_rounds_its_input_finer() -> None:
    inputs = torch.randn(50, 64)
    inputs[:, 3] *= 60  # one unit far above all others, as down-projections see it
    made = Int8Linear(torch.randn(32, 64), None, levels=127)
    exact = inputs @ (made.whole.float() * made.scale)
    errors = []
    for twice in (False, True):
        assert made.twice or twice
        made.twice = twice
        errors.append(float((made(inputs) - exact).abs().max()))
    assert errors[1] < errors[0] / 100


def test_c1_a_row_does_not_depend_on_the_other_rows() -> None:
    made = Int8Linear(torch.randn(20, 16), None, levels=127)
    rows = torch.randn(6, 16)
    alone = torch.cat([made(row[None]) for row in rows])
    louder = torch.cat([rows, 1000 * torch.randn(2, 16)])
    assert torch.equal(made(louder)[:6], alone)
    assert torch.equal(made(torch.zeros(2, 16)), torch.zeros(2, 20)), "padding may be all zeros"


@pytest.fixture
def teacher(tiny_llama: Callable[..., Any]) -> LocalTeacher:
    return LocalTeacher(with_int8_layers(tiny_llama(layers=3, seed=1)), vocab_size=60, stop_ids={2})


def batch_of(pad_to: int | None = None, side: Any = "right") -> Any:
    rows = [
        Encoded([5, 6, 7, 8], [IGNORE_INDEX, IGNORE_INDEX, 7, 8], True, False),
        Encoded([9, 10, 11, 12, 13, 14], [IGNORE_INDEX] * 3 + [12, 13, 14], True, False),
    ]
    return collate(rows, pad_token_id=0, rows=[0, 1], pad_to=pad_to, padding_side=side)


def test_the_body_is_replaced_and_the_rest_stays(tiny_llama: Callable[..., Any]) -> None:
    model, before = tiny_llama(layers=3, seed=1), tiny_llama(layers=3, seed=1)
    with_int8_layers(model)
    kinds = [type(layer) for layer in model.model.layers.modules()]
    assert kinds.count(Int8Linear) == 3 * 7
    assert nn.Linear not in kinds
    assert torch.equal(model.lm_head.weight, before.lm_head.weight)
    assert torch.equal(model.model.embed_tokens.weight, before.model.embed_tokens.weight)


def test_gpt2_s_own_linear_layers_are_replaced_too() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    ids = torch.randint(0, 64, (2, 9))
    with torch.no_grad():
        exact = model(input_ids=ids).logits.log_softmax(-1)
        found = with_int8_layers(model)(input_ids=ids).logits.log_softmax(-1)
    assert sum(isinstance(layer, Int8Linear) for layer in model.modules()) == 2 * 4
    assert float((exact.exp() * (exact - found)).sum(-1).mean()) < 1e-4


def test_a_model_without_linear_layers_is_refused() -> None:
    class Odd(nn.Module):
        base_model = nn.Sequential(nn.Embedding(3, 4))

    with pytest.raises(ModelError, match="int8 would change nothing") as caught:
        with_int8_layers(Odd())
    assert caught.value.field == "teacher_precision"


def test_it_comes_close_to_fp32(tiny_llama: Callable[..., Any], teacher: LocalTeacher) -> None:
    exact = LocalTeacher(tiny_llama(layers=3, seed=1), vocab_size=60, stop_ids={2})
    p = exact.logits(batch_of()).log_softmax(-1)
    q = teacher.logits(batch_of()).log_softmax(-1)
    assert not torch.equal(p, q)
    assert float((p.exp() * (p - q)).sum(-1).mean()) < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_c1_padding_changes_nothing_but_a_rounding(teacher: LocalTeacher, side: Any) -> None:
    plain, padded = teacher.logits(batch_of()), teacher.logits(batch_of(13, side))
    # a value that falls on the border between two whole numbers may round to either
    torch.testing.assert_close(plain, padded, rtol=0, atol=5e-3)
    assert (plain - padded).abs().median() < 1e-6


def test_c12_two_passes_agree_bit_for_bit_and_nothing_is_trained(teacher: LocalTeacher) -> None:
    assert torch.equal(teacher.logits(batch_of()), teacher.logits(batch_of()))
    assert not teacher.model.training
    assert not any(value.requires_grad for value in teacher.model.parameters())
    prompts = [[5, 6], [7, 8, 9]]
    assert teacher.answers(prompts, max_new_tokens=6) == teacher.answers(prompts, max_new_tokens=6)


@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_products_are_exact_whatever_the_processor_has(isa: str) -> None:
    code = (
        "import torch; from distill_core.teachers.int8 import weight_levels as w; n = w();"
        "a = torch.full((3, 200), 127, dtype=torch.int8);"
        "b = torch.full((200, 40), n, dtype=torch.int8);"
        "assert int(torch._int_mm(a, b).min()) == 127 * n * 200; print(n)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) in {int8.LEVELS, int8.REDUCED_LEVELS}


def test_a_product_that_is_wrong_everywhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "_int_mm", lambda a, b: torch.zeros(len(a), b.shape[1], dtype=torch.int32)
    )
    weight_levels.cache_clear()
    with pytest.raises(ModelError, match="not exact"):
        weight_levels()
    weight_levels.cache_clear()


def test_nothing_of_what_was_loaded_stays_in_memory(tiny_llama: Callable[..., Any]) -> None:
    """A file that is mapped into memory counts as long as one weight of it is used."""
    model = tiny_llama()
    loaded = {weight.untyped_storage().data_ptr(): weight.data for weight in model.parameters()}
    made = with_int8_layers(model)
    for weight in made.parameters():
        assert weight.untyped_storage().data_ptr() not in loaded
