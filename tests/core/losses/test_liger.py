"""Liger's kernels give what plain arithmetic gives; what they lack is worked out as ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.losses import liger, row_block
from distill_core.losses.row_block import parts_of
from distill_core.losses.sparse import SparseRows
from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    JSDLoss,
    ReverseKLLoss,
    TotalVariationLoss,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def interpreted() -> list[dict[str, Any]]:
    """What `liger_interpreted.py` says; Triton reads its switch when it is first imported."""
    if not liger.installed():
        pytest.skip("liger-kernel is not installed")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("liger_interpreted.py"))],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_c8_the_kernels_are_equal_to_plain_arithmetic(interpreted: list[dict[str, Any]]) -> None:
    assert len(interpreted) > 30
    for case in interpreted:
        half = case["dtype"] == "torch.bfloat16"
        assert case["values"] < 2e-6, case
        assert case["slopes"] is None or case["slopes"] < (1e-2 if half else 5e-6), case


def test_a_step_of_training_has_the_gradient_of_its_definition(
    interpreted: list[dict[str, Any]],
) -> None:
    (step,) = [case for case in interpreted if case["terms"] == "a step of training"]
    assert step["slopes"] < 1e-4


@pytest.mark.parametrize(
    ("terms", "narrower", "served"),
    [
        ([ForwardKLLoss(), CrossEntropyLoss()], False, True),
        ([ReverseKLLoss(), JSDLoss()], False, True),
        ([CrossEntropyLoss()], True, True),  # over all of the student's ids
        ([ForwardKLLoss()], True, False),
        ([ForwardKLLoss(), TotalVariationLoss()], False, False),
        ([], False, False),
    ],
)
def test_what_there_are_kernels_for(terms: list[Any], narrower: bool, served: bool) -> None:
    assert liger.takes(parts_of(terms, narrower=narrower)[0]) is served


@pytest.mark.parametrize("kind", ["sparse", "total variation"])
def test_what_there_is_no_kernel_for_is_worked_out_as_ever(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liger, "_dispatch", lambda: pytest.fail("no kernel was to be asked"))
    torch.manual_seed(0)
    student, theirs = torch.randn(3, 20), torch.randn(3, 20)
    targets, shares = torch.tensor([1, 2, 3]), [torch.full((3,), 0.5)]
    terms: list[Any] = [TotalVariationLoss()]
    teacher: Any = theirs
    if kind == "sparse":
        terms = [ForwardKLLoss()]
        top = torch.softmax(theirs, -1).topk(4)
        teacher = SparseRows(top.indices, top.values.log(), top.values, None, 1.0, 20)
    parts, temperatures = parts_of(terms, narrower=False)
    arguments = (teacher, targets, shares, parts, temperatures)
    values, slopes = liger.compare_block(student.clone(), *arguments)
    expected, by_logits = row_block.compare_block(student.clone(), *arguments)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(slopes, by_logits)
