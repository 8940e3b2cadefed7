"""What a model thinks of each supervised token of one batch, beside what its teacher does.

In: a model that gives logits at those positions, a batch on its device, perhaps a teacher. Out:
one number a token, on the CPU. A few rows of logits of both sides are in memory at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill_core.device import MOST_SCORED_ROWS, logit_rows_at_once
from distill_core.losses.cross_entropy import cross_entropy
from distill_core.losses.divergences import forward_kl
from distill_core.losses.logit_rows import LogitRows, TrimmedRows

if TYPE_CHECKING:
    from distill_core.data.batches import Batch
    from distill_core.forward.supervised import SupervisedLogits
    from distill_core.teachers.base import Teacher


class Read(NamedTuple):
    """What was thought of each supervised token of a batch, (n,), and which row it is in."""

    rows: np.ndarray
    nats: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    divergence: np.ndarray | None = None
    agreed: np.ndarray | None = None
    dropped: np.ndarray | None = None


def read(network: SupervisedLogits, placed: Batch, teacher: Teacher | None) -> Read:
    """Read one batch, on its device; a few rows of logits of both sides are in memory at once."""
    ours = network.rows(network.outputs(placed), placed)
    theirs = None if teacher is None else teacher.rows(placed)
    size = _rows_at_once(placed, network.vocab_size)
    targets = placed.targets.split(size)
    others = [None] * len(targets) if theirs is None else theirs.in_chunks(size)
    chunks = zip(ours.in_chunks(size), targets, others, strict=True)
    thought = [_thought_of(*chunk) for chunk in chunks]
    lines = placed.supervised.nonzero()[:, 0].cpu().numpy()
    whole = {name: torch.cat([one[name] for one in thought]).cpu().numpy() for name in thought[0]}
    if isinstance(theirs, TrimmedRows):
        whole["dropped"] = theirs.dropped_mass.double().cpu().numpy()
    return Read(rows=np.asarray(placed.rows)[lines], **whole)


def nats_of(rows: LogitRows, placed: Batch, vocabulary: int) -> float:
    """−log probability of all of a batch's targets together."""
    size = _rows_at_once(placed, vocabulary)
    chunks = zip(rows.in_chunks(size), placed.targets.split(size), strict=True)
    return sum(float(cross_entropy(logits, targets).sum()) for logits, targets in chunks)


def _thought_of(logits: Tensor, targets: Tensor, theirs: Tensor | None) -> dict[str, Tensor]:
    """Fields of `Read`, (n,), from logits (n, V) of both sides."""
    top = logits.float().softmax(-1).max(-1)
    found = {
        "nats": cross_entropy(logits, targets).double(),
        "confidence": top.values,
        "correct": top.indices == targets,
    }
    if theirs is not None:
        shared = min(logits.shape[1], theirs.shape[1])
        same = theirs[:, :shared].argmax(-1) == logits[:, :shared].argmax(-1)
        found |= {"divergence": forward_kl(logits, theirs).double(), "agreed": same.double()}
    return found


def _rows_at_once(placed: Batch, vocabulary: int) -> int:
    """How many rows of logits are made at once: enough for the head to run at full speed."""
    return min(MOST_SCORED_ROWS, logit_rows_at_once(placed.input_ids.device.type, vocabulary))
