"""Rules about this machine: its device, number format, memory and disk.

In: a recipe, and whether its networks and rows could be counted. Out: problems.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from distill_core import device as machine
from distill_core import runs
from distill_core.errors import DistillError, Problem
from distill_core.estimate import Work, dry_process
from distill_core.recipe import Recipe

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
"""A forecast of more than this is questioned."""


def device_missing(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """The recipe asks for a device that is not here."""
    if not machine.available(recipe.device):
        yield machine.missing_device(recipe.device)


def slow_bf16(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """bf16 without hardware for it."""
    if recipe.precision != "bf16" or not machine.available(recipe.device):
        return
    device = machine.pick_device(recipe.device)
    if device.type == "cpu" and not machine.cpu_has_fast_bf16():
        yield Problem(
            severity="warning",
            field="precision",
            message="This CPU has no AMX or AVX-512-bf16, so bf16 is 1.7 to 6.5 times slower here "
            "(measured on an AVX2 machine).",
            fix="Choose auto or fp32.",
        )
    elif device.type != "cpu" and not machine.has_bf16(device):
        yield Problem(
            severity="warning",
            field="precision",
            message=f"{machine.device_name(device)} has no bf16 of its own; it would be emulated.",
            fix="Choose auto or fp32.",
        )


def int4_base(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """An adapter on weights in int4, where they cannot be had."""
    from distill_core.students import int4_base as quantised

    if not machine.available(recipe.device):
        return
    refused = quantised.refusal(machine.pick_device(recipe.device))
    for place, stage in enumerate(recipe.stages):
        if refused and stage.adapter is not None and stage.adapter.base_precision == "int4":
            field = f"stages.{place}.adapter.base_precision"
            yield Problem(severity="error", field=field, message=refused[0], fix=refused[1])


def compiled_loss(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """A loss to be compiled where there is nothing to compile it with, or nothing to compile."""
    if not machine.available(recipe.device):
        return
    lacks = _no_compiler(machine.pick_device(recipe.device).type)
    for place, stage in enumerate(recipe.stages):
        optim, field = stage.optim, f"stages.{place}.optim.compile_loss"
        if not optim.compile_loss:
            continue
        if lacks:
            yield Problem(
                severity="error",
                field=field,
                message=f"The loss cannot be compiled here: {lacks}.",
                fix="Set compile_loss to false: the result is the same.",
            )
        elif optim.loss_chunk_rows == 0:
            yield Problem(
                severity="error",
                field=field,
                message="Only a loss in chunks is compiled, and loss_chunk_rows is 0.",
                fix="Leave loss_chunk_rows empty, or set compile_loss to false.",
            )


def _no_compiler(device: str) -> str:
    """What torch.compile lacks for a device here; "" if nothing."""
    if device == "cpu":
        compiler = os.environ.get("CXX", "cl" if os.name == "nt" else "g++")
        if not (shutil.which(compiler) or shutil.which("clang++")):
            return f"torch.compile needs a C++ compiler, and there is no {compiler}"
        if os.name != "nt" and not Path(sysconfig.get_path("include"), "Python.h").is_file():
            return "torch.compile needs Python's C headers (python3-dev)"
        return ""
    if device == "cuda":
        return "" if find_spec("triton") else "torch.compile needs the package triton on CUDA"
    return f"torch.compile for {device} has not been tried with it"


def memory(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """More than the machine has, or than is free now; by a dry step where one was taken."""
    if not counted:
        return
    try:
        work = Work(recipe, dry_process.remembered(recipe))
    except DistillError:
        return
    need = work.memory()
    total = sum(need.values())
    free = machine.usable_memory(work.device)
    has = machine.device_memory(work.device)[0] or machine.memory()[0]
    if total <= free:
        return
    largest = max((part for part in need if part != "context"), key=lambda part: need[part])
    where, fix = _cure(recipe, work.heaviest(), largest)
    is_error = total > has
    yield Problem(
        severity="error" if is_error else "warning",
        field=where,
        message=f"About {total / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB of "
        f"{has / 1e9:.1f} GB are free; {_WORDS[largest]} take {need[largest] / 1e9:.1f} GB.",
        fix=fix if is_error else f"Close other programs, or: {fix[0].lower()}{fix[1:]}",
    )


def disk(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """No room for models and checkpoints."""
    if not counted:
        return
    try:
        work = Work(recipe)
        need, caches = work.disk_bytes(), work.caches()
        folder = _existing(runs.default_runs_dir())
        free = shutil.disk_usage(folder).free
    except (DistillError, OSError):
        return
    largest = max(caches, key=lambda one: one.bytes, default=None)
    if need > free and largest is not None and largest.bytes > need / 2:
        yield Problem(
            severity="error",
            field=f"stages.{largest.stage}.teacher_cache",
            message=f"The teacher cache takes up to {largest.bytes / 1e9:.1f} GB "
            f"({largest.bytes_per_token:,} bytes for each of {largest.tokens:,} tokens), the run "
            f"{need / 1e9:.1f} GB; {free / 1e9:.1f} GB are free in {folder}.",
            fix="Free space, choose another disk with --runs-dir, or keep less: a smaller kind, k "
            "or number of samples.",
        )
    elif need > free:
        yield Problem(
            severity="error",
            field="checkpoints.keep",
            message=f"The run needs up to {need / 1e9:.1f} GB on disk; {free / 1e9:.1f} GB are "
            f"free in {folder}.",
            fix="Free space, keep fewer checkpoints, or choose another disk with --runs-dir.",
        )


def duration(recipe: Recipe, counted: bool) -> Iterator[Problem]:
    """More than a week at best, which is more often a slip of the finger than a wish."""
    if not counted:
        return
    try:
        work = Work(recipe, dry_process.remembered(recipe))
        (least_s, _), _ = work.seconds(())
    except DistillError:
        return
    if least_s <= WEEK_S:
        return
    longest = max(work.stages, key=lambda stage: stage.total_steps)
    key = "epochs" if longest.settings.optim.max_steps is None else "max_steps"
    yield Problem(
        severity="warning",
        field=f"stages.{longest.index}.optim.{key}",
        message=f"By the forecast the run takes at least {least_s / DAY_S:,.0f} days: "
        f"{longest.total_steps:,} steps.",
        fix="Take fewer steps, a smaller student, or a faster machine.",
    )


RULES: tuple[Callable[[Recipe, bool], Iterator[Problem]], ...] = (
    device_missing,
    int4_base,
    compiled_loss,
    slow_bf16,
    memory,
    disk,
    duration,
)

_WORDS = {
    "teacher": "the teacher's weights",
    "student": "the student's weights and gradients",
    "optimiser": "the optimiser's state",
    "activations": "activations",
    "loss": "logits and loss",
    "features": "hidden states and attention maps",
}


def _cure(recipe: Recipe, stage: int, largest: str) -> tuple[str, str]:
    """The setting that helps most, and what to do with it."""
    settings = recipe.stages[stage]
    field = f"stages.{stage}"
    if largest in {"activations", "loss", "features"} and settings.optim.micro_batch_size > 1:
        return (
            f"{field}.optim.micro_batch_size",
            "Lower micro_batch_size (the result stays the same), or data.max_seq_len.",
        )
    if largest in {"student", "optimiser"} and settings.adapter is None:
        return f"{field}.adapter", "Train a LoRA adapter, or choose a smaller student."
    if largest == "teacher":
        return f"{field}.teacher", "Choose a smaller teacher, or a smaller teacher_precision."
    return f"{field}.student", "Choose a smaller student, or lower data.max_seq_len."


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
