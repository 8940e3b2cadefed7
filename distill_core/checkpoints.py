"""Checkpoints: everything that a stage needs to go on as if it had never stopped.

In: model, optimiser and step. Out: `checkpoints/stage_0/step_000200/`, written beside and
renamed, so that a folder with that name is whole. Keeps the last n. Which rows come next
(`data/batches.py`) and the learning rate (`schedule.py`) are functions of the step alone. Of
several processes that train together all call this, and the first one writes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from distill_core import files, ranks
from distill_core.errors import DiskFullError, RunError


class Checkpoints:
    """The checkpoints of one stage, newest last."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, ascending."""
        found = (path.name.removeprefix("step_") for path in self.folder.glob("step_*"))
        return sorted(int(name) for name in found if name.isdigit())

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step_{step:06d}"

    def save(
        self,
        step: int,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> Path:
        """Write the state after `step` optimiser steps; raises `DiskFullError`, old ones kept."""
        states = ranks.gather([random_state(device)])
        return ranks.agree(lambda: self._write(step, model, optimizer, states))

    def _write(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        random_states: list[dict[str, torch.Tensor]],
    ) -> Path:
        target, partial = self.path(step), self.folder / f".partial_{step:06d}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save_file(_trained_tensors(model), partial / "trained.safetensors")
            torch.save(optimizer.state_dict(), partial / "optimizer.pt")
            torch.save(random_states, partial / "random.pt")
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except (OSError, RuntimeError, ValueError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if files.is_disk_full(error):
                raise DiskFullError(
                    f"The disk is full: no checkpoint could be written at step {step}. "
                    "Make room, then resume; the checkpoints before are kept."
                ) from None
            raise
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old), ignore_errors=True)
        return target

    def load_latest(
        self,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> int:
        """Put the newest checkpoint's state in place; returns its step, 0 when there is none."""
        steps = self.steps()
        if len({tuple(found) for found in ranks.gather([steps])}) > 1:
            raise RunError(
                "The processes see different checkpoints.\n"
                "Put the run's folder on a disk that all machines share."
            )
        if not steps:
            return 0
        folder = self.path(steps[-1])
        if device.type == "cpu":  # one of several processes has a cpu:0, which no reader knows
            device = torch.device("cpu")
        try:
            trained = load_file(folder / "trained.safetensors", device=str(device))
            targets = dict(_trained_parameters(model))
            if trained.keys() != targets.keys():
                raise KeyError("other weights")
            with torch.no_grad():
                for name, value in trained.items():
                    targets[name].copy_(value)
            optimizer.load_state_dict(
                torch.load(folder / "optimizer.pt", map_location=device, weights_only=True)
            )
            states = torch.load(folder / "random.pt", weights_only=True)
            if ranks.number() < len(states):  # it may have been saved by fewer processes
                restore_random_state(states[ranks.number()], device)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise RunError(
                f"The checkpoint {folder.name} cannot be read ({error}). "
                "Delete that folder to go on from the one before."
            ) from None
        return steps[-1]

    def clear(self) -> None:
        """Remove all of them, when the stage is done and its model is saved."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What training changes: all weights, or the adapter's; tied ones once."""
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


def _trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().contiguous() for name, value in _trained_parameters(model)}


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of this process are, on the CPU and on its device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Draw from here on as from where `random_state` was asked."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())


def trained_together(student: torch.nn.Module, projectors: torch.nn.ModuleDict) -> torch.nn.Module:
    """What a checkpoint holds: the student, and its projectors where there are any."""
    if not len(projectors):
        return student
    return torch.nn.ModuleDict({"student": student, "projectors": projectors})
