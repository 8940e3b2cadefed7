"""The losses follow the pair: exchanged when a teacher or student with other tokens is chosen.

In: a draft and the desk. Out: a draft whose distil stage has losses that fit its pair. What fits is
for `api.fitting_losses` to say; what was exchanged goes on the desk's shelf and comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distill_core import api
from ui.building import desk as desks
from ui.building import draft


@dataclass(frozen=True)
class Fit:
    """What a pair asks of the losses at `path`."""

    path: str
    comparable: bool | None


def fit_of(data: draft.Mapping) -> Fit | None:
    """Look at the draft's pair; None where there is none, or a model is not known.

    Classes are compared by any loss, and no text is: there is nothing to exchange.
    """
    pair = draft.pair(data)
    if not pair.has_teacher or draft.task(data) == "text_classification":
        return None
    report = report_of(data)
    path = f"{pair.student_path.rpartition('.')[0]}.losses"
    return Fit(path, report["comparable"]) if report else None


def report_of(data: draft.Mapping) -> dict[str, Any] | None:
    """What is found about the draft's teacher and student; None where one is not known."""
    pair = draft.pair(data)
    teacher = str(draft.get(data, pair.teacher_path) or "")
    student = draft.get(data, pair.student_path)
    if not teacher or not pair.has_teacher or not isinstance(student, dict):
        return None
    try:
        return api.pair_report(teacher, student, task=draft.task(data))
    except (api.DistillError, OSError):
        return None


def default_losses() -> list[draft.Mapping]:
    """The losses of a distil stage that names none."""
    return [{"name": "forward_kl"}, {"name": "cross_entropy"}]


def fitted(data: draft.Mapping, fit: Fit | None, desk: desks.Desk) -> draft.Mapping:
    """Return the draft with losses that fit; those put aside before for such a pair come first."""
    if fit is None:
        return data
    listed = draft.get(data, fit.path)
    old = [loss for loss in listed if isinstance(loss, dict)] if isinstance(listed, list) else None
    now = old if old is not None else default_losses()
    new = api.fitting_losses(fit.comparable, now)
    if new == now:
        return data
    before, after = ("across", "direct") if fit.comparable else ("direct", "across")
    kept = desks.swap(desk, f"{fit.path}:{before}", old, f"{fit.path}:{after}", new)
    return draft.put(data, fit.path, kept)
