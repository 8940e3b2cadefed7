"""A teacher that is loaded when it is first asked, and can be put out of memory again.

In: how to load it. Out: a teacher like any other. Loading it or not leaves the random state as it
was, so that a run that finds everything kept goes on as one that had to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_core import files
from distill_core.halving import give_back
from distill_core.teachers.local import LocalTeacher

if TYPE_CHECKING:
    from distill_core.data.batches import Batch
    from distill_core.forward.network import View, Wanted
    from distill_core.generate import Continuation
    from distill_core.losses.logit_rows import LogitRows


class OnDemandTeacher:
    """Stands in for a teacher until somebody asks it.

    Args:
        load: Loads it.
        device: Where to.
        note: A small file that remembers its size, so that nobody has to load it to know.
    """

    def __init__(
        self, load: Callable[[], LocalTeacher], *, device: torch.device, note: Path
    ) -> None:
        self.device = device
        self._load = load
        self._note = note
        self._loaded: LocalTeacher | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether it is in memory."""
        return self._loaded is not None

    @property
    def loaded(self) -> LocalTeacher:
        """The teacher itself, from now on in memory."""
        if self._loaded is None:
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                self._loaded = self._load()
        return self._loaded

    def unload(self) -> None:
        """Give its memory back."""
        self._loaded = None
        give_back(self.device)

    @property
    def provides(self) -> frozenset[str]:
        """What it can be asked for."""
        return self.loaded.provides

    @property
    def model(self) -> Any:
        """Its network."""
        return self.loaded.model

    @property
    def bytes(self) -> int:
        """Bytes of its weights in memory."""
        known = files.read_json(self._note).get("bytes")
        if not isinstance(known, int):
            known = self.loaded.bytes
            files.replace_json(self._note, {"bytes": known})
        return known

    def look_into(self, wanted: Wanted) -> None:
        """From now on show these layers too."""
        self.loaded.look_into(wanted)

    def longest_packed(self) -> int:
        """Tokens of the longest row that it reads without padding; 0: it pads all."""
        return self.loaded.longest_packed()

    def known(self, batch: Batch) -> None:
        """Nothing: it is asked."""

    def view(self, batch: Batch) -> View:
        """Logits (N, V) and wanted features of `batch`."""
        return self.loaded.view(batch)

    def rows(self, batch: Batch) -> LogitRows:
        """Logits at the supervised positions of `batch`, made as they are asked for."""
        return self.loaded.rows(batch)

    def logits(self, batch: Batch) -> Tensor:
        """Logits (N, V) at the supervised positions of `batch`."""
        return self.loaded.logits(batch)

    def answers(self, prompts: Sequence[list[int]], **how: Any) -> list[Continuation]:
        """The teacher's own continuation of each prompt."""
        return self.loaded.answers(prompts, **how)
