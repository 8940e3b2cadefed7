"""What moves while a stage is trained, as a function of the step: rate, weights, temperatures.

In: settings, total steps, a step. Out: numbers. Nothing to store, so nothing to restore.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from distill_core.recipe import OptimSettings, Schedule, Term

AnyTerm = TypeVar("AnyTerm", bound=Term)


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


def progress_at(step: int, *, total_steps: int) -> float:
    """How far the step after `step` finished ones is: 0 at a stage's first, 1 at its last."""
    return step / max(1, total_steps - 1)


def value_at(setting: float | Schedule, progress: float) -> float:
    """A number itself, or where a schedule is: from start to end, then staying at the end."""
    if not isinstance(setting, Schedule):
        return setting
    way = min(1.0, progress / setting.fraction)
    share = way if setting.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * way))
    return setting.start + share * (setting.end - setting.start)


def moving(term: Term) -> dict[str, Schedule]:
    """The settings of a term that follow a schedule, by name."""
    return {name: value for name, value in term if isinstance(value, Schedule)}


def term_at(term: AnyTerm, progress: float) -> AnyTerm:
    """The same term with numbers in the place of its schedules."""
    now: dict[str, Any] = {name: value_at(value, progress) for name, value in moving(term).items()}
    return term.model_copy(update=now) if now else term


def in_words(setting: object) -> str:
    """Say a setting: `0.9`, or `1 → 0.1 (linear over 50 % of the steps)`."""
    if isinstance(setting, Schedule):
        over = "" if setting.fraction == 1 else f" over {setting.fraction:.0%} of the steps"
        return f"{setting.start:g} → {setting.end:g} ({setting.schedule}{over})"
    return f"{setting:g}" if isinstance(setting, float) else str(setting)
