"""Edits of a stage's losses in Build's recipe: which terms, their settings, their schedules.

In: a field's value, the recipe in the browser, the desk. Out: the recipe's text, and a new
`version` where its shape has changed. A loss is found by its name.
"""

from __future__ import annotations

from typing import Any

from ui import form
from ui.building import desk as desks
from ui.building import draft, pair_fit
from ui.building.desk import Desk
from ui.building.edits import changed, reshaped


def toggle_loss(
    stage: int, name: str, on: bool, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Add a loss to a stage, with its default weight, or take it out."""
    path = f"stages.{stage}.losses"

    def apply(data: draft.Mapping) -> draft.Mapping:
        losses = _losses(data, stage)
        old = next((loss for loss in losses if loss.get("name") == name), None)
        kept = desks.swap(desk, f"loss:{name}", old, f"loss:{name}", {"name": name})
        others = [loss for loss in losses if loss.get("name") != name]
        return draft.put(data, path, [*others, kept] if on else others)

    return reshaped(desk, stored, apply, version)


def edit_loss(
    stage: int, name: str, setting: form.Setting, value: Any, stored: str, desk: Desk
) -> Any:
    """Change a loss's weight or temperature; the loss is found by its name."""
    parsed = form.parsed(setting, value)
    return changed(
        desk, stored, lambda data: _with_loss_setting(data, stage, name, setting, parsed)
    )


def toggle_schedule(
    stage: int,
    name: str,
    setting: form.Setting,
    on: bool,
    stored: str,
    desk: Desk,
    version: int,
) -> tuple[Any, Any]:
    """Let a loss's weight or temperature move from where it is, or stay at its first value."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        loss = next((loss for loss in _losses(data, stage) if loss.get("name") == name), {})
        old = loss.get(setting.key, setting.default)
        first = draft.get(old, "start", setting.default) if isinstance(old, dict) else old
        fresh = {"start": first, "end": first} if on else first
        key = f"{name}.{setting.key}"
        kept = desks.swap(desk, f"{key}:{not on}", old, f"{key}:{on}", fresh)
        return _with_loss_setting(data, stage, name, setting, kept)

    return reshaped(desk, stored, apply, version)


def _with_loss_setting(
    data: draft.Mapping, stage: int, name: str, setting: form.Setting, value: Any
) -> draft.Mapping:
    own = setting.path.removeprefix(f"stages.{stage}.losses.{name}.")
    losses = [
        draft.put(loss, own, value) if loss.get("name") == name else loss
        for loss in _losses(data, stage)
    ]
    return draft.put(data, f"stages.{stage}.losses", losses)


def _losses(data: draft.Mapping, stage: int) -> list[draft.Mapping]:
    losses = draft.get(data, f"stages.{stage}.losses")
    listed = losses if isinstance(losses, list) else pair_fit.default_losses()
    return [loss for loss in listed if isinstance(loss, dict)]
