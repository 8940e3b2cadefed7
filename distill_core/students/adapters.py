"""LoRA: train small matrices beside frozen weights, and merge them when the stage ends.

In: a model and the adapter's settings. Out: the model to train, then the merged one. peft does the
work.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from distill_core.recipe import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_adapter(model: PreTrainedModel, settings: LoraSettings | None, *, seed: int) -> Any:
    """Put LoRA matrices beside every linear layer but the head; None leaves the model as it is.

    Hu et al. 2021, arXiv 2106.09685. The first update is zero: before the first step the model
    answers as it did.
    """
    if settings is None:
        return model
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(part, Conv1D) for part in model.modules()),  # GPT-2
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers by an attribute's old name
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(model, config).train()


def merged(model: Any) -> PreTrainedModel:
    """Add the adapter's product to the weights; a model without adapter is returned as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
