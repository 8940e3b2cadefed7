"""Which process this is, and launchers that start fewer than they were asked for."""

from __future__ import annotations

import os
import sys
from typing import Any

import psutil
import pytest

from distill_core import device, ranks
from distill_core.errors import RecipeError, RunError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)


def launched_for_several(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> list[Any]:
    """As accelerate leaves a process on a CPU; returns what is executed in its place."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: command)
    done: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda path, words: done.append(words))
    return done


def test_alone_it_is_the_first_and_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ranks.count(), ranks.number(), ranks.is_first()) == (1, 0, True)
    assert ranks.agree(lambda: 3) == ranks.in_turn(lambda: 3) == 3
    assert ranks.gather([1, 2]) == [1, 2]
    ranks.join("cpu")
    ranks.start_all()
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some job systems set it, without a launcher
    assert ranks.count() == 1


def test_one_of_several_knows_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert (ranks.count(), ranks.number(), ranks.is_first()) == (4, 2, False)


@pytest.mark.parametrize(
    "launcher",
    [
        ["python", "-m", "accelerate.commands.launch", "--num_processes", "3", "--cpu"],
        ["python", "/usr/bin/accelerate", "launch", "--cpu", "--num-processes=3"],
        ["python", "/usr/bin/accelerate-launch", "--num_processes=3", "--num_machines=1"],
    ],
)
def test_as_many_start_as_accelerate_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, launcher: list[str]
) -> None:
    done = launched_for_several(monkeypatch, [*launcher, "-m", "distill_core.cli", "run", "x"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "distill_core.cli", "run", "x"])
    ranks.start_all()
    (words,) = done
    assert words[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert "--nproc_per_node=3" in words
    assert words[-4:] == ["-m", "distill_core.cli", "run", "x"]


@pytest.mark.parametrize(
    "launcher",
    [
        ["bash"],
        ["accelerate", "launch", "--cpu", "my.py"],
        ["accelerate", "launch", "--num_processes=4", "--num_machines=2", "my.py"],
    ],
)
def test_where_it_cannot_tell_how_many_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, launcher: list[str]
) -> None:
    done = launched_for_several(monkeypatch, launcher)
    with pytest.raises(RunError, match="Add --multi_gpu"):
        ranks.start_all()
    with pytest.raises(RunError, match="Add --multi_gpu"):
        ranks.join("cpu")
    assert not done


@pytest.mark.parametrize("switch", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_models_are_refused(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "true")
    with pytest.raises(RunError, match="each device holds the whole student"):
        ranks.join("cpu")


def test_an_mps_device_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(device, "available", lambda name: name != "cuda")
    with pytest.raises(RecipeError, match="cannot share an mps device"):
        ranks.join("mps")


def test_a_launcher_s_wish_for_the_cpu_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available", lambda name: True)
    assert device.pick_device("auto").type == "cuda"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert device.pick_device("auto").type == "cpu"
    assert device.pick_device("cuda").type == "cuda"
