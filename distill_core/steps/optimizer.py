"""What moves the weights: AdamW, and which of them decay.

In: a network and the optimiser's settings. Out: the optimiser, and its step. Knows no losses.
"""

from __future__ import annotations

from typing import Any

import torch

from distill_core.errors import OutOfMemory, is_out_of_memory
from distill_core.recipe import OptimSettings


def adamw(network: torch.nn.Module, optim: OptimSettings) -> torch.optim.AdamW:
    """AdamW over the weights that are trained, at the peak learning rate."""
    return torch.optim.AdamW(
        parameter_groups(network, optim.weight_decay),
        lr=optim.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )


def parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; norms and biases do not. Frozen weights are left out."""
    trained = [value for value in network.parameters() if value.requires_grad]
    return [
        {"params": [v for v in trained if v.dim() >= 2], "weight_decay": weight_decay},
        {"params": [v for v in trained if v.dim() < 2], "weight_decay": 0.0},
    ]


def move(optimizer: torch.optim.Optimizer, *, field: str) -> None:
    """Take the optimiser's step.

    Raises:
        OutOfMemory: at `field`. Some weights may have moved by then, so that it cannot be done
            again; nor would fewer rows at once help, whose tensors are gone by now.
    """
    try:
        optimizer.step()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "Memory ran out in the optimiser's step: its state does not fit beside the models.\n"
            "Train a LoRA adapter, or take a smaller student or teacher.",
            field=field,
        ) from error
