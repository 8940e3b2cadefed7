"""What a loss term sees and says.

In: the supervised rows of a micro-batch. Out: one value per row. Masks, weights and averages are
not its business: `objective.py` does them once for all terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class SupervisedRows:
    """The N positions whose next token is supervised, in one micro-batch.

    `student_logits` (N, V), `teacher_logits` (N, V) or None, `targets` (N,) ids of the next
    tokens, `labelled` (N,) bool: whether that token is a hard label, or a teacher's own answer.
    """

    student_logits: Tensor
    teacher_logits: Tensor | None
    targets: Tensor
    labelled: Tensor


@dataclass(frozen=True)
class LossTerm:
    """One term: `values(rows, settings) -> (N,)`, what it needs, and to which rows it applies."""

    values: Callable[[SupervisedRows, Any], Tensor]
    needs_teacher: bool
    labelled_only: bool
