"""C1, masks: padding and what is not supervised change neither loss nor gradient."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import trainer
from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from tests.core.definition import encoded
from tests.core.ways import WAYS, case, cases

Step = tuple[dict[str, torch.Tensor], dict[str, float]]


def assert_same(found: Step, plain: Step, way: str) -> None:
    """Both steps have one loss and one gradient, but for a teacher's own rounding."""
    allowed = WAYS[way].rounding
    (gradient, metrics), (expected, expected_metrics) = found, plain
    assert metrics["loss"] == pytest.approx(expected_metrics["loss"], abs=1e-6 + allowed)
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            gradient[name], value, rtol=1e-4 + allowed, atol=1e-6 + allowed, msg=name
        )


def with_tail(row: Encoded, tail: list[int]) -> Encoded:
    """The row, and after it text that nobody supervises."""
    labels = row.labels + [IGNORE_INDEX] * len(tail)
    return replace(row, input_ids=row.input_ids + tail, labels=labels)


@pytest.mark.parametrize(("way", "terms"), cases())
def test_padding_and_what_stands_after_the_supervised_tokens_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, terms: str
) -> None:
    rows = encoded(8)
    plain = case(tmp_path / "plain", way, terms, rows=rows).step()
    tailed = [with_tail(row, [20 + place, 5]) for place, row in enumerate(rows)]
    assert_same(case(tmp_path / "tail", way, terms, rows=tailed).step(), plain, way)
    sides: list[Any] = ["left", "right"]
    for side in sides:
        padded = case(tmp_path / side, way, terms, rows=rows)
        with monkeypatch.context() as patch:
            patch.setattr(trainer, "collate", partial(collate, padding_side=side, pad_to=23))
            assert_same(padded.step(), plain, way)


@pytest.mark.parametrize(("way", "terms"), cases(alone=["both", "three at once"]))
def test_a_row_without_anything_supervised_changes_nothing(
    tmp_path: Path, way: str, terms: str
) -> None:
    """It takes a place in the batch and in the order of rows, and weighs nothing."""
    rows = encoded(8)
    rows[3] = replace(rows[3], labels=[IGNORE_INDEX] * len(rows[3].labels))
    other = [*rows[:3], replace(rows[3], input_ids=[33, 44, 55]), *rows[4:]]
    other[3] = replace(other[3], labels=[IGNORE_INDEX] * 3)
    if WAYS[way].on_policy:  # the student would answer it, and learn from that
        other[3] = replace(other[3], input_ids=[*rows[3].input_ids[:2], 55])
    plain = case(tmp_path / "plain", way, terms, rows=rows).step()
    assert_same(case(tmp_path / "other", way, terms, rows=other).step(), plain, way)
