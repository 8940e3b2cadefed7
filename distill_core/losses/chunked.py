"""Terms over the vocabulary, computed and differentiated a chunk of rows at a time.

In: hidden states (N, d) and the head of a student, the teacher's rows, what each row counts. Out:
the weighted sum of all terms as one number that can be differentiated, and each term's value per
row. Gradients are formed while the values are, so that of logits (N, V) only a chunk is ever in
memory, on either side. Knows no masks and no means: `objective` says what each row counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from distill_core.device import logit_rows_at_once
from distill_core.losses import liger
from distill_core.losses.heads import Bend, linear_head
from distill_core.losses.logit_rows import LogitRows, projected
from distill_core.losses.row_block import compare_block, fused, parts_of
from distill_core.losses.sparse import SparseRows

CACHED_ENTRIES = 2**18
"""Logits that stay in a processor's cache while the terms go over them several times."""

KERNELS: Mapping[str, Callable[..., tuple[list[Tensor], Tensor | None]]] = {
    "plain": compare_block,
    "compiled": fused,
    "liger": liger.compare_block,
}
"""What works a chunk out, by name; all come to the same."""


@dataclass(frozen=True)
class Comparison:
    """What the rows of a student are compared with, and how."""

    terms: Sequence[Any]
    """Settings of the terms, with numbers in the place of schedules."""
    shares: Mapping[str, Tensor]
    """By term, (N,): what each row's value counts in the loss; no entry: nothing for now."""
    teacher: LogitRows | SparseRows | None
    targets: Tensor
    chunk_rows: int | None
    """Most rows of logits in memory at once; None: what suits the device."""
    kernels: str = "plain"
    """Of `KERNELS`."""


class Compared(NamedTuple):
    """`loss`: Σ over terms and rows of share · value; `values`: of each term, (N,), to be shown."""

    loss: Tensor
    values: dict[str, Tensor]


def compared(
    states: Tensor, head: nn.Module, comparison: Comparison, *, vocab_size: int
) -> Compared:
    """Compare `states[N, d]` through a `linear_head`; values in fp32 whatever the states' dtype.

    Rows of the head beyond `vocab_size` are cut off. The gradient reaches states, weight and bias,
    and is handed out once.
    """
    known = linear_head(head)
    assert known is not None, "whoever asks has looked"
    device = states.device.type
    autocast = torch.is_autocast_enabled(device)
    task = _Task(
        comparison,
        vocab_size,
        torch.get_autocast_dtype(device) if autocast else states.dtype,
        known.bend,
        learns=torch.is_grad_enabled(),
    )
    with torch.autocast(device, enabled=False):
        loss, *values = _InChunks.apply(states, known.linear.weight, known.linear.bias, task)
    return Compared(loss, {t.name: v for t, v in zip(comparison.terms, values, strict=True)})


@dataclass(frozen=True)
class _Task:
    comparison: Comparison
    vocab_size: int
    dtype: torch.dtype
    """Of the products with the head."""
    bend: Bend
    learns: bool


