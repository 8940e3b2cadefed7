"""QLoRA: the frozen weights beneath an adapter in four bits, and back.

In: a network in fp32; after training, the network with its adapter. Out: the network with NF4
linear layers, then one in fp32 that holds what the adapter was trained on. bitsandbytes quantises.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from distill_core import device as machine
from distill_core.errors import ModelError

if TYPE_CHECKING:
    import torch


def refusal(device: torch.device) -> tuple[str, str] | None:
    """Why an adapter cannot stand on four-bit weights here, and what to do; None where it can."""
    if device.type != "cuda":
        return (
            "A base in int4 (QLoRA) needs an NVIDIA GPU, and this stage would train on "
            f"{device.type.upper()}.",
            "Choose full: LoRA itself works everywhere.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        return (
            "A base in int4 (QLoRA) needs the package bitsandbytes, which is not installed.",
            "Install it: pip install 'distill-studio[quant]'. Or choose full.",
        )
    return None


def with_int4_base(model: Any, *, device: torch.device, field: str = "") -> Any:
    """Put NF4 in the place of every linear layer but the head; moved to `device`, they quantise.

    NF4 with doubly quantised scales, 4.127 bits a weight: Dettmers et al. 2023, arXiv 2305.14314.
    The same weights always give the same four bits, so that a resumed run stands on the same base.

    Raises:
        ModelError: if the model's layers are not of the kind that can be quantised (GPT-2).
    """
    import bitsandbytes as bnb
    from torch import nn

    dtype = machine.pick_dtype("bf16" if machine.has_bf16(device) else "fp32", device)
    layers = [
        (parent, name, part)
        for parent in model.base_model.modules()
        for name, part in parent.named_children()
        if isinstance(part, nn.Linear)
    ]
    if not layers:
        raise ModelError(
            f"The layers of {model.config.model_type} cannot be kept in int4.\n"
            "Set the adapter's base_precision to full.",
            field=field,
        )
    for parent, name, part in layers:
        smaller = bnb.nn.Linear4bit(
            part.in_features,
            part.out_features,
            bias=part.bias is not None,
            compute_dtype=dtype,
            compress_statistics=True,
            quant_type="nf4",
        )
        smaller.weight = bnb.nn.Params4bit(
            part.weight.detach(), requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        if part.bias is not None:
            smaller.bias = part.bias
        setattr(parent, name, smaller)
    model.is_loaded_in_4bit = True  # peft asks for it to choose its kind of adapter
    return model.to(device)


def without_adapter(model: Any) -> Any:
    """Add the adapter to its base as it was trained, in fp32; nothing is rounded a second time.

    Args:
        model: A peft model whose base has NF4 layers.

    Returns:
        The `PreTrainedModel` beneath, with ordinary linear layers W = dequantised(NF4) + ΔW.
    """
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora import LoraLayer
    from torch import nn

    base = model.get_base_model()
    for parent in list(base.modules()):
        for name, part in list(parent.named_children()):
            layer: Any = part
            inner: Any = layer.base_layer if isinstance(part, LoraLayer) else part
            if not isinstance(inner, Linear4bit):
                continue
            four_bits: Any = inner.weight
            weight = dequantize_4bit(four_bits.data, four_bits.quant_state).float()
            if isinstance(part, LoraLayer):
                for adapter in layer.active_adapters:
                    weight += layer.get_delta_weight(adapter).float()
            whole = nn.Linear(
                inner.in_features, inner.out_features, bias=inner.bias is not None, device="meta"
            )
            whole.weight = nn.Parameter(weight)
            if inner.bias is not None:
                whole.bias = nn.Parameter(inner.bias.detach().float())
            setattr(parent, name, whole.to(weight.device))
    del base.is_loaded_in_4bit
    model.base_model.unload()
    return base.to(torch.float32)
