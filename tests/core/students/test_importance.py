"""Importance equals the plain definition, row by row, and sees no padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distill_core.students.calibration import Calibration
from distill_core.students.importance import layer_importance, width_importance
from tests.core.students.families import FAMILIES, HEADS, LAYERS, ROWS, UNITS, WIDTH, batches, tiny

LOOKED_AT = ["llama", "gemma2", "gpt2", "bert"]
OUT = {"gpt2": ("attn.c_proj", "mlp.c_proj"), "bert": ("attention.output.dense", "output.dense")}


def one_by_one() -> list[Any]:
    """The rows without any padding."""
    return [Calibration([row], pad_token_id=0).batches(1, seed=0)[0] for row in ROWS]


def layers_of(model: Any) -> list[nn.Module]:
    return next(list(m) for m in model.modules() if isinstance(m, nn.ModuleList))


@pytest.mark.parametrize("family", LOOKED_AT)
def test_block_influence_is_one_less_the_mean_cosine(family: str) -> None:
    model = tiny(family)
    seen: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(LAYERS)]
    for place, layer in enumerate(layers_of(model)):

        def keep(_: Any, args: Any, output: Any, place: int = place) -> None:
            after = output[0] if isinstance(output, tuple) else output
            seen[place].append((args[0][0], after[0]))

        layer.register_forward_hook(keep)
    with torch.no_grad():
        for row in ROWS:
            model(input_ids=torch.tensor([row.input_ids]))
    reference = []
    for pairs in seen:
        cosines = [
            float(x @ y / (x.norm() * y.norm()))
            for before, after in pairs
            for x, y in zip(before.double(), after.double(), strict=True)
        ]
        reference.append(1 - sum(cosines) / len(cosines))
    found = layer_importance(tiny(family), batches())
    assert found.tolist() == pytest.approx(reference, abs=1e-5)
    assert len(set(reference)) == LAYERS


@pytest.mark.parametrize("family", LOOKED_AT)
def test_heads_and_units_are_weighed_by_what_they_add(family: str) -> None:
    model = tiny(family)
    heads, units = OUT.get(family, ("self_attn.o_proj", "mlp.down_proj"))
    inputs: dict[tuple[int, str], list[torch.Tensor]] = {}
    for place, layer in enumerate(layers_of(model)):
        for name in (heads, units):

            def keep(_: Any, args: Any, key: Any = (place, name)) -> None:
                inputs.setdefault(key, []).append(args[0][0].double())

            layer.get_submodule(name).register_forward_pre_hook(keep)
    with torch.no_grad():
        for row in ROWS:
            model(input_ids=torch.tensor([row.input_ids]))
    found = width_importance(tiny(family), batches())
    for place, layer in enumerate(layers_of(model)):
        weight = layer.get_submodule(heads).weight.detach().double()  # type: ignore[union-attr]
        weight = weight.T if family == "gpt2" else weight
        z = torch.cat(inputs[place, heads])
        for head in range(HEADS):
            rows = slice(head * WIDTH, (head + 1) * WIDTH)
            added = [float((weight[:, rows] @ token[rows]).norm()) for token in z]
            assert float(found.heads[place, head]) == pytest.approx(
                sum(added) / len(added), rel=1e-4
            )
        weight = layer.get_submodule(units).weight.detach().double()  # type: ignore[union-attr]
        weight = weight.T if family == "gpt2" else weight
        h = torch.cat(inputs[place, units])
        for unit in range(0, UNITS, 7):
            added = [float((weight[:, unit] * token[unit]).norm()) for token in h]
            assert float(found.units[place, unit]) == pytest.approx(
                sum(added) / len(added), rel=1e-4
            )


def test_dimensions_are_weighed_by_what_the_norms_give() -> None:
    model = tiny("llama")
    outputs: list[torch.Tensor] = []
    norms = [m for n, m in model.named_modules() if n.endswith("norm")]
    assert len(norms) == 2 * LAYERS + 1
    for norm in norms:
        norm.register_forward_hook(lambda _, __, output: outputs.append(output[0].double()))
    with torch.no_grad():
        for row in ROWS:
            model(input_ids=torch.tensor([row.input_ids]))
    reference = torch.cat(outputs).abs().mean(0)
    torch.testing.assert_close(width_importance(tiny("llama"), batches()).hidden, reference)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_padding_changes_nothing(family: str) -> None:
    padded = width_importance(tiny(family), batches())
    alone = width_importance(tiny(family), one_by_one())
    for name in ("heads", "units", "hidden"):
        torch.testing.assert_close(
            getattr(padded, name), getattr(alone, name), rtol=1e-4, atol=1e-6
        )
    torch.testing.assert_close(
        layer_importance(tiny(family), batches()),
        layer_importance(tiny(family), one_by_one()),
        rtol=1e-4,
        atol=1e-6,
    )


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = tiny("llama").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_importance(model, batches())
    width_importance(model, batches())
    assert model.training
    assert model.config.use_cache
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
