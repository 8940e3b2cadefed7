"""Build's desk: the recipe being written by one browser, kept on the server between edits.

In: edits from fields that may arrive at the same moment. Out: the recipe's YAML text, never losing
one of them. Knows nothing of how a field looks.
"""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_core import api
from ui.building import draft

Desk = dict[str, Any]
"""`text`: YAML; `sent`: texts that the browser will send back; `overtaken`: [time, text] of those
whose successor came back first; `boxed`: the text in the page's YAML box; `shelf`: parts put aside,
so that going back to a method, a kind of student or of held-out rows loses nothing."""

_LOCK = threading.RLock()
"""Edits of two fields may run side by side; each must start from what the other has written."""

OVERTAKEN_S = 60.0


def new() -> Desk:
    """Make an empty desk."""
    return {"text": "", "sent": [], "overtaken": [], "boxed": "", "shelf": {}}


def default_text() -> str:
    """Return the first ready recipe: the default state is a working run."""
    return str(api.ready_recipes()[0]["yaml"])


def lay(desk: Desk, text: str) -> str:
    """Put a recipe that the browser already has on the desk; returns it."""
    with _LOCK:
        desk["text"] = text
        return text


def send(desk: Desk, text: str) -> str:
    """Put a recipe on the desk that the browser gets now, and will send back; returns it."""
    with _LOCK:
        if text != desk["text"]:
            desk["sent"] = [*desk["sent"][-200:], text]
        return lay(desk, text)


def current(desk: Desk, stored: str = "") -> str:
    """Return the recipe on the desk; an empty desk (the app was restarted) takes `stored`."""
    with _LOCK:
        return desk["text"] or lay(desk, stored or default_text())


def take_box(desk: Desk, text: str) -> None:
    """Note what the page's YAML box holds, as it was left."""
    with _LOCK:
        desk["boxed"] = text


def fill_box(desk: Desk) -> str | None:
    """Return the recipe for the page's YAML box; None where it has been put or typed there.

    Put there a second time, it would wipe out what is being typed.
    """
    with _LOCK:
        if desk["text"] == desk["boxed"]:
            return None
        desk["boxed"] = desk["text"]
        return str(desk["text"])


def is_echo(desk: Desk, text: str) -> bool:
    """Tell whether the browser sends back what was written here, so that it brings nothing new.

    Each text comes back once, the last of several perhaps alone, and an older one may come late.
    A text that comes a second time was put there by another tab.
    """
    with _LOCK:
        now = time.monotonic()
        late = [entry for entry in desk["overtaken"] if now - entry[0] < OVERTAKEN_S]
        desk["overtaken"] = late
        if text in desk["sent"]:
            at = len(desk["sent"]) - 1 - desk["sent"][::-1].index(text)
            desk["overtaken"] = [*late, *([now, old] for old in desk["sent"][:at])]
            desk["sent"] = desk["sent"][at + 1 :]
            return True
        return any(text == old for _, old in late)


def change(desk: Desk, stored: str, edit: Callable[[draft.Mapping], draft.Mapping]) -> str:
    """Apply one edit; returns the new text. Raises `BrokenYaml`, leaving the desk as it is.

    An edit that changes nothing leaves the text as it was, comments included.
    """
    with _LOCK:
        text = current(desk, stored)
        before = draft.read(text)
        after = edit(before)
        return text if after == before else send(desk, draft.write(after))


def swap(desk: Desk, shelf_key: str, old: Any, wanted: str, fresh: Any) -> Any:
    """Put `old` on the shelf and take `wanted` from it, or `fresh` where it was never there."""
    with _LOCK:
        if old is not None:
            desk["shelf"][shelf_key] = copy.deepcopy(old)
        return copy.deepcopy(desk["shelf"].get(wanted, fresh))


def keep_upload(path: str, runs_dir: str) -> str:
    """Copy an uploaded file beside the runs, so that it is still there when a run reads it.

    The name carries a hash of the content: the same file twice is kept once.
    """
    source = Path(path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:10]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", source.stem).strip(".-")[:60] or "rows"
    suffix = re.sub(r"[^a-z0-9.]", "", source.suffix.lower())[:10]
    folder = Path(runs_dir).with_name(f"{Path(runs_dir).name}-uploads")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}-{digest}{suffix}"
    if not target.exists():
        partial = target.with_name(f"{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
    return str(target)
