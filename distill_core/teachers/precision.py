"""In which number format a teacher's weights are kept, and what works on which device.

In: the recipe's `teacher_precision` and `precision`, a device. Out: a format, or why it cannot be
had there and what can. Loads nothing.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from distill_core import device as machine
from distill_core.errors import ModelError

if TYPE_CHECKING:
    import torch

INSTALL = "Install it: pip install 'distill-studio[quant]'"


def chosen(setting: str, *, precision: str, device: torch.device) -> str:
    """The format that `teacher_precision` means: fp32, bf16, int8 or int4; auto is the run's own.

    A teacher is never differentiated and needs no master weights, so it is kept in the format that
    it is computed in.
    """
    if setting != "auto":
        return setting
    return machine.dtype_name(machine.pick_dtype(precision, device))


def refusal(chosen: str, device: torch.device) -> tuple[str, str] | None:
    """Why a teacher cannot be kept so on this device, and what to do; None where it can."""
    if chosen not in {"int8", "int4"}:
        return None
    if device.type == "cuda":
        if importlib.util.find_spec("bitsandbytes") is not None:
            return None
        return (
            f"{chosen} on CUDA needs the package bitsandbytes, which is not installed.",
            f"{INSTALL}. Or choose auto, fp32 or bf16.",
        )
    if device.type == "cpu":
        if chosen == "int8":
            return None
        return (
            "int4 works on CUDA only, and the teacher would be on the CPU.",
            "Choose int8, which works on a CPU, or auto.",
        )
    return (
        f"{chosen} does not work on {device.type.upper()}: there is no quantised product for it.",
        "Choose auto, fp32 or bf16.",
    )


def require(chosen: str, device: torch.device, *, field: str) -> None:
    """Raise `ModelError` at `field` where `refusal` has a reason."""
    why = refusal(chosen, device)
    if why is not None:
        raise ModelError("\n".join(why), field=field)
