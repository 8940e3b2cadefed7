"""Distances between where teacher and student look.

In: attention probabilities of the same M query positions, (M, H, T), or relations between values
in that form. Out: one value per position, (M,), fp32. No masks (a masked key has probability 0 on
both sides), no averages over positions.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

_TINY = 1e-9


def attention(student: Tensor, teacher: Tensor, *, distance: Literal["kl", "mse"] = "kl") -> Tensor:
    """Distance of `student[M, H, T]` to `teacher[M, H', T]` per query position, (M,); ≥ 0.

    `kl`: mean over heads of Σ over keys of t · (log t − log s), nats, as in MiniLM (Wang et al.
    2020, arXiv 2002.10957). `mse`: mean over heads of Σ over keys of (s − t)², in 0–2, the squared
    distance of attention transfer (Zagoruyko and Komodakis 2017, arXiv 1612.03928) and TinyBERT
    (arXiv 1909.10351); a sum, not a mean, over keys, so that padding changes nothing. Where H and
    H' differ, each side is averaged over its heads first: a mixture of distributions is one.
    In fp32; gradients reach the student only.
    """
    ours, theirs = student.float(), teacher.detach().float()
    if ours.shape[1] != theirs.shape[1]:
        ours, theirs = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    if distance == "mse":
        return (ours - theirs).square().sum(-1).mean(-1)
    difference = theirs.clamp(min=_TINY).log() - ours.clamp(min=_TINY).log()
    return (theirs * difference).sum(-1).mean(-1).clamp(min=0)
