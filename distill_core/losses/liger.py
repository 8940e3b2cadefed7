"""Liger's kernels in the place of a block's arithmetic, on CUDA.

In: what `row_block.compare_block` takes. Out: the same values and slopes; a block that Liger has no
kernel for is worked out as ever. Its kernels write a row's slopes over its logits, so that a term
reads and writes the block a few times where plain arithmetic does so a dozen times. Whether they
are faster and equal on a machine is for `loss_kernels` to find out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from distill_core.losses import row_block
from distill_core.losses.row_block import Part
from distill_core.losses.sparse import SparseRows

PACKAGE = "liger-kernel"

_IGNORE = -100
"""A label that no row has: which rows count is said by their shares."""
_TINY = float(torch.finfo(torch.float32).tiny)
"""Below this a probability counts as this one in a logarithm."""


def installed() -> bool:
    """Whether the packages are here; not whether they work."""
    return all(find_spec(name) for name in ("liger_kernel", "triton"))


def takes(parts: Sequence[Part]) -> bool:
    """Whether there is a kernel for every term."""
    return bool(parts) and all(part.name in KERNELS and not part.cut for part in parts)


def compare_block(
    block: Tensor,
    theirs: Tensor | SparseRows | None,
    targets: Tensor,
    shares: Sequence[Tensor | None],
    parts: Sequence[Part],
    temperatures: Sequence[float],
) -> tuple[list[Tensor], Tensor | None]:
    """Values (n,) of each part and, of those with a share, the slopes (n, V) of their sum.

    As `row_block.compare_block`, but that `block` may be overwritten, and be what comes back.
    """
    if isinstance(theirs, SparseRows) or not takes(parts):
        return row_block.compare_block(block, theirs, targets, shares, parts, temperatures)
    values: list[Tensor] = []
    total: Tensor | None = None
    for place, (part, share) in enumerate(zip(parts, shares, strict=True)):
        t = temperatures[part.side]
        spoilt = part.name in OVERWRITING and place < len(parts) - 1
        own = block.clone() if spoilt else block
        value, slope = KERNELS[part.name](own, theirs, targets, part, t)
        values.append(t * t * value)
        if share is not None:
            piece = slope.mul_((t * t * share)[:, None])
            total = piece if total is None else piece.add_(total)
    return values, total


# --- one kernel each: values and slopes by the logits, without T² ---------------------------------


def _forward_kl(
    own: Tensor, theirs: Tensor | None, targets: Tensor, part: Part, t: float
) -> tuple[Tensor, Tensor]:
    assert theirs is not None
    p = torch.softmax(theirs.float() / t, -1)
    value, slope = _dispatch()("kl_loss_and_grad", own, p, None, _IGNORE, t, _TINY, 1.0)
    return value, slope


def _jsd(
    own: Tensor, theirs: Tensor | None, targets: Tensor, part: Part, t: float
) -> tuple[Tensor, Tensor]:
    """β · KL(p ‖ m) + (1 − β) · KL(q ‖ m); the reverse KL is its end at 1.

    Liger's slope is by log q; by the logits it is that minus q · Σ of it.
    """
    assert theirs is not None
    beta = 1.0 if part.name == "reverse_kl" else part.beta
    log_p = torch.log_softmax(theirs.float() / t, -1)
    log_q = torch.log_softmax(own.float() / t, -1)
    q = log_q.exp()
    tile, slope = _dispatch()("jsd_loss_and_grad", log_q, log_p, None, beta, _IGNORE, 1.0)
    by_logits = torch.addcmul(slope, q, slope.sum(-1, keepdim=True), value=-1).div_(t)
    return tile.sum(-1), by_logits


def _cross_entropy(
    own: Tensor, theirs: Tensor | None, targets: Tensor, part: Part, t: float
) -> tuple[Tensor, Tensor]:
    # class weights; what to ignore; z-loss; label smoothing; reduction; soft cap; three sums that
    # only other reductions divide by; z-loss, hits and predictions to be returned; slopes
    options = (None, _IGNORE, 0.0, 0.0, "none", None, 1, 1.0, 0.0, False, False, False, True)
    value, *_, slope = _dispatch()("cross_entropy_loss_and_grad", own, targets, *options)
    return value, slope


KERNELS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _jsd,
    "jsd": _jsd,
    "cross_entropy": _cross_entropy,
}

OVERWRITING = frozenset({"forward_kl", "cross_entropy"})
"""Whose kernels write the slopes over the logits that they are given."""


@cache
def _dispatch() -> Callable[..., Any]:
    """Liger's own choice among its implementations, for this device."""
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # it tells of each that is not here
    import liger_kernel.functional  # noqa: F401  names the places of the implementations
    from liger_kernel.backends import dispatch

    return dispatch  # type: ignore[no-any-return]
