"""Speed of prompt and generation apart, and the memory of tensors counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core.data.formats import Row
from distill_core.scoring import HeldOut
from distill_core.scoring.speed import LiveTensors, Timings, measure_speed, peak_memory


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
        prompt_tokens=[10, 20], new_tokens=[5, 3], first_s=[0.1, 0.2], seconds=[0.5, 0.4]
    )
    found = timings.as_scores()
    assert found["prompt_tokens_per_s"] == pytest.approx(30 / 0.3)
    assert found["generation_tokens_per_s"] == pytest.approx((8 - 2) / (0.9 - 0.3))
    assert found["tokens_per_s"] == pytest.approx(8 / 0.9)
    # two answers: the bootstrap draws each twice now and then, and nothing beyond
    assert found["tokens_per_s_ci95"] == pytest.approx([3 / 0.4, 5 / 0.5])
    assert found["prompt_tokens_per_s_ci95"] == pytest.approx([10 / 0.1, 20 / 0.2])
    assert found["generation_tokens_per_s_ci95"] == pytest.approx([4 / 0.4, 2 / 0.2])
    assert found["latency_p50_ms"] == pytest.approx(450)
    assert all(value is None for value in Timings().as_scores().values())


def test_answers_are_timed_after_a_warm_up(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    timings = measure_speed(tiny_llama().eval(), held_out(tiny_tokenizer, 5))
    assert len(timings.seconds) == 3
    assert all(
        0 < first <= whole for first, whole in zip(timings.first_s, timings.seconds, strict=True)
    )
    assert len(measure_speed(tiny_llama().eval(), held_out(tiny_tokenizer, 1)).seconds) == 1
