"""Distances between the hidden states of teacher and student.

In: hidden states of the same M positions, (M, d), in the same width (`matching.py` holds the
projectors). Out: one value per position, (M,), fp32. No masks, no averages over positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-12


def hidden_states(
    student: Tensor,
    teacher: Tensor,
    *,
    distance: Literal["mse", "cosine"] = "mse",
    normalize: bool = True,
) -> Tensor:
    """Distance of `student[M, d]` to `teacher[M, d]` per position, (M,); ≥ 0, no unit.

    `mse`: (1/d) · Σ (s − t)², as in FitNets (Romero et al. 2015, arXiv 1412.6550) and TinyBERT
    (Jiao et al. 2020, arXiv 1909.10351). With `normalize` both vectors are first divided by their
    root mean square, so that a few huge coordinates of the teacher do not decide (after PKD, Sun
    et al. 2019, arXiv 1908.09355); the value then lies in 0–4. `cosine`: 1 − cos(s, t), in 0–2,
    as in DistilBERT (Sanh et al. 2019, arXiv 1910.01108). In fp32; gradients reach the student
    (and its projector) only.
    """
    ours, theirs = student.float(), teacher.detach().float()
    if distance == "cosine":
        return 1 - functional.cosine_similarity(ours, theirs, dim=-1)
    if normalize:
        ours, theirs = _unit_rms(ours), _unit_rms(theirs)
    return (ours - theirs).square().mean(-1)


def _unit_rms(vectors: Tensor) -> Tensor:
    return vectors * torch.rsqrt(vectors.square().mean(-1, keepdim=True) + _TINY)
