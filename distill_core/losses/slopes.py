"""Divergences and cross-entropy with their slopes, worked out by hand, for a few rows at a time.

In: logits (n, V) of the same rows on both sides, in fp32. Out: one value per row, (n,), and the
slope by the student's softened logits z = student / T, (n, V). The values are those of
`divergences` and `cross_entropy` without their factor T²; the slopes those that autograd would
find, in fewer passes over memory. Throughout p = softmax(teacher / T) and q = softmax(z); a
function of q whose derivative is g has the slope q · (g − Σ q · g).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill_core.losses import sparse
from distill_core.losses.sparse import SparseRows

Slope = Callable[[], Tensor]
"""Works the slope out when somebody learns from it: a tensor of its own, free to be changed."""


class Softened:
    """Both sides of n rows at one temperature; what several terms need is worked out once.

    Where one side has ids that the other has not, both are cut to those that they share.
    """

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor | SparseRows | None,
        targets: Tensor,
        *,
        temperature: float,
    ) -> None:
        self.targets = targets
        self._student, self._teacher, self._temperature = student, teacher, temperature
        self.width = student.shape[-1]
        if teacher is not None:
            self.width = min(self.width, teacher.shape[-1])
        # kept by hand: torch.compile cannot look into the lock of Python 3.11's cached_property
        self._log_q: Tensor | None = None
        self._log_p: Tensor | None = None
        self._q: Tensor | None = None
        self._p: Tensor | None = None

    @property
    def sparse(self) -> SparseRows | None:
        """The teacher, if only some of its tokens are known: then there is no p."""
        return self._teacher if isinstance(self._teacher, SparseRows) else None

    @property
    def log_q(self) -> Tensor:
        """Log of the student's probabilities."""
        if self._log_q is None:
            self._log_q = self._log_softmax(self._student)
        return self._log_q

    @property
    def log_p(self) -> Tensor:
        """Log of the teacher's probabilities."""
        if self._log_p is None:
            assert isinstance(self._teacher, Tensor), "the term asks a teacher for all logits"
            self._log_p = self._log_softmax(self._teacher)
        return self._log_p

    @property
    def q(self) -> Tensor:
        """The student's probabilities."""
        if self._q is None:
            self._q = self.log_q.exp()
        return self._q

    @property
    def p(self) -> Tensor:
        """The teacher's probabilities."""
        if self._p is None:
            self._p = self.log_p.exp()
        return self._p

    def _log_softmax(self, logits: Tensor) -> Tensor:
        cut = logits[:, : self.width].float()
        # one compiled kernel serves all temperatures
        divide = torch.compiler.is_compiling() or self._temperature != 1
        return torch.log_softmax(cut / self._temperature if divide else cut, -1)


def forward_kl(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """KL(p ‖ q), slope q − p."""
    if rows.sparse is not None:
        return sparse.with_slope(rows.log_q, rows.sparse)
    return _expected(rows.p, rows.log_p - rows.log_q), lambda: rows.q - rows.p


def reverse_kl(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """KL(q ‖ p), slope q · (log q − log p − KL)."""
    ratio = rows.log_q - rows.log_p
    value = _expected(rows.q, ratio)
    return value, lambda: (ratio - value[:, None]).mul_(rows.q)


def jsd(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """β · KL(p ‖ m) + (1 − β) · KL(q ‖ m), m = β · p + (1 − β) · q; at the ends the KLs themselves.

    Slope (1 − β) · q · (log(q / m) − KL(q ‖ m)): what m adds cancels.
    """
    beta = settings.beta
    if beta == 0:
        return forward_kl(rows, settings)
    if beta == 1:
        return reverse_kl(rows, settings)
    log_m = _log_mixture(rows.p, rows.q, share=beta)
    ratio = rows.log_q - log_m
    from_q = _expected(rows.q, ratio)
    value = beta * _expected(rows.p, rows.log_p - log_m) + (1 - beta) * from_q
    return value, lambda: (ratio - from_q[:, None]).mul_(rows.q).mul_(1 - beta)


def skewed_forward_kl(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """KL(p ‖ m), m = λ · p + (1 − λ) · q.

    Slope (1 − λ) · (q · Σ w − w), w = p · q / m.
    """
    skew = settings.skew
    if skew == 0:
        return forward_kl(rows, settings)
    if rows.sparse is not None:
        return sparse.with_slope(rows.log_q, rows.sparse, skew=skew)
    log_m = _log_mixture(rows.p, rows.q, share=skew)

    def slope() -> Tensor:
        w = (rows.log_p + rows.log_q).sub_(log_m).exp_()
        return (rows.q * w.sum(-1, keepdim=True)).sub_(w).mul_(1 - skew)

    return _expected(rows.p, rows.log_p - log_m), slope


def skewed_reverse_kl(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """KL(q ‖ m), m = λ · q + (1 − λ) · p.

    Slope q · (g − Σ q · g), g = log(q / m) − λ · q / m.
    """
    skew = settings.skew
    if skew == 0:
        return reverse_kl(rows, settings)
    log_m = _log_mixture(rows.q, rows.p, share=skew)
    ratio = rows.log_q - log_m

    def slope() -> Tensor:
        g = ratio - skew * ratio.exp()
        return g.sub_(_expected(rows.q, g)[:, None]).mul_(rows.q)

    return _expected(rows.q, ratio), slope


def total_variation(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """½ · Σ |p − q|, slope ½ · q · (sign(q − p) − Σ q · sign(q − p))."""
    difference = rows.q - rows.p

    def slope() -> Tensor:
        sign = difference.sign()
        return sign.sub_(_expected(rows.q, sign)[:, None]).mul_(rows.q).mul_(0.5)

    return difference.abs().sum(-1) * 0.5, slope


def cross_entropy(rows: Softened, settings: Any) -> tuple[Tensor, Slope]:
    """−log q[label], slope q − 1 at the label and q elsewhere."""
    label = rows.targets[:, None]

    def slope() -> Tensor:
        return rows.q.clone().scatter_add_(1, label, -torch.ones_like(label, dtype=rows.q.dtype))

    return -rows.log_q.gather(1, label)[:, 0], slope


def _expected(weights: Tensor, values: Tensor) -> Tensor:
    """Σ over V of weights · values, (n,)."""
    return (weights * values).sum(-1)


def _log_mixture(a: Tensor, b: Tensor, *, share: float) -> Tensor:
    """Log(share · a + (1 − share) · b), (n, V).

    Where both are too small for fp32 the smallest number stands in: nothing is weighted by more.
    """
    mixture = torch.lerp(b, a, share)
    return mixture.clamp_(min=torch.finfo(mixture.dtype).tiny).log_()
