"""Every score of an evaluation, with its unit and words, and which one a task is judged by.

In: nothing. Out: two tables that evaluation, command line, app and README read. A new task metric
is one line here and one function in `scoring/answers.py`. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill_core.events import Metric

SCORES: Mapping[str, Metric] = {
    "exact_match": Metric(
        "exact match", "0–1", "Share of prompts answered exactly as labelled.", "higher"
    ),
    "accuracy": Metric(
        "accuracy", "0–1", "Share of texts whose likeliest class is the labelled one.", "higher"
    ),
    "macro_f1": Metric(
        "macro-F1",
        "0–1",
        "Mean over classes of F1, so that rare classes count as much as frequent ones.",
        "higher",
    ),
    "rouge_l": Metric(
        "ROUGE-L",
        "0–1",
        "Longest common run of words with the label, F1 (Lin 2004); mean over prompts.",
        "higher",
    ),
    "bits_per_byte": Metric(
        "bits per byte",
        "bits/byte",
        "Cross-entropy by bytes of the text scored: the same scale for every tokenizer.",
        "lower",
    ),
    "cross_entropy": Metric(
        "cross-entropy", "nats per token", "−log probability of the labels.", "lower"
    ),
    "perplexity": Metric("perplexity", "", "exp(cross-entropy).", "lower"),
    "kl_to_teacher": Metric(
        "KL to the teacher",
        "nats per token",
        "KL(teacher ‖ model) at temperature 1 on the reference text.",
        "lower",
    ),
    "kl_to_teacher_on_own_samples": Metric(
        "KL to the teacher, own samples",
        "nats per token",
        "The same on answers that the model itself has sampled at temperature 1.",
        "lower",
    ),
    "dropped_mass": Metric(
        "mass on dropped tokens",
        "0–1",
        "Teacher's probability of tokens that a trimmed student lacks; KL and agreement are over "
        "the tokens that both have.",
        "lower",
    ),
    "top1_agreement": Metric(
        "agrees with teacher",
        "0–1",
        "Share of supervised tokens (or texts) where both prefer the same token (or class).",
        "higher",
    ),
    "calibration_error": Metric(
        "calibration error",
        "0–1",
        "Mean |confidence − accuracy| over 15 bins of tokens or texts (Guo 2017).",
        "lower",
    ),
    "invalid_rate": Metric(
        "invalid answers",
        "0–1",
        "Empty, not ended within max_new_tokens, or not of the form that all labels have.",
        "lower",
    ),
    "tokens_per_s": Metric(
        "speed", "tokens/s", "Of answers of 32 tokens, one prompt at a time; median.", "higher"
    ),
    "prompt_tokens_per_s": Metric(
        "prompt speed", "tokens/s", "Prompt tokens read before the first answer token.", "higher"
    ),
    "generation_tokens_per_s": Metric(
        "generation speed", "tokens/s", "Answer tokens after the first one.", "higher"
    ),
    "rows_per_s": Metric("speed", "texts/s", "Texts told apart, one at a time.", "higher"),
    "batched_rows_per_s": Metric(
        "speed in batches", "texts/s", "Texts told apart, up to 52 at a time.", "higher"
    ),
    "latency_p50_ms": Metric(
        "latency, median", "ms", "Of an answer of 32 tokens, or of a text.", "lower"
    ),
    "latency_p95_ms": Metric(
        "latency, 95 %", "ms", "Of the slowest twentieth of answers.", "lower"
    ),
    "peak_memory_bytes": Metric(
        "peak memory",
        "bytes",
        "Most that one answer held at once: weights, activations, key-value cache.",
        "lower",
    ),
    "trained_steps": Metric("steps trained", "", "Optimiser steps that the student took."),
    "trained_tokens": Metric(
        "tokens trained on", "tokens", "Read in those steps, padding excluded."
    ),
}
"""Every score of one model in `evaluation.json`; those with an interval have `<name>_ci95` too."""


@dataclass(frozen=True)
class TaskMetric:
    """What the answers of a task are judged by: the score that ratios and verdict are made of."""

    right_or_wrong: bool
    """Each row is one or the other: Wilson intervals and McNemar's test apply."""
    same_within: float
    """Two models whose difference surely lies within this have no difference worth a choice."""


TASK_METRICS: Mapping[str, TaskMetric] = {
    "exact_match": TaskMetric(right_or_wrong=True, same_within=0.02),
    "accuracy": TaskMetric(right_or_wrong=True, same_within=0.02),
    "rouge_l": TaskMetric(right_or_wrong=False, same_within=0.02),
    "bits_per_byte": TaskMetric(right_or_wrong=False, same_within=0.02),
}
"""By the names of `SCORES`."""


def higher_is_better(metric: str) -> bool:
    """Which way a task metric points."""
    return SCORES[metric].better == "higher"


def speed_name(scores: Mapping[str, object]) -> str:
    """Which speed a model has: in tokens that it writes, or in texts that it tells apart."""
    return "rows_per_s" if scores.get("rows_per_s") else "tokens_per_s"
