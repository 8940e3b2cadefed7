"""C18, own samples: the teacher judges what the student wrote; no hard label ever does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_core.recipe import CrossEntropyLoss
from distill_core.trainer import train
from tests.core.definition import encoded, naive_means
from tests.core.ways import TERMS, case, gradients

WAY = "on-policy"
JUDGES = [name for name in TERMS if not name.startswith("cross_")]


@pytest.mark.parametrize("name", JUDGES)
def test_the_teacher_judges_what_the_student_wrote(tmp_path: Path, name: str) -> None:
    rows = [replace(row, labelled=False) for row in encoded(8)]
    made = case(tmp_path, WAY, name, rows=rows)
    written = [row for row in made.rows if not any(row is given for given in rows)]
    assert len(written) == 4
    assert not any(row.labelled for row in written)
    judging = [term for term in made.terms if term.name != "cross_entropy"]
    means = naive_means(made.student, made.teacher, made.rows, judging)
    sum(term.weight * means[term.name] for term in judging).backward()
    found, metrics = made.step()
    assert "cross_entropy" not in metrics
    for key, value in gradients(made.student).items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("targets", ["labels", "labels_and_teacher_text"])
def test_labels_alone_learn_nothing_from_the_students_own_words(
    tmp_path: Path, targets: str
) -> None:
    """Of eight labelled rows the four plain texts keep their labels; the four others have none."""
    rows = [replace(row, labelled=True) for row in encoded(8)]
    terms = [CrossEntropyLoss(weight=1.0, targets=targets)]  # type: ignore[arg-type]
    made = case(tmp_path, WAY, terms, rows=rows)
    texts = [row for row in made.rows if any(row is given for given in rows)]
    assert len(texts) == 4
    expected = naive_means(made.student, made.teacher, texts, terms)["cross_entropy"]
    expected.backward()
    found, metrics = made.step()
    assert metrics["cross_entropy"] == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["own_answer_tokens"] > 0
    for key, value in gradients(made.student).items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_with_no_text_left_there_is_no_label_and_no_step_of_it(tmp_path: Path) -> None:
    """Where the student writes all rows, the weights do not move by labels alone."""
    made = case(tmp_path, WAY, [CrossEntropyLoss(weight=1.0)])
    assert made.stage.on_policy is not None
    prompts = [row.input_ids[:2] for row in made.stage.rows]
    made.stage.on_policy = replace(made.stage.on_policy, prompts=prompts)
    made.stage.optim = made.stage.optim.model_copy(update={"weight_decay": 0.0})
    before = [value.clone() for value in made.stage.student.parameters()]
    (shown,) = (e["metrics"] for e in train(made.stage) if e["type"] == "step")
    assert "cross_entropy" not in shown
    assert shown["loss"] == 0.0
    for old, new in zip(before, made.stage.student.parameters(), strict=True):
        assert torch.equal(old, new)