class _InChunks(torch.autograd.Function):
    """(states, weight, bias) → the loss, and each term's values."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, task: _Task
    ) -> tuple[Tensor, ...]:
        given, size = task.comparison, task.vocab_size
        inputs = (states, weight, bias)
        wanted = [task.learns and bool(needs) for needs in ctx.needs_input_grad[:3]]
        found = [_sums_like(x) if w else None for x, w in zip(inputs, wanted, strict=True)]
        of_states, of_weight, of_bias = found
        cast = states.to(task.dtype)
        table = weight[:size].to(task.dtype)
        offset = None if bias is None else bias[:size].to(task.dtype)
        values = [states.new_zeros(len(states), dtype=torch.float32) for _ in given.terms]
        for rows, logits, theirs in _chunks(cast, table, offset, given):
            steepness = task.bend.slopes(task.bend.apply_(logits))
            compare_chunk(logits, theirs, rows, given, values, learns=any(wanted))
            # from here on the logits' place holds the loss's slopes by them, then by the products
            if any(wanted) and not task.bend.is_none:
                logits.mul_(steepness)
            if of_states is not None:
                _add_product(of_states[rows], logits, table)
            if of_weight is not None:
                _add_product(of_weight[:size], logits.T, cast[rows])
            if of_bias is not None:
                of_bias[:size] += logits.sum(0, dtype=of_bias.dtype)
        ctx.slopes = [
            None if slope is None else slope.to(x.dtype)  # type: ignore[union-attr]
            for slope, x in zip(found, inputs, strict=True)
        ]
        ctx.mark_non_differentiable(*values)
        return _weighted(given, values), *values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Hand the gradients out, times the slope of what was made of the loss."""
        found, ctx.slopes = ctx.slopes, None
        if found is None:
            raise RuntimeError("the gradients of this loss have been handed out already")
        if outer.device.type != "cpu" or float(outer) != 1:  # asking a GPU would wait for it
            for slope in found:
                if slope is not None:
                    slope.mul_(outer)
        return *found, None


def _sums_like(value: Tensor | None) -> Tensor | None:
    """Zeros to add up in: low precision would round small summands away."""
    if value is None:
        return None
    return torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))


def _chunks(
    states: Tensor, table: Tensor, offset: Tensor | None, given: Comparison
) -> Iterator[tuple[slice, Tensor, Tensor | SparseRows | None]]:
    """Rows (as a slice), the student's logits (n, V) of them, the teacher's; of like sizes."""
    count = len(states)
    if not count:
        return
    most = given.chunk_rows or logit_rows_at_once(states.device.type, len(table))
    size = math.ceil(count / math.ceil(count / most))
    room = states.new_empty(size, len(table))
    teacher: Any = given.teacher
    theirs = itertools.repeat(None) if teacher is None else teacher.in_chunks(size)
    for start, chunk in zip(range(0, count, size), theirs, strict=False):
        rows = slice(start, min(start + size, count))
        yield rows, projected(states[rows], table, offset, out=room), chunk


def compare_chunk(
    logits: Tensor,
    theirs: Tensor | SparseRows | None,
    rows: slice,
    given: Comparison,
    values: list[Tensor],
    *,
    learns: bool,
) -> None:
    """Write the values of a chunk's rows; put the loss's slopes by the logits in their place."""
    count, width = logits.shape
    narrower = theirs is not None and theirs.shape[-1] < width
    parts, temperatures = parts_of(given.terms, narrower=narrower)
    compare = KERNELS[given.kernels]
    size = max(1, CACHED_ENTRIES // width) if logits.device.type == "cpu" else count
    for start in range(0, count, size):
        stop = min(start + size, count)
        part, place = slice(start, stop), slice(rows.start + start, rows.start + stop)
        asked = theirs[part] if theirs is not None else None
        shares = [given.shares.get(term.name) if learns else None for term in given.terms]
        counted = [share[place] if share is not None else None for share in shares]
        block = logits[part]
        found, total = compare(block, asked, given.targets[place], counted, parts, temperatures)
        for told, value in zip(values, found, strict=True):
            told[place] = value
        if learns and total is not block:
            block.copy_(total) if total is not None else block.zero_()


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """Into += left · right, in the dtype of `into`."""
    if into.dtype == left.dtype:
        into.addmm_(left, right)
    else:
        into += left @ right


def _weighted(given: Comparison, values: list[Tensor]) -> Tensor:
    """Σ share · value; what counts nothing stays out, were it not even a number."""
    loss = given.targets.new_zeros((), dtype=torch.float32)
    for term, told in zip(given.terms, values, strict=True):
        share = given.shares.get(term.name)
        if share is not None:
            loss += torch.where(share != 0, share * told, 0.0).sum()
    return loss
