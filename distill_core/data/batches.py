"""From encoded rows to padded tensors.

In: encoded rows. Out: `Batch`, whose `supervised` and `targets` do the one and only shift. Knows
nothing of models and losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill_core.data.classes import EncodedText
from distill_core.data.grouping import by_length, micro_batches
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.losses.cross_tokenizer import Spans
from distill_core.losses.sparse import SparseRows

__all__ = ["Batch", "by_length", "collate", "micro_batches"]


class Real(NamedTuple):
    """A batch's M tokens without its padding, row after row."""

    places: Tensor
    """Long (M,): where they stand, counted row by row over the whole batch."""
    lengths: list[int]
    supervised: Tensor
    """Long (N,): which of them are at `Batch.places`."""
    starts: Tensor
    """Int (B + 1,): the first one of each row, and their number."""

    def moved(self, move: Callable[[Tensor], Tensor]) -> Real:
        """All tensors somewhere else."""
        return Real(move(self.places), self.lengths, move(self.supervised), move(self.starts))


@dataclass(slots=True)
class Batch:
    """Padded rows: all tensors (B, T), `labelled` (B,)."""

    input_ids: Tensor
    attention_mask: Tensor
    """1 on real tokens, 0 on padding; padding is never told by its id."""
    position_ids: Tensor
    """Place among the row's real tokens, so that left padding changes nothing."""
    labels: Tensor
    """Not shifted: the token at its own position, `IGNORE_INDEX` where not supervised."""
    labelled: Tensor
    rows: list[int]
    """Which row of the data each row is, for messages."""
    teacher: Batch | None = None
    """The same rows in the teacher's ids; None: the teacher reads these."""
    spans: Spans | None = None
    """How both sides' supervised tokens meet; None: one by one."""
    kept: Tensor | SparseRows | None = field(default=None, init=False, repr=False, compare=False)
    """What a cached teacher knows of these rows, where that was read ahead."""
    _places: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    _real: Real | None = field(default=None, init=False, repr=False, compare=False)
    _unmoved: Batch | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def unmoved(self) -> Batch:
        """The rows where they were collated: looking at them there makes no device wait."""
        return self._unmoved or self

    @property
    def for_teacher(self) -> Batch:
        """The rows as the teacher reads them."""
        return self.teacher or self

    @property
    def supervised(self) -> Tensor:
        """Bool (B, T): positions whose next token is supervised; the last one never is."""
        supervised = torch.zeros_like(self.labels, dtype=torch.bool)
        real = (self.attention_mask[:, :-1] * self.attention_mask[:, 1:]).bool()
        supervised[:, :-1] = (self.labels[:, 1:] != IGNORE_INDEX) & real
        return supervised

    @property
    def places(self) -> Tensor:
        """Long (N,): the supervised positions, counted row by row over the whole batch.

        They are found once, before the batch goes to a device: looking for them there would make
        everybody wait.
        """
        if self._places is None:
            self._places = self.supervised.flatten().nonzero()[:, 0]
        return self._places

    @property
    def real(self) -> Real:
        """The tokens without padding; found once, as `places` are."""
        if self._real is None:
            mask, lengths = self.attention_mask.flatten(), self.attention_mask.sum(1).tolist()
            among = (mask.cumsum(0) - 1)[self.places]
            starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
            self._real = Real(mask.nonzero()[:, 0], lengths, among, starts)
        return self._real

    @property
    def targets(self) -> Tensor:
        """Long (N,): the next tokens of the supervised positions, row by row."""
        return self.labels.roll(-1, dims=1).flatten()[self.places]

    @property
    def target_labelled(self) -> Tensor:
        """Bool (N,): whether each target comes from a row that the data has labelled."""
        return self.labelled[self.places // self.labels.shape[1]]

    @property
    def feature_places(self) -> Tensor:
        """Long: where hidden states and attention are compared; the supervised `places`."""
        return self.places

    def counts(self) -> dict[str, int]:
        """How many rows a loss term may apply to, by `LossTerm.applies_to`."""
        return {
            "supervised": len(self.places),
            "labelled": int(self.target_labelled.sum()),
            "features": len(self.feature_places),
            "spans": len(self.spans) if self.spans else 0,
        }

    def lines(self, applies_to: str) -> Tensor:
        """Long (n,): the line of the batch that each row of a loss term comes from."""
        if applies_to == "features":
            return self.feature_places // self.input_ids.shape[1]
        lines = self.places // self.labels.shape[1]
        if applies_to == "spans" and self.spans is not None:
            return lines[self.spans.student_first]
        return lines

    @property
    def real_tokens(self) -> int:
        """Number of tokens without padding."""
        return int(self.attention_mask.sum())

    def with_ids(self, ids: Tensor) -> Batch:
        """Return the same rows in other ids, token for token."""
        other = replace(self, input_ids=ids)
        other._places, other._real, other.kept = self._places, self._real, self.kept
        return other

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with all tensors on a device."""
        return self._moved(mover(device))

    def pinned(self) -> Batch:
        """Return the batch in memory that a CUDA device reads by itself, while others compute."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        moved = replace(
            self,
            input_ids=move(self.input_ids),
            attention_mask=move(self.attention_mask),
            position_ids=move(self.position_ids),
            labels=move(self.labels),
            labelled=move(self.labelled),
            teacher=self.teacher._moved(move) if self.teacher else None,
            spans=self.spans.moved(move) if self.spans else None,
        )
        moved._places, moved._real = move(self.places), self.real.moved(move)
        moved._unmoved = self.unmoved
        if self.kept is not None:
            kept = self.kept
            moved.kept = move(kept) if isinstance(kept, Tensor) else kept.moved(move)
        return moved


