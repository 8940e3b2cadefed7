"""Are the numbers right on this machine? Six properties, measured in seconds.

In: a device. Out: for each property its words, the figure found and the most that is allowed
(shape: `api.self_test`). What is measured is the product's own path, on that device; what it is
compared with is float64 NumPy on the CPU (`reference.py`). Needs no model and no network.
"""

from __future__ import annotations

import math
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from distill_core import device as machine
from distill_core.data.batches import Batch, collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.forward.supervised import SupervisedLogits
from distill_core.losses import reference
from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import Objective
from distill_core.recipe import CrossEntropyLoss, ForwardKLLoss, Loss, SoftTerm
from distill_core.teachers.local import LocalTeacher

TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
VOCABULARY = 64
LARGE_VOCABULARY = 50_000


@dataclass(frozen=True)
class Property:
    """One property: what must hold, what is measured, and the most that it may be."""

    name: str
    words: str
    measures: str
    limit: float
    measure: Callable[[torch.device], float]


def self_test(setting: str = "auto") -> dict[str, Any]:
    """Measure all properties on a device; raises `RecipeError` where this machine lacks it."""
    device = machine.pick_device(setting)
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        findings = [_finding(item, device) for item in PROPERTIES]
    return {
        "device": device.type,
        "name": machine.device_name(device),
        "passed": all(finding["passed"] for finding in findings),
        "seconds": round(time.perf_counter() - started, 2),
        "properties": findings,
    }


def _finding(item: Property, device: torch.device) -> dict[str, Any]:
    torch.manual_seed(0)
    figure, error = math.inf, ""
    try:
        figure = float(item.measure(device))
    except (RuntimeError, ArithmeticError) as reason:  # what this device cannot compute
        error = " ".join(str(reason).split())[:300] or type(reason).__name__
    passed = figure <= item.limit  # false for NaN, too
    return {
        "name": item.name,
        "words": item.words,
        "measures": item.measures,
        "figure": figure if math.isfinite(figure) else None,
        "limit": item.limit,
        "passed": passed,
        "error": error,
    }


# --- what is measured ---------------------------------------------------------------------------


def shift(device: torch.device) -> float:
    """Loss of a five-token row, two of its tokens supervised, against full logits and own shift."""
    student, teacher = _model(1, 0, device), _model(2, 1, device)
    ids, supervised = [5, 6, 7, 8, 9], [2, 3]
    labels = [token if place in supervised else IGNORE_INDEX for place, token in enumerate(ids)]
    batch = _batch([Encoded(ids, labels, labelled=True, truncated=False)], device)
    worst = 0.0
    with torch.no_grad():
        whole = [model(input_ids=batch.input_ids).logits[0] for model in (student, teacher)]
    mine, theirs = (_array(logits[[place - 1 for place in supervised]]) for logits in whole)
    for term in (ForwardKLLoss(weight=1.0), CrossEntropyLoss(weight=1.0)):
        expected = reference.values(term, mine, theirs, np.array([7, 8])).mean()
        worst = max(worst, abs(_loss(term, student, teacher, batch) - expected))
    return worst


def temperature(device: torch.device) -> float:
    """Gradient of every soft term at every temperature against slopes of the value, T² included."""
    worst = 0.0
    student, teacher, labels = torch.randn(6, 9) * 2, torch.randn(6, 9) * 2, torch.zeros(6).long()
    for term in _soft_terms():
        for t in TEMPERATURES:
            at_t = term.model_copy(update={"temperature": t, "weight": 1.0})
            logits = student.clone().to(device).requires_grad_()
            rows = _rows(logits, teacher.to(device), labels.to(device))
            _objective_value(at_t, rows=rows).backward()
            assert logits.grad is not None
            slopes = reference.slopes(at_t, _array(student), _array(teacher), labels.numpy())
            difference = np.abs(_array(logits.grad) * len(labels) - slopes).max()
            worst = max(worst, float(difference / np.abs(slopes).max()))
    return worst


def vocabulary(device: torch.device) -> float:
    """How far rows of the embedding that no token has move the loss."""
    rows = [Encoded([3, 4, 5, 6], [IGNORE_INDEX, IGNORE_INDEX, 5, 6], True, False)]
    batch, worst = _batch(rows, device), 0.0
    plain = _model(1, 0, device), _model(2, 1, device)
    padded = _model(1, 0, device), _model(2, 1, device)
    for model, size in zip(padded, (VOCABULARY + 8, VOCABULARY + 64), strict=True):
        model.resize_token_embeddings(size, mean_resizing=False)
        with torch.no_grad():
            model.get_output_embeddings().weight[VOCABULARY:] = 3.0
    for term in [*_soft_terms(), CrossEntropyLoss()]:
        before, after = (_loss(term, *pair, batch) for pair in (plain, padded))
        worst = max(worst, abs(after - before))
    return worst


def divergences(device: torch.device) -> float:
    """How far from 0 when equal, how far below 0 when not, how far from an example by hand."""
    logits, other = torch.randn(64, 500) * 3, torch.randn(64, 500) * 3
    worst = 0.0
    for term in _soft_terms():
        for student, ideal in ((logits, 0.0), (other, -math.inf)):
            found = _values(term, student.to(device), logits.to(device))
            wrong = np.abs(found) if ideal == 0 else np.maximum(0, -found)
            worst = max(worst, float(wrong.max()))
    teacher, student = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    by_hand = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)  # teacher → student
    found = _values(ForwardKLLoss(), student.to(device), teacher.to(device))
    return max(worst, abs(float(found[0]) - by_hand))


