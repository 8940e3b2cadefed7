"""From a stage's teachers on disk to one network in memory.

In: folders with weights, their shares, a number format and a device. Out: the network that is
asked (a `Mixture` where there are several), and what identifies it. Trains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill_core import device as machine
from distill_core import models
from distill_core.teachers import precision as formats
from distill_core.teachers.int8 import with_int8_layers
from distill_core.teachers.mixture import Mixture

LoadOne = Callable[[Path, str, torch.device, models.Labels | None], Any]
"""From a folder, number format, device and classes to a network; see `load_one`."""


@dataclass(frozen=True)
class Part:
    """One teacher: where its weights are, and its share in the mixture."""

    folder: Path
    weight: float = 1.0


def load_network(
    parts: Sequence[Part],
    *,
    precision: str,
    device: torch.device,
    vocab_size: int,
    labels: models.Labels | None = None,
    field: str = "",
    each: LoadOne | None = None,
) -> Any:
    """Load one teacher, or several as one `Mixture`, in eval mode.

    Args:
        parts: At least one.
        precision: fp32, bf16, int8 or int4.
        device: Where to.
        vocab_size: Number of ids that the shared tokenizer has.
        labels: The classes that they tell apart; None: they write text.
        field: The recipe's field of the number format, for errors.
        each: Loads a single teacher; `load_one` when left out.

    Raises:
        ModelError: if a folder cannot be loaded, or the number format does not work there.
    """
    formats.require(precision, device, field=field)
    networks = [(each or load_one)(part.folder, precision, device, labels) for part in parts]
    if len(networks) == 1:
        return networks[0]
    weights = [part.weight for part in parts]
    return Mixture(networks, weights=weights, vocab_size=vocab_size).eval()


def fingerprint(parts: Sequence[Part], *, precision: str) -> str:
    """A name that changes with any weight, share or number format; of one fp32 teacher, as it was.

    The order of the teachers does not matter.
    """
    marks = sorted((models.fingerprint(part.folder), part.weight) for part in parts)
    name = marks[0][0]
    if len(marks) > 1:
        name = "+".join(f"{weight:.6g}*{mark}" for mark, weight in marks)
    return name if precision == "fp32" else f"{name}@{precision}"


def identity(parts: Sequence[Part], *, precision: str, device: torch.device) -> dict[str, Any]:
    """All that decides what a teacher says of given ids: weights, configuration, shares, format.

    The order of the teachers does not matter.
    """
    return {
        "weights": sorted([models.digest(part.folder), part.weight] for part in parts),
        "configurations": sorted(
            hashlib.sha256((part.folder / "config.json").read_bytes()).hexdigest() for part in parts
        ),
        "precision": precision,
        "device": device.type,
    }


def load_one(
    folder: Path, precision: str, device: torch.device, labels: models.Labels | None
) -> Any:
    """Load a single network in eval mode; raises `ModelError`."""
    if precision in {"fp32", "bf16"}:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        return models.load_model(folder, dtype=dtype, device=device, labels=labels)
    if device.type == "cpu":
        exact = models.load_model(folder, dtype=torch.float32, device=device, labels=labels)
        return with_int8_layers(exact)
    dtype = torch.bfloat16 if machine.has_bf16(device) else torch.float16
    return models.load_model(
        folder,
        dtype=dtype,
        device=device,
        labels=labels,
        bits=8 if precision == "int8" else 4,
    )
