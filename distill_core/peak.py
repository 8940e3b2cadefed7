"""The most memory that this process has held, as its device counts it.

In: a device. Out: bytes since the count began anew. On CUDA it is what torch has allocated; on a
CPU what is resident, libraries included. Knows nothing of what the memory is for.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

_PROC = Path("/proc/self")


def forget_peak(device: torch.device) -> None:
    """Count from what is held now on; where the system cannot (macOS, Windows) it goes on."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            (_PROC / "clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most bytes held since then."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    with contextlib.suppress(OSError, StopIteration):
        lines = (_PROC / "status").read_text().splitlines()
        told = next(line for line in lines if line.startswith("VmHWM:"))
        return int(told.split()[1]) * 1024
    return _peak_elsewhere()


def held_bytes(device: torch.device) -> int:
    """Bytes held now."""
    import torch

    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return int(psutil.Process().memory_info().rss)


def _peak_elsewhere() -> int:
    told = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    if told is not None:
        return int(told)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
