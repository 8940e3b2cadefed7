"""Every term of a few rows at once: their values, and the slope of their weighted sum.

In: a block of logits of both sides, what each row counts for each term. Out: values (n,) by term,
and the loss's slopes (n, V) by the student's logits. Plain arithmetic on tensors, so that
`torch.compile` can melt its passes over memory into one (`fused`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.errors import RunError
from distill_core.losses import slopes
from distill_core.losses.slopes import Slope, Softened
from distill_core.losses.sparse import SparseRows

SLOPES: dict[str, Callable[[Softened, Any], tuple[Tensor, Slope]]] = {
    "forward_kl": slopes.forward_kl,
    "reverse_kl": slopes.reverse_kl,
    "jsd": slopes.jsd,
    "skewed_forward_kl": slopes.skewed_forward_kl,
    "skewed_reverse_kl": slopes.skewed_reverse_kl,
    "total_variation": slopes.total_variation,
    "cross_entropy": slopes.cross_entropy,
}
"""The terms that can be computed so, by name."""


class Part(NamedTuple):
    """One term, in plain numbers."""

    name: str
    side: int
    """Which of the block's softened sides it reads: terms of like temperature share one."""
    cut: bool
    """Whether it goes over the ids alone that both sides have."""
    beta: float = 0.5
    skew: float = 0.0


def parts_of(terms: Sequence[Any], *, narrower: bool) -> tuple[tuple[Part, ...], list[float]]:
    """The terms as parts, and the temperature of each side; `narrower`: the teacher has less ids.

    A term on labels alone goes over all of the student's ids.
    """
    kinds: list[tuple[float, bool]] = []
    parts = []
    for term in terms:
        kind = (float(getattr(term, "temperature", 1.0)), narrower and term.asks_teacher)
        if kind not in kinds:
            kinds.append(kind)
        numbers = {
            name: float(getattr(term, name)) for name in ("beta", "skew") if hasattr(term, name)
        }
        parts.append(Part(term.name, kinds.index(kind), kind[1], **numbers))
    return tuple(parts), [t for t, _ in kinds]


def compare_block(
    block: Tensor,
    theirs: Tensor | SparseRows | None,
    targets: Tensor,
    shares: Sequence[Tensor | None],
    parts: Sequence[Part],
    temperatures: Sequence[float],
) -> tuple[list[Tensor], Tensor | None]:
    """Values (n,) of each part and, of those with a share, the slopes (n, V) of their sum.

    `shares`: by part, (n,): what each row counts; None: nothing, or nobody learns.
    """
    width = block.shape[-1]
    narrower = theirs is not None and theirs.shape[-1] < width
    sides: list[Softened | None] = [None] * len(temperatures)
    values: list[Tensor] = []
    total: Tensor | None = None
    for part, share in zip(parts, shares, strict=True):
        t = temperatures[part.side]
        side = sides[part.side]
        if side is None:
            other = theirs if part.cut or not narrower else None
            side = sides[part.side] = Softened(block, other, targets, temperature=t)
        value, slope = SLOPES[part.name](side, part)
        values.append(t * t * value)
        if share is not None:
            # T² · value of z = logits / T: one T goes
            piece = slope().mul_((t * share)[:, None])
            piece = functional.pad(piece, (0, width - piece.shape[-1])) if part.cut else piece
            total = piece if total is None else total.add_(piece)
    return values, total


def fused(*arguments: Any) -> tuple[list[Tensor], Tensor | None]:
    """`compare_block` as one compiled kernel; of rows whose teacher is sparse, as it stands.

    Raises:
        RunError: if this machine cannot compile it.
    """
    if isinstance(arguments[1], SparseRows):
        return compare_block(*arguments)
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException

    try:
        return _compiled()(*arguments)  # type: ignore[no-any-return]
    except (BackendCompilerFailed, TorchDynamoException) as error:
        why = " ".join(str(error).strip().splitlines()[:2])
        raise RunError(
            f"The loss could not be compiled on this machine ({why}). Set compile_loss to false: "
            "the result is the same."
        ) from error


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(compare_block, dynamic=True, fullgraph=True)
