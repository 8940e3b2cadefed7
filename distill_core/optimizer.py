"""What moves the weights: AdamW, and which of them decay.

In: a network and the optimiser's settings. Out: the optimiser. Knows nothing of steps or losses.
"""

from __future__ import annotations

from typing import Any

import torch

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
