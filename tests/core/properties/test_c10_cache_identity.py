"""C10, cache identity: what a teacher has said is kept under all that it depends on, or not taken.

The teacher's answers are what is kept today. Their key is made of the prompt's token ids, the
teacher's weights and number format, the tokenizer, its template and the settings; never of a place.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import models
from distill_core.data.batches import collate
from distill_core.data.formats import Row
from distill_core.data.row_order import batch_order
from distill_core.data.tokenize import encode_prompt
from distill_core.recipe import TeacherAnswerSettings
from distill_core.teachers.answers import answer_rows
from distill_core.teachers.loading import Part, fingerprint
from distill_core.teachers.local import LocalTeacher
from tests.core.definition import encoded
from tests.core.nets import tiny_llama
from tests.core.ways import WAYS, case

WORDS = ["light", "fan", "tv", "hall", "kitchen"]
PROMPTS = [f"turn {way} the {word}" for way in ("on", "off") for word in WORDS]
SAMPLED = {"sampling_temperature": 1.0, "max_new_tokens": 5}


class Asked(LocalTeacher):
    """A teacher that counts the prompts that it is asked."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(tiny_llama(seed=seed), vocab_size=46, stop_ids={2})
        self.times = 0

    def answers(self, prompts: Any, **how: Any) -> Any:
        self.times += len(prompts)
        return super().answers(prompts, **how)


def asks(prompt: str) -> Row:
    return Row(({"role": "user", "content": prompt},), None, prompt)


Ask = Callable[..., tuple[dict[str, str | None], int]]


@pytest.fixture
def ask(tiny_tokenizer: Any, tmp_path: Path) -> Ask:
    """Answers by prompt, and how often the teacher had to be asked."""

    def go(prompts: list[str], **changes: Any) -> tuple[dict[str, str | None], int]:
        how: dict[str, Any] = {"fingerprint": "teacher", "tokenizer": tiny_tokenizer, "seed": 0}
        how |= {name: changes.pop(name) for name in list(changes) if name in how}
        teacher = Asked()
        steps = answer_rows(
            [asks(prompt) for prompt in prompts],
            teacher=teacher,
            settings=TeacherAnswerSettings(**(SAMPLED | changes)),
            max_seq_len=32,
            folder=tmp_path,
            **how,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return {row.origin: row.response for row in end.value.rows}, teacher.times

    return go


def test_shuffled_fewer_or_more_rows_get_the_answers_that_they_had(ask: Ask) -> None:
    first, times = ask(PROMPTS)
    assert times == len(PROMPTS)
    assert len(set(first.values())) > 3
    order = list(PROMPTS)
    random.Random(0).shuffle(order)
    assert ask(order) == (first, 0)
    assert ask(order[:4]) == ({prompt: first[prompt] for prompt in order[:4]}, 0)
    more, _ = ask(["dim the fan", *order])
    assert len(more) == len(PROMPTS) + 1
    assert {prompt: more[prompt] for prompt in PROMPTS} == first


def with_template(tokenizer: Any) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = "{% for m in messages %}{{ m['content'] }} : {% endfor %}"
    return changed


def with_a_token(tokenizer: Any) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.add_tokens(["dimmer"])
    return changed


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "another teacher"},
        {"fingerprint": "teacher@bf16"},
        {"tokenizer": with_template},
        {"tokenizer": with_a_token},
        {"sampling_temperature": 0.5},
        {"max_new_tokens": 3},
        {"best_of": 2},
        {"seed": 1},
    ],
    ids=lambda change: ", ".join(f"{k}: {getattr(v, '__name__', v)}" for k, v in change.items()),
)
def test_answers_under_another_identity_are_never_taken(
    ask: Ask, tiny_tokenizer: Any, change: dict[str, Any]
) -> None:
    first, _ = ask(PROMPTS)
    made = {k: v(tiny_tokenizer) if callable(v) else v for k, v in change.items()}
    _, times = ask(PROMPTS, **made)
    assert times == len(PROMPTS) * change.get("best_of", 1)
    assert ask(PROMPTS) == (first, 0), "and they do not push the others out"


def test_templates_that_ask_alike_and_end_apart_are_told_apart(
    ask: Ask, tiny_tokenizer: Any
) -> None:
    """The prompts have the same ids; one template ends an answer where the other does not."""
    said = "{% for m in messages %}{{ m['content'] }} :"
    ends = "{% if m['role'] == 'assistant' %}<unk>{% endif %}"
    made = []
    for template in (f"{said}{{% endfor %}}", f"{said}{ends}{{% endfor %}}"):
        made.append(copy.deepcopy(tiny_tokenizer))
        made[-1].chat_template = template
    prompts = [encode_prompt(asks(PROMPTS[0]), tokenizer) for tokenizer in made]
    assert prompts[0] == prompts[1]
    for tokenizer in made:
        assert ask(PROMPTS, tokenizer=tokenizer)[1] == len(PROMPTS)


def test_the_fingerprint_follows_weights_shares_and_format(
    tmp_path: Path, tiny_tokenizer: Any
) -> None:
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path / str(seed))
        tiny_llama(seed=seed).save_pretrained(folders[-1])
    a, b = folders
    marks = [
        fingerprint([Part(a)], precision="fp32"),
        fingerprint([Part(b)], precision="fp32"),
        fingerprint([Part(a)], precision="bf16"),
        fingerprint([Part(a)], precision="int8"),
        fingerprint([Part(a, 0.5), Part(b, 0.5)], precision="fp32"),
        fingerprint([Part(a, 0.6), Part(b, 0.4)], precision="fp32"),
    ]
    assert len(set(marks)) == len(marks)
    assert fingerprint([Part(b, 0.5), Part(a, 0.5)], precision="fp32") == marks[4]
    assert marks[0] == models.fingerprint(a), "of one whole teacher, that of its weights"
    changed = tiny_llama(seed=1)
    with torch.no_grad():
        changed.model.norm.weight[3] += 1e-3
    changed.save_pretrained(a)
    assert fingerprint([Part(a)], precision="fp32") not in marks


@pytest.mark.parametrize("way", [name for name, way in WAYS.items() if not way.on_policy])
def test_a_row_has_the_same_targets_in_every_epoch(tmp_path: Path, way: str) -> None:
    """Of two epochs, each in its own order, with other rows beside it and in other places."""
    made = case(tmp_path, way, "all of the logits", rows=encoded(10), size=4)
    order = batch_order(10, global_batch_size=4, steps=5, seed=0)
    given: dict[int, list[torch.Tensor]] = {}
    for step in range(5):
        rows = [made.stage.rows[row] for row in order[step]]
        batch = collate(rows, pad_token_id=0, rows=order[step])
        assert made.stage.teacher is not None
        logits = made.stage.teacher.view(batch).logits
        line = batch.supervised.nonzero()[:, 0]
        for place, row in enumerate(order[step]):
            given.setdefault(row, []).append(logits[line == place])
    assert [len(seen) for seen in given.values()] == [2] * 10
    allowed = WAYS[way].rounding
    for first, second in given.values():
        torch.testing.assert_close(first, second, rtol=1e-4 + allowed, atol=1e-6 + 4 * allowed)
