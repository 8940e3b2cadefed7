"""What a loss term sees and says.

In: the supervised rows of a micro-batch. Out: one value per row. Masks, weights and averages are
not its business: `objective.py` does them once for all terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from distill_core.losses.chunked import Compared
from distill_core.losses.cross_tokenizer import Spans
from distill_core.losses.sparse import SparseRows

LayerPairs = Sequence[tuple[int, int]]
"""(student's layer, teacher's layer), both counted from 1."""

Applies = Literal["supervised", "labelled", "features", "spans"]
"""To which rows a term applies: all supervised ones, those with a hard label, feature positions, or
the spans of text that two tokenizers share."""


@dataclass(frozen=True)
class Features:
    """What a network shows of its inside at the M feature positions of a micro-batch, by layer.

    `hidden_states` (M, d): after the layer, a projected student's in the teacher's width.
    `attention` (M, H, T): each head's probabilities over the T keys of the row, 0 where masked.
    `value_relations` (M, R, T): the same, from products of values; R relation heads.
    """

    hidden_states: Mapping[int, Tensor] = field(default_factory=dict)
    attention: Mapping[int, Tensor] = field(default_factory=dict)
    value_relations: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SupervisedRows:
    """The N positions whose next token is supervised, in one micro-batch.

    `student_logits` (N, V), `teacher_logits` (N, V) or None, `targets` (N,) ids of the next
    tokens, `labelled` (N,) bool: whether that token is a hard label: the data's, or the teacher's
    where a term takes its text for one; never the student's own.
    `student` and `teacher` hold features where a term compares them, layer by layer as
    `layer_pairs` says for each such term. Where a teacher has tokens of its own, `teacher_logits`
    are (M, W), before its own next tokens `teacher_targets` (M,), and `spans` says how the two
    sides meet. `dropped_mass` (N,) is the teacher's probability of the tokens that a trimmed
    student lacks: measured, no part of any term. `teacher_sparse` takes the place of
    `teacher_logits` where only some of its tokens are known. `compared`: the terms over the
    vocabulary, worked out chunk by chunk already; then neither side has logits.
    """

    student_logits: Tensor | None
    teacher_logits: Tensor | None
    targets: Tensor
    labelled: Tensor
    student: Features | None = None
    teacher: Features | None = None
    layer_pairs: Mapping[str, LayerPairs] = field(default_factory=dict)
    teacher_targets: Tensor | None = None
    spans: Spans | None = None
    dropped_mass: Tensor | None = None
    compared: Compared | None = None
    teacher_sparse: SparseRows | None = None


@dataclass(frozen=True)
class LossTerm:
    """One term: `values(rows, settings) -> (n,)`, one value for each row that it applies to.

    `needs` names what a teacher must provide for it: of `dense` (all logits), `hidden_states`,
    `attention` (maps or values); nothing where no teacher is asked. `takes_sparse`: some of the
    teacher's tokens serve in the place of all logits.
    """

    values: Callable[[SupervisedRows, Any], Tensor]
    needs: frozenset[str] = frozenset()
    applies_to: Applies = "supervised"
    takes_sparse: bool = False
