"""Models that stay in memory between prompts, each of them once.

In: a member of a run. Out: its model, from memory if its files have not changed since. Two runs
with one teacher share it, and so do a mixture and the same teacher alone; the longest unused of
more than a few is let go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from distill_core.comparing import lineup

if TYPE_CHECKING:
    import torch

MOST = 4

_loaded: OrderedDict[str, lineup.Loaded] = OrderedDict()
_networks: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Single networks that these are made of, for as long as one of them is kept."""
_loading = threading.Lock()


def load(run_dir: Path, found: lineup.Member, *, device: torch.device) -> lineup.Loaded:
    """The member in memory, in eval mode; raises `RunError`, `ModelError`."""
    place = f"{device} {_identity(run_dir, found)}"
    with _loading:
        if place not in _loaded:
            _loaded[place] = lineup.load(run_dir, found, device=device, each=_network)
            while len(_loaded) > MOST:
                _loaded.popitem(last=False)
        _loaded.move_to_end(place)
        # the same weights may have another name in another run
        return replace(_loaded[place], member=found)


def forget() -> None:
    """Let all models go."""
    with _loading:
        _loaded.clear()
        _networks.clear()


def _network(
    folder: Path, precision: str, device: torch.device, labels: tuple[str, ...] | None
) -> Any:
    """One teacher's network: the one in memory, if a kept model is made of it."""
    from distill_core.teachers.loading import load_one

    place = f"{device} {precision} {labels} {_stamp(folder.resolve())}"
    found = _networks.get(place)
    if found is None:
        found = _networks[place] = load_one(folder, precision, device, labels)
    return found


def _identity(run_dir: Path, found: lineup.Member) -> str:
    """What tells weights apart, whichever run asks: the files, and what is made of them."""
    from distill_core.students.build import own_folder

    sources = [found.source, *(share.source for share in found.mixture)]
    folders = [lineup.folder(run_dir, source) for source in sources]
    folders.append(own_folder(found.build, folders[0]))  # a published student's
    files = [_stamp(folder) for folder in dict.fromkeys(map(Path.resolve, folders))]
    made = {"build", "labels", "mixture", "precision"} | ({"seed"} if found.build else set())
    parts = run_dir / found.parts
    chosen = parts.read_text(encoding="utf-8") if found.parts and parts.is_file() else ""
    return f"{files} {found.model_dump_json(include=made)} {chosen}"


def _stamp(folder: Path) -> str:
    """Changes with any file of a model: shards and their index, configuration, tokenizer."""
    seen = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    return f"{folder} {[(name, one.st_size, one.st_mtime_ns) for name, one in seen]}"
