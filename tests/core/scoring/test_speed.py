"""Speed of prompt and generation apart, and the memory of tensors counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core.data.formats import Row
from distill_core.scoring import HeldOut, speed
from distill_core.scoring.in_turn import InTurn
from distill_core.scoring.speed import AnswerClock, LiveTensors, Timings, peak_memory


def held_out(tokenizer: Any, count: int = 5) -> HeldOut:
    rows = [
        Row(
            (
                {"role": "user", "content": f"turn on the {word}"},
                {"role": "assistant", "content": "on"},
            ),
            None,
            "t",
        )
        for word in ["light", "fan", "tv", "hall", "kitchen", "light", "fan"][:count]
    ]
    return HeldOut.make(rows, tokenizer, max_seq_len=32, max_new_tokens=4)


def test_live_tensors_count_what_is_alive_at_once() -> None:
    with LiveTensors() as live:
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1  # 8,000
        view = b[:10]  # a view has no bytes of its own
        del a
        c = torch.zeros(500)  # 6,000
        b.add_(1)
        del b
        d = torch.zeros(250)  # b lives on in its view: 7,000
        del view
        assert live.live_bytes == 3000
        del c, d
    assert live.peak_bytes == 8000
    assert live.live_bytes == 0


def test_tensors_made_outside_are_not_counted() -> None:
    outside = torch.zeros(1000)
    with LiveTensors() as live:
        outside.add_(1)
        outside[:5].mul_(2)
        assert live.live_bytes == 0


def test_peak_memory_holds_the_weights_once_and_grows_with_the_answer(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    model = tiny_llama().eval()
    weights = sum(value.numel() * 4 for value in model.parameters())
    short = held_out(tiny_tokenizer)
    assert weights < peak_memory(model, short) < 2 * weights
    longer = held_out(tiny_tokenizer)
    longer.max_new_tokens = 40
    longer.prompts = [prompt * 4 for prompt in longer.prompts]
    assert peak_memory(model, longer) > peak_memory(model, short)
    assert peak_memory(model, short) == peak_memory(model, short), "the same every time"


def test_timings_keep_prompt_and_generation_apart() -> None:
    timings = Timings(
        prompt_tokens=[10, 20, 30],
        new_tokens=[5, 5, 5],
        first_s=[0.1, 0.2, 0.1],
        seconds=[0.5, 1.0, 0.3],
    )
    found = timings.as_scores()
    assert found["prompt_tokens_per_s"] == pytest.approx(100)
    assert found["generation_tokens_per_s"] == pytest.approx(4 / 0.4)
    assert found["tokens_per_s"] == pytest.approx(5 / 0.5), "one slow answer does not move it"
    assert found["tokens_per_s_ci95"] == pytest.approx([5 / 1.0, 5 / 0.3])
    assert found["latency_p50_ms"] == pytest.approx(500)
    assert all(value is None for value in Timings().as_scores().values())


def timings_of(*models: Any, rows: HeldOut) -> list[Timings]:
    clocks = InTurn()
    for place, model in enumerate(models):
        clocks.add(str(place), AnswerClock(model.eval(), rows))
    return list(clocks.timings().values())


def test_answers_are_timed_after_a_warm_up(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    timings = timings_of(tiny_llama(), rows=held_out(tiny_tokenizer, 5))[0]
    assert len(timings.seconds) == 3
    assert all(
        0 < first <= whole for first, whole in zip(timings.first_s, timings.seconds, strict=True)
    )
    assert len(timings_of(tiny_llama(), rows=held_out(tiny_tokenizer, 1))[0].seconds) == 1


def test_every_timed_answer_has_as_many_tokens(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a student that ends at once seems faster, or slower, than one that never ends."""
    seen = []
    steps = speed.generate_steps
    monkeypatch.setattr(
        speed, "generate_steps", lambda *a, **k: seen.append(k["stop_ids"]) or steps(*a, **k)
    )
    timings = timings_of(tiny_llama(), rows=held_out(tiny_tokenizer, 5))[0]
    assert timings.new_tokens == [4, 4, 4]
    assert not any(seen), "nothing ends an answer early"


def test_networks_of_one_shape_share_a_measurement(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    rows = held_out(tiny_tokenizer, 5)
    trained, untrained = tiny_llama(), tiny_llama()
    with torch.no_grad():
        next(iter(trained.parameters())).add_(1)
    half = tiny_llama().to(torch.bfloat16)
    found = timings_of(trained, untrained, half, rows=rows)
    assert found[0] is found[1]
    assert found[2] is not found[0], "another number format is another speed"


def test_networks_take_turns() -> None:
    taken = []

    class Clock:
        def __init__(self, shape: str, turns: int) -> None:
            self.shape, self.turns, self.timings = shape, turns, shape

        def take(self, turn: int) -> None:
            taken.append(f"{self.shape}{turn}")

    clocks = InTurn()
    for model, shape, turns in (("teacher", "a", 3), ("student", "b", 2), ("untrained", "b", 2)):
        clocks.add(model, Clock(shape, turns))
    assert clocks.timings() == {"teacher": "a", "student": "b", "untrained": "b"}
    assert taken == ["a0", "b0", "a1", "b1", "a2"]
