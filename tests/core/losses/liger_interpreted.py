"""Liger's kernels beside plain arithmetic, in Triton's interpreter: they need no GPU there.

In: the environment variable TRITON_INTERPRET=1, set before the start. Out: JSON, one line a case:
what was compared, and how far values and slopes are apart as a share of their norm.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from distill_core.losses import liger, row_block
from distill_core.losses.objective import Objective
from distill_core.losses.row_block import parts_of
from distill_core.recipe import CrossEntropyLoss, ForwardKLLoss, JSDLoss, ReverseKLLoss
from tests.core.definition import naive_loss
from tests.core.nets import tiny_llama
from tests.core.ways import Case, gradients, stage_of

CASES = {
    "forward_kl": [ForwardKLLoss()],
    "forward_kl, T = 2": [ForwardKLLoss(temperature=2.0)],
    "reverse_kl, T = 2": [ReverseKLLoss(temperature=2.0)],
    "jsd, beta 0.3, T = 1.5": [JSDLoss(beta=0.3, temperature=1.5)],
    "jsd, beta 0": [JSDLoss(beta=0.0)],
    "cross_entropy": [CrossEntropyLoss()],
    "kl and labels": [ForwardKLLoss(temperature=4.0), CrossEntropyLoss()],
    "labels and kl": [CrossEntropyLoss(), ForwardKLLoss()],
    "four": [ReverseKLLoss(), CrossEntropyLoss(), JSDLoss(), ForwardKLLoss(temperature=3.0)],
}


def main() -> None:
    """Compare and print."""
    warnings.simplefilter("ignore", RuntimeWarning)  # the interpreter computes what it masks, too
    torch.manual_seed(0)
    rows, vocabulary = 6, 1111  # no power of two: the last lanes are masked
    for dtype in (torch.float32, torch.bfloat16):
        student = (torch.randn(rows, vocabulary) * 4).to(dtype)
        teacher = (torch.randn(rows, vocabulary) * 4).to(dtype)
        targets = torch.randint(vocabulary, (rows,))
        for name, terms in CASES.items():
            parts, temperatures = parts_of(terms, narrower=False)
            shares = [torch.rand(rows) for _ in parts]
            shares[0][1] = 0.0  # a row that this term does not count
            for without in (None, len(parts) - 1):
                given = [None if n == without else share for n, share in enumerate(shares)]
                told = []
                for compare in (row_block.compare_block, liger.compare_block):
                    values, slopes = compare(
                        student.clone(), teacher, targets, given, parts, temperatures
                    )
                    rounded = None if slopes is None else slopes.to(dtype).float()
                    told.append((torch.stack(values), rounded))
                (value, slope), (their_value, their_slope) = told
                found = {
                    "terms": name,
                    "dtype": str(dtype),
                    "last learns": without is None,
                    "values": apart(their_value, value),
                    "slopes": None,
                }
                if slope is None or their_slope is None:
                    assert slope is their_slope
                else:
                    found["slopes"] = apart(their_slope, slope)
                sys.stdout.write(json.dumps(found) + "\n")
    step()


def step() -> None:
    """One step of training, in chunks, beside its definition: the gradient of every weight."""
    terms: list[Any] = [ForwardKLLoss(weight=0.6, temperature=2.0), CrossEntropyLoss(weight=0.4)]
    with tempfile.TemporaryDirectory() as folder:
        made = stage_of(
            Path(folder),
            tiny_llama(),
            tiny_llama(layers=3, seed=1),
            terms,
            loss_chunk_rows=5,
            grad_clip_norm=1e6,
        )
        made.objective = Objective(terms, made.objective.matching, kernels="liger")
        reference = copy.deepcopy(made.student)
        loss = naive_loss(reference, copy.deepcopy(made.teacher.model), made.rows, terms)  # type: ignore[union-attr]
        loss.backward()
        got, metrics = Case(made, list(made.rows), terms, reference).step()
    wanted = gradients(reference)
    found = {
        "terms": "a step of training",
        "dtype": "torch.float32",
        "values": abs(metrics["loss"] / float(loss) - 1),
        "slopes": max(apart(got[name], value) for name, value in wanted.items()),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Their distance as a share of the second's norm."""
    return float((one - other).norm() / other.norm())


if __name__ == "__main__":
    main()
