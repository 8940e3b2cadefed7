"""Batches that the student writes: which steps, which answers, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core.data import on_policy
from distill_core.data.on_policy import OnPolicy, Piece, is_on_policy
from distill_core.data.tokenize import IGNORE_INDEX, Encoded

PROMPTS: list[list[int] | None] = [[5], [6, 7, 8], None, [9, 10], [4, 4, 5, 6], [20]]
GIVEN = [
    Encoded([*(prompt or [30, 31]), 40], [40] * (len(prompt or [1, 1]) + 1), True, False)
    for prompt in PROMPTS
]


@pytest.fixture
def student(tiny_llama: Callable[..., Any]) -> Any:
    model = tiny_llama(layers=2, seed=3)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5  # answers would differ if dropout were on
    return model.train()


def source(**changes: Any) -> OnPolicy:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "fraction": 0.5,
        "sampling_temperature": 1.0,
        "max_new_tokens": 5,
        "stop_ids": frozenset({2}),
        "vocab_size": 60,
        "seed": 0,
    }
    return OnPolicy(**settings | changes)


def write(made: OnPolicy, student: Any, **changes: Any) -> Any:
    rows = changes.pop("rows", [0, 1, 2, 3, 4, 5])
    given = [GIVEN[row] for row in rows]
    return made.write(student, **{"step": 0, "rows": rows, "given": given} | changes)


# --- which steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 77])
def test_any_stretch_of_steps_has_its_share(fraction: float, seed: int) -> None:
    chosen = [is_on_policy(step, fraction=fraction, seed=seed) for step in range(500)]
    for start, length in ((0, 500), (13, 100), (250, 37)):
        there = sum(chosen[start : start + length])
        assert abs(there - fraction * length) <= 1
    assert any(chosen) == (fraction > 0)
    assert all(chosen) == (fraction == 1)


def test_seeds_begin_elsewhere() -> None:
    patterns = {
        tuple(is_on_policy(step, fraction=0.2, seed=seed) for step in range(20))
        for seed in range(10)
    }
    assert len(patterns) > 1


# --- what is written ----------------------------------------------------------------------------


def test_the_answers_are_the_student_s_likeliest_tokens(student: Any) -> None:
    written = write(source(sampling_temperature=0.0), student)
    student.eval()
    for prompt, given, row in zip(PROMPTS, GIVEN, written.rows, strict=True):
        if prompt is None:
            assert row is given, "a plain text asks nothing"
            continue
        ids = list(prompt)
        for _ in range(5):
            with torch.no_grad():
                following = student(input_ids=torch.tensor([ids])).logits[0, -1, :60].argmax()
            ids.append(int(following))
            if ids[-1] == 2:
                break
        assert row.input_ids == ids
        assert row.labels == [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]
        assert row.labelled is False
    lengths = [row.supervised_tokens for row in written.rows if not row.labelled]
    assert written.mean_tokens == pytest.approx(sum(lengths) / 5)
    assert written.share == pytest.approx(5 / 6)


def test_the_stop_token_is_supervised(student: Any) -> None:
    free = write(source(stop_ids=frozenset()), student)
    stop = free.rows[0].input_ids[len(PROMPTS[0]) + 1]  # type: ignore[arg-type]
    row = write(source(stop_ids=frozenset({stop})), student).rows[0]
    cut = free.rows[0].input_ids.index(stop, 1)
    assert row.labels[-1] == stop
    assert row.input_ids == free.rows[0].input_ids[: cut + 1]


def test_seed_step_and_place_decide_and_nothing_else(student: Any) -> None:
    first = write(source(), student)
    torch.manual_seed(99)
    assert write(source(), student).rows == first.rows
    assert write(source(), student, step=1).rows != first.rows
    assert write(source(seed=1), student).rows != first.rows
    twins = write(source(), student, rows=[0, 0])
    assert twins.rows[0] != twins.rows[1], "the same prompt twice gets two answers"


@pytest.mark.parametrize("change", [{"sampling_temperature": 0.2}, {"max_new_tokens": 2}], ids=str)
def test_c20_every_setting_changes_the_batch(student: Any, change: dict[str, Any]) -> None:
    assert write(source(**change), student).rows != write(source(), student).rows


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_c16_several_processes_write_the_batch_of_one(
    student: Any, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_policy, "ANSWERS_AT_ONCE", 2)
    expected = write(source(), student).rows
    pieces: list[Piece] = []

    def keep(mine: list[Piece]) -> list[Piece]:
        pieces.extend(mine)
        raise InterruptedError

    for process in range(processes):
        with pytest.raises(InterruptedError):
            write(source(), student, process=process, processes=processes, gather=keep)
    joined = write(source(), student, process=1, processes=processes, gather=lambda mine: pieces)
    assert len(pieces) == 5, "nobody answers twice"
    assert joined.rows == expected


def test_the_student_is_left_as_it_was(student: Any) -> None:
    student.model.layers[1].eval()  # a part may have a mode of its own
    modes = {name: module.training for name, module in student.named_modules()}
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    use_cache, random = student.config.use_cache, torch.get_rng_state()
    seen = []
    student.register_forward_pre_hook(
        lambda module, args: seen.append((module.training, torch.is_grad_enabled()))
    )
    write(source(), student)
    assert set(seen) == {(False, False)}
    assert {name: module.training for name, module in student.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert student.config.use_cache == use_cache
    assert all(value.grad is None for value in student.parameters())
    for name, value in student.state_dict().items():
        assert torch.equal(value, weights[name])


def test_a_failure_leaves_the_mode_as_it_was(student: Any) -> None:
    with pytest.raises(IndexError):
        write(source(prompts=[[9999]] * 6), student)
    assert student.training
