"""What a smaller number format changes in a teacher: its KL to the same teacher in fp32.

In: the teacher's parts and format, a few rows. Out: KL(fp32 ‖ format) per supervised token, kept
beside the runs under a name made of weights, format and rows. Each of both is loaded only for that,
one after the other. Knows nothing of students.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core import device as machine
from distill_core import files
from distill_core.data.batches import collate
from distill_core.halving import give_back
from distill_core.teachers.local import LocalTeacher

FOLDER = "teacher_rounding"
ROWS = 16
FORMATS = frozenset({"int8", "int4"})
"""Whose rounding is measured: they change what a teacher says, and nobody computes in them."""

_POSITIONS = 512
"""Rows of logits that are compared at most; both teachers' are in memory at the same time."""


@dataclass(frozen=True)
class Rounding:
    """How far a teacher in a smaller format is from itself in fp32."""

    precision: str
    kl_to_fp32: float | None
    """Nats per supervised token; None where fp32 has no room in memory."""
    same_top1: float | None
    """Share of the tokens of which both prefer the same one."""
    rows: int
    """On how many held-out rows."""

    @property
    def facts(self) -> dict[str, Any]:
        """For events; `words` says it in a sentence."""
        said = f"The teacher is in {self.precision}; in fp32 it has no room to be compared with."
        if self.kl_to_fp32 is not None:
            said = (
                f"The teacher in {self.precision} is {self.kl_to_fp32:.2g} nats a token from "
                f"itself in fp32, and prefers the same token {self.same_top1:.1%} of the time "
                f"({self.rows} held-out rows)."
            )
        return {**asdict(self), "words": said}


def measured(
    load: Callable[[str, torch.device], LocalTeacher],
    *,
    precision: str,
    device: torch.device,
    fingerprint: str,
    parameters: int,
    items: Sequence[Any],
    pad_token_id: int,
    folder: Path,
) -> Rounding:
    """Compare a teacher in `precision` with the same one in fp32; a known answer is read.

    Args:
        load: Loads the teacher in a format, on a device.
        precision: int8 or int4.
        device: Where the run computes. The exact teacher takes its place there before anything
            else does, or the CPU's where the device has no room for it.
        fingerprint: Identifies the teacher's weights and format.
        parameters: Of the teacher.
        items: Encoded rows, of which the first few are compared.
        pad_token_id: Of the teacher's tokenizer.
        folder: Where answers are kept.
    """
    items = items[:ROWS]
    path = folder / f"{_key(fingerprint, device, items)}.json"
    known = files.read_json(path)
    if known:
        return Rounding(**known)
    where = _room(device, 4 * parameters)
    kl = same = None
    if where is not None:
        exact = _logits(load, "fp32", where, items, pad_token_id)
        rounded = _logits(load, precision, device, items, pad_token_id)
        pairs = [*zip(exact, rounded, strict=True)]
        kl = _mean([_kl(*pair) for pair in pairs])
        same = _mean([one.argmax(-1) == other.argmax(-1) for one, other in pairs])
    found = Rounding(precision, kl, same, len(items))
    folder.mkdir(parents=True, exist_ok=True)
    files.replace_json(path, asdict(found))
    return found


def _room(device: torch.device, needed: int) -> torch.device | None:
    """Where fp32 weights have room twice over: the device itself, the CPU, or nowhere."""
    for one in (device, torch.device("cpu")):
        if 2 * needed <= machine.usable_memory(one):
            return one
    return None


def _logits(
    load: Callable[[str, torch.device], LocalTeacher],
    precision: str,
    device: torch.device,
    items: Sequence[Any],
    pad_token_id: int,
) -> list[Tensor]:
    """Logits (N, V) of each row's supervised positions, on the CPU; the teacher is gone again."""
    teacher, found, counted = load(precision, device), [], 0
    for number, item in enumerate(items):
        batch = collate([item], pad_token_id=pad_token_id, rows=[number]).to(device)
        logits = teacher.logits(batch)[: _POSITIONS - counted].float().cpu()
        found.append(logits)
        counted += len(logits)
        if counted >= _POSITIONS:
            break
    del teacher
    give_back(device)
    return found


def _kl(exact: Tensor, rounded: Tensor) -> Tensor:
    """KL(exact ‖ rounded) (N,), in double precision: what is small here is not rounded again."""
    log_p, log_q = (logits.double().log_softmax(-1) for logits in (exact, rounded))
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _mean(values: Sequence[Tensor]) -> float:
    return float(torch.cat([*values]).double().mean())


def _key(fingerprint: str, device: torch.device, items: Sequence[Any]) -> str:
    rows = [list(item.input_ids) for item in items]
    text = json.dumps([fingerprint, device.type, ROWS, _POSITIONS, rows])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
