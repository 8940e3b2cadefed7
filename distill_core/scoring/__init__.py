"""Scores of one model on held-out rows: probabilities, answers, speed.

In: a model, held-out rows, perhaps a teacher. Out: sums and values per row, from which means and
intervals are made. Used while training goes on and at the end; knows nothing of runs.
"""

from __future__ import annotations

from distill_core.scoring.answers import (
    ANSWER_METRICS,
    Answers,
    answer_prompts,
    choose_metric,
    row_scores,
    teacher_texts,
)
from distill_core.scoring.rows import HeldOut
from distill_core.scoring.tokens import score_tokens, teacher_bits_per_byte

__all__ = [
    "ANSWER_METRICS",
    "Answers",
    "HeldOut",
    "answer_prompts",
    "choose_metric",
    "row_scores",
    "score_tokens",
    "teacher_bits_per_byte",
    "teacher_texts",
]
