"""Scores of classifiers against references counted by hand, and what they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_core import models
from distill_core.data.classes import TextRow
from distill_core.scoring.classes import (
    ClassScores,
    HeldOutTexts,
    RowClock,
    peak_memory,
    score_classes,
)
from distill_core.scoring.in_turn import InTurn
from distill_core.teachers.local import LocalTeacher

CLASSES = ("bad", "good", "so-so")
WORDS = ["turn", "on", "off", "dim", "light", "fan", "tv", "hall"]


def scores_of(chosen: list[int], labels: list[int], classes: int = 3) -> ClassScores:
    """Scores in which each row's choice has the probability 0.7."""
    probabilities = np.full((len(chosen), classes), 0.3 / (classes - 1), np.float32)
    probabilities[np.arange(len(chosen)), chosen] = 0.7
    nats = -np.log(probabilities[np.arange(len(labels)), labels])
    return ClassScores(probabilities, np.array(labels), nats)


def f1_by_hand(chosen: list[int], labels: list[int]) -> float:
    """Mean F1 over the classes of the labels, from precision and recall."""
    total = []
    for one in sorted(set(labels)):
        hits = sum(c == y == one for c, y in zip(chosen, labels, strict=True))
        said, meant = chosen.count(one), labels.count(one)
        precision = hits / said if said else 0.0
        recall = hits / meant
        both = precision + recall
        total.append(2 * precision * recall / both if both else 0.0)
    return sum(total) / len(total)


@pytest.mark.parametrize(
    ("chosen", "labels"),
    [
        ([0, 1, 2, 0], [0, 1, 2, 1]),
        ([0, 0, 0, 0], [0, 1, 2, 1]),
        ([1, 1, 0, 0, 2, 2], [1, 0, 0, 0, 1, 2]),
        ([2, 2, 2], [0, 0, 1]),
        ([0, 2, 0], [0, 0, 0]),
    ],
)
def test_accuracy_and_macro_f1_are_those_counted_by_hand(
    chosen: list[int], labels: list[int]
) -> None:
    scores = scores_of(chosen, labels).as_scores()
    right = sum(c == y for c, y in zip(chosen, labels, strict=True)) / len(labels)
    assert scores["accuracy"] == pytest.approx(right)
    assert scores["macro_f1"] == pytest.approx(f1_by_hand(chosen, labels))


def test_a_class_that_is_always_said_has_accuracy_but_little_f1() -> None:
    labels = [0] * 95 + [1] * 5
    scores = scores_of([0] * 100, labels, classes=2).as_scores()
    assert scores["accuracy"] == 0.95
    assert scores["macro_f1"] == pytest.approx(0.5 * 2 * 0.95 / 1.95)
    low, high = scores["accuracy_ci95"]
    assert 0.88 < low < 0.95 < high < 0.98  # Wilson
    low, high = scores["macro_f1_ci95"]
    assert low <= scores["macro_f1"] <= high


def test_calibration_is_the_gap_between_confidence_and_accuracy() -> None:
    scores = scores_of([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0] * 4 + [1] * 6).as_scores()
    assert scores["calibration_error"] == pytest.approx(0.7 - 0.4, abs=1e-6)


# --- a model ----------------------------------------------------------------------------------


def texts(count: int = 40) -> list[Any]:
    rows = []
    for i in range(count):
        text = " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 2 + i % 7))
        rows.append(TextRow(None, text, f"rows.jsonl:{i}", label=CLASSES[i % 3]))
    return rows


@pytest.fixture
def make(tiny_encoder_dir: Path) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        model = models.load_model(
            tiny_encoder_dir,
            dtype=torch.float32,
            device="cpu",
            labels=CLASSES,
            new_head_seed=seed,
        )
        with torch.no_grad():
            model.classifier.weight.mul_(30)
        return model

    return build


@pytest.fixture
def held_out(tiny_encoder_tokenizer: Any) -> HeldOutTexts:
    return HeldOutTexts.make(texts(), tiny_encoder_tokenizer, max_seq_len=32, classes=CLASSES)


def test_scores_are_those_of_the_plain_model(
    make: Callable[[int], Any], held_out: HeldOutTexts, tiny_encoder_tokenizer: Any
) -> None:
    student, other = make(1).train(), make(2).eval()
    teacher = LocalTeacher(other, vocab_size=0, stop_ids=set())
    scores = score_classes(student, held_out, teacher=teacher)
    assert student.training
    student.eval()
    nats, divergences, agreed, right = [], [], [], []
    for row in texts():
        given = tiny_encoder_tokenizer(row.text, return_tensors="pt")
        with torch.no_grad():
            q = student(**given).logits[0].double().softmax(0)
            p = other(**given).logits[0].double().softmax(0)
        label = CLASSES.index(row.label)
        nats.append(-math.log(q[label]))
        divergences.append(sum(float(a) * math.log(a / b) for a, b in zip(p, q, strict=True)))
        agreed.append(int(p.argmax()) == int(q.argmax()))
        right.append(int(q.argmax()) == label)
    found = scores.as_scores()
    assert found["cross_entropy"] == pytest.approx(sum(nats) / 40, rel=1e-4)
    assert found["kl_to_teacher"] == pytest.approx(sum(divergences) / 40, rel=1e-4)
    assert found["top1_agreement"] == sum(agreed) / 40
    assert found["accuracy"] == sum(right) / 40
    assert scores.correct.tolist() == right
    np.testing.assert_allclose(scores.nats, nats, rtol=1e-3)
    metrics = scores.as_metrics()
    assert metrics["held_out_accuracy"] == found["accuracy"]
    assert metrics["held_out_forward_kl"] == found["kl_to_teacher"]


def test_without_a_teacher_there_is_nothing_to_be_far_from(
    make: Callable[[int], Any], held_out: HeldOutTexts
) -> None:
    scores = score_classes(make(1), held_out)
    assert "kl_to_teacher" not in scores.as_scores()
    assert "held_out_forward_kl" not in scores.as_metrics()


def test_rows_are_timed_one_by_one_and_together(
    make: Callable[[int], Any], held_out: HeldOutTexts
) -> None:
    timings = InTurn()
    timings.add("student", RowClock(make(1), held_out))
    timed = timings.timings()["student"].as_scores()
    assert timed["latency_p50_ms"] <= timed["latency_p95_ms"]
    assert timed["batched_rows_per_s"] > timed["rows_per_s"] > 0
    weights = sum(value.numel() * 4 for value in make(1).parameters())
    assert weights < peak_memory(make(1), held_out) < 2 * weights + 10_000_000
