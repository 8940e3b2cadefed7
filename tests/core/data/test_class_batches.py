"""Padded texts: one prediction a row, every real token a feature position."""

from __future__ import annotations

import torch

from distill_core.data.class_batches import ClassBatch, collate_texts
from distill_core.data.classes import EncodedText

ROWS = [
    EncodedText([1, 5, 6, 2], [0, 0, 0, 0], class_id=1, labelled=True, truncated=False),
    EncodedText([1, 7, 2, 8, 9, 2], [0, 0, 0, 1, 1, 1], class_id=2, labelled=True, truncated=True),
    EncodedText([1, 2], [0, 0], class_id=0, labelled=False, truncated=False),
]


def batch(**more: int) -> ClassBatch:
    return collate_texts(ROWS, pad_token_id=3, rows=[4, 0, 9], **more)


def test_rows_are_padded_on_the_right_and_masked() -> None:
    made = batch()
    assert made.input_ids.tolist() == [
        [1, 5, 6, 2, 3, 3],
        [1, 7, 2, 8, 9, 2],
        [1, 2, 3, 3, 3, 3],
    ]
    assert made.attention_mask.sum(1).tolist() == [4, 6, 2]
    assert made.token_type_ids is not None
    assert made.token_type_ids[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert made.real_tokens == 12
    assert made.rows == [4, 0, 9]
    assert batch(pad_to=9).input_ids.shape == (3, 9)


def test_each_row_is_one_prediction() -> None:
    made = batch()
    assert made.targets.tolist() == [1, 2, 0]
    assert made.target_labelled.tolist() == [True, True, False]
    assert made.supervised.nonzero()[:, 0].tolist() == [0, 1, 2]


def test_every_real_token_is_a_feature_position() -> None:
    made = batch(pad_to=8)
    assert torch.equal(made.feature_places, made.attention_mask.flatten().nonzero()[:, 0])


def test_all_tensors_move_together() -> None:
    moved = batch().to("meta")
    for name in ("input_ids", "attention_mask", "position_ids", "labels", "token_type_ids"):
        assert getattr(moved, name).device.type == "meta"
    assert moved.targets.device.type == "meta"
    assert isinstance(moved, ClassBatch)


def test_a_tokenizer_without_segments_has_none() -> None:
    plain = EncodedText([1, 5], None, class_id=0, labelled=True, truncated=False)
    assert collate_texts([plain], pad_token_id=0, rows=[0]).token_type_ids is None
