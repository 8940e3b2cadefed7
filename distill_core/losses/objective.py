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

from distill_core.losses import (
    attention,
    cross_entropy,
    cross_tokenizer,
    divergences,
    hidden_states,
    sparse,
)
from distill_core.losses.base import LossTerm, SupervisedRows
from distill_core.losses.chunked import Comparison
from distill_core.losses.logit_rows import LogitRows
from distill_core.losses.matching import Matching
from distill_core.losses.row_block import SLOPES
from distill_core.losses.sparse import SparseRows
from distill_core.recipe import (
    AttentionLoss,
    CrossEntropyLoss,
    HiddenStatesLoss,
    Loss,
    SoftTerm,
)
from distill_core.steps.schedule import moving, term_at, value_at


def _divergence(
    function: Callable[..., Tensor], *own: str
) -> Callable[[SupervisedRows, Any], Tensor]:
    """Make the values of a divergence, which takes a temperature and settings of its `own`.

    From some of the teacher's tokens there is one alone, the forward KL, skewed or not.
    """

    def values(rows: SupervisedRows, settings: Any) -> Tensor:
        assert rows.student_logits is not None
        given = {name: getattr(settings, name) for name in ("temperature", *own)}
        if rows.teacher_sparse is not None:
            return sparse.forward_kl(rows.student_logits, rows.teacher_sparse, **given)
        assert rows.teacher_logits is not None
        return function(rows.student_logits, rows.teacher_logits, **given)

    return values


def _cross_entropy(rows: SupervisedRows, settings: CrossEntropyLoss) -> Tensor:
    assert rows.student_logits is not None
    return cross_entropy.cross_entropy(rows.student_logits, rows.targets)


def _cross_tokenizer(rows: SupervisedRows, settings: Any) -> Tensor:
    assert rows.student_logits is not None
    assert rows.teacher_logits is not None
    assert rows.teacher_targets is not None
    assert rows.spans is not None
    return cross_tokenizer.cross_tokenizer(
        rows.student_logits,
        rows.teacher_logits,
        student_targets=rows.targets,
        teacher_targets=rows.teacher_targets,
        spans=rows.spans,
        temperature=settings.temperature,
        hybrid=settings.hybrid,
        uld_weight=settings.uld_weight,
    )


def _hidden_states(rows: SupervisedRows, settings: HiddenStatesLoss) -> Tensor:
    assert rows.student is not None
    assert rows.teacher is not None
    return _mean_over_layers(
        [
            hidden_states.hidden_states(
                rows.student.hidden_states[ours],
                rows.teacher.hidden_states[theirs],
                distance=settings.distance,
                normalize=settings.normalize,
            )
            for ours, theirs in rows.layer_pairs[settings.name]
        ]
    )


def _attention(rows: SupervisedRows, settings: AttentionLoss) -> Tensor:
    assert rows.student is not None
    assert rows.teacher is not None
    kind = "attention" if settings.compares == "maps" else "value_relations"
    student, teacher = getattr(rows.student, kind), getattr(rows.teacher, kind)
    return _mean_over_layers(
        [
            attention.attention(student[ours], teacher[theirs], distance=settings.distance)
            for ours, theirs in rows.layer_pairs[settings.name]
        ]
    )


def _mean_over_layers(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


LOSSES: dict[str, LossTerm] = {
    "forward_kl": LossTerm(
        _divergence(divergences.forward_kl), frozenset({"dense"}), takes_sparse=True
    ),
    "reverse_kl": LossTerm(_divergence(divergences.reverse_kl), frozenset({"dense"})),
    "jsd": LossTerm(_divergence(divergences.jsd, "beta"), frozenset({"dense"})),
    "skewed_forward_kl": LossTerm(
        _divergence(divergences.skewed_forward_kl, "skew"),
        frozenset({"dense"}),
        takes_sparse=True,
    ),
    "skewed_reverse_kl": LossTerm(
        _divergence(divergences.skewed_reverse_kl, "skew"), frozenset({"dense"})
    ),
    "total_variation": LossTerm(_divergence(divergences.total_variation), frozenset({"dense"})),
    "cross_tokenizer": LossTerm(_cross_tokenizer, frozenset({"dense"}), "spans"),
    "cross_entropy": LossTerm(_cross_entropy, applies_to="labelled"),
    "hidden_states": LossTerm(_hidden_states, frozenset({"hidden_states"}), "features"),
    "attention": LossTerm(_attention, frozenset({"attention"}), "features"),
}


def needs_of(loss: Loss) -> frozenset[str]:
    """What a term with its settings asks of a teacher."""
    reads_text = isinstance(loss, CrossEntropyLoss) and not loss.needs_labels
    return LOSSES[loss.name].needs | ({"text"} if reads_text else set())


def lacking(loss: Loss, provides: frozenset[str]) -> frozenset[str]:
    """What a term asks of a teacher that this one does not provide."""
    served = {"dense"} if "sparse" in provides and LOSSES[loss.name].takes_sparse else set()
    return needs_of(loss) - provides - served


def sparse_temperature(losses: Sequence[Loss]) -> float | None:
    """The temperature at which some of a teacher's tokens serve all terms; None: there is none."""
    found = {
        term.temperature
        for term in losses
        if isinstance(term, SoftTerm) and term.is_active and LOSSES[term.name].takes_sparse
    }
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, float) else None


