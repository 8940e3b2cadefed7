"""Models that stay in memory between prompts, each of them once.

In: a member of a run. Out: its model, from memory if its files have not changed since. Two runs
with one teacher share it; the longest unused of more than a few is let go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.comparing import lineup

if TYPE_CHECKING:
    import torch

MOST = 4

_loaded: OrderedDict[str, lineup.Loaded] = OrderedDict()
_loading = threading.Lock()


def load(run_dir: Path, found: lineup.Member, *, device: torch.device) -> lineup.Loaded:
    """The member in memory, in eval mode; raises `RunError`, `ModelError`."""
    place = f"{device} {_identity(run_dir, found)}"
    with _loading:
        if place not in _loaded:
            _loaded[place] = lineup.load(run_dir, found, device=device)
            while len(_loaded) > MOST:
                _loaded.popitem(last=False)
        _loaded.move_to_end(place)
        # the same weights may have another name in another run
        return replace(_loaded[place], member=found)


def forget() -> None:
    """Let all models go."""
    with _loading:
        _loaded.clear()


def _identity(run_dir: Path, found: lineup.Member) -> str:
    """What tells weights apart, whichever run asks: the files, and what is made of them."""
    sources = [found.source, *(share.source for share in found.mixture)]
    folders = [lineup.folder(run_dir, source).resolve() for source in sources]
    files = [
        (str(path), path.stat().st_mtime_ns if path.is_file() else 0)
        for path in (folder / "model.safetensors" for folder in folders)
    ]
    made = {"build", "labels", "mixture", "precision"} | ({"seed"} if found.build else set())
    parts = run_dir / found.parts
    chosen = parts.read_text(encoding="utf-8") if found.parts and parts.is_file() else ""
    return f"{files} {found.model_dump_json(include=made)} {chosen}"
