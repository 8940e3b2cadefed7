"""The learning rate as a function of the step: warm-up, then decay.

In: settings, total steps, a step. Out: a rate. Nothing to store, so nothing to restore.
"""

from __future__ import annotations

import math

from distill_core.recipe import OptimSettings


def learning_rate_at(step: int, *, total_steps: int, optim: OptimSettings) -> float:
    """Rate of the step after `step` finished ones (0-based): linear warm-up, then the schedule.

    Cosine and linear fall to zero at `total_steps`; constant stays at the peak.
    """
    warmup_steps = round(optim.warmup_fraction * total_steps)
    if step < warmup_steps:
        return optim.learning_rate * step / warmup_steps
    if optim.schedule == "constant":
        return optim.learning_rate
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = 1 - done if optim.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return optim.learning_rate * max(0.0, share)
