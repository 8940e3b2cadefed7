"""Writes a run down while it goes on: events, status, samples, scores.

In: the pipeline's events, one by one. Out: the files of the run's folder, `status.json` never
older than a second. What a step says is written by a thread of its own, so that training never
waits for the disk. Knows nothing of torch, nor of what makes the events.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from pathlib import Path
from typing import Any

from distill_core import files
from distill_core.events import Event
from distill_core.runs import journal, run_control
from distill_core.runs import status as run_status
from distill_core.runs.pace import Pace, PhasePace
from distill_core.runs.status import Status
from distill_core.scores import TASK_METRICS

HEARTBEAT_S = 1.0
ENDS = frozenset({"run_finished", "run_stopped", "run_failed"})
STEPS_EVERY_S = 0.2
"""Steps wait at most so long in memory, and with them what changes little in `status.json`."""


class Recorder:
    """The one writer of a run's folder while its process lives. Use as a context manager."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.status: Status = run_status.read(run_dir)
        self.summary = files.read_json(run_dir / "summary.json")
        self._journal = journal.Journal(run_dir)
        self._samples: journal.Journal | None = None
        self._pace, self._phase_pace = Pace(), PhasePace()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held by whoever writes the status; never asked for while `_lock` is held."""
        self._news = False
        """Whether something is not in the status on the disk yet."""
        self._written_at = 0.0
        self._over = False
        self._trouble: BaseException | None = None
        self._leaving = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._ballast = run_dir / ".ballast"

    def __enter__(self) -> Recorder:
        """Start the heartbeat; keep a little room on the disk for the last words."""
        with contextlib.suppress(OSError):  # a full disk is told by the first event
            self._ballast.write_bytes(bytes(65536))
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the heartbeat, write what waits, let go of the files."""
        self._leaving.set()
        self._heart.join()
        self._journal.__exit__()
        if self._samples:
            self._samples.__exit__()
        self._ballast.unlink(missing_ok=True)

    def record(self, event: Event) -> None:
        """Write one event and what follows from it; raises `DiskFullError`."""
        if self._trouble:
            trouble, self._trouble = self._trouble, None
            raise trouble
        self._journal.append(event)
        with self._lock:
            changed = _EFFECTS.get(event["type"], _nothing)(self, event)
        if changed or event["type"] in ENDS:
            self._write_status(last=event["type"] in ENDS)
        else:
            self._news = True

    def record_failure(self, event: Event) -> None:
        """As `record`, on a disk that may be full: the ballast goes overboard first."""
        self._trouble = None
        self._ballast.unlink(missing_ok=True)
        with contextlib.suppress(files.DiskFullError):
            self._journal.append(event)
        with self._lock:
            _EFFECTS[event["type"]](self, event)
        self._write_status(last=True, somehow=True)

    def _beat(self) -> None:
        while not self._leaving.wait(min(HEARTBEAT_S, STEPS_EVERY_S)):
            try:
                self._journal.flush()
                if self._news or time.monotonic() - self._written_at >= HEARTBEAT_S:
                    self._write_status()
            except Exception as error:
                self._trouble = error  # told by the next `record`

    def _write_status(self, *, last: bool = False, somehow: bool = False) -> None:
        with self._writing:
            with self._lock:
                if self._over:
                    return  # from its last status on, a run belongs to whoever resumes it
                self._over = last
                self._news = False
                self.status["heartbeat_time"] = time.time()
                now = copy.deepcopy(self.status)
            self._written_at = time.monotonic()
            write = run_status.write_somehow if somehow else run_status.write
            write(self.run_dir, now)

    def end(self, state: str, **changes: Any) -> bool:
        """Change to a state without a process."""
        self.status |= {"state": state, "message": "", "eta_s": None} | changes
        run_control.forget_requests(self.run_dir)
        return True

    def write_summary(self, facts: dict[str, Any]) -> None:
        """Add to `summary.json` what lists of runs show; None is left out."""
        self.summary |= {key: value for key, value in facts.items() if value is not None}
        files.replace_json(self.run_dir / "summary.json", self.summary)

    def add_sample(self, event: Event) -> None:
        """Append to `samples.jsonl`."""
        if self._samples is None:
            self._samples = journal.Journal(self.run_dir, "samples.jsonl")
        self._samples.append(event)


# --- what each type of event changes; True: write the status at once ------------------------------


def _nothing(recorder: Recorder, event: Event) -> bool:
    return False


def _run_started(recorder: Recorder, event: Event) -> bool:
    stages = event.get("stages") or []
    recorder.status |= {
        "stages": len(stages),
        "steps_per_stage": [stage.get("total_steps") or 0 for stage in stages],
        "stage_titles": [stage.get("title", "") for stage in stages],
    }
    return True


