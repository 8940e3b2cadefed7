"""Generation: equal to transformers' own greedy search, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core.generate import generate

PROMPTS = [[5], [6, 7, 8], [9, 10, 11, 12, 13], [4, 4]]


@pytest.fixture
def model(tiny_llama: Callable[..., Any]) -> Any:
    return tiny_llama(layers=2, seed=3).eval()


def test_greedy_equals_transformers_one_by_one(model: Any) -> None:
    stop = 17
    got = generate(model, PROMPTS, stop_ids={stop}, max_new_tokens=12)
    for prompt, answer in zip(PROMPTS, got, strict=True):
        with torch.no_grad():
            ids = torch.tensor([prompt])
            for _ in range(12):
                following = model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
                if int(following) == stop:
                    break
                ids = torch.cat([ids, following.view(1, 1)], 1)
        assert answer == ids[0, len(prompt) :].tolist()


def test_an_answer_does_not_depend_on_its_neighbours(model: Any) -> None:
    together = generate(model, PROMPTS, stop_ids={2}, max_new_tokens=8)
    alone = [generate(model, [p], stop_ids={2}, max_new_tokens=8)[0] for p in PROMPTS]
    assert together == alone
    assert together == generate(model, PROMPTS, stop_ids={2}, max_new_tokens=8, batch_size=1)


def test_sampling_follows_its_seed_and_leaves_the_random_state_alone(model: Any) -> None:
    def sample(seed: int) -> list[list[int]]:
        return generate(
            model,
            PROMPTS,
            stop_ids=set(),
            max_new_tokens=10,
            sampling_temperature=1.5,
            seed=seed,
        )

    before = torch.get_rng_state()
    first = sample(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == sample(1)
    assert first != sample(2)


def test_stop_tokens_are_not_part_of_the_answer(model: Any) -> None:
    free = generate(model, [[5]], stop_ids=set(), max_new_tokens=6)[0]
    stop = free[2]
    cut = free.index(stop)
    assert generate(model, [[5]], stop_ids={stop}, max_new_tokens=6)[0] == free[:cut]