DROPPED_MASS, KEPT_MASS = MASSES = ("dropped_mass", "kept_mass")
"""Summed beside the terms, over all supervised rows; they are measured, not learnt from."""


class Objective:
    """The terms of one stage at one moment of it, ready to be applied to micro-batches.

    `progress` is 0 at the stage's first step and 1 at its last; `at` gives the same terms at
    another moment. A term whose weight is 0 only for now goes along, so that its curve has no gaps.
    """

    def __init__(
        self,
        losses: Sequence[Loss],
        matching: Matching | None = None,
        *,
        progress: float = 0.0,
        kernels: str = "plain",
    ) -> None:
        self.kernels = kernels
        self.matching = matching or Matching()
        self._given = [loss for loss in losses if loss.is_active]
        self.losses = [term_at(loss, progress) for loss in self._given]
        self.weights = {loss.name: value_at(loss.weight, progress) for loss in self._given}

    def at(self, progress: float) -> Objective:
        """The same terms with weights and temperatures as they are at `progress`."""
        return Objective(self._given, self.matching, progress=progress, kernels=self.kernels)

    def scheduled(self) -> dict[str, float]:
        """What follows a schedule, as it is now: `{"weight_jsd": 0.4, "temperature_jsd": 1.5}`."""
        return {
            f"{name}_{given.name}": float(getattr(now, name))
            for given, now in zip(self._given, self.losses, strict=True)
            for name in moving(given)
        }

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher, or learns from its text."""
        return bool(self.needs)

    @property
    def compares(self) -> bool:
        """Whether any term compares with a teacher at every step."""
        return any(loss.asks_teacher for loss in self.losses)

    @property
    def needs(self) -> frozenset[str]:
        """All that the terms together ask of a teacher."""
        return frozenset().union(*(needs_of(loss) for loss in self.losses))

    @property
    def reads_logits(self) -> bool:
        """Whether any term looks at the student's logits, not at its inside alone."""
        return any(LOSSES[loss.name].applies_to != "features" for loss in self.losses)

    @property
    def by_text(self) -> bool:
        """Whether any term compares spans of text."""
        return any(LOSSES[loss.name].applies_to == "spans" for loss in self.losses)

    @property
    def by_id(self) -> bool:
        """Whether any term compares teacher and student position by position."""
        terms = (LOSSES[loss.name] for loss in self.losses)
        return any(term.needs and term.applies_to != "spans" for term in terms)

    def token_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """How many rows each term applies to, from a batch's `counts()`."""
        return {loss.name: counts[LOSSES[loss.name].applies_to] for loss in self.losses}

    def comparison(
        self,
        teacher: LogitRows | SparseRows | None,
        targets: Tensor,
        labelled: Tensor,
        *,
        totals: Mapping[str, int],
        chunk_rows: int | None,
    ) -> Comparison | None:
        """What a network needs to compare itself chunk by chunk; None: all logits at once.

        `chunk_rows` 0 says so, and so do terms that compare more than the rows one by one.
        """
        terms = [term for term in self.losses if LOSSES[term.name].applies_to != "features"]
        if chunk_rows == 0 or any(term.name not in SLOPES for term in terms):
            return None
        shares: dict[str, Tensor] = {}
        for term in terms:
            share = self.weights[term.name] / max(1, totals[term.name])
            if share and totals[term.name]:
                every = torch.full_like(labelled, share, dtype=torch.float32)
                hard = LOSSES[term.name].applies_to == "labelled"
                shares[term.name] = torch.where(labelled, every, 0.0) if hard else every
        return Comparison(terms, shares, teacher, targets, chunk_rows, self.kernels)

    def __call__(
        self, rows: SupervisedRows, *, totals: Mapping[str, int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """This micro-batch's part of the step's loss, and each term's sum over its tokens.

        `totals` are the `token_counts` of the whole optimiser step, all micro-batches and
        processes together: Σ over them of the returned loss = Σ weight · mean(term).
        """
        loss = torch.zeros((), dtype=torch.float32, device=rows.targets.device)
        done = rows.compared.values if rows.compared else {}
        if rows.compared:
            loss = loss + rows.compared.loss
        sums: dict[str, Tensor] = {}
        for settings in self.losses:
            values = self._values(settings, rows)
            if LOSSES[settings.name].applies_to == "labelled":
                values = torch.where(rows.labelled, values, 0.0)
            total = values.sum()
            sums[settings.name] = total.detach()
            if settings.name not in done:
                loss = loss + self.weights[settings.name] * total / max(1, totals[settings.name])
        if rows.dropped_mass is not None:
            sums[DROPPED_MASS] = rows.dropped_mass.sum()
        if rows.teacher_sparse is not None:
            sums[KEPT_MASS] = rows.teacher_sparse.kept_mass.sum()
        return loss, sums

    def non_finite(self, rows: SupervisedRows) -> tuple[str, Tensor] | None:
        """The first term that is not finite, and at which of the rows that it applies to."""
        for settings in self.losses:
            bad = ~torch.isfinite(self._values(settings, rows))
            if LOSSES[settings.name].applies_to == "labelled":
                bad &= rows.labelled
            if bool(bad.any()):
                return settings.name, bad.nonzero()[:, 0]
        return None

    def _values(self, settings: Loss, rows: SupervisedRows) -> Tensor:
        """One value for each row that a term applies to, unless they have been worked out."""
        if rows.compared and settings.name in rows.compared.values:
            return rows.compared.values[settings.name]
        return LOSSES[settings.name].values(rows, settings)
