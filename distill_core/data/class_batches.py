"""From texts with classes to padded tensors.

In: encoded texts. Out: `ClassBatch`, a `Batch` in which each row is one prediction: its target is
the number of its class. Knows nothing of models and losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill_core.data.batches import Batch
from distill_core.data.classes import EncodedText

__all__ = ["ClassBatch", "collate_texts"]


@dataclass(slots=True)
class ClassBatch(Batch):
    """Padded texts, (B, T); `labels` (B, 1) holds the class of each, so that N = B rows of logits.

    Padding is always on the right: positions count from the first token, as encoders expect.
    """

    token_type_ids: Tensor | None = None
    """0 on the first text, 1 on the second; None where the tokenizer has no such thing."""
    pad_token_id: int = 0

    @property
    def supervised(self) -> Tensor:
        """Bool (B, 1): one prediction a row."""
        return torch.ones_like(self.labels, dtype=torch.bool)

    @property
    def targets(self) -> Tensor:
        """Long (B,): the class of each row; 0, and asked of nobody, where it has none."""
        return self.labels[:, 0]

    @property
    def target_labelled(self) -> Tensor:
        """Bool (B,): whether the data says the class."""
        return self.labelled

    @property
    def feature_places(self) -> Tensor:
        """Long: where hidden states and attention are compared: all real tokens."""
        return self.real.places

    def _moved(self, move: Callable[[Tensor], Tensor]) -> ClassBatch:
        moved = Batch._moved(self, move)  # a plain super() does not find its class in slots
        assert isinstance(moved, ClassBatch), "`replace` keeps the class"
        if moved.token_type_ids is not None:
            moved.token_type_ids = move(moved.token_type_ids)  # `replace` would forget the places
        return moved


def collate_texts(
    items: Sequence[EncodedText],
    *,
    pad_token_id: int,
    rows: Sequence[int],
    pad_to: int | None = None,
) -> ClassBatch:
    """Pad rows to (B, T): T is the longest row's length, or `pad_to` if that is more."""
    assert len(items) == len(rows) > 0, "each item comes with its row"
    width = max(pad_to or 0, *(len(item.input_ids) for item in items))
    ids = np.full((len(items), width), pad_token_id, dtype=np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for line, item in enumerate(items):
        place = slice(0, len(item.input_ids))
        ids[line, place], mask[line, place] = item.input_ids, 1
        segments[line, place] = item.token_type_ids or 0
    return ClassBatch(
        input_ids=torch.from_numpy(ids),
        attention_mask=torch.from_numpy(mask),
        position_ids=torch.arange(width).expand(len(items), width),
        labels=torch.tensor([[item.class_id] for item in items], dtype=torch.long),
        labelled=torch.tensor([item.labelled for item in items], dtype=torch.bool),
        rows=list(rows),
        token_type_ids=torch.from_numpy(segments) if items[0].token_type_ids else None,
        pad_token_id=pad_token_id,
    )
