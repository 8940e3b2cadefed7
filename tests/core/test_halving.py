"""Memory that runs out outside of a step: fewer rows come together, to the same result."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_core import models
from distill_core.data.classes import TextRow
from distill_core.data.formats import Row
from distill_core.data.on_policy import OnPolicy
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.errors import OutOfMemory
from distill_core.generate import continuations
from distill_core.halving import in_halves
from distill_core.recipe import HiddenCache, SampledCache, TopKCache
from distill_core.scoring import HeldOut, score_tokens
from distill_core.scoring.classes import HeldOutTexts, score_classes, score_teacher
from distill_core.scoring.tokens import score_own_samples, teacher_bits_per_byte
from distill_core.teachers import cache_pass
from distill_core.teachers.cache_pass import Filled, Questions, Reading, fill
from distill_core.teachers.cached import CachedTeacher
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.on_demand import OnDemandTeacher

Make = Callable[..., Any]
CPU = torch.device("cpu")
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB."


@contextmanager
def room_for(tokens: int, *bodies: nn.Module) -> Iterator[list[int]]:
    """Let the bodies of models fail for more tokens, padding included; tells of how many they did.

    They fail after having been computed, as a model does that has filled half of the memory.
    """
    failed: list[int] = []

    def look(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        if kwargs["input_ids"].numel() > tokens:
            failed.append(kwargs["input_ids"].numel())
            raise torch.OutOfMemoryError(CUDA)

    hooks = [body.register_forward_hook(look, with_kwargs=True) for body in bodies]
    try:
        yield failed
    finally:
        for hook in hooks:
            hook.remove()


def halved(
    groups: list[list[int]], fits: Callable[[list[int]], bool], lengths: list[int], **more: Any
) -> tuple[list[Any], list[list[int]]]:
    """What is yielded, and all groups that were tried."""
    tried: list[list[int]] = []

    def compute(places: list[int]) -> list[int]:
        tried.append(places)
        if not fits(places):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes.")
        return [10 * place for place in places]

    made = in_halves(groups, compute, lengths=lengths, device=CPU, doing="counting", **more)
    return list(made), tried


# --- the halves ---------------------------------------------------------------------------------


def test_every_place_comes_once_in_its_order() -> None:
    groups = [[3, 1, 4, 0, 5], [9, 2], [6, 8, 7]]
    whole, _ = halved(groups, lambda places: True, [1] * 10)
    assert [places for places, _ in whole] == groups
    for most in (1, 2, 3, 4):
        found, _ = halved(groups, lambda places: len(places) <= most, [1] * 10)  # noqa: B023
        assert [place for places, _ in found for place in places] == [
            place for group in groups for place in group
        ]
        assert all(made == [10 * place for place in places] for places, made in found)


def test_what_did_not_fit_is_not_tried_again() -> None:
    """By tokens: later groups of longer rows are cut too, and shorter ones are left alone."""
    lengths = [4] * 8 + [8] * 4 + [2] * 8
    groups = [list(range(8)), list(range(8, 12)), list(range(12, 20))]
    room: list[int] = []
    found, tried = halved(
        groups,
        lambda places: sum(lengths[place] for place in places) <= 16,
        lengths,
        ran_out=room.append,
    )
    assert [len(places) for places, _ in found] == [4, 4, 2, 2, 8]
    assert len(tried) == 6
    assert room == [8]


def test_nothing_of_a_failed_try_is_held_while_the_halves_are_computed() -> None:
    held: list[weakref.ref[Any]] = []

    class Tensor:
        """In the place of a large one."""

    def compute(places: list[int]) -> None:
        assert all(one() is None for one in held), "given back before"
        large = Tensor()
        large.itself = large  # type: ignore[attr-defined]
        held.append(weakref.ref(large))
        if len(places) > 1:
            raise torch.OutOfMemoryError(CUDA)
        del large
        gc.collect()

    list(in_halves([[0, 1, 2]], compute, lengths=[1] * 3, device=CPU, doing="trying"))
    assert len(held) == 5


def test_a_single_row_without_room_says_what_to_lower() -> None:
    with pytest.raises(OutOfMemory) as raised:
        halved([[0, 1, 2]], lambda places: 1 not in places, [7, 1234, 7])
    assert raised.value.field == "data.max_seq_len"
    told = str(raised.value)
    assert len(told.splitlines()) == 2
    for words in ("ran out in counting", "a single row of 1,234 tokens", "Lower data.max_seq_len"):
        assert words in told


def test_other_errors_are_not_taken_for_it() -> None:
    def compute(places: list[int]) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        list(in_halves([[0, 1]], compute, lengths=[1, 1], device=CPU, doing="trying"))


# --- answers ------------------------------------------------------------------------------------

PROMPTS = [[5], [6, 7, 8], [9, 10, 11, 12], [4, 4], [20, 3], [8, 8, 9]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_answers_are_the_same(tiny_llama: Make, temperature: float, batch_size: Any) -> None:
    model = tiny_llama(layers=2, seed=3).eval()
    how: dict[str, Any] = {"stop_ids": {2}, "max_new_tokens": 6, "batch_size": batch_size}
    how |= {"sampling_temperature": temperature, "seed": 4}
    expected = continuations(model, PROMPTS, **how)
    for tokens in (4, 8):
        with room_for(tokens, model.model) as failed:
            assert continuations(model, PROMPTS, **how) == expected
        assert failed, "memory did run out"
    with room_for(3, model.model), pytest.raises(OutOfMemory, match="answering prompts"):
        continuations(model, PROMPTS, **how)


def test_memory_that_runs_out_amid_an_answer_begins_it_again(tiny_llama: Make) -> None:
    model = tiny_llama(layers=2, seed=3).eval()
    how: dict[str, Any] = {"stop_ids": set(), "max_new_tokens": 6, "sampling_temperature": 1.0}
    expected = continuations(model, PROMPTS, **how)
    calls: list[int] = []

    def look(module: Any, args: Any, kwargs: Any) -> None:
        calls.append(len(kwargs["input_ids"]))
        if kwargs["attention_mask"].numel() > 27:  # of prompt and answer: the cache has grown
            raise torch.OutOfMemoryError(CUDA)

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    assert continuations(model, PROMPTS, **how) == expected
    hook.remove()
    assert calls[:2] == [6, 6]
    assert set(calls[2:]) == {3}


def test_what_the_student_writes_is_the_same(tiny_llama: Make) -> None:
    student = tiny_llama(layers=2, seed=3).train()
    given = [Encoded([1, 40], [IGNORE_INDEX, 40], True, False) for _ in PROMPTS]
    made = OnPolicy(PROMPTS, 1.0, 1.0, 5, frozenset({2}), 60, seed=0)  # type: ignore[arg-type]
    how: dict[str, Any] = {"step": 3, "rows": range(6), "given": given}
    expected = made.write(student, **how)
    with room_for(8, student.model) as failed:
        assert made.write(student, **how) == expected
    assert failed
    assert student.training


def test_the_student_runs_out_of_memory_once_in_a_stage(tiny_llama: Make) -> None:
    student = tiny_llama(layers=2, seed=3).train()
    prompts = [[1, 5, 7 + row % 9] for row in range(140)]  # more than are ever written together
    given = [Encoded([1, 40], [IGNORE_INDEX, 40], True, False) for _ in prompts]
    settings: tuple[Any, ...] = (prompts, 1.0, 1.0, 3, frozenset({2}), 60)
    how: dict[str, Any] = {"rows": range(140), "given": given}
    expected = [OnPolicy(*settings, seed=0).write(student, step=step, **how) for step in (0, 1)]
    stage = OnPolicy(*settings, seed=0)
    with room_for(110, student.model) as failed:
        assert [stage.write(student, step=step, **how) for step in (0, 1)] == expected
        assert failed == [192], "64 prompts of 3 tokens, once; not every 64 rows and every step"
        OnPolicy(*settings, seed=0).write(student, step=0, **how)
    assert failed == [192, 192], "another stage may have other room"


# --- scores -------------------------------------------------------------------------------------


def held_out(tokenizer: Any) -> HeldOut:
    asks = ["turn on the light", "tv", "dim the fan please", "one two", "hall", "off to the hall"]
    rows = [
        Row(
            ({"role": "user", "content": ask}, {"role": "assistant", "content": ask[::-1]}),
            None,
            "t",
        )
        for ask in asks
    ]
    return HeldOut.make(rows, tokenizer, max_seq_len=32, max_new_tokens=6)


def test_scores_are_the_same(tiny_llama: Make, tiny_tokenizer: Any) -> None:
    model, network = tiny_llama(seed=1), tiny_llama(layers=3, seed=2)
    teacher = LocalTeacher(network, vocab_size=len(tiny_tokenizer), stop_ids={2})
    rows = held_out(tiny_tokenizer)
    bodies = (model.model, network.model)
    longest = max(len(item.input_ids) for item in rows.encoded)

    def scored() -> tuple[Any, float, Any]:
        return (
            score_tokens(model, rows, teacher=teacher),
            teacher_bits_per_byte(teacher, rows),
            score_own_samples(model, rows, teacher=teacher),
        )

    expected, bits, own = scored()
    for tokens in (2 * longest, longest + 9):
        with room_for(tokens, *bodies) as failed:
            found, found_bits, found_own = scored()
        assert failed
        for name in ("nats", "counts", "confidence", "correct", "divergence", "agreed"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name
            )
        assert found_bits == pytest.approx(bits, rel=1e-5)
        assert found_own.keys() == own.keys()
        for name, value in own.items():
            assert found_own[name] == pytest.approx(value, rel=1e-4)
    with room_for(3, *bodies):
        for score in (
            lambda: score_tokens(model, rows),
            lambda: teacher_bits_per_byte(teacher, rows),
        ):
            with pytest.raises(OutOfMemory, match="scoring held-out rows"):
                score()


def test_only_a_teacher_may_lack_the_room(tiny_llama: Make, tiny_tokenizer: Any) -> None:
    """What the student had said of the batch by then counts once."""
    model, network = tiny_llama(seed=1), tiny_llama(layers=3, seed=2)
    teacher = LocalTeacher(network, vocab_size=len(tiny_tokenizer), stop_ids={2})
    rows = held_out(tiny_tokenizer)
    expected = score_tokens(model, rows, teacher=teacher)
    with room_for(24, network.model) as failed:
        found = score_tokens(model, rows, teacher=teacher)
    assert failed
    assert found.tokens == expected.tokens == len(found.confidence)
    assert found.as_metrics() == pytest.approx(expected.as_metrics(), rel=1e-5)


def test_scores_of_classifiers_are_the_same(
    tiny_encoder_dir: Path, tiny_encoder_tokenizer: Any
) -> None:
    classes = ("bad", "good")
    loaded = [
        models.load_model(
            tiny_encoder_dir, dtype=torch.float32, device="cpu", labels=classes, new_head_seed=seed
        )
        for seed in (0, 1)
    ]
    model, network = (one.eval() for one in loaded)
    teacher = LocalTeacher(network, vocab_size=2, stop_ids=set())
    words = ["turn on", "off", "dim the light", "fan tv hall", "one", "to the hall"]
    rows = [TextRow(None, word, "t", label=classes[n % 2]) for n, word in enumerate(words)]
    texts = HeldOutTexts.make(rows, tiny_encoder_tokenizer, max_seq_len=16, classes=classes)
    expected = score_classes(model, texts, teacher=teacher)
    alone = score_teacher(teacher, texts)
    bodies = (model, network)
    with room_for(12, *bodies) as failed:
        found = score_classes(model, texts, teacher=teacher)
        found_alone = score_teacher(teacher, texts)
    assert failed
    for name in ("probabilities", "labels", "nats", "divergence", "agreed"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(found_alone.nats, alone.nats, rtol=1e-5)
    with room_for(2, *bodies), pytest.raises(OutOfMemory, match="scoring held-out rows"):
        score_classes(model, texts)


# --- a teacher's cache --------------------------------------------------------------------------


def asked_rows(count: int = 12) -> list[Encoded]:
    made = []
    for row in range(count):
        prompt, answer = [3 + row, 5], [7 + row] * (1 + row % 5)
        labels = [IGNORE_INDEX, IGNORE_INDEX, *answer]
        made.append(Encoded(prompt + answer, labels, labelled=True, truncated=False))
    return made


@pytest.mark.parametrize(
    "settings", [HiddenCache(precision="fp32"), TopKCache(k=9), SampledCache(samples=20)]
)
def test_a_cache_holds_the_same_and_says_what_happened(
    tmp_path: Path,
    tiny_llama: Make,
    tiny_tokenizer: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_pass, "TOKENS", 40)
    network, items = tiny_llama(seed=1).eval(), asked_rows()

    def filled(folder: str) -> tuple[CachedTeacher, list[Any], Filled]:
        cached = CachedTeacher(
            settings,
            root=tmp_path / folder,
            teacher={"weights": "abc"},
            tokenizer=tiny_tokenizer,
            temperature=1.0,
            classes=None,
            device=CPU,
        )
        teacher = OnDemandTeacher(
            lambda: LocalTeacher(network, vocab_size=49, stop_ids={2}),
            device=CPU,
            note=tmp_path / f"{folder}.json",
        )
        steps = fill(cached, teacher, rows=Reading(items, 0), held_out=Questions())
        events: list[Any] = []
        while True:
            try:
                events.append(next(steps))
            except StopIteration as end:
                return cached, events, end.value

    whole, quiet, done = filled("whole")
    assert not [event for event in quiet if event["type"] == "warning"]
    with room_for(20, network.model) as failed:
        halved_, events, found = filled("halved")
    assert failed
    warnings = [event["message"] for event in events if event["type"] == "warning"]
    assert warnings
    assert "ran out when the teacher was asked" in warnings[0]
    assert (found.rows, found.tokens, found.asked) == (done.rows, done.tokens, done.asked)
    shown = [event["done"] for event in events if event["type"] == "progress"]
    assert shown == sorted(shown)
    assert shown[-1] == 12
    both = [one.training.store for one in (whole, halved_)]
    for key in Reading(items, 0).wanted().keys.tolist():
        (a, b) = (store.read([key])[0] for store in both)
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(
                a[name].astype(float), b[name].astype(float), rtol=2e-3, atol=1e-5
            )
    with room_for(2, network.model), pytest.raises(OutOfMemory, match="asking the teacher"):
        filled("none")
