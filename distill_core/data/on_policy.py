"""Batches that the student writes itself, for its teacher to judge (GKD, arXiv 2306.13649).

In: the prompts of the rows, the student, a step. Out: encoded rows with the student's own answers,
and how long those are. Which steps are on-policy, and every answer at given weights, are functions
of seed and step, so that resuming needs no state. Knows nothing of teachers, losses or processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.generate import Continuation, continuations
from distill_core.halving import Room

__all__ = ["OnPolicy", "Written", "is_on_policy"]

ANSWERS_AT_ONCE = 64
"""Generated together, whatever the number of processes: the same sums in the same order."""

Piece = tuple[int, list[int], int | None]
"""One answer on its way between processes: place in the batch, ids, stop token."""


def is_on_policy(step: int, *, fraction: float, seed: int) -> bool:
    """Whether the student writes the batch of `step` (counted from 0).

    Spread evenly, from a start that the seed draws: of any n steps in a row, n · fraction are
    on-policy, give or take one.
    """
    start = np.random.default_rng((seed, 1)).random()
    return math.floor((step + 1) * fraction + start) > math.floor(step * fraction + start)


@dataclass(frozen=True)
class Written:
    """A batch after the student has had its turn."""

    rows: list[Encoded]
    share: float
    """0–1: rows that the student answered; plain texts ask nothing and stay as they are."""
    mean_tokens: float
    """Of the answers, stop token included."""


@dataclass(frozen=True)
class OnPolicy:
    """How the student writes its own batches."""

    prompts: Sequence[list[int] | None]
    """Prompt ids of every row of the data; None for a plain text."""
    fraction: float
    sampling_temperature: float
    max_new_tokens: int
    stop_ids: frozenset[int]
    vocab_size: int
    seed: int
    room: Room = field(default_factory=Room, compare=False)
    """What memory allows in this process, found out once in a stage; no answer depends on it."""

    def writes(self, step: int) -> bool:
        """Whether the batch of `step` is the student's."""
        return is_on_policy(step, fraction=self.fraction, seed=self.seed)

    def write(
        self,
        student: torch.nn.Module,
        *,
        step: int,
        rows: Sequence[int],
        given: Sequence[Encoded],
        process: int = 0,
        processes: int = 1,
        gather: Callable[[list[Piece]], list[Piece]] = lambda mine: mine,
    ) -> Written:
        """Let the student answer the prompts of a batch, without gradients, in eval mode.

        Every token of an answer is supervised, in a row that is not labelled: no term takes it for
        a label. Each process answers a part, the same parts whatever their number; `gather`
        puts them together. The student's mode and the random state are left as they were.

        Args:
            student: The network in training.
            step: Of the optimiser, from 0.
            rows: Which rows of the data the batch has.
            given: These rows as the data or the teacher answers them.
            process: Number of this process.
            processes: How many there are.
            gather: Joins the lists of all processes.
        """
        prompts = {place: self.prompts[row] for place, row in enumerate(rows)}
        asked = [place for place, prompt in prompts.items() if prompt is not None]
        groups = [
            asked[start : start + ANSWERS_AT_ONCE]
            for start in range(0, len(asked), ANSWERS_AT_ONCE)
        ]
        mine: list[Piece] = []
        with _in_eval_mode(student):
            for group in groups[process::processes]:
                found = continuations(
                    student,  # type: ignore[arg-type]
                    [prompts[place] for place in group],  # type: ignore[misc]
                    stop_ids=self.stop_ids,
                    max_new_tokens=self.max_new_tokens,
                    sampling_temperature=self.sampling_temperature,
                    seed=self.seed,
                    streams=[(step, place) for place in group],
                    vocab_size=self.vocab_size,
                    batch_size=ANSWERS_AT_ONCE,
                    room=self.room,
                )
                mine += [(place, one.ids, one.stop) for place, one in zip(group, found)]  # noqa: B905
        answers = {place: Continuation(ids, stop) for place, ids, stop in gather(mine)}
        assert sorted(answers) == asked, "every prompt is answered once"
        written = [
            given[place] if prompt is None else _encoded(prompt, answers[place])
            for place, prompt in prompts.items()
        ]
        lengths = [len(answers[place].with_stop) for place in asked]
        return Written(
            rows=written,
            share=len(asked) / len(prompts),
            mean_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        )


def _encoded(prompt: list[int], answer: Continuation) -> Encoded:
    tokens = answer.with_stop
    return Encoded(
        input_ids=prompt + tokens,
        labels=[IGNORE_INDEX] * len(prompt) + tokens,
        labelled=False,
        truncated=False,
    )


@contextmanager
def _in_eval_mode(model: Any) -> Iterator[None]:
    """Switch dropout off for a while; each module goes back to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
