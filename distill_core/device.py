"""This machine: where to train, in which number format, and how much memory there is.

In: the recipe's `device` and `precision`. Out: a torch device, a dtype, and facts in plain words
and bytes. Changes no global setting; knows nothing of models.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from distill_core.errors import Problem, RecipeError

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")

_MEASURE_EVERY_S = 60.0
_SLOWEST_CORE = 5e9
"""Operations per second that a core of the last ten years does at least."""

_speeds: dict[tuple[torch.device, torch.dtype], tuple[float, float]] = {}


def facts() -> dict[str, Any]:
    """Describe this machine (keys: `api.machine`)."""
    device = pick_device("auto")
    total, free = memory()
    device_total, device_free = device_memory(device)
    dtype = dtype_name(pick_dtype("auto", device))
    return {
        "device": device.type,
        "name": device_name(device),
        "dtype": dtype,
        "fast_bf16": has_bf16(device),
        "note": _note(device, dtype),
        "cores": cores(),
        "memory_total_bytes": total,
        "memory_free_bytes": free,
        "device_memory_total_bytes": device_total,
        "device_memory_free_bytes": device_free,
    }


def available(setting: str) -> bool:
    """Whether this machine has the device named `cpu`, `cuda` or `mps` (`auto`: always)."""
    import torch

    if setting == "cuda":
        return torch.cuda.is_available()
    if setting == "mps":
        return torch.backends.mps.is_available()
    return True


def pick_device(setting: str) -> torch.device:
    """The device that a recipe's `device` means here; `auto` takes the best.

    Raises:
        RecipeError: if this machine does not have it.
    """
    import torch

    if not available(setting):
        raise RecipeError([missing_device(setting)])
    if setting != "auto":
        return torch.device(setting)
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":  # accelerate launch --cpu
        return torch.device("cpu")
    return torch.device(next(name for name in ("cuda", "mps", "cpu") if available(name)))


def missing_device(setting: str) -> Problem:
    """The problem of a recipe that asks for a device which is not here."""
    return Problem(
        severity="error",
        field="device",
        message=f"This machine has no {setting} device that torch can use.",
        fix="Choose auto, or install the torch build for that device.",
    )


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """Number format of the computation: `auto` is bf16 where the hardware is made for it.

    A CPU computes in fp32 unless the recipe says bf16, since most are slower with it.
    """
    import torch

    if setting != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[setting]
    return torch.bfloat16 if device.type != "cpu" and has_bf16(device) else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether the device's own hardware computes bf16."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _mps_has_bf16() if device.type == "mps" else cpu_has_fast_bf16()


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as recipes spell it: `fp32` or `bf16`."""
    return {"float32": "fp32", "bfloat16": "bf16"}[str(dtype).removeprefix("torch.")]


def memory_bytes(device: torch.device) -> int:
    """Memory held by this process: on CUDA the peak allocated, on a CPU what is resident now."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return psutil.Process().memory_info().rss


def memory() -> tuple[int, int]:
    """Main memory, total and free, in bytes; a container's limit counts as the total."""
    seen = psutil.virtual_memory()
    total, free = seen.total, seen.available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        cache = _cgroup_file_cache()
    except (OSError, ValueError):  # no container, or no limit ("max")
        return total, free
    if limit >= total:
        return total, free
    return limit, max(0, min(free, limit - used + cache))


def device_memory(device: torch.device) -> tuple[int | None, int | None]:
    """The accelerator's memory, total and free, in bytes; None on a CPU."""
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    if device.type == "mps":  # shared with the system
        total = torch.mps.recommended_max_memory()
        return total, max(0, total - torch.mps.driver_allocated_memory())
    return None, None


def usable_memory(device: torch.device) -> int:
    """Bytes that a run may take on `device` now."""
    free = device_memory(device)[1]
    return memory()[1] if free is None else free


def cores() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


