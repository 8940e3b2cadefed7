"""C4, accumulation: eight rows of unequal length give one gradient, however they are split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.core.ways import WAYS, case, cases

SPLITS = {"plain": [1, 2, 3, 4]}
"""Rows in a micro-batch, beside all eight."""


@pytest.mark.parametrize(("way", "terms"), cases())
def test_the_gradient_does_not_depend_on_the_split(tmp_path: Path, way: str, terms: str) -> None:
    found = []
    for micro in (8, *SPLITS.get(way, [3])):
        made = case(tmp_path / str(micro), way, terms)
        made.stage.optim = made.stage.optim.model_copy(update={"micro_batch_size": micro})
        found.append(made.step())
    (whole, shown), *splits = found
    allowed = WAYS[way].rounding
    for split, split_shown in splits:
        for name, value in whole.items():
            torch.testing.assert_close(
                split[name], value, rtol=1e-4 + allowed, atol=1e-5 + allowed, msg=name
            )
        for name in ("loss", "grad_norm"):
            assert split_shown[name] == pytest.approx(shown[name], rel=1e-4 + 4 * allowed)
