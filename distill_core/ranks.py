"""Several processes that train one run together: which one this is, and how they agree.

In: the environment that a launcher (torchrun, accelerate) gives each process. Out: its number, and
values that all of them share. A process that is alone does what is asked at once, without torch.
Knows nothing of runs and models.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import psutil

from distill_core.device import pick_device
from distill_core.errors import Problem, RecipeError, RunError

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""Processes wait so long for each other: one alone downloads, evaluates and writes."""

_ONE = (
    "accelerate was asked for several processes, and started one.\n"
    "Add --multi_gpu to its options, on CPUs too, and `--set device=cpu` to ours there."
)
_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def is_first() -> bool:
    """Whether this one writes the files and tells what happens."""
    return number() == 0


def join(device: str) -> None:
    """Meet the others, for a recipe's `device`; does nothing in a process that is alone.

    Raises:
        RecipeError: if several processes cannot share that device.
        RunError: if the launcher was asked for several processes and has started one, or was asked
            to cut one model over several devices.
    """
    if _is_left_alone():
        raise RunError(_ONE)
    for switch, name in _SHARDING.items():
        if os.environ.get(switch, "").lower() == "true":
            raise RunError(
                f"{name} keeps a part of the model on each device; here each device holds the whole"
                " student.\nLaunch without it; a LoRA adapter needs least memory."
            )
    if count() == 1:
        return
    target = pick_device(device)
    if target.type == "mps":
        problem = Problem(
            severity="error",
            field="device",
            message="Several processes cannot share an mps device.",
            fix="Choose cpu, or train in one process.",
        )
        raise RecipeError([problem])
    from accelerate import PartialState

    PartialState(cpu=target.type == "cpu", timeout=_PATIENCE)


def agree(make: Callable[[], T]) -> T:
    """Let the first process make something, and give it to all.

    Raises:
        RunError: in the others, if it fails there; the first raises what it was.
    """
    if count() == 1:
        return make()
    from torch import distributed

    said: list[Any] = [None, None]
    failure: Exception | None = None
    if is_first():
        try:
            said[0] = make()
        except Exception as error:
            failure, said[1] = error, f"{type(error).__name__}: {error}"
    distributed.broadcast_object_list(said, src=0)
    if failure is not None:
        raise failure
    if said[1] is not None:
        raise RunError(f"The first process has failed: {said[1]}")
    made: T = said[0]
    return made


def in_turn(make: Callable[[], T]) -> T:
    """Let the first process make something, then the others, who find its files in place."""
    if count() == 1:
        return make()
    kept: list[T] = []
    agree(lambda: kept.append(make()))
    return kept[0] if kept else make()


def gather(mine: list[T]) -> list[T]:
    """Put the lists of all processes together, in the order of their numbers."""
    if count() == 1:
        return mine
    from torch import distributed

    lists: list[Any] = [None] * count()
    distributed.all_gather_object(lists, mine)
    return [item for one in lists for item in one]


# --- a launcher that starts one where several were asked for --------------------------------------


def start_all() -> None:
    """Go on as several processes where accelerate was asked for them and has started one.

    On CPUs `accelerate launch --num_processes 2` does so; this process then becomes torchrun, which
    starts as many as were asked for.

    Raises:
        RunError: if it cannot be told how many.
    """
    if not _is_left_alone():
        return
    asked = _asked_of_accelerate()
    if asked is None or sys.platform == "win32":
        raise RunError(_ONE)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={asked}"]
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.orig_argv[1:]])


def _is_left_alone() -> bool:
    # accelerate names a meeting place only where it was asked for several processes
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    return asked and "RANK" not in os.environ


def _asked_of_accelerate() -> int | None:
    """The number of processes on the command line of the launcher that started this one."""
    from accelerate.commands.launch import launch_command_parser

    try:
        words = psutil.Process().parent().cmdline()  # type: ignore[union-attr]
    except (psutil.Error, AttributeError):
        return None
    ends = ("launch", "accelerate-launch", "accelerate.commands.launch")
    start = next((n for n, word in enumerate(words) if word.split("/")[-1] in ends), None)
    if start is None:
        return None
    try:
        given = launch_command_parser().parse_args(words[start + 1 :])
    except SystemExit:
        return None
    several = (given.num_machines or 1) > 1
    return None if several else given.num_processes
