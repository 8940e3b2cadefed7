"""Calibration rows are a seeded handful of the training rows."""

from __future__ import annotations

from distill_core.data.tokenize import Encoded
from distill_core.students.calibration import Calibration

ROWS = [Encoded([n] * (1 + n % 5), [n] * (1 + n % 5), True, False) for n in range(100)]


def drawn(count: int, seed: int) -> list[int]:
    return [row for batch in Calibration(ROWS, 0).batches(count, seed=seed) for row in batch.rows]


def test_as_many_as_asked_each_once_and_never_more_than_there_are() -> None:
    assert len(set(drawn(20, 0))) == 20
    assert sorted(drawn(500, 0)) == list(range(100))


def test_the_seed_alone_decides() -> None:
    assert drawn(20, 3) == drawn(20, 3)
    assert set(drawn(20, 3)) != set(drawn(20, 4))


def test_rows_are_padded_on_the_right_a_few_at_once() -> None:
    batches = Calibration(ROWS, pad_token_id=77).batches(20, seed=0)
    assert [len(batch.rows) for batch in batches] == [8, 8, 4]
    for batch in batches:
        for row, ids, mask in zip(batch.rows, batch.input_ids, batch.attention_mask, strict=True):
            length = len(ROWS[row].input_ids)
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
            assert ids[length:].tolist() == [77] * (len(mask) - length)
