"""How likely a teacher finds answers: its own mean log-probability per token.

In: a teacher with all its logits, prompts and answers as token ids. Out: one number an answer, or
the best of several. Knows nothing of text, rows or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from distill_core.data.batches import by_length, collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.generate import Continuation

if TYPE_CHECKING:
    from distill_core.teachers.base import Teacher

TOKENS_AT_ONCE = 4096
"""Padded tokens in one forward pass."""

LOGITS_AT_ONCE = 512
"""Tokens whose logits are in memory together."""


@torch.no_grad()
def mean_log_likelihoods(
    teacher: Teacher,
    prompts: Sequence[list[int]],
    answers: Sequence[Continuation],
    *,
    pad_token_id: int,
) -> list[float]:
    """Mean over an answer's tokens of log p(token | prompt, tokens before), one for each answer.

    In nats, ≤ 0, at temperature 1, in fp32; the stop token counts where there is one. The mean
    and not the sum, which prefers short answers. An answer without any token has −∞.
    """
    rows = [
        Encoded(
            prompt + answer.with_stop,
            [IGNORE_INDEX] * len(prompt) + answer.with_stop,
            labelled=False,
            truncated=False,
        )
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    means = [float("-inf")] * len(rows)
    asked = [place for place, answer in enumerate(answers) if answer.with_stop]
    lengths = [len(rows[place].input_ids) for place in asked]
    for group in by_length(lengths, tokens_at_once=TOKENS_AT_ONCE):
        places = [asked[index] for index in group]
        batch = collate([rows[place] for place in places], pad_token_id=pad_token_id, rows=places)
        batch = batch.to(teacher.device)
        chunks = zip(
            teacher.rows(batch).in_chunks(LOGITS_AT_ONCE),
            batch.targets.split(LOGITS_AT_ONCE),
            strict=True,
        )
        surprise = torch.cat(
            [functional.cross_entropy(z.float(), y, reduction="none") for z, y in chunks]
        )
        line = batch.supervised.nonzero()[:, 0]
        sums = torch.zeros(len(places), device=surprise.device).index_add_(0, line, surprise)
        for place, mean in zip(places, (sums / line.bincount()).tolist(), strict=True):
            means[place] = -mean
    return means


def best_answers(
    teacher: Teacher,
    prompts: Sequence[list[int]],
    candidates: Sequence[Sequence[Continuation]],
    *,
    pad_token_id: int,
) -> list[tuple[Continuation, float]]:
    """The likeliest of each prompt's answers by `mean_log_likelihoods`, and that number.

    An answer that has ended goes before one that was cut, and one with tokens before an empty one:
    a model that repeats itself without end is very sure of every token. Of equals the first.
    """
    lists = [list(dict.fromkeys((tuple(one.ids), one.stop) for one in some)) for some in candidates]
    flat = [
        (place, Continuation(list(ids), stop))
        for place, some in enumerate(lists)
        for ids, stop in some
    ]
    likelihoods = mean_log_likelihoods(
        teacher,
        [prompts[place] for place, _ in flat],
        [answer for _, answer in flat],
        pad_token_id=pad_token_id,
    )
    best: dict[int, tuple[tuple[bool, bool, float], Continuation]] = {}
    for (place, answer), likelihood in zip(flat, likelihoods, strict=True):
        rank = (bool(answer.ids), answer.stop is not None, likelihood)
        if place not in best or rank > best[place][0]:
            best[place] = (rank, answer)
    return [(best[place][1], best[place][0][2]) for place in range(len(prompts))]
