"""The forecast's largest micro-batch is one that training forms, not the largest thinkable."""

from __future__ import annotations

import random

import pytest

from distill_core.data.grouping import micro_batches
from distill_core.data.tokenize import Encoded
from distill_core.estimate.largest_group import Group, largest_group
from distill_core.estimate.row_facts import Lengths
from distill_core.recipe import OptimSettings


def rows(*seen: int, longest: int = 0) -> Lengths:
    return Lengths(sum(seen) / len(seen), max(longest, *seen), 10.0, 5.0, seen=seen)


def optim(at_once: int, of: int) -> OptimSettings:
    return OptimSettings(micro_batch_size=at_once, global_batch_size=of)


UNLIKE = rows(*range(20, 120))


@pytest.mark.parametrize(("at_once", "of"), [(4, 16), (16, 64), (256, 256)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("packed", [False, True])
def test_it_is_what_training_comes_to(at_once: int, of: int, device: str, packed: bool) -> None:
    chance = random.Random(7)
    largest = 0
    for _ in range(40):
        step = [Encoded([1] * chance.choice(UNLIKE.seen), [], True, False) for _ in range(of - 1)]
        step.append(Encoded([1] * 119, [], True, False))
        for part in micro_batches(step, at_once, device=device, packed=packed):
            lengths = [len(step[place].input_ids) for place in part]
            largest = max(largest, sum(lengths) if packed else len(lengths) * max(lengths))
    group = largest_group(optim(at_once, of), UNLIKE, steps=1000, device=device, packed=packed)
    found = group.tokens
    assert found == pytest.approx(largest, rel=0.15)


def test_rows_of_unlike_length_do_not_come_together() -> None:
    found = largest_group(optim(256, 256), UNLIKE, steps=16, device="cpu")
    assert found.tokens < 0.2 * 256 * 119
    unpadded = largest_group(optim(256, 256), UNLIKE, steps=16, device="cpu", packed=True)
    assert (unpadded.rows, unpadded.longest) == (256, 119)
    assert 0.5 * 256 * 119 < unpadded.tokens < 0.7 * 256 * 119


def test_rows_of_one_length_do_and_what_nobody_has_measured_may_be() -> None:
    alike = largest_group(optim(8, 32), rows(50, 50, 50), steps=5, device="cpu")
    assert alike == Group(8, 50, 400)
    unknown = Lengths(64.0, 128, 32.0, 32.0, measured=False)
    assert largest_group(optim(8, 32), unknown, steps=5, device="cpu") == Group(8, 128, 1024)
    assert largest_group(optim(8, 4), unknown, steps=5, device="cpu") == Group(4, 128, 512)


def test_the_longest_row_comes_in_some_step_though_the_sample_lacks_it() -> None:
    found = largest_group(optim(1, 4), rows(20, 22, longest=90), steps=5, device="cpu")
    assert found == Group(1, 90, 90)


def test_the_same_forecast_every_time() -> None:
    once, again = (largest_group(optim(16, 64), UNLIKE, steps=100, device="cpu") for _ in range(2))
    assert once == again
