"""Events: what a run tells while it goes on, one JSON line each.

In: the training loop's facts. Out: small dictionaries, and one table of every metric with unit and
words, which the plots, the command line and the README read. Knows nothing of torch or files.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Event = dict[str, Any]
"""Always `type`, `time_s` (seconds since the epoch); most carry `stage` and `step` too."""

EventType = Literal[
    "run_started",  # recipe, stages: [{"index", "title", "kind", "total_steps", "baseline"}];
    #                 a probe's have "arm" and "seed" too
    "stage_started",  # stage, title, kind, baseline, total_steps, student, teacher, layer_map
    "rows_ready",  # stage, rows, dropped_rows, truncated_rows, answers, cache, alignment,
    #                loss_kernels
    "progress",  # phase, message, done, total (work that is not a training step)
    "step",  # stage, step, metrics
    "evaluation",  # stage, step, metrics (names begin with held_out_), rows, final
    "sample",  # stage, step, prompt, teacher, student, reference, match (student = reference)
    "checkpoint",  # stage, step, path
    "warning",  # message, field
    "stage_finished",  # stage, steps, seconds, metrics, path
    "run_finished",  # seconds, evaluation
    "run_stopped",  # reason: stopped | paused; stage, step
    "run_failed",  # message, field, kind
]

Phase = Literal[
    "preparing",
    "downloading",
    "loading",
    "caching teacher",
    "training",
    "evaluating",
    "saving",
]

PHASES: tuple[str, ...] = Phase.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Metric:
    """One measured quantity: its `title`, `unit`, what it means, and which way is better."""

    title: str
    unit: str
    description: str
    better: Literal["lower", "higher", ""] = ""
    is_term: bool = False
    """A loss term: `weighted_<name>` goes with it."""


METRICS: Mapping[str, Metric] = {
    "loss": Metric("loss", "nats", "Weighted sum of the terms; what is differentiated.", "lower"),
    "forward_kl": Metric(
        "forward KL",
        "nats per token",
        "KL(teacher ‖ student) at the term's temperature, times its square.",
        "lower",
        is_term=True,
    ),
    "reverse_kl": Metric(
        "reverse KL",
        "nats per token",
        "KL(student ‖ teacher) at the term's temperature, times its square.",
        "lower",
        is_term=True,
    ),
    "jsd": Metric(
        "Jensen–Shannon",
        "nats per token",
        "Generalised Jensen–Shannon divergence, times the temperature's square.",
        "lower",
        is_term=True,
    ),
    "skewed_forward_kl": Metric(
        "skewed forward KL",
        "nats per token",
        "KL(teacher ‖ mixture of both), times the temperature's square.",
        "lower",
        is_term=True,
    ),
    "skewed_reverse_kl": Metric(
        "skewed reverse KL",
        "nats per token",
        "KL(student ‖ mixture of both), times the temperature's square.",
        "lower",
        is_term=True,
    ),
    "total_variation": Metric(
        "total variation",
        "probability per token",
        "Half the sum of all differences in probability, times the temperature's square.",
        "lower",
        is_term=True,
    ),
    "cross_tokenizer": Metric(
        "cross-tokenizer",
        "nats or probability per span",
        "KL where one token is the same for both tokenizers, ULD elsewhere; times the "
        "temperature's square.",
        "lower",
        is_term=True,
    ),
    "cross_entropy": Metric(
        "cross-entropy",
        "nats per token",
        "−log probability of the label.",
        "lower",
        is_term=True,
    ),
    "hidden_states": Metric(
        "hidden states",
        "",
        "Distance between the hidden states of paired layers, averaged over pairs.",
        "lower",
        is_term=True,
    ),
    "attention": Metric(
        "attention",
        "nats or squared difference",
        "Distance between the attention of paired layers, averaged over heads and pairs.",
        "lower",
        is_term=True,
    ),
    "dropped_mass": Metric(
        "mass on dropped tokens",
        "0–1",
        "Teacher's probability of tokens that the trimmed student lacks; the terms compare what is "
        "left of it, taken as a whole.",
        "lower",
    ),
    "learning_rate": Metric("learning rate", "", "Of the step just taken."),
    "grad_norm": Metric("gradient norm", "L2", "Before clipping."),
    "tokens_per_s": Metric("tokens per second", "tokens/s", "Tokens read, padding excluded."),
    "own_answer_tokens": Metric(
        "length of own answers", "tokens", "Mean of what the student wrote for an on-policy step."
    ),
    "kept_mass": Metric(
        "kept mass",
        "0–1",
        "Teacher's probability of the tokens that a teacher cache of kind top_k or sampled keeps.",
        "higher",
    ),
    "memory_bytes": Metric("memory", "bytes", "Held by the training process."),
    "held_out_forward_kl": Metric(
        "held-out KL to the teacher",
        "nats per token",
        "KL(teacher ‖ student) at temperature 1 on held-out rows.",
        "lower",
    ),
    "held_out_cross_entropy": Metric(
        "held-out cross-entropy", "nats per token", "On the labels of held-out rows.", "lower"
    ),
    "held_out_exact_match": Metric(
        "exact match", "0–1", "Share of held-out prompts answered exactly as labelled.", "higher"
    ),
    "held_out_teacher_exact_match": Metric(
        "teacher's exact match", "0–1", "The teacher on the same held-out prompts.", "higher"
    ),
    "held_out_accuracy": Metric(
        "accuracy", "0–1", "Share of held-out texts whose likeliest class is theirs.", "higher"
    ),
    "held_out_teacher_accuracy": Metric(
        "teacher's accuracy", "0–1", "The teacher on the same held-out texts.", "higher"
    ),
    "held_out_macro_f1": Metric(
        "macro-F1", "0–1", "Mean F1 over the classes of the held-out texts.", "higher"
    ),
    "held_out_rouge_l": Metric(
        "ROUGE-L",
        "0–1",
        "Longest common run of words with the label, F1; where that is the task's metric.",
        "higher",
    ),
    "held_out_teacher_rouge_l": Metric(
        "teacher's ROUGE-L", "0–1", "The teacher on the same held-out prompts.", "higher"
    ),
    "held_out_bits_per_byte": Metric(
        "bits per byte",
        "bits/byte",
        "Cross-entropy by bytes of held-out text; where teacher and student have other tokens.",
        "lower",
    ),
    "held_out_teacher_bits_per_byte": Metric(
        "teacher's bits per byte", "bits/byte", "The teacher on the same held-out text.", "lower"
    ),
    "held_out_dropped_mass": Metric(
        "held-out mass on dropped tokens",
        "0–1",
        "Teacher's probability, on held-out rows, of tokens that the trimmed student lacks.",
        "lower",
    ),
    "held_out_top1_agreement": Metric(
        "agrees with teacher",
        "0–1",
        "Share of supervised tokens (or texts) where both prefer the same token (or class).",
        "higher",
    ),
}
"""Every metric that an event can carry, raw terms first. `weighted_<term>` is weight × term;
`weight_<term>` and `temperature_<term>` are there where they follow a schedule."""


def event(type: EventType, **fields: Any) -> Event:
    """Make an event, stamped with the time now."""
    return {"type": type, "time_s": round(time.time(), 3), **fields}


def progress(phase: Phase, message: str, *, done: int = 0, total: int = 0) -> Event:
    """Work that is not a training step: `done` of `total`, 0 of 0 when unknown."""
    return event("progress", phase=phase, message=message, done=done, total=total)


def result_of(events: Generator[Event, None, T]) -> T:
    """What a generator of events returns; the events themselves are not wanted."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            result: T = end.value
            return result


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Nine significant digits: enough to compare two runs, short enough to store."""
    return {name: float(f"{value:.9g}") for name, value in metrics.items()}