@functools.lru_cache(maxsize=4)
def device_name(device: torch.device) -> str:
    """The device in a few words, such as "CPU · 2 cores · AVX2"."""
    import torch

    if device.type == "cuda":
        count = torch.cuda.device_count()
        return torch.cuda.get_device_name(device) + (f" × {count}" if count > 1 else "")
    if device.type == "mps":
        return f"{platform.processor() or 'Apple'} GPU (MPS)"
    words = ["CPU", f"{cores()} core{'s' if cores() != 1 else ''}", cpu_features()]
    return " · ".join(word for word in words if word)


@functools.cache
def cpu_features() -> str:
    """The widest vector unit that torch can use: "AVX-512, AMX", "AVX2", "NEON" or ""."""
    import torch

    if _probe("_is_amx_tile_supported"):
        return "AVX-512, AMX"
    seen = torch.backends.cpu.get_cpu_capability()
    if seen == "DEFAULT":
        return "NEON" if platform.machine().lower() in {"arm64", "aarch64"} else ""
    return {"AVX512": "AVX-512"}.get(seen, seen)


@functools.cache
def cpu_has_fast_bf16() -> bool:
    """Whether the CPU multiplies bf16 itself (AMX or AVX-512-bf16); others are slower with it."""
    return _probe("_is_amx_tile_supported") or _probe("_is_avx512_bf16_supported")


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a matrix product, measured in about 50 ms.

    The best of all measurements in this process, at most one a minute: other programs may take
    their share of any single one.
    """
    best, measured_s = _speeds.get((device, dtype), (0.0, -_MEASURE_EVERY_S))
    if time.monotonic() - measured_s >= _MEASURE_EVERY_S:
        best = max(best, _measure(device, dtype), cores() * _SLOWEST_CORE)
        _speeds[device, dtype] = best, time.monotonic()
    return best


def _measure(device: torch.device, dtype: torch.dtype) -> float:
    """Time a matrix product; on a CPU on one thread, times the threads that torch uses.

    One thread, because several that wait for each other on a busy machine measure the waiting.
    """
    import torch

    size = 2048 if device.type == "cuda" else 384
    left = torch.rand(size, size, device=device, dtype=dtype)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    best, tries, stop = float("inf"), 0, time.perf_counter() + 0.05
    try:
        if threads > 1:
            torch.set_num_threads(1)
        with torch.inference_mode():
            left @ left
            while time.perf_counter() < stop or tries < 5:
                synchronize(device)
                start = time.perf_counter()
                left @ left
                synchronize(device)
                best = min(best, time.perf_counter() - start)
                tries += 1
    finally:
        if threads > 1:
            torch.set_num_threads(threads)
    return threads * 2 * size**3 / best


MOST_SCORED_ROWS = 1024  # of logits at once where they are only looked at: each is copied


def logit_rows_at_once(device: str, vocabulary: int) -> int:
    """Rows of logits that a loss has in memory at once where nobody says: 256–512 on a CPU.

    Enough for full speed: about 0.1 GB of fp32 logits on a CPU, 1 GB elsewhere.
    """
    entries, least, most = (2**25, 256, 512) if device == "cpu" else (2**28, 1024, 8192)
    return min(most, max(least, entries // vocabulary))


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what was asked of it; a CPU always has."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _probe(name: str) -> bool:
    """One of torch's CPU questions; a torch that does not know it answers no."""
    import torch

    question = getattr(torch.cpu, name, None)
    return bool(question and question())


@functools.cache
def _mps_has_bf16() -> bool:
    import torch

    try:
        one = torch.ones(4, 4, device="mps", dtype=torch.bfloat16)
        return bool((one @ one).isfinite().all())
    except (RuntimeError, TypeError):
        return False


def _cgroup_file_cache() -> int:
    """Bytes of a container's memory that are only cached files."""
    for line in (CGROUP / "memory.stat").read_text().splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _note(device: torch.device, dtype: str) -> str:
    if device.type == "cpu":
        return "fp32 student and teacher" + (
            "; bf16 can be tried" if cpu_has_fast_bf16() else "; bf16 would be slower here"
        )
    if dtype == "bf16":
        return "bf16 computation, fp32 weights and losses"
    return "fp32: this device has no fast bf16"
