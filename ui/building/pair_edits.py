"""Edits of Build's pair: its teacher, and what the student starts from and how large it is.

In: a field's value, the recipe in the browser, the desk. Out: the recipe's text, and a new
`version` where its shape has changed; the losses follow the pair. Knows nothing of the layout.
"""

from __future__ import annotations

from typing import Any

from distill_core import api
from ui import form
from ui.building import desk as desks
from ui.building import draft, pair_fit
from ui.building.desk import Desk
from ui.building.edits import changed, reshaped


def edit_teacher(value: str | None, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Change the teacher, or the model that is tuned, wherever the stages name it."""
    name = (value or "").strip()

    def apply(data: draft.Mapping) -> draft.Mapping:
        return draft.put(data, draft.pair(data).teacher_path, name)

    return _reshaped_pair(desk, stored, apply, version)


def edit_student_model(value: str | None, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Change the published checkpoint that the student starts from."""
    name = (value or "").strip()

    def apply(data: draft.Mapping) -> draft.Mapping:
        path = f"{draft.pair(data).student_path}.model"
        return draft.put(data, path, name) if name else draft.drop(data, path)

    return _reshaped_pair(desk, stored, apply, version)


def edit_student(key: str, value: Any, stored: str, desk: Desk) -> Any:
    """Change one setting of the student, such as its layers."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value

    def apply(data: draft.Mapping) -> draft.Mapping:
        path = f"{draft.pair(data).student_path}.{key}"
        return draft.drop(data, path) if whole in (None, "") else draft.put(data, path, whole)

    return changed(desk, stored, apply)


def edit_student_setting(
    setting: form.Setting, key: str, value: Any, stored: str, desk: Desk
) -> Any:
    """Change another setting of the student, by its key, wherever the stages now have it."""
    return edit_student(key, form.parsed(setting, value), stored, desk)


def toggle_student_group(
    key: str, on: bool, stored: str, desk: Desk, version: int
) -> tuple[Any, Any]:
    """Switch an optional group of the student's settings on or off."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        whole = draft.pair(data).student_path
        if draft.get(data, f"{whole}.init") is None:  # as it is where nothing is said
            data = draft.put(data, f"{whole}.init", "pretrained")
        path = f"{whole}.{key}"
        kept = desks.swap(desk, f"student.{key}", draft.get(data, path), f"student.{key}", {})
        return draft.put(data, path, kept) if on else draft.drop(data, path)

    return reshaped(desk, stored, apply, version)


def edit_init(init: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Change what the student starts from; its size stays where it can."""

    def apply(data: draft.Mapping) -> draft.Mapping:
        path = draft.pair(data).student_path
        old = draft.get(data, path)
        fresh: draft.Mapping = {"init": init}
        if init in {"scratch", "layer_drop"}:
            fresh["layers"] = draft.get(data, f"{path}.layers", 2)
        if init == "width_prune":
            fresh["hidden_size"] = narrower(str(draft.get(data, draft.pair(data).teacher_path)))
        if init == "scratch":
            fresh["hidden_size"] = draft.get(data, f"{path}.hidden_size", 80)
        key = f"student:{draft.get(old, 'init', '')}"
        return draft.put(data, path, desks.swap(desk, key, old, f"student:{init}", fresh))

    return _reshaped_pair(desk, stored, apply, version)


def narrower(teacher: str) -> int | None:
    """About three quarters of a teacher's width that fits its heads; None where none is known."""
    try:
        facts = api.model_facts(teacher)
    except (api.DistillError, OSError):
        return None
    whole, heads = int(facts["hidden_size"] or 0), int(facts["attention_heads"] or 1)
    # all heads on less each, or fewer heads as wide as before: architectures differ
    for part in (heads, max(1, whole // heads)):
        width = max(1, round(0.75 * whole / part)) * part
        try:
            api.student_facts(teacher, {"init": "width_prune", "hidden_size": width})
        except api.DistillError:
            continue
        return width
    return None


def _reshaped_pair(desk: Desk, stored: str, apply: Any, version: int) -> tuple[Any, Any]:
    """Change a model of the desk's recipe, and its losses where they no longer fit the pair."""
    try:
        fit = pair_fit.fit_of(apply(draft.read(desks.current(desk, stored))))
    except draft.BrokenYaml:
        fit = None  # told when the change is tried
    return reshaped(desk, stored, lambda data: pair_fit.fitted(apply(data), fit, desk), version)
