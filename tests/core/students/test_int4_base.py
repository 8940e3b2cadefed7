"""QLoRA: where it is refused, and, on any device with bitsandbytes, what is trained and saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core import checks, errors
from distill_core import device as machine
from distill_core.estimate.weights_need import student_bytes
from distill_core.models import model_facts
from distill_core.recipe import LoraSettings, ready_recipes
from distill_core.students import adapters, int4_base

CPU = torch.device("cpu")
QLORA = LoraSettings(rank=2, base_precision="int4")


def test_a_cpu_is_told_to_choose_full() -> None:
    changed = ["stages.0.adapter.base_precision=int4", "device=cpu"]
    recipe = ready_recipes.read("fine_tune_lora", changed)
    found = {p.field: p for p in checks.check(recipe)}
    problem = found["stages.0.adapter.base_precision"]
    assert problem.severity == "error"
    assert "NVIDIA GPU" in problem.message
    assert "full" in problem.fix


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int4_base.importlib.util, "find_spec", lambda name: None)
    refused = int4_base.refusal(torch.device("cuda"))
    assert refused is not None
    assert "bitsandbytes" in refused[0]
    assert "distill-studio[quant]" in refused[1]
    monkeypatch.setattr(int4_base.importlib.util, "find_spec", lambda name: object())
    assert int4_base.refusal(torch.device("cuda")) is None


def test_a_run_stops_at_the_field_too(tiny_llama: Callable[..., Any]) -> None:
    with pytest.raises(errors.ModelError, match="NVIDIA GPU") as caught:
        adapters.with_adapter(tiny_llama(), QLORA, seed=0, device=CPU)
    assert caught.value.field == "adapter.base_precision"


def test_four_bits_take_an_eighth_of_a_frozen_layer(tiny_llama: Callable[..., Any]) -> None:
    shape = tiny_llama().config
    whole = student_bytes(shape, LoraSettings(rank=2), bf16=False)
    small = student_bytes(shape, QLORA, bf16=False)
    layers = sum(a * b for a, b in model_facts.linear_layers(shape))
    assert whole - small == pytest.approx(layers * (4 - 4.127 / 8), abs=1)


# --- real quantisation: bitsandbytes computes on a CPU as well, which the product does not offer --


@pytest.fixture
def quantised(tiny_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("bitsandbytes", reason="the extra `quant` is not installed")
    monkeypatch.setattr(int4_base, "refusal", lambda device: None)
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    model = tiny_llama(hidden_size=64)  # whole blocks of 64 weights
    exact = {name: value.clone() for name, value in model.state_dict().items()}
    return exact, adapters.with_adapter(model, QLORA, seed=0, device=CPU)


def test_only_the_adapter_is_trained_and_its_base_is_rounded(quantised: Any) -> None:
    exact, network = quantised
    assert all("lora_" in name for name, p in network.named_parameters() if p.requires_grad)
    saved = adapters.merged(network).state_dict()
    assert saved.keys() == exact.keys()  # an ordinary model: no trace of peft or of four bits
    for name, value in exact.items():
        assert saved[name].dtype == torch.float32
        if "proj" not in name:
            assert torch.equal(saved[name], value)  # embeddings, norms and head stay as they were
        else:
            step = value.abs().max() * 0.17  # NF4's levels lie at most 0.33 of the largest apart
            assert 0 < (saved[name] - value).abs().max() <= step


def test_what_is_saved_answers_as_what_was_trained(quantised: Any) -> None:
    _, network = quantised
    ids = torch.arange(1, 13).reshape(2, 6)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        network(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():  # still in train mode: in eval bitsandbytes packs anew for its CPU kernel
        trained = network(input_ids=ids).logits
        with network.disable_adapter():
            before = network(input_ids=ids).logits
        saved = adapters.merged(network)(input_ids=ids).logits
    assert (trained - before).abs().max() > 1e-2  # the adapter has learnt something
    assert torch.allclose(saved, trained, atol=1e-4)


def test_the_same_weights_give_the_same_four_bits(
    quantised: Any, tiny_llama: Callable[..., Any]
) -> None:
    exact, network = quantised
    again = tiny_llama(hidden_size=64)
    again.load_state_dict(exact)
    again = adapters.with_adapter(again, QLORA, seed=0, device=CPU)
    first, second = adapters.merged(network).state_dict(), adapters.merged(again).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