def one_truth(device: torch.device) -> float:
    """Every term, and a sum of two, over a large vocabulary against the reference."""
    student = torch.randn(16, LARGE_VOCABULARY) * 2
    teacher = student + torch.randn(16, LARGE_VOCABULARY)
    labels = torch.randint(LARGE_VOCABULARY, (16,))
    rows = _rows(student.to(device), teacher.to(device), labels.to(device))
    arrays = _array(student), _array(teacher), labels.numpy()
    worst = 0.0
    soft, hard = ForwardKLLoss(weight=0.7, temperature=2.0), CrossEntropyLoss(weight=0.3)
    for terms in [[term] for term in (*_soft_terms(), hard)] + [[soft, hard]]:
        expected = sum(term.weight * reference.values(term, *arrays).mean() for term in terms)
        found = float(_objective_value(*terms, rows=rows).detach())
        worst = max(worst, abs(found - expected) / expected)
    return worst


def precision(device: torch.device) -> float:
    """Half-precision logits against the exact divergence of the same logits; never below 0."""
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        teacher = (torch.randn(4, LARGE_VOCABULARY) * 2).to(dtype)
        student = (teacher.float() + 0.1 * torch.randn(4, LARGE_VOCABULARY)).to(dtype)
        arrays = _array(student), _array(teacher), np.zeros(4, dtype=np.int64)
        for term in _soft_terms():
            expected = reference.values(term, *arrays)
            found = _values(term, student.to(device), teacher.to(device))
            if (found < 0).any():
                return math.inf
            worst = max(worst, float((np.abs(found - expected) / expected).max()))
        student[2, 7] = math.nan
        told = Objective([ForwardKLLoss()]).non_finite(
            _rows(student.to(device), teacher.to(device), torch.zeros(4).long().to(device))
        )
        if told is None or told[0] != "forward_kl" or told[1].tolist() != [2]:
            raise ArithmeticError("a loss that is not a number was not noticed at its row")
    return worst


PROPERTIES = (
    Property(
        "shift",
        "Only tokens that are labelled count, each compared after the words before it, in teacher "
        "and student alike.",
        "largest difference from a loss worked out by hand, nats",
        1e-5,
        shift,
    ),
    Property(
        "temperature",
        "The value shown is the value that is learnt from, at every temperature, its square "
        "included.",
        "largest relative difference between gradient and slope",
        1e-3,
        temperature,
    ),
    Property(
        "vocabulary",
        "Rows of the embedding that stand for no token never change a loss.",
        "largest change of a loss, nats",
        1e-6,
        vocabulary,
    ),
    Property(
        "divergences",
        "A divergence is 0 between equal models, never below 0, and points from teacher to student "
        "where it says so.",
        "largest error, nats",
        1e-5,
        divergences,
    ),
    Property(
        "one_truth",
        f"Every loss over {LARGE_VOCABULARY:,} tokens is what its formula says, and a sum holds "
        "nothing that the recipe does not name.",
        "largest relative difference from float64",
        1e-4,
        one_truth,
    ),
    Property(
        "precision",
        "Half-precision models are compared in full precision; a loss that is not a number is "
        "noticed, with its row.",
        "largest relative difference from float64",
        1e-3,
        precision,
    ),
)


# --- the product's path, on a tiny pair ---------------------------------------------------------


def _soft_terms() -> list[Any]:
    """Every term that compares probabilities, with its default settings."""
    groups = typing.get_args(typing.get_args(Loss)[0])
    return [
        group() for group in groups if issubclass(group, SoftTerm) and not group.across_tokenizers
    ]


def _model(layers: int, seed: int, device: torch.device) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval().to(device)


def _batch(items: list[Encoded], device: torch.device) -> Batch:
    return collate(items, pad_token_id=0, rows=range(len(items))).to(device)


def _loss(term: Any, student: Any, teacher: Any, batch: Batch) -> float:
    """Loss of one term over a batch, as the trainer takes it."""
    asked = LocalTeacher(teacher, vocab_size=VOCABULARY, stop_ids=set()).logits(batch)
    with torch.no_grad():
        mine = SupervisedLogits(student, vocab_size=VOCABULARY)(batch)
        rows = SupervisedRows(mine, asked, batch.targets, batch.target_labelled)
        return float(_objective_value(term, rows=rows))


def _rows(student: Tensor, teacher: Tensor, labels: Tensor) -> SupervisedRows:
    return SupervisedRows(student, teacher, labels, torch.ones_like(labels, dtype=torch.bool))


def _objective_value(*terms: Any, rows: SupervisedRows) -> Tensor:
    totals = {term.name: len(rows.targets) for term in terms}
    return Objective(list(terms))(rows, totals=totals)[0]


def _values(term: Any, student: Tensor, teacher: Tensor) -> np.ndarray:
    """A term's values row by row, through the objective, with weight 1."""
    plain, found = term.model_copy(update={"weight": 1.0}), []
    for place in range(len(student)):
        labels = torch.zeros(1, dtype=torch.long, device=student.device)
        rows = _rows(student[place : place + 1], teacher[place : place + 1], labels)
        found.append(float(_objective_value(plain, rows=rows)))
    return np.array(found)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().double().numpy()
