"""Generation: many prompts at once, token by token.

In: a model and prompts as token ids. Out: continuations as token ids. Greedy at
`sampling_temperature` 0, else sampled: each prompt draws from a random stream of its own, so that
its answer depends neither on its neighbours nor on the size of the batch. Knows nothing of text,
runs or files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill_core.forward.growing_rows import GrowingRows
from distill_core.halving import Room, in_halves

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHRINK_AT = 0.75
"""Finished rows leave the batch once no more than this share of it goes on."""

PART = 256
"""Tokens whose shares are summed together where one is drawn."""

Stream = tuple[int, ...]
"""Names one prompt's random numbers, together with the seed."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model wrote after one prompt: the ids, and the stop token that ended them."""

    ids: list[int]
    stop: int | None
    """None where the longest length was reached first."""

    @property
    def with_stop(self) -> list[int]:
        """All tokens that were generated."""
        return self.ids if self.stop is None else [*self.ids, self.stop]


@torch.inference_mode()
def generate_steps(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    sampling_temperature: float = 0.0,
    seed: int = 0,
    streams: Sequence[Stream] | None = None,
    vocab_size: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield per step the next ids (B,) and which rows were still open before it, (B,) bool.

    A prompt's answer does not depend on its neighbours (`GrowingRows`). Ends when every row has met
    a stop id.

    Args:
        model: A causal language model, in eval mode.
        prompts: Token ids of each prompt, none of them empty.
        stop_ids: Ids that end an answer.
        max_new_tokens: Longest answer.
        sampling_temperature: 0 takes the likeliest token.
        seed: Of all random numbers.
        streams: One for each prompt; its place among `prompts` when left out.
        vocab_size: Number of ids that stand for a token; padded rows of the head beyond it are
            never chosen.
    """
    device = next(model.parameters()).device
    rows = GrowingRows(model, prompts)
    stops = torch.tensor(sorted(stop_ids) or [-1], device=device)
    # generators of their own: sampling must not move the random state of training
    streams = streams or [(place,) for place in range(len(prompts))]
    random = [np.random.default_rng((seed, *stream)) for stream in streams]
    is_open = torch.ones(len(prompts), dtype=torch.bool, device=device)
    lines = torch.arange(len(prompts), device=device)
    """Which prompt each row of the model's batch is: finished ones leave it now and then."""
    for _ in range(max_new_tokens):
        chosen = _choose(rows.logits()[:, :vocab_size], sampling_temperature, random)
        yield torch.zeros_like(is_open, dtype=torch.long).index_copy(0, lines, chosen), is_open
        goes_on = is_open[lines] & ~torch.isin(chosen, stops)
        is_open = torch.zeros_like(is_open).index_copy(0, lines, goes_on)
        left = int(goes_on.sum())
        if left == 0:
            return
        rows.grow(chosen)
        if left <= SHRINK_AT * len(lines) and rows.can_shrink:
            kept = goes_on.nonzero()[:, 0]
            rows.shrink(kept)
            lines, random = lines[kept], [random[row] for row in kept.tolist()]


def continuations(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    sampling_temperature: float = 0.0,
    seed: int = 0,
    streams: Sequence[Stream] | None = None,
    vocab_size: int | None = None,
    batch_size: int | None = None,
    room: Room | None = None,
) -> list[Continuation]:
    """Continue each prompt, in the order of `prompts`; arguments as for `generate_steps`.

    Prompts of like length are put in one batch, `batch_size` at a time; None: what suits the
    device. Where memory runs out, fewer come together, to the same answers; nobody is told, and
    `room` remembers it for the next call.

    Raises:
        OutOfMemory: if there is no room for one prompt and its answer.
    """
    streams = streams or [(place,) for place in range(len(prompts))]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    device = next(model.parameters()).device
    at_once = batch_size or (128 if device.type == "cpu" else 256)

    def answer(chosen: list[int]) -> list[Continuation]:
        steps = generate_steps(
            model,
            [prompts[index] for index in chosen],
            stop_ids=stop_ids,
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            seed=seed,
            streams=[streams[index] for index in chosen],
            vocab_size=vocab_size,
        )
        columns, opens = zip(*((ids.cpu(), is_open.cpu()) for ids, is_open in steps), strict=True)
        table, open_table = torch.stack(columns, 1), torch.stack(opens, 1)
        answers = []
        for row, is_open in zip(table, open_table, strict=True):
            ids = row[is_open].tolist()
            stopped = bool(ids) and ids[-1] in stop_ids
            answers.append(Continuation(ids[:-1], ids[-1]) if stopped else Continuation(ids, None))
        return answers

    found: dict[int, Continuation] = {}
    for chosen, answers in in_halves(
        [order[start : start + at_once] for start in range(0, len(order), at_once)],
        answer,
        lengths=[len(prompt) + max_new_tokens for prompt in prompts],
        device=device,
        doing="answering prompts",
        room=room,
    ):
        found |= zip(chosen, answers, strict=True)
    return [found[index] for index in range(len(prompts))]


def generate(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    sampling_temperature: float = 0.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[list[int]]:
    """Continue each prompt; ids without the stop token, in the order of `prompts`."""
    found = continuations(
        model,
        prompts,
        stop_ids=stop_ids,
        max_new_tokens=max_new_tokens,
        sampling_temperature=sampling_temperature,
        seed=seed,
        batch_size=batch_size,
    )
    return [one.ids for one in found]


def _choose(
    logits: Tensor, sampling_temperature: float, random: Sequence[np.random.Generator]
) -> Tensor:
    """Next ids (B,) from `logits[B, V]`: one number of each row's stream picks by its share.

    Shares are summed in parts of the vocabulary first, then inside the one part that was met; only
    the numbers drawn go to the device.
    """
    if sampling_temperature == 0:
        return logits.argmax(-1)
    # MPS has no float64
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    drawn = torch.tensor([[stream.random()] for stream in random], dtype=wide)
    shares = logits.float() / sampling_temperature
    shares.sub_(shares.amax(-1, keepdim=True)).exp_()  # their sum may be anything
    vocabulary = shares.shape[1]
    whole = vocabulary - vocabulary % PART
    parts = shares[:, :whole].unflatten(1, (-1, PART)).sum(-1)
    parts = torch.cat([parts, shares[:, whole:].sum(-1, keepdim=True)], 1).to(wide)
    sums = parts.cumsum(-1)
    number = drawn.to(logits.device) * sums[:, -1:]
    part = _first_above(sums, number)
    left = number - (sums - parts).gather(1, part)
    ids = part * PART + torch.arange(PART, device=logits.device)
    inside = shares.gather(1, ids.clamp(max=vocabulary - 1)).masked_fill(ids >= vocabulary, 0)
    chosen = part * PART + _first_above(inside.to(wide).cumsum(-1), left)
    return chosen[:, 0].clamp(max=vocabulary - 1)


def _first_above(sums: Tensor, number: Tensor) -> Tensor:
    """Place (B, 1) of the first of ascending `sums[B, N]` above `number[B, 1]`: never of share 0.

    Rounding may bring the number to the last sum or below 0; the nearest place with a share then.
    """
    place = torch.searchsorted(sums, number.clamp(min=0), right=True)
    last = torch.searchsorted(sums, sums[:, -1:].contiguous())
    return place.minimum(last).clamp(max=sums.shape[1] - 1)
