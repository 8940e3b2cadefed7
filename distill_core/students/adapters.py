"""LoRA: train small matrices beside frozen weights, and merge them when the stage ends.

In: a model and the adapter's settings. Out: the model to train, then the merged one. peft does the
work.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import LoraSettings
from distill_core.students import int4_base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def with_adapter(
    model: PreTrainedModel,
    settings: LoraSettings | None,
    *,
    seed: int,
    device: torch.device | None = None,
) -> Any:
    """Put LoRA matrices beside every linear layer but the head; None leaves the model as it is.

    A classifier's head is small and often new: it is trained as a whole.

    Hu et al. 2021, arXiv 2106.09685. The first update is zero: before the first step the model
    answers as it did, or, with a base in int4, as its quantised self does.

    Args:
        model: In fp32.
        settings: The adapter's; `base_precision: int4` is QLoRA.
        seed: Of the matrices' first values.
        device: Where a base in int4 is quantised and computed.

    Raises:
        ModelError: if the base cannot be kept in int4 on this device or for this architecture.
    """
    if settings is None:
        return model
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    if settings.base_precision == "int4":
        model = _in_int4(model, device or torch.device("cpu"))
    head = _class_head(model)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_linear_layers(model) if head else "all-linear",
        modules_to_save=head or None,
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2
        task_type="SEQ_CLS" if head else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers by an attribute's old name
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(model, config).train()


def _in_int4(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    field = "adapter.base_precision"
    why = int4_base.refusal(device)
    if why is not None:
        raise ModelError("\n".join(why), field=field)
    quantised: PreTrainedModel = int4_base.with_int4_base(model, device=device, field=field)
    return quantised


def _class_head(model: PreTrainedModel) -> list[str]:
    """Names of the modules that stand on a classifier's body: small and new, so trained whole."""
    if not is_classifier(model.config):
        return []
    return [
        name
        for name, part in model.named_children()
        if part is not model.base_model and any(True for _ in part.parameters())
    ]


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers of a classifier's body."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    prefix = model.base_model_prefix
    return [
        f"{prefix}.{name}"
        for name, part in model.base_model.named_modules()
        if isinstance(part, nn.Linear | Conv1D)
    ]


def merged(model: Any) -> PreTrainedModel:
    """Add the adapter's product to the weights; a model without adapter is returned as it is."""
    if not hasattr(model, "merge_and_unload"):
        return model  # type: ignore[no-any-return]
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        return int4_base.without_adapter(model)  # type: ignore[no-any-return]
    return model.merge_and_unload()  # type: ignore[no-any-return]
