"""C13, template: each model reads its own, answers are aligned on text, a difference is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distill_core import api
from distill_core.data.alignment import Alignment, reader
from distill_core.data.formats import Row
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, TeacherSide, encode
from tests.core.data import tokenizers
from tests.core.definition import encoded, naive_loss
from tests.core.ways import TERMS as GROUPS
from tests.core.ways import WAYS, case, gradients

ROW = Row(
    (
        {"role": "user", "content": "turn the lights on"},
        {"role": "assistant", "content": "the kitchen light is on"},
    ),
    None,
    "row",
)
TEACHER = tokenizers.byte_level()
STUDENTS = {
    "one vocabulary": tokenizers.byte_level(tokenizers.CHATML.replace("<|im_start|>", "<bos>")),
    "other tokens": tokenizers.metaspace(),
    "whole words": tokenizers.words(tokenizers.TRIMMED),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_each_reads_its_own_ids_and_template(name: str) -> None:
    student = STUDENTS[name]
    across = name != "one vocabulary"
    item = reader(student, TEACHER, by_text=across, by_id=not across)(ROW, 256)
    assert item is not None
    mine, theirs = encode(ROW, student, 256), encode(ROW, TEACHER, 256)
    assert (item.input_ids, item.labels) == (mine.input_ids, mine.labels)
    assert item.teacher is not None
    assert (item.teacher.input_ids, item.teacher.labels) == (theirs.input_ids, theirs.labels)
    assert item.input_ids != item.teacher.input_ids


@pytest.mark.parametrize("name", STUDENTS)
def test_answers_are_aligned_on_their_text(name: str) -> None:
    student = STUDENTS[name]
    item = Alignment(student=student, teacher=TEACHER).encode(ROW, 256)
    assert item.teacher is not None
    own = [label for label in item.labels if label != IGNORE_INDEX]
    their = [label for label in item.teacher.labels if label != IGNORE_INDEX]
    said = []
    for span in item.teacher.spans or ():
        mine = student.decode(own[span.student_first :][: span.student_tokens])
        yours = TEACHER.decode(their[span.teacher_first :][: span.teacher_tokens])
        if not {mine, yours} & {"<eos>", "<|im_end|>"}:
            assert "".join(mine.split()) == "".join(yours.split())
            said.append("".join(mine.split()))
    assert "".join(said) == "thekitchenlightison"


def asked_otherwise(row: Encoded) -> Encoded:
    """The same answer after another prompt, three tokens longer, as another template asks."""
    ids, labels = [50, 51, 52, *row.input_ids], [IGNORE_INDEX] * 3 + row.labels
    return replace(row, teacher=TeacherSide(ids, labels, None, None))


@pytest.mark.parametrize(
    "way", [n for n, way in WAYS.items() if not way.on_policy and not way.resumed]
)
def test_a_step_compares_the_same_answer_after_each_one_s_own_prompt(
    tmp_path: Path, way: str
) -> None:
    rows = [asked_otherwise(row) for row in encoded(8)]
    made = case(tmp_path / "other", way, "all of the logits", rows=rows)
    expected = naive_loss(made.student, made.teacher, made.rows, GROUPS["all of the logits"])
    expected.backward()
    gradient, metrics = made.step()
    allowed = WAYS[way].rounding
    assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-5 + 2 * allowed)
    for name, value in gradients(made.student).items():
        torch.testing.assert_close(
            gradient[name], value, rtol=1e-3 + allowed, atol=1e-5 + allowed, msg=name
        )
    plain = case(tmp_path / "plain", way, "all of the logits").step()[1]
    assert metrics["loss"] != pytest.approx(plain["loss"], abs=1e-4)


def test_a_difference_is_told_before_the_start(
    tmp_path: Path, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    def told(student: Path) -> list[str]:
        settings = {"init": "pretrained", "model": str(student)}
        report = api.pair_report(str(tiny_teacher_dir), settings)
        return [one["text"] for one in report["findings"] if one["topic"] == "chat template"]

    assert not any("another chat template" in text for text in told(tiny_student_dir))
    other = tmp_path / "student"
    shutil.copytree(tiny_student_dir, other)
    changed = json.loads((other / "tokenizer_config.json").read_text())
    changed["chat_template"] = "{% for m in messages %}{{ m['content'] }}<eos>{% endfor %}"
    (other / "tokenizer_config.json").write_text(json.dumps(changed))
    (text,) = told(other)
    assert "another chat template than its teacher" in text
