"""Follows runs: remembers what was read of each run's events, and reads only what is new.

In: a run's id. Out: its stages, samples, teacher's score and warnings so far. All of it is on
disk: forgetting it costs one more read. Knows nothing of Gradio.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from distill_core import api

RUNS_REMEMBERED = 16


@dataclass
class Followed:
    """What a run has told so far."""

    offset: int = 0
    """Bytes of events read."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """`index, title, kind, total_steps, baseline` each, in order; a probe's: `arm, seed` too."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    score: str = "exact_match"
    """What models are judged by; a name of `api.SCORES`."""
    teacher_score: float | None = None
    """On the rows scored while training; None until told."""
    rows_scored: int = 0
    """Held-out rows of the newest score while training."""
    final: dict[str, Any] = field(default_factory=dict)
    """Final scores on all held-out rows; empty until the run has finished."""
    stage: int = 0
    """Index of the stage that the last event belongs to."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, event: dict[str, Any]) -> None:
        """Remember one event."""
        kind = event["type"]
        if "stage" in event and isinstance(event["stage"], int):
            self.stage = event["stage"]
        if kind == "run_started":
            self.stages = list(event.get("stages") or self.stages)
        elif kind == "stage_started":
            self._update_stage(event)
        elif kind == "sample":
            self._take_sample(event)
        elif kind == "warning" and event.get("message") not in self.warnings:
            self.warnings.append(str(event.get("message")))
        elif kind == "evaluation":
            metrics = event.get("metrics") or {}
            self.score = _judged_by(metrics) or self.score
            told = metrics.get(f"held_out_teacher_{self.score}")
            self.teacher_score = self.teacher_score if told is None else told
            self.rows_scored = int(event.get("rows") or 0)
        elif kind == "run_finished":
            self.final = _final_scores(event.get("evaluation") or {}, self.score)

    @property
    def is_probe(self) -> bool:
        """Whether its stages are arms that are compared, and none is the run's student."""
        return any("arm" in stage for stage in self.stages)

    def baseline_now(self) -> bool:
        """Whether the stage that runs, or ran last, is a baseline."""
        return any(s["index"] == self.stage and s.get("baseline") for s in self.stages)

    def _update_stage(self, event: dict[str, Any]) -> None:
        known = {stage["index"]: stage for stage in self.stages}
        keys = ("title", "kind", "total_steps", "baseline")
        stage = known.get(event["stage"], {"index": event["stage"]})
        stage |= {key: event[key] for key in keys if key in event}
        known[event["stage"]] = stage
        self.stages = [known[index] for index in sorted(known)]

    def _take_sample(self, event: dict[str, Any]) -> None:
        """A resumed run answers some steps again: the later answer holds."""
        same = (event.get("stage"), event.get("step"), event["prompt"])
        self.samples = [
            s for s in self.samples if (s.get("stage"), s.get("step"), s["prompt"]) != same
        ] + [event]


def _judged_by(metrics: dict[str, Any]) -> str | None:
    """The score that held-out rows are judged by; exact match only where there is no other."""
    found = [name for name in api.TASK_METRICS if f"held_out_{name}" in metrics]
    return next((name for name in found if name != "exact_match"), found[0] if found else None)


def _final_scores(evaluation: dict[str, Any], metric: str) -> dict[str, Any]:
    """Pick what the Train tab shows out of `evaluation.json`'s content."""
    models = evaluation.get("models") or {}

    def of(model: str, score: str) -> Any:
        return (models.get(model) or {}).get(score)

    return {
        "score": of("student", metric),
        "top1_agreement": of("student", "top1_agreement"),
        "teacher": of("teacher", metric),
        "baseline": of("fine_tuned_on_labels", metric),
        "rows": (evaluation.get("data") or {}).get("rows"),
    }


_followed: OrderedDict[tuple[str, str], Followed] = OrderedDict()
_lock = threading.Lock()


def follow(run: str, *, runs_dir: str) -> Followed:
    """Read what is new in a run's events and return all that is known; raises `DistillError`."""
    with _lock:
        followed = _followed.setdefault((runs_dir, run), Followed())
        _followed.move_to_end((runs_dir, run))
        while len(_followed) > RUNS_REMEMBERED:
            _followed.popitem(last=False)
    with followed._lock:
        events, followed.offset = api.read_events(
            run, followed.offset, steps=False, runs_dir=runs_dir
        )
        for event in events:
            followed.take(event)
    return followed


def forget(run: str, *, runs_dir: str) -> None:
    """Drop what is remembered of a run, as after deleting it."""
    with _lock:
        _followed.pop((runs_dir, run), None)