def mover(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """How a tensor comes to a device. CUDA need not be waited for: it computes in the same order.

    Elsewhere a copy that is not waited for could be read before it is there.
    """
    there = torch.device(device)
    return lambda tensor: tensor.to(there, non_blocking=there.type == "cuda")


def collate(
    items: Sequence[Encoded | EncodedText],
    *,
    pad_token_id: int,
    rows: Sequence[int],
    padding_side: Literal["left", "right"] = "right",
    pad_to: int | None = None,
) -> Batch:
    """Pad rows to (B, T): T is the longest row's length, or `pad_to` if that is more.

    Where the items have a teacher's side, the batch has one too, padded by itself. Texts with
    classes become a `ClassBatch`, padded on the right.
    """
    assert len(items) == len(rows) > 0, "each item comes with its row"
    if texts := [item for item in items if isinstance(item, EncodedText)]:
        from distill_core.data.class_batches import collate_texts  # which is made of a `Batch`

        return collate_texts(texts, pad_token_id=pad_token_id, rows=rows, pad_to=pad_to)
    encoded = [item for item in items if isinstance(item, Encoded)]
    width = max(pad_to or 0, *(len(item.input_ids) for item in encoded))
    ids = np.full((len(encoded), width), pad_token_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORE_INDEX)
    mask = np.zeros_like(ids)
    for line, item in enumerate(encoded):
        length = len(item.input_ids)
        place = slice(0, length) if padding_side == "right" else slice(width - length, width)
        ids[line, place], labels[line, place], mask[line, place] = item.input_ids, item.labels, 1
    theirs = [
        Encoded(item.teacher.input_ids, item.teacher.labels, item.labelled, item.truncated)
        for item in encoded
        if item.teacher is not None
    ]
    assert len(theirs) in {0, len(encoded)}, "all rows have a teacher's side, or none has"
    return Batch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        position_ids=torch.from_numpy((mask.cumsum(axis=1) - 1).clip(min=0)),
        labels=torch.from_numpy(labels),
        labelled=torch.tensor([item.labelled for item in encoded], dtype=torch.bool),
        rows=list(rows),
        # what pads is masked, so that it need not be a token of the teacher's
        teacher=collate(theirs, pad_token_id=0, rows=rows, padding_side=padding_side)
        if theirs
        else None,
        spans=_spans(encoded),
    )


def _spans(items: Sequence[Encoded]) -> Spans | None:
    """Put the rows' spans together; positions are counted over the whole batch."""
    sides = [item.teacher for item in items if item.teacher and item.teacher.spans is not None]
    if not sides:
        return None
    ours = theirs = 0
    table: list[tuple[int, int, int, int, int]] = []
    for item, side in zip(items, sides, strict=True):
        for span in side.spans or ():
            table.append(
                (
                    ours + span.student_first,
                    span.student_tokens,
                    theirs + span.teacher_first,
                    span.teacher_tokens,
                    span.coincides,
                )
            )
        ours += _predicted(item.labels)
        theirs += _predicted(side.labels)
    a, b, c, d, coincides = torch.tensor(table, dtype=torch.long).reshape(-1, 5).unbind(1)
    assert sides[0].student_ids is not None, "spans come with what corresponds"
    return Spans(a, b, c, d, coincides.bool(), torch.from_numpy(sides[0].student_ids))


def _predicted(labels: Sequence[int]) -> int:
    """Number of labels that a position before them predicts."""
    return sum(label != IGNORE_INDEX for label in labels[1:])
