"""Probes on this machine: what one would do, start or go on with it, how far it is.

In: answers, minutes, a runs folder. Out: plain dictionaries, and runs that whoever supervises the
folder starts like any other. Knows no training.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core import files, runs
from distill_core.advisor import answers as answer_fields
from distill_core.advisor import measured, observed
from distill_core.advisor.advisor_here import KNOWN_HERE
from distill_core.advisor.answers import Answers
from distill_core.advisor.probe_plan import Planned, planned
from distill_core.probe import probe_file, report
from distill_core.probe.probe_file import Pace
from distill_core.runs import run_control
from distill_core.runs import status as run_status


def plan_here(
    answers: Mapping[str, Any] | None, *, minutes: float, hub: bool = False
) -> dict[str, Any]:
    """What a probe would do (keys: `api.probe_plan`); raises `RecipeError`."""
    found = _planned(answers, minutes=minutes, hub=hub)
    arms = [
        {"verdict": arm.verdict, "title": arm.title, "full_steps": arm.full_steps}
        for arm in found.probe.arms
    ]
    return {"words": found.words, "minutes": found.probe.minutes, "arms": arms}


def start(
    answers: Mapping[str, Any] | None, *, minutes: float, runs_dir: Path, hub: bool = False
) -> str:
    """Start a probe, or go on with the one of these answers; returns the run's id.

    One that ended for lack of time is given `minutes` more; one that has nothing left to find out
    is left as it is. Raises `RecipeError`, `DiskFullError`.
    """
    plan = _planned(answers, minutes=minutes, hub=hub)
    known = next(measured.probes(_seen(answers, hub=hub), runs_dir), None)
    if known is None:
        folder = runs.create(plan.recipe, runs_dir, state="paused")  # until it is a probe
        probe_file.write(folder, plan.probe)
        run_control.resume(folder)
        return folder.name
    state = run_status.current(known)["state"]
    if state == "finished" and _could_go_on(known):
        _give_time(known, minutes)
        state = "stopped"
    if state in run_status.RESUMABLE:
        run_control.resume(known)
    return known.name


def tell(run_dir: Path) -> dict[str, Any]:
    """What a probe has found so far, and the state of its run (keys: `api.probe`)."""
    status = run_status.current(run_dir)
    facts = ("state", "phase", "message", "stage_title", "step", "total_steps", "error")
    found = report.read(run_dir)
    return {
        "run": run_dir.name,
        **{key: status.get(key) for key in facts},
        **found,
        "could_go_on": status["state"] == "finished" and _could_go_on(run_dir),
    }


def newest(answers: Mapping[str, Any] | None, runs_dir: Path) -> dict[str, Any] | None:
    """The newest probe of these answers, in whatever state; None where there is none."""
    for folder in measured.probes(_seen(answers, hub=False), runs_dir):
        return tell(folder)
    return None


def _planned(answers: Mapping[str, Any] | None, *, minutes: float, hub: bool) -> Planned:
    return planned(_seen(answers, hub=hub), minutes=minutes, known=KNOWN_HERE)


def _seen(answers: Mapping[str, Any] | None, *, hub: bool) -> Answers:
    return observed.complete(answer_fields.parse(answers), hub=hub).answers


def _could_go_on(run_dir: Path) -> bool:
    """Whether more time could still tell more."""
    told = probe_file.stored_result(run_dir)
    undecided = told.get("winner") is None and not told.get("same")
    return undecided and told.get("seeds", 0) < told.get("of_seeds", 0)


def _give_time(run_dir: Path, minutes: float) -> None:
    """Let a probe that has ended go on for some more minutes of work."""
    probe, pace = probe_file.read(run_dir), probe_file.read_pace(run_dir)
    with run_control.changing(run_dir.parent):
        more = pace.used_s / 60 + minutes
        probe_file.write(run_dir, probe.model_copy(update={"minutes": more}))
        told = probe_file.stored_result(run_dir)
        if pace.too_short or told.get("too_early"):  # with longer arms, from the start
            probe_file.write_pace(run_dir, Pace(used_s=pace.used_s))
            shutil.rmtree(run_dir / probe_file.ARMS, ignore_errors=True)
            told = {}
        files.replace_json(run_dir / probe_file.RESULT, told | {"final": False} if told else {})
        run_status.write(run_dir, run_status.read(run_dir) | {"state": "stopped"})
