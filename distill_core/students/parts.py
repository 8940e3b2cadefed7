"""Which of the teacher's parts a student keeps.

In: what was chosen: layers, heads, units, dimensions, tokens. Out: `Parts`, kept in the run
folder, so that the same student can be built again without measuring, and the choice in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill_core import files
from distill_core.recipe import Settings


class Parts(Settings):
    """What stays, as numbers counted from 0, ascending; None: all of it, or nothing to choose."""

    layers: list[int] | None = None
    hidden: list[int] | None = None
    heads: list[list[int]] | None = None
    """Query heads of each kept layer."""
    groups: list[list[int]] | None = None
    """Key and value heads of each kept layer."""
    units: list[list[int]] | None = None
    """Feed-forward units of each kept layer."""
    tokens: list[int] | None = None
    """The source's token ids; each one's place is the student's id."""

    @property
    def is_narrower(self) -> bool:
        """Whether anything inside a layer is left out."""
        return any(
            chosen is not None for chosen in (self.hidden, self.heads, self.groups, self.units)
        )


def read(path: Path) -> Parts | None:
    """What was chosen in an earlier attempt at the same stage, if anything."""
    return Parts.model_validate_json(path.read_bytes()) if path.is_file() else None


def write(path: Path, parts: Parts) -> None:
    """Store what was chosen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace_json(path, parts.model_dump(exclude_none=True))


def layers_in_words(kept: Sequence[int], of: int) -> str:
    """Kept layers (0-based, ascending) in words, counted from 1: "layers 1–6 of 30"."""
    ranges: list[list[int]] = []
    for layer in kept:
        if ranges and ranges[-1][1] == layer - 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    shown = [f"{a + 1}" if a == b else f"{a + 1}–{b + 1}" for a, b in ranges]
    return f"layers {', '.join(shown)} of {of}"
