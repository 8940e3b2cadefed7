"""Which kernels work the loss out: Liger's on CUDA, where a trial finds them equal and faster.

In: a stage's terms and settings, its device and number format, sizes. Out: a name in
`losses.chunked.KERNELS`, and what the trial has found. It goes over random logits as many as the
loss has in memory at once. What was found is kept in the run's folder: a run that is resumed goes
on with the same kernels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core import files, ranks
from distill_core.device import logit_rows_at_once, synchronize
from distill_core.errors import RunError
from distill_core.events import Event, progress
from distill_core.halving import give_back
from distill_core.losses import liger
from distill_core.losses.chunked import Comparison, compare_chunk
from distill_core.losses.objective import Objective
from distill_core.losses.row_block import parts_of
from distill_core.recipe import OptimSettings

FILE = "loss_kernels.json"
"""In a run's folder, by stage, once Liger's kernels have been tried there."""

FASTER = 1.05
"""At least so many times as fast: less is noise."""
_EQUAL = 1e-4
"""Values and slopes may differ by so much of their norm: sums of fp32 in another order."""
_ROUNDS = 5
_ENTRIES = 2**26
"""Logits of the trial at most: enough to keep a GPU busy, a quarter of what a loss may take."""
_SPREAD = 4.0
"""Standard deviation of the trial's logits."""


@dataclass(frozen=True)
class Trial:
    """What became of trying Liger's kernels."""

    used: bool
    faster: float | None = None
    """Seconds without them ÷ seconds with them."""
    apart: float | None = None
    """The largest distance of values or slopes, as a share of their norm."""
    failed: str = ""
    """Why they could not be tried."""

    @property
    def words(self) -> str:
        """In a sentence."""
        if self.failed:
            return f"Liger's kernels are not used for the loss: {self.failed}"
        found = f"{self.faster:.2f} × as fast as ours here, and {self.apart:.1g} apart from them"
        return f"Liger's kernels are {'' if self.used else 'not '}used for the loss: {found}."

    @property
    def facts(self) -> dict[str, Any]:
        """For events."""
        return {**asdict(self), "words": self.words}


def chosen(
    objective: Objective,
    optim: OptimSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    vocab_size: int | None,
    sparse: bool,
    folder: Path,
    stage: int,
) -> Generator[Event, None, tuple[str, Trial | None]]:
    """Find a stage's kernels, a name in `KERNELS`; and what the trial said, if there was one.

    Args:
        objective: The stage's terms.
        optim: Its settings: `liger_loss` allows them, `compile_loss` says what they compete with.
        device: Where the run computes.
        dtype: Of the student's logits.
        vocab_size: Ids that the student has; None: it tells a few classes apart.
        sparse: Only some of the teacher's tokens are known.
        folder: The run's, where the answer is kept.
        stage: Its index.

    Raises:
        RunError: if `compile_loss` is set and this machine cannot compile it.
    """
    ours = "compiled" if optim.compile_loss else "plain"
    if not (optim.liger_loss and device.type == "cuda" and liger.installed()):
        return ours, None
    in_part = sparse and objective.compares
    if vocab_size is None or in_part or not _served(objective, optim):
        return ours, None
    yield progress("preparing", "trying Liger's kernels for the loss")

    def asked() -> dict[str, Any]:
        known: dict[str, Any] = files.read_json(folder / FILE)
        if str(stage) not in known:
            most = optim.loss_chunk_rows or logit_rows_at_once(device.type, vocab_size)
            rows = max(1, min(most, _ENTRIES // vocab_size))
            sample = Sample(objective, rows, vocab_size, dtype=dtype, device=device)
            known[str(stage)] = asdict(tried(sample, ours=ours))
            files.replace_json(folder / FILE, known)
        return dict(known[str(stage)])

    found = Trial(**ranks.agree(asked))
    give_back(device)
    return ("liger" if found.used else ours), found


def _served(objective: Objective, optim: OptimSettings) -> bool:
    """Whether the loss comes in chunks, and Liger has a kernel for every term."""
    given = _comparison(objective, torch.zeros(1, dtype=torch.long), optim.loss_chunk_rows)
    return given is not None and liger.takes(parts_of(given.terms, narrower=False)[0])


def _comparison(
    objective: Objective, targets: Tensor, chunk_rows: int | None = None
) -> Comparison | None:
    """What the stage's terms ask of rows that all have labels."""
    totals: dict[str, int] = {loss.name: len(targets) for loss in objective.losses}
    labelled = torch.ones_like(targets, dtype=torch.bool)
    return objective.comparison(None, targets, labelled, totals=totals, chunk_rows=chunk_rows)


class Sample:
    """Random logits of both sides, the same each time, to be compared by a stage's terms."""

    def __init__(
        self,
        objective: Objective,
        rows: int,
        vocab_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        random = torch.Generator(device).manual_seed(0)  # the run's own numbers stay as they are
        shape = (rows, vocab_size)
        self.student, self.teacher = (
            torch.empty(shape, device=device).normal_(std=_SPREAD, generator=random).to(dtype)
            for _ in range(2)
        )
        targets = torch.randint(vocab_size, (rows,), device=device, generator=random)
        given = _comparison(objective, targets)
        assert given is not None, "asked before"
        self.given = given

    def compared(self, kernels: str) -> tuple[float, list[Tensor]]:
        """Seconds; each term's values (n,), and the slopes (n, V) of their sum."""
        given, device = replace(self.given, kernels=kernels), self.student.device
        logits, count = self.student.clone(), len(self.student)
        values = [torch.zeros(count, device=device) for _ in given.terms]
        synchronize(device)
        started = time.perf_counter()
        compare_chunk(logits, self.teacher, slice(0, count), given, values, learns=True)
        synchronize(device)
        return time.perf_counter() - started, [*values, logits]


def tried(sample: Any, *, ours: str) -> Trial:
    """Compare a `Sample` with our kernels and with Liger's, in turns; what fails is not used."""
    try:
        _, reference = sample.compared(ours)
        _, other = sample.compared("liger")
        apart = max(_apart(*pair) for pair in zip(other, reference, strict=True))
        allowed = max(_EQUAL, torch.finfo(reference[-1].dtype).eps)
        del reference, other
        turns = [sample.compared(name)[0] for name in (ours, "liger", "liger", ours) * _ROUNDS]
    except RunError:
        raise  # ours does not work: that is for the user to know
    except Exception as error:  # whatever another package, or the lack of memory, makes it raise
        why = str(error).strip().partition("\n")[0]
        return Trial(used=False, failed=f"{type(error).__name__}: {why}")
    own = statistics.median(turns[0::4] + turns[3::4])
    faster = own / statistics.median(turns[1::4] + turns[2::4])
    return Trial(used=apart <= allowed and faster >= FASTER, faster=faster, apart=apart)


def _apart(one: Tensor, other: Tensor) -> float:
    """The distance of two tensors as a share of the second one's norm; infinite if not a number."""
    distance = (one.float() - other.float()).norm() / other.float().norm()
    return float(distance) if bool(torch.isfinite(distance)) else float("inf")
