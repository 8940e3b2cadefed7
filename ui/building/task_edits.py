"""Build's change of task: what only one task reads is put aside, and comes back with it.

In: the task, the recipe in the browser, the desk. Out: the recipe's text and a new `version`.
"""

from __future__ import annotations

from typing import Any

from distill_core import api
from ui.building import desk as desks
from ui.building import draft
from ui.building.desk import Desk
from ui.building.edits import reshaped

TASK_PARTS = ("data.columns", "data.classes", "data.prompt_template", "data.system_prompt")
"""Settings of the data that mean something for one task alone."""


def edit_task(task: str, stored: str, desk: Desk, version: int) -> tuple[Any, Any]:
    """Change what the models are made for; what only the other task reads is put on the shelf.

    A teacher that tells no classes apart yet is fine-tuned first.
    """

    def apply(data: draft.Mapping) -> draft.Mapping:
        before = draft.task(data)
        if task not in draft.TASKS or task == before:
            return data
        old = {path: value for path in TASK_PARTS if (value := draft.get(data, path)) is not None}
        kept = desks.swap(desk, f"task:{before}", old, f"task:{task}", {})
        for path in old:
            data = draft.drop(data, path)
        for path, value in kept.items():
            data = draft.put(data, path, value)
        data = draft.put(data, "task", task)
        needs_head = task == "text_classification" and draft.method(data) == "Distill"
        if needs_head and not _tells_classes_apart(data):
            data = draft.with_method(data, "Fine-tune → distill", desk["shelf"].get("stages"))
        return data

    return reshaped(desk, stored, apply, version)


def _tells_classes_apart(data: draft.Mapping) -> bool:
    """Whether the teacher has a head for classes, as far as its configuration is here."""
    name = str(draft.get(data, draft.pair(data).teacher_path) or "")
    try:
        return bool(api.model_facts(name)["labels"])
    except (api.DistillError, OSError):
        return False
