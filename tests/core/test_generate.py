"""Generation: equal to transformers' own greedy search, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distill_core.generate import Continuation, _choose, _first_above, continuations, generate

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


def test_rows_that_are_done_leave_the_batch(model: Any) -> None:
    def widths(stop_ids: set[int]) -> tuple[list[int], list[list[int]]]:
        seen: list[int] = []
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True
        )
        answers = [
            one.with_stop
            for one in continuations(model, PROMPTS, stop_ids=stop_ids, max_new_tokens=9)
        ]
        hook.remove()
        return seen, answers

    width, free = widths(set())
    assert width == [4] * 9
    # the third prompt's second token stops it alone, or whoever writes it too
    stop = free[2][1]
    width, stopped = widths({stop})
    assert width[0] == 4
    assert width == sorted(width, reverse=True)
    assert width[-1] < 4
    for answer, whole in zip(stopped, free, strict=True):
        ends = whole.index(stop) + 1 if stop in whole else len(whole)
        assert answer == whole[:ends]


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


def test_sampling_does_not_depend_on_neighbours_either(model: Any) -> None:
    settings: dict[str, Any] = {"stop_ids": {2}, "max_new_tokens": 8, "sampling_temperature": 1.2}
    streams = [(7,), (8, 1), (9,), (10,)]
    together = continuations(model, PROMPTS, streams=streams, seed=3, **settings)
    for prompt, stream, expected in zip(PROMPTS, streams, together, strict=True):
        alone = continuations(model, [prompt], streams=[stream], seed=3, **settings)
        assert alone == [expected]
    backwards = continuations(model, PROMPTS[::-1], streams=streams[::-1], seed=3, **settings)
    assert backwards == together[::-1]
    assert continuations(model, PROMPTS, streams=streams, seed=4, **settings) != together


def test_sampling_follows_the_model_s_own_shares(model: Any) -> None:
    times = 4000
    found = continuations(
        model,
        [[5, 6]] * times,
        stop_ids=set(),
        max_new_tokens=1,
        sampling_temperature=0.7,
        vocab_size=8,
        batch_size=times,
    )
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[5, 6]])).logits[0, -1, :8].double().numpy()
    shares = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    seen = np.bincount([one.ids[0] for one in found], minlength=8) / times
    assert seen.shape == (8,), "ids beyond the vocabulary are never chosen"
    deviation = np.sqrt(shares * (1 - shares) / times)
    assert (np.abs(seen - shares) < 4 * deviation).all()


def test_a_continuation_knows_whether_and_how_it_ended(model: Any) -> None:
    free = generate(model, [[5]], stop_ids=set(), max_new_tokens=6)[0]
    cut = continuations(model, [[5]], stop_ids=set(), max_new_tokens=6)
    assert cut == [Continuation(free, None)]
    ended = continuations(model, [[5]], stop_ids={free[2]}, max_new_tokens=6)[0]
    assert ended.stop == free[2]
    assert ended.with_stop == free[: free.index(free[2]) + 1]


class Draws:
    """A stream of random numbers that gives the same one again and again."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


EDGES = [0.0, 1e-300, 0.3, 0.9999999, float(np.nextafter(1, 0)), 1.0]
"""Numbers drawn, up to the 1 that rounding may bring."""


@pytest.mark.parametrize("vocab_size", [3, 255, 256, 257, 1000])
def test_a_token_of_probability_0_is_never_drawn(vocab_size: int) -> None:
    random = np.random.default_rng(vocab_size)
    for share in (1, vocab_size // 3, vocab_size - 1):
        logits = torch.full((len(EDGES), vocab_size), -torch.inf)
        some = torch.from_numpy(random.permutation(vocab_size)[:share])
        logits[:, some] = torch.from_numpy(random.normal(size=share) * 3).float()
        chosen = _choose(logits, 0.8, [Draws(number) for number in EDGES])  # type: ignore[misc]
        assert torch.isin(chosen, some).all()
        assert int(chosen[0]) == int(some.min())
        assert int(chosen[-1]) == int(some.max())


def test_a_number_that_rounding_brought_below_0_meets_the_first_share() -> None:
    sums, numbers = torch.tensor([[0.0, 0.0, 0.4, 0.4, 1.0, 1.0]] * 3), [[-1e-9], [0.4], [1.0]]
    assert _first_above(sums, torch.tensor(numbers)).tolist() == [[2], [4], [4]]


@pytest.mark.parametrize("vocab_size", [5, 256, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_token_drawn_is_where_the_sum_of_shares_passes_the_number(
    vocab_size: int, dtype: torch.dtype
) -> None:
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(200, vocab_size)) * 4).to(dtype)
    before, numbers = logits.clone(), random.random(200)
    chosen = _choose(logits, 1.3, [Draws(number) for number in numbers])  # type: ignore[misc]
    shares = np.exp(logits.double().numpy() / 1.3)
    shares /= shares.sum(1, keepdims=True)
    sums = shares.cumsum(1)
    up_to = np.take_along_axis(sums, chosen[:, None].numpy(), axis=1)[:, 0]
    share = np.take_along_axis(shares, chosen[:, None].numpy(), axis=1)
    assert (numbers < up_to + 1e-6).all()
    assert (numbers >= up_to - share[:, 0] - 1e-6).all()
    assert torch.equal(logits, before), "the model's own numbers stay"


def test_a_model_in_training_can_write_between_its_steps(tiny_llama: Callable[..., Any]) -> None:
    def gradients(writes: bool) -> list[torch.Tensor]:
        model = tiny_llama(layers=2, seed=3)
        # its frequencies are a buffer that is made anew while it reads more than 8 tokens
        model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        model.config.max_position_embeddings = 8
        model = type(model)(model.config).train()
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        if writes:
            continuations(model.eval(), PROMPTS, stop_ids=set(), max_new_tokens=12)
            model.train()
        ids = torch.arange(3, 23)[None]
        model(input_ids=ids, labels=ids).loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other)
