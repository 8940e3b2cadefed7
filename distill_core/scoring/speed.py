"""How fast a model answers, one prompt at a time, and how much memory that takes.

In: a model and held-out prompts. Out: seconds of answers that are all of one length, prompt and
generation apart; the most bytes that tensors held at once. Knows nothing of texts.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _python_dispatch, _pytree

from distill_core import device as machine
from distill_core import intervals
from distill_core.data.tokenize import stop_token_ids
from distill_core.generate import generate_steps
from distill_core.scoring.in_turn import shape_of
from distill_core.scoring.rows import HeldOut

ANSWERS_TIMED = 24
NEW_TOKENS = 32
"""Of every timed answer, ended or not: a model that never ends is as fast as one that does."""
WARM_UP = 2
"""Answers before those that are timed."""

MEMORY_MEASURES = {
    "cuda": "the most that torch's CUDA allocator held for this model",
    "mps": "the most that Metal held for this model, looked at once a token",
    "cpu": "the most that this model's tensors held at once: weights, activations, cache",
}


@dataclass
class Timings:
    """One entry for each timed answer."""

    prompt_tokens: list[int] = field(default_factory=list)
    new_tokens: list[int] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    """Until the first token: the prompt is read."""
    seconds: list[float] = field(default_factory=list)
    """Until the last one."""

    @property
    def tokens(self) -> list[int]:
        """What `seconds` were spent on."""
        return self.new_tokens

    def as_scores(self) -> dict[str, Any]:
        """Under the names of `scores.SCORES`; None where nothing could be timed."""
        if not self.seconds:
            names = ("tokens_per_s", "prompt_tokens_per_s", "generation_tokens_per_s")
            latencies = ("first_token_ms", "latency_p50_ms", "latency_p95_ms")
            return dict.fromkeys((*names, *latencies))
        later = np.asarray(self.new_tokens) - 1
        later_s = np.asarray(self.seconds) - np.asarray(self.first_s)
        p50, p95 = np.quantile(self.seconds, [0.5, 0.95]) * 1000
        return {
            **median_speed("tokens_per_s", self.new_tokens, self.seconds),
            **median_speed("prompt_tokens_per_s", self.prompt_tokens, self.first_s),
            **median_speed("generation_tokens_per_s", later, later_s),
            "first_token_ms": float(np.median(self.first_s)) * 1000,
            "latency_p50_ms": float(p50),
            "latency_p95_ms": float(p95),
        }


def median_speed(name: str, count: intervals.Values, seconds: intervals.Values) -> dict[str, Any]:
    """Median of count / seconds, and its 95 % interval; None where nothing was counted."""
    if not np.sum(count):
        return {name: None}
    speeds = np.asarray(count, float) / np.asarray(seconds, float)
    sure = intervals.of_medians([speeds], lambda speed: speed)
    return {name: float(np.median(speeds)), f"{name}_ci95": sure}


class AnswerClock:
    """Times greedy answers to the first held-out prompts, one a turn, after a warm-up."""

    def __init__(self, model: Any, held_out: HeldOut) -> None:
        self.timings = Timings()
        self._model, self._held_out = model, held_out
        self._prompts = held_out.prompts[: ANSWERS_TIMED + WARM_UP]
        self.turns = len(self._prompts)
        self.shape = shape_of(model, self._prompts)

    def take(self, turn: int) -> None:
        """Time one answer of `NEW_TOKENS`, or of as many as answers may have."""
        place = next(self._model.parameters()).device
        prompt = self._prompts[turn]
        machine.synchronize(place)
        started = time.perf_counter()
        first_s, tokens = 0.0, 0
        for _ in generate_steps(
            self._model,
            [prompt],
            stop_ids=(),
            max_new_tokens=min(NEW_TOKENS, self._held_out.max_new_tokens),
            vocab_size=len(self._held_out.tokenizer),
        ):
            tokens += 1
            if tokens == 1:
                machine.synchronize(place)
                first_s = time.perf_counter() - started
        machine.synchronize(place)
        if turn >= min(WARM_UP, self.turns - 1):
            self.timings.prompt_tokens.append(len(prompt))
            self.timings.new_tokens.append(tokens)
            self.timings.first_s.append(first_s)
            self.timings.seconds.append(time.perf_counter() - started)


def peak_memory(model: Any, held_out: HeldOut) -> int:
    """Bytes at the highest point of answering the longest timed prompt, weights included."""
    prompts = held_out.prompts[: ANSWERS_TIMED + WARM_UP]
    if not prompts:
        return peak_bytes(model, ())
    prompt = max(prompts, key=len)
    steps = generate_steps(
        model,
        [prompt],
        stop_ids=stop_token_ids(held_out.tokenizer),
        max_new_tokens=held_out.max_new_tokens,
        vocab_size=len(held_out.tokenizer),
    )
    return peak_bytes(model, steps)


def peak_bytes(model: Any, steps: Iterable[Any]) -> int:
    """Bytes that a model holds at the most while `steps` are taken, its weights included.

    On CUDA the allocator counts; what lay there before and is not this model's is taken off. On a
    CPU the tensors themselves are counted as they come and go: the growth of the process would
    tell what other libraries and earlier models have left behind.
    """
    place = next(model.parameters()).device
    weights = _bytes_of([*model.parameters(), *model.buffers()])
    if place.type == "cuda":
        before = torch.cuda.memory_allocated(place)
        torch.cuda.reset_peak_memory_stats(place)
        for _ in steps:
            pass
        return weights + torch.cuda.max_memory_allocated(place) - before
    if place.type == "mps":
        before = torch.mps.current_allocated_memory()
        highest = max((torch.mps.current_allocated_memory() for _ in steps), default=before)
        return weights + max(0, highest - before)
    with LiveTensors() as live:
        for _ in steps:
            pass
    return weights + live.peak_bytes


def _bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """Bytes of the storages behind tensors, each counted once: tied weights share one."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


class LiveTensors(_python_dispatch.TorchDispatchMode):
    """Counts the bytes of all tensors made inside it that are still alive; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and count what is new among its results."""
        given = {
            item.untyped_storage()._cdata
            for item in _pytree.tree_leaves((args, kwargs))
            if isinstance(item, torch.Tensor)
        }
        results = func(*args, **(kwargs or {}))
        for item in _pytree.tree_leaves(results):
            if isinstance(item, torch.Tensor):
                self._count(item.untyped_storage(), given)
        return results

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        place = storage._cdata
        if place in self._known or place in given:
            return  # a view, or written in place
        size = storage.nbytes()
        self._known.add(place)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.live_bytes -= size
