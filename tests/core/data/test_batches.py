"""The one shift, padding on either side, and which rows a step takes."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.data.batches import Batch, collate, micro_batches
from distill_core.data.grouping import parts_of
from distill_core.data.row_order import batch_order
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, Span, TeacherSide
from distill_core.losses.cross_tokenizer import Spans

X = IGNORE_INDEX
PAD = 9
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def item(input_ids: list[int], labels: list[int], *, labelled: bool = True) -> Encoded:
    return Encoded(input_ids, labels, labelled, truncated=False)


def rows() -> list[Encoded]:
    """Two prompt tokens, then three that are learnt; and a text of three, all learnt."""
    return [item([5, 6, 7, 8, PAD], [X, X, 7, 8, PAD]), item([4, 3, 2], [4, 3, 2], labelled=False)]


def two_sided() -> list[Encoded]:
    """Two rows that the teacher reads in other ids, and in other numbers of them."""
    ids = np.array([2, 0, -1])
    first, second = rows()
    second.labels[0] = X
    first.teacher = TeacherSide(
        [1, 1, 1, 2], [X, X, X, 2], [Span(0, 3, 0, 1, coincides=False)], ids
    )
    second.teacher = TeacherSide(
        [0, 1, 2, 0],
        [X, 1, 2, 0],
        [Span(0, 1, 0, 1, coincides=True), Span(1, 1, 1, 2, coincides=False)],
        ids,
    )
    return [first, second]


# --- the shift ------------------------------------------------------------------------------


def test_exactly_the_positions_whose_next_token_is_labelled_count() -> None:
    batch = collate(rows()[:1], pad_token_id=PAD, rows=[0])
    # position:       0      1     2     3     4       token that comes next: 6 7 8 9 –
    expected = [[False, True, True, True, False]]
    assert batch.supervised.tolist() == expected
    assert batch.targets.tolist() == [7, 8, 9]
    assert batch.labels.tolist() == [[X, X, 7, 8, PAD]]


def test_targets_come_row_by_row_and_know_whether_the_data_labelled_them() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[11, 12])
    assert batch.targets.tolist() == [7, 8, PAD, 3, 2]
    assert batch.target_labelled.tolist() == [True, True, True, False, False]
    assert batch.rows == [11, 12]
    assert batch.real_tokens == 8


def test_the_logits_row_of_a_target_is_that_of_the_prefix_before_it() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1], padding_side="left", pad_to=8)
    for (line, position), target in zip(
        batch.supervised.nonzero().tolist(), batch.targets.tolist(), strict=True
    ):
        assert batch.input_ids[line, position + 1] == target


# --- the teacher's side ---------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_the_teachers_side_is_padded_by_itself_and_spans_count_over_the_batch(
    side: Literal["left", "right"],
) -> None:
    batch = collate(two_sided(), pad_token_id=PAD, rows=[3, 4], padding_side=side)
    theirs = batch.for_teacher
    assert theirs.input_ids.shape == (2, 4)
    assert theirs.targets.tolist() == [2, 1, 2, 0]
    assert theirs.rows == [3, 4]
    assert batch.targets.tolist() == [7, 8, PAD, 3, 2]
    spans = batch.spans
    assert spans is not None
    assert len(spans) == 3
    # the first row has three supervised tokens, and one on the teacher's side
    assert spans.student_first.tolist() == [0, 3, 4]
    assert spans.student_tokens.tolist() == [3, 1, 1]
    assert spans.teacher_first.tolist() == [0, 1, 2]
    assert spans.teacher_tokens.tolist() == [1, 1, 2]
    assert spans.coincides.tolist() == [False, True, False]
    assert spans.student_ids.tolist() == [2, 0, -1]


def test_rows_without_a_teachers_side_are_read_by_both() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1])
    assert batch.for_teacher is batch
    assert batch.spans is None


def test_a_row_without_spans_leaves_the_others_in_place() -> None:
    first, second = two_sided()
    assert first.teacher is not None
    first.teacher.spans = []
    spans = collate([first, second], pad_token_id=PAD, rows=[0, 1]).spans
    assert spans is not None
    assert spans.student_first.tolist() == [3, 4]
    none = collate([first], pad_token_id=PAD, rows=[0]).spans
    assert none is not None
    assert len(none) == 0


# --- padding --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pad_to", [None, 5, 12])
def test_padding_changes_nothing_but_the_shape(
    side: Literal["left", "right"], pad_to: int | None
) -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1], padding_side=side, pad_to=pad_to)
    assert batch.input_ids.shape == (2, pad_to or 5)
    assert batch.targets.tolist() == [7, 8, PAD, 3, 2]
    assert batch.target_labelled.tolist() == [True, True, True, False, False]
    for line, row in enumerate(rows()):
        real = batch.attention_mask[line].bool()
        assert batch.input_ids[line, real].tolist() == row.input_ids
        assert batch.labels[line, real].tolist() == row.labels
        assert batch.position_ids[line, real].tolist() == list(range(len(row.input_ids)))
        assert (batch.input_ids[line, ~real] == PAD).all()
        assert (batch.labels[line, ~real] == X).all()


def test_padding_before_a_text_does_not_predict_its_first_token() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1], padding_side="left")
    assert batch.supervised[1].tolist() == [False, False, True, True, False]


def test_padding_is_told_by_the_mask_not_by_its_id() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert PAD in batch.targets.tolist()  # the end of the first row


def test_batches_move_as_a_whole() -> None:
    batch = collate(two_sided(), pad_token_id=PAD, rows=[0, 1]).to("meta")
    assert batch.teacher is not None
    assert batch.spans is not None
    parts = [
        *((batch, name) for name in Batch.__slots__),
        *((batch.teacher, name) for name in Batch.__slots__),
        *((batch.spans, name) for name in Spans.__slots__),
    ]
    tensors = [getattr(part, name) for part, name in parts]
    tensors = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert len(tensors) == 6 + 6 + 6


def test_shapes_and_types() -> None:
    batch = collate(rows(), pad_token_id=PAD, rows=[0, 1])
    for name in ("input_ids", "attention_mask", "position_ids", "labels"):
        tensor = getattr(batch, name)
        assert (tensor.shape, tensor.dtype) == ((2, 5), torch.int64)
    assert (batch.supervised.shape, batch.supervised.dtype) == ((2, 5), torch.bool)
    assert (batch.labelled.shape, batch.labelled.dtype) == ((2,), torch.bool)


# --- order ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 40),
    global_batch_size=st.integers(1, 50),
    steps=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_epoch_takes_every_row_once_whatever_the_batch_size(
    n_rows: int, global_batch_size: int, steps: int, seed: int
) -> None:
    order = batch_order(n_rows, global_batch_size=global_batch_size, steps=steps, seed=seed)
    taken = [row for step in range(steps) for row in order[step]]
    assert len(order) == steps
    assert {len(order[step]) for step in range(steps)} == {global_batch_size}
    for start in range(0, len(taken), n_rows):
        epoch = taken[start : start + n_rows]
        assert max(Counter(epoch).values()) == 1
        assert set(epoch) <= set(range(n_rows))


def test_a_step_depends_on_seed_and_step_alone() -> None:
    size = {"global_batch_size": 7, "steps": 30}
    forwards = list(batch_order(20, **size, seed=3))
    late = batch_order(20, **size, seed=3)
    assert [late[step] for step in reversed(range(30))] == forwards[::-1]
    assert batch_order(20, global_batch_size=7, steps=99, seed=3)[29] == forwards[29]
    assert list(batch_order(20, **size, seed=4)) != forwards
    assert forwards[:2] != forwards[20:22]  # an epoch is not the one before again


def test_there_is_no_step_after_the_last() -> None:
    order = batch_order(20, global_batch_size=7, steps=3, seed=0)
    with pytest.raises(IndexError, match="step 3 of 3"):
        order[3]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(1, 4),
    st.sampled_from(["cpu", "cuda"]),
)
def test_micro_batches_hold_every_row_once_and_like_lengths_together(
    lengths: list[int], micro_batch_size: int, processes: int, device: str
) -> None:
    items = [item([1] * length, [1] * length) for length in lengths]
    parts = micro_batches(items, micro_batch_size, processes=processes, device=device)
    flat = [place for part in parts for place in part]
    assert sorted(flat) == list(range(len(items)))
    assert [lengths[place] for place in flat] == sorted(lengths, reverse=True)
    for part in parts:
        longest = lengths[part[0]]
        assert len(part) * longest <= micro_batch_size * max(lengths)
        assert sum(longest - lengths[place] for place in part) <= (64 if device == "cpu" else 1024)
    assert len(parts) % processes == 0 or len(parts) == len(items)
    assert parts == micro_batches(items, micro_batch_size, processes=processes, device=device)


@settings(deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_where_nobody_pads_a_step_is_split_by_its_tokens_alone(
    lengths: list[int], micro_batch_size: int, processes: int
) -> None:
    most = micro_batch_size * max(lengths)
    parts = parts_of(lengths, micro_batch_size, processes=processes, packed=True)
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    flat = [lengths[place] for part in parts for place in part]
    assert flat == sorted(lengths, reverse=True)
    sums = [sum(lengths[place] for place in part) for part in parts]
    assert max(sums) <= most
    if processes == 1:  # the next row would have been too much
        following = [lengths[part[0]] for part in parts[1:]]
        assert all(a + b > most for a, b in zip(sums[:-1], following, strict=True))
    assert len(parts) % processes == 0 or len(parts) == len(lengths)


def test_two_processes_have_like_many_tokens_each() -> None:
    lengths = [60, 20, 20, 10, 10, 10, 10, 10]
    assert parts_of(lengths, 8, packed=True) == [list(range(8))]
    halves = parts_of(lengths, 8, packed=True, processes=2)
    assert [sum(lengths[place] for place in half) for half in halves] == [80, 70]


def test_short_rows_come_in_larger_parts_and_long_padding_in_none() -> None:
    def parts(*lengths: int, size: int, processes: int = 1) -> list[list[int]]:
        items = [item([1] * length, [1] * length) for length in lengths]
        found = micro_batches(items, size, processes=processes)
        return [[lengths[place] for place in part] for part in found]

    assert parts(8, 8, 4, 4, 4, 4, size=2) == [[8, 8], [4, 4, 4, 4]]
    assert parts(300, 290, 280, 20, 10, size=8) == [[300, 290, 280], [20, 10]]
    assert parts(8, 8, 8, 8, size=8, processes=2) == [[8, 8], [8, 8]]
    assert parts(8, 8, 8, size=8, processes=4) == [[8], [8], [8]]


def test_what_a_device_would_have_to_search_for_travels_with_the_batch() -> None:
    """Places, starts and which of the tokens are supervised are found once, before the copy."""
    batch = collate([item([1, 2, 3], [1, 2, 3]), item([4, 5], [4, 5])], pad_token_id=0, rows=[0, 1])
    moved = batch._moved(lambda tensor: tensor.clone())
    assert moved._real is not None
    assert moved.real.places.tolist() == [0, 1, 2, 3, 4]
    assert moved.real.supervised.tolist() == [0, 1, 3]
    assert (moved.real.starts.tolist(), moved.real.starts.dtype) == ([0, 3, 5], torch.int32)
    other = moved.with_ids(moved.input_ids + 1)
    assert other.real is moved.real
    assert other.places is moved.places
    assert not torch.equal(other.input_ids, batch.input_ids)
