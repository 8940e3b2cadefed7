"""The weighted sum that a stage minimises: the only place that masks, weights and averages.

In: the supervised rows of a micro-batch and how many tokens each term has in the whole step.
Out: this micro-batch's share of the loss, and each term's sum. Each term is a mean over the
tokens that it applies to, taken over the whole optimiser step, so that splitting the step
into micro-batches or processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from distill_core.losses import cross_entropy, divergences
from distill_core.losses.base import LossTerm, SupervisedRows
from distill_core.recipe import CrossEntropyLoss, Loss


def _divergence(
    function: Callable[..., Tensor], *own: str
) -> Callable[[SupervisedRows, Any], Tensor]:
    """Make the values of a divergence, which takes a temperature and settings of its `own`."""

    def values(rows: SupervisedRows, settings: Any) -> Tensor:
        assert rows.teacher_logits is not None
        given = {name: getattr(settings, name) for name in ("temperature", *own)}
        return function(rows.student_logits, rows.teacher_logits, **given)

    return values


def _cross_entropy(rows: SupervisedRows, settings: CrossEntropyLoss) -> Tensor:
    return cross_entropy.cross_entropy(rows.student_logits, rows.targets)


LOSSES: dict[str, LossTerm] = {
    "forward_kl": LossTerm(
        _divergence(divergences.forward_kl), needs_teacher=True, labelled_only=False
    ),
    "reverse_kl": LossTerm(
        _divergence(divergences.reverse_kl), needs_teacher=True, labelled_only=False
    ),
    "jsd": LossTerm(_divergence(divergences.jsd, "beta"), needs_teacher=True, labelled_only=False),
    "skewed_forward_kl": LossTerm(
        _divergence(divergences.skewed_forward_kl, "skew"), needs_teacher=True, labelled_only=False
    ),
    "skewed_reverse_kl": LossTerm(
        _divergence(divergences.skewed_reverse_kl, "skew"), needs_teacher=True, labelled_only=False
    ),
    "total_variation": LossTerm(
        _divergence(divergences.total_variation), needs_teacher=True, labelled_only=False
    ),
    "cross_entropy": LossTerm(_cross_entropy, needs_teacher=False, labelled_only=True),
}


class Objective:
    """The terms of one stage, ready to be applied to micro-batches."""

    def __init__(self, losses: Sequence[Loss]) -> None:
        self.losses = [loss for loss in losses if loss.weight > 0]

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(LOSSES[loss.name].needs_teacher for loss in self.losses)

    def token_counts(self, labelled: Tensor) -> dict[str, int]:
        """How many of the rows `labelled[N]` each term applies to."""
        hard, every = int(labelled.sum()), labelled.numel()
        return {
            loss.name: hard if LOSSES[loss.name].labelled_only else every for loss in self.losses
        }

    def __call__(
        self, rows: SupervisedRows, *, totals: Mapping[str, int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's part of the step's loss, and each term's sum over its tokens.

        `totals` are the `token_counts` of the whole optimiser step, all micro-batches and
        processes together: Σ over them of the returned loss = Σ weight · mean(term).
        """
        loss = rows.student_logits.new_zeros((), dtype=torch.float32)
        sums: dict[str, Tensor] = {}
        for settings in self.losses:
            term = LOSSES[settings.name]
            values = term.values(rows, settings)
            if term.labelled_only:
                values = values[rows.labelled]
            total = values.sum()
            sums[settings.name] = total.detach()
            loss = loss + settings.weight * total / max(1, totals[settings.name])
        return loss, sums

    def non_finite(self, rows: SupervisedRows) -> tuple[str, Tensor] | None:
        """The first term that is not finite, and at which of the N supervised positions."""
        for settings in self.losses:
            term = LOSSES[settings.name]
            bad = ~torch.isfinite(term.values(rows, settings))
            if term.labelled_only:
                bad &= rows.labelled
            if bool(bad.any()):
                return settings.name, bad.nonzero()[:, 0]
        return None
