"""Answers of the teacher: which rows, which answer of several, what is left out, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.data.formats import Row
from distill_core.data.tokenize import IGNORE_INDEX, encode, encode_prompt
from distill_core.errors import DataError
from distill_core.generate import Continuation, Stream
from distill_core.recipe import TeacherAnswerSettings
from distill_core.teachers import answers as module
from distill_core.teachers.answers import Answered, answer_rows
from distill_core.teachers.likelihood import mean_log_likelihoods
from distill_core.teachers.local import LocalTeacher


def asks(text: str, answer: str | None = None) -> Row:
    messages = [{"role": "user", "content": text}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return Row(tuple(messages), None, f"rows:{text}")


ROWS = [
    asks("turn on the light"),
    asks("dim the fan", "on"),
    asks("turn off the tv"),
    Row(None, "a plain text", "rows:text"),
    asks("light in the hall"),
]


class Counting(LocalTeacher):
    """A teacher that remembers what it was asked, and may be told what to say."""

    def __init__(self, model: Any, say: Callable[[list[int]], list[Continuation]] | None = None):
        super().__init__(model, vocab_size=46, stop_ids={2})
        self.asked: list[list[int]] = []
        self.say = say

    def answers(
        self, prompts: Any, *, streams: list[Stream] | None = None, **more: Any
    ) -> list[Continuation]:
        self.asked += prompts
        if self.say is None:
            return super().answers(prompts, streams=streams, **more)
        times: dict[tuple[int, ...], int] = {}
        said = []
        for prompt in prompts:
            some = self.say(prompt)
            said.append(some[times.get(tuple(prompt), 0)])
            times[tuple(prompt)] = times.get(tuple(prompt), 0) + 1
        return said


@pytest.fixture
def teacher(tiny_llama: Callable[..., Any]) -> Counting:
    return Counting(tiny_llama(layers=2, seed=1))


@pytest.fixture
def ask(tiny_tokenizer: Any, tmp_path: Path) -> Callable[..., Answered]:
    def go(teacher: Any, given: list[Row] = ROWS, **more: Any) -> Answered:
        folder = more.pop("folder", tmp_path)
        names = {"fingerprint": "abc", "seed": 0}
        for name in names:
            names[name] = more.pop(name, names[name])
        settings = TeacherAnswerSettings(**{"max_new_tokens": 6} | more)
        steps = answer_rows(
            given,
            teacher=teacher,
            tokenizer=tiny_tokenizer,
            settings=settings,
            max_seq_len=32,
            folder=folder,
            **names,
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    return go


def texts(answered: Answered) -> list[str | None]:
    return [row.response for row in answered.rows]


def test_rows_without_an_answer_get_one_and_all_others_stay(ask: Any, teacher: Counting) -> None:
    answered = ask(teacher)
    assert answered.rows[1] is ROWS[1]
    assert answered.rows[3] is ROWS[3]
    assert [row.labelled for row in answered.rows] == [False, True, False, True, False]
    assert answered.asked == 3
    assert len(teacher.asked) == 3


def test_all_rows_are_answered_on_request_and_no_label_is_left(ask: Any, teacher: Counting) -> None:
    answered = ask(teacher, rows="all")
    assert [row.labelled for row in answered.rows] == [False, False, False, True, False]
    assert answered.rows[1].response != "on"
    assert answered.rows[1].prompt_messages == ROWS[1].prompt_messages
    assert (answered.asked, len(teacher.asked)) == (4, 4)
    assert texts(ask(teacher))[0] == texts(answered)[0], "which rows are asked changes no answer"


def test_the_best_of_several_is_the_one_that_the_teacher_finds_likeliest(
    ask: Any, teacher: Counting, tiny_tokenizer: Any
) -> None:
    one = ask(teacher, sampling_temperature=1.5)
    best = ask(teacher, sampling_temperature=1.5, best_of=8)
    assert texts(one) != texts(best)

    def likelihood(answered: Answered) -> list[float]:
        rows = [row for row in answered.rows if not row.labelled]
        prompts = [encode_prompt(row, tiny_tokenizer) for row in rows]
        wholes = [encode(row, tiny_tokenizer, 64).input_ids for row in rows]
        said = [Continuation(w[len(p) :], None) for p, w in zip(prompts, wholes, strict=True)]
        return mean_log_likelihoods(teacher, prompts, said, pad_token_id=0)

    assert min(b - a for a, b in zip(likelihood(one), likelihood(best), strict=True)) > 0
    assert best.mean_log_likelihood == pytest.approx(sum(likelihood(best)) / 3, abs=1e-4)
    assert len(teacher.asked) == 3 + 3 * 8


def test_empty_answers_and_doubles_are_left_out_and_counted(
    ask: Any, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    rows = [asks("turn on"), asks("turn on"), asks("dim"), asks("hall"), asks("fan", "two")]
    silent = encode_prompt(rows[2], tiny_tokenizer)
    light = tiny_tokenizer("light", add_special_tokens=False)["input_ids"]
    teacher = Counting(
        tiny_llama(), lambda prompt: [Continuation([] if prompt == silent else light, 2)]
    )
    answered = ask(teacher, rows)
    assert texts(answered) == ["light", "light", "two"]
    assert [row.prompt_text for row in answered.rows] == ["turn on", "hall", "fan"]
    facts = answered.facts()
    assert (facts["asked"], facts["duplicates"], facts["empty"]) == (4, 1, 1)
    assert "rows" not in facts


def test_only_empty_answers_are_an_error_that_says_so(ask: Any, tiny_llama: Any) -> None:
    teacher = Counting(tiny_llama(), lambda prompt: [Continuation([], 2)])
    with pytest.raises(DataError, match=r"All 2 answers of the teacher are empty"):
        ask(teacher, [asks("turn on"), asks("dim")])


def test_an_answer_that_was_cut_teaches_nobody_to_stop(
    ask: Any, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    light = tiny_tokenizer("light", add_special_tokens=False)["input_ids"]
    ends = {"cut": None, "ended": 2}
    for name, stop in ends.items():
        teacher = Counting(tiny_llama(), lambda prompt, stop=stop: [Continuation(light, stop)])
        answered = ask(teacher, [asks("turn on")], fingerprint=name)
        assert answered.unfinished == (stop is None)
        encoded = encode(answered.rows[0], tiny_tokenizer, 32)
        learnt = [label for label in encoded.labels if label != IGNORE_INDEX]
        assert learnt == light + ([] if stop is None else [2])


def test_a_sampled_answer_depends_on_its_prompt_and_the_seed_alone(
    ask: Any, teacher: Counting, tmp_path: Path
) -> None:
    sampled = {"sampling_temperature": 1.0}
    whole = ask(teacher, folder=tmp_path / "a", **sampled)
    alone = ask(teacher, ROWS[4:], folder=tmp_path / "b", **sampled)
    assert texts(alone) == texts(whole)[4:]
    other = ask(teacher, folder=tmp_path / "c", seed=1, **sampled)
    assert texts(other) != texts(whole)


def test_a_pass_that_was_cut_short_goes_on_to_the_same_answers(
    ask: Any, teacher: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWERS_AT_ONCE_ON_CPU", 4)
    sampled = {"sampling_temperature": 1.0, "best_of": 2, "rows": "all"}
    whole = ask(teacher, folder=tmp_path / "a", **sampled)
    real, asked = teacher.answers, []

    def dies(prompts: Any, **more: Any) -> Any:
        if asked:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return real(prompts, **more)

    teacher.answers = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        ask(teacher, folder=tmp_path / "b", **sampled)
    (stored,) = (tmp_path / "b").glob("*.jsonl")
    stored.write_bytes(stored.read_bytes()[:-9])  # the last line was cut short
    teacher.answers = real  # type: ignore[method-assign]
    teacher.asked.clear()
    resumed = ask(teacher, folder=tmp_path / "b", **sampled)
    assert texts(resumed) == texts(whole)
    assert len(teacher.asked) == 8, "only the batch that lacks a line is asked again, and the rest"
    teacher.asked.clear()
    assert texts(ask(teacher, folder=tmp_path / "b", **sampled)) == texts(whole)
    assert not teacher.asked


def test_separators_inside_an_answer_do_not_cut_its_line(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    said = module._Answer("row", "one\u2028two\u2029three\u0085four\r\nfive\x0bsix", True, None)
    module._append(path, [said, replace(said, row="next")])
    assert module._read(path) == {"row": said, "next": replace(said, row="next")}


def test_c12_answering_leaves_mode_gradients_and_random_state_alone(
    ask: Any, teacher: Counting
) -> None:
    before = torch.get_rng_state()
    ask(teacher, sampling_temperature=1.0, best_of=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not teacher.model.training
    assert all(value.grad is None for value in teacher.model.parameters())
