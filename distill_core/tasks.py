"""What differs by task in words: what the models are, what one prediction is, which speed counts.

In: a task's name. Out: a `Task`. Which score a task is judged by stands in `scores.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One task, in the words that cards, tables and pages use."""

    name: str
    title: str
    """What the models are, in a sentence."""
    unit: str
    """What is predicted, in the singular: means are per unit."""
    speed: str
    """The speed that the models have; a name of `scores.SCORES`."""
    pipeline_tag: str
    """The hub's name for the task."""


TASKS: Mapping[str, Task] = {
    "causal_lm": Task(
        name="causal_lm",
        title="causal language model",
        unit="token",
        speed="tokens_per_s",
        pipeline_tag="text-generation",
    ),
    "text_classification": Task(
        name="text_classification",
        title="text classifier",
        unit="text",
        speed="rows_per_s",
        pipeline_tag="text-classification",
    ),
}


def task_of(name: object) -> Task:
    """The task of that name; whatever names none writes text, as all did once."""
    return TASKS.get(str(name), TASKS["causal_lm"])
