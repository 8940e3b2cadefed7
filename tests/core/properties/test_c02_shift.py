"""C2, shift: exactly the positions whose next token is supervised contribute, on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from tests.core.definition import encoded, naive_loss, rows_for
from tests.core.ways import TERMS, WAYS, case, cases

FIVE = Encoded([5, 6, 7, 8, 9], [IGNORE_INDEX, IGNORE_INDEX, 7, 8, IGNORE_INDEX], True, False)


def test_the_position_before_a_label_is_supervised() -> None:
    batch = collate([FIVE], pad_token_id=0, rows=[0], pad_to=7)
    assert batch.supervised.tolist() == [[False, True, True, False, False, False, False]]
    assert batch.targets.tolist() == [7, 8]


def test_the_first_token_has_no_position_before_it() -> None:
    row = Encoded([5, 6, 7], [5, 6, 7], True, False)
    for side, supervised in (("right", [1, 1, 0, 0]), ("left", [0, 1, 1, 0])):
        batch = collate([row], pad_token_id=0, rows=[0], pad_to=4, padding_side=side)  # type: ignore[arg-type]
        assert batch.supervised.int().tolist() == [supervised]
        assert batch.targets.tolist() == [6, 7]


@pytest.mark.parametrize(("way", "terms"), cases())
def test_a_hand_made_row_of_five_tokens(tmp_path: Path, way: str, terms: str) -> None:
    """Two values: after the prefix 5 6, and after 5 6 7; each side read by itself, row by row."""
    made = case(tmp_path, way, terms, rows=[FIVE], size=1)
    assert [row.labels for row in made.rows] == [FIVE.labels]
    expected = naive_loss(made.student, made.teacher, [FIVE], made.terms)
    _, metrics = made.step()
    allowed = 1e-5 + WAYS[way].rounding / 10
    assert metrics["loss"] == pytest.approx(expected.item(), abs=allowed, rel=allowed)


@pytest.mark.parametrize(("way", "terms"), cases())
def test_rows_of_other_lengths_beside_it_are_shifted_each_by_itself(
    tmp_path: Path, way: str, terms: str
) -> None:
    rows = [FIVE, *encoded(2)]
    assert len({len(row.input_ids) for row in rows}) > 1
    made = case(tmp_path, way, terms, rows=rows, size=3)
    expected = naive_loss(made.student, made.teacher, made.rows, made.terms)
    _, metrics = made.step()
    allowed = 1e-5 + WAYS[way].rounding / 10
    assert metrics["loss"] == pytest.approx(expected.item(), abs=allowed, rel=allowed)


@pytest.mark.parametrize("terms", ["cross_entropy", "forward_kl", "three at once"])
def test_no_other_position_moves_the_loss(tmp_path: Path, terms: str) -> None:
    """The loss of the five tokens does not see a change of the last one, and sees the others."""
    losses = []
    for ids in ([5, 6, 7, 8, 9], [5, 6, 7, 8, 60], [5, 6, 60, 8, 9], [60, 6, 7, 8, 9]):
        labels = [IGNORE_INDEX, IGNORE_INDEX, ids[2], ids[3], IGNORE_INDEX]
        row = Encoded(ids, labels, True, False)
        made = case(tmp_path / str(ids), "plain", terms, rows=[row], size=1)
        losses.append(made.step()[1]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)
    assert min(abs(losses[0] - other) for other in losses[2:]) > 1e-5


def test_each_side_of_a_pair_of_tokenizers_is_shifted_by_itself() -> None:
    (row,) = rows_for(TERMS["cross_tokenizer"], [FIVE])
    assert row.teacher is not None
    batch = collate([row], pad_token_id=0, rows=[0])
    theirs = [label for label in row.teacher.labels if label != IGNORE_INDEX]
    assert batch.for_teacher.targets.tolist() == theirs
    positions = batch.for_teacher.supervised[0].nonzero()[:, 0]
    ids = torch.tensor(row.teacher.input_ids)
    assert ids[positions + 1].tolist() == theirs