def _stage_started(recorder: Recorder, event: Event) -> bool:
    stage = event["stage"]
    recorder.status |= {
        "stage": stage,
        "stages": max(recorder.status["stages"], stage + 1),
        "stage_title": event.get("title", ""),
        "step": _saved_step(recorder.status, stage),
        "baseline": bool(event.get("baseline")),
        "total_steps": event.get("total_steps", 0),
        "done": 0,
        "total": 0,
    }
    known = recorder.status.setdefault("steps_per_stage", [])
    known += [0] * (stage + 1 - len(known))
    known[stage] = event.get("total_steps", 0)
    if not event.get("baseline"):
        student, teacher = event.get("student"), event.get("teacher")
        facts = {
            "student_parameters": _get(student, "parameters"),
            "teacher_parameters": _get(teacher, "parameters"),
            "teacher_rounding": _get(teacher, "rounding"),
        }
        recorder.write_summary(facts)
    return True


def _rows_ready(recorder: Recorder, event: Event) -> bool:
    if tried := event.get("loss_kernels"):
        recorder.write_summary({"loss_kernels": tried})
    return False


def _progress(recorder: Recorder, event: Event) -> bool:
    changed = event["phase"] != recorder.status["phase"]
    changed |= event["message"] != recorder.status["message"]
    for key in ("phase", "message", "done", "total"):
        recorder.status[key] = event[key]
    recorder.status["eta_s"] = recorder._phase_pace.seconds_left(event)
    return changed


def _step(recorder: Recorder, event: Event) -> bool:
    status = recorder.status
    changed = status["phase"] != "training"
    status |= {"phase": "training", "stage": event["stage"], "step": event["step"]}
    status |= {"message": "", "done": event["step"], "total": status["total_steps"]}
    totals = status.get("steps_per_stage") or [status["total_steps"]]
    status["eta_s"] = recorder._pace.seconds_left(event, totals)
    return changed


def _evaluation(recorder: Recorder, event: Event) -> bool:
    if recorder.status.get("baseline"):
        return False
    metrics = event.get("metrics", {})
    names = [f"held_out_{name}" for name in TASK_METRICS]
    recorder.write_summary({name: metrics.get(name) for name in names})
    return False


def _sample(recorder: Recorder, event: Event) -> bool:
    recorder.add_sample(event)
    return False


def _checkpoint(recorder: Recorder, event: Event) -> bool:
    recorder.status["checkpoint"] = {"stage": event["stage"], "step": event["step"]}
    return True


def _stage_finished(recorder: Recorder, event: Event) -> bool:
    recorder.status["checkpoint"] = {"stage": event["stage"] + 1, "step": 0}
    return True


def _run_finished(recorder: Recorder, event: Event) -> bool:
    evaluation = event.get("evaluation") or {}
    if evaluation:
        files.replace_json(recorder.run_dir / "evaluation.json", evaluation)
        models = evaluation.get("models", {})
        ratios = ("retention", "size_ratio", "speedup", "gap_closed", "verdict")
        facts = {key: evaluation.get(key) for key in ratios}
        for role in ("teacher", "student"):
            facts[f"{role}_parameters"] = _get(models.get(role), "parameters")
        metric = _get(evaluation.get("metric"), "name") or "exact_match"
        for key in dict.fromkeys((metric, "exact_match", *_SUMMED_UP)):
            facts[key] = _get(models.get("student"), key)
        facts |= {"metric": metric, "score": facts[metric]}
        facts["teacher_score"] = _get(models.get("teacher"), metric)
        recorder.write_summary(facts | {"seconds": event.get("seconds")})
    return recorder.end("finished", phase="")


_SUMMED_UP = ("cross_entropy", "tokens_per_s", "rows_per_s", "bytes")


def _run_stopped(recorder: Recorder, event: Event) -> bool:
    # the phase stays: it tells how far the run has come
    return recorder.end("paused" if event.get("reason") == "paused" else "stopped")


def _run_failed(recorder: Recorder, event: Event) -> bool:
    error = {key: event.get(key, "") for key in ("message", "field", "kind")}
    return recorder.end("failed", message=event["message"], error=error)


def _saved_step(status: Status, stage: int) -> int:
    saved = status["checkpoint"]
    return saved["step"] if saved and saved["stage"] == stage else 0


def _get(facts: object, key: str) -> Any:
    return facts.get(key) if isinstance(facts, dict) else None


_EFFECTS = {
    "run_started": _run_started,
    "stage_started": _stage_started,
    "rows_ready": _rows_ready,
    "progress": _progress,
    "step": _step,
    "evaluation": _evaluation,
    "sample": _sample,
    "checkpoint": _checkpoint,
    "stage_finished": _stage_finished,
    "run_finished": _run_finished,
    "run_stopped": _run_stopped,
    "run_failed": _run_failed,
}
