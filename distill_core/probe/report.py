"""What a probe has found: who is better by how much, in words, with everything that it rests on.

In: a probe, the arms that have finished. Out: plain dictionaries, ready for JSON. Trains nothing
and knows no rule of the advisor.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill_core.errors import RunError
from distill_core.probe import curves, probe_file
from distill_core.probe.arm_stages import first_stage
from distill_core.probe.looks import FIRST_LOOK, Look, looks
from distill_core.probe.probe_file import Pace, Probe, Trained
from distill_core.runs import series
from distill_core.scores import SCORES, TASK_METRICS, higher_is_better

STUDENT, UNTRAINED = "student", "untrained_student"
UNTRAINED_DOING = "leaving it untrained"

ENOUGH = 0.25
"""Share of the gap to the teacher that has to be closed before a verdict means something."""

HOPELESS = 0.5
"""Below this part of it the first seed tells that more seeds would not help, only longer arms."""

UNEQUAL = 1.25
"""Arms that learnt from so many times the other's tokens are told apart in words."""

Seeds = Sequence[Sequence[Trained]]
"""Of each finished seed, one `Trained` per arm."""


def looks_at(done: Seeds, probe: Probe) -> list[Look]:
    """The looks that the finished seeds allow."""
    if not done:
        return []
    first = [arms[0].rows[STUDENT] for arms in done]
    second = [arms[1].rows[STUDENT] if len(arms) > 1 else arms[0].rows[UNTRAINED] for arms in done]
    return looks(first, second, metric=done[0][0].metric)


def decided(done: Seeds, probe: Probe) -> bool:
    """Whether the finished seeds make more of them needless."""
    if too_early(done, probe):  # of one or two seeds, near the mark, nobody can tell
        return len(done) >= FIRST_LOOK or _closed(done) < HOPELESS * ENOUGH
    taken = looks_at(done, probe)
    return bool(taken) and (taken[-1].separated or taken[-1].surely_same(done[0][0].metric))


def too_early(done: Seeds, probe: Probe) -> str:
    """Why it is too early for a verdict; "" where it is not.

    Who leads in the first few steps need not lead later. So the better arm must have closed a
    quarter of the gap between the student before training and the teacher (without one: be better
    than before training), unless its full run is not longer than this.
    """
    if not done or done[0][0].steps >= min(arm.full_steps for arm in probe.arms):
        return ""
    closed, steps = _closed(done), f"{done[0][0].steps:,}"
    if not closed:
        return (
            f"After {steps} steps neither is better than before training, so there is nothing to "
            "compare yet. Give it more time."
        )
    if closed >= ENOUGH:
        return ""
    return (
        f"After {steps} steps the better one has closed {closed:.0%} of the gap to the "
        f"teacher, and who leads before {ENOUGH:.0%} need not lead later. Give it more time."
    )


def _closed(done: Seeds) -> float:
    """Share of the gap to the teacher that the better arm has closed; 1 where none is left.

    0 where it is not better than before training by what matters.
    """
    metric = done[0][0].metric
    way = 1 if higher_is_better(metric) else -1
    before = statistics.fmean(statistics.fmean(arms[0].rows[UNTRAINED]) for arms in done)
    after = (
        statistics.fmean(statistics.fmean(arms[place].rows[STUDENT]) for arms in done)
        for place in range(len(done[0]))
    )
    gain = max(way * (score - before) for score in after)
    if gain <= TASK_METRICS[metric].same_within:
        return 0.0
    teachers = [one.teacher_score for arms in done for one in arms if one.teacher_score is not None]
    gap = way * (statistics.fmean(teachers) - before) if teachers else 0.0
    return gain / gap if gap > gain else 1.0


def conclusion(run_dir: Path, probe: Probe, pace: Pace, *, final: bool) -> dict[str, Any]:
    """What has been found so far.

    `{"final", "minutes", "used_s", "steps", "rows", "metric", "seeds", "of_seeds", "winner":
    verdict | None, "loser", "same": surely within what matters, "too_early", "difference",
    "low", "high", "confidence", "looks": [{"seeds", "difference", "low", "high", "confidence"}],
    "words", "why", "notes", "arms": [{"verdict", "title", "doing", "full_steps", "score", "scores",
    "tokens", "supervised_tokens", "starts_from", "parameters", "seconds"}], "untrained_score",
    "fingerprint"}`.
    """
    done = probe_file.finished_seeds(run_dir, probe)
    taken = looks_at(done, probe)
    last = taken[-1] if taken and not too_early(done, probe) else None
    metric = done[0][0].metric if done else None
    names = [arm.verdict for arm in probe.arms] + ([] if len(probe.arms) > 1 else [UNTRAINED])
    better = None if last is None or not last.separated else int(last.high < 0)
    early = bool(too_early(done, probe))
    return {
        "final": final,
        "minutes": probe.minutes,
        "used_s": pace.used_s,
        "steps": pace.steps,
        "rows": len(done[0][0].rows[STUDENT]) if done else None,
        "metric": metric,
        "seeds": len(done),
        "of_seeds": probe.seeds,
        "winner": None if better is None else names[better],
        "loser": None if better is None else names[1 - better],
        "same": bool(
            last and metric and not last.separated and last.surely_same(metric) and not early
        ),
        "too_early": early,
        "difference": last.difference if last else None,
        "low": last.low if last else None,
        "high": last.high if last else None,
        "confidence": last.confidence if last else None,
        "looks": [asdict(one) for one in taken],
        "words": _words(probe, pace, last, metric),
        "why": _why(probe, pace, done, last, metric) if final else "",
        "notes": _notes(probe, pace, done),
        "arms": [_arm(probe, place, done) for place in range(len(probe.arms))],
        "untrained_score": _untrained(done),
        "fingerprint": probe.fingerprint,
    }


def _arm(probe: Probe, place: int, done: Seeds) -> dict[str, Any]:
    arm, found = probe.arms[place], [arms[place] for arms in done]
    scores = [statistics.fmean(one.rows[STUDENT]) for one in found]
    return {
        "verdict": arm.verdict,
        "title": arm.title,
        "doing": arm.doing,
        "full_steps": arm.full_steps,
        "score": statistics.fmean(scores) if scores else None,
        "scores": scores,
        "tokens": found[-1].tokens if found else None,
        "supervised_tokens": found[-1].supervised_tokens if found else None,
        "starts_from": [one.starts_from for one in found],
        "parameters": found[-1].parameters if found else None,
        "seconds": sum(one.seconds for one in found),
    }


def _untrained(done: Seeds) -> float | None:
    scores = [statistics.fmean(arms[0].rows[UNTRAINED]) for arms in done]
    return statistics.fmean(scores) if scores else None


# --- words ------------------------------------------------------------------------------------


def doing(probe: Probe) -> tuple[str, str]:
    """Both sides, as in "distilling is better"."""
    named = [arm.doing for arm in probe.arms]
    return named[0], named[1] if len(named) > 1 else UNTRAINED_DOING


def _words(probe: Probe, pace: Pace, last: Look | None, metric: str | None) -> str:
    """One line: measured, or inconclusive."""
    minutes = f"{pace.used_s / 60:.0f}" if pace.used_s >= 90 else f"{pace.used_s / 60:.1f}"
    after = f"inconclusive after {minutes} minutes"
    if last is None or metric is None:
        return after
    first, second = doing(probe)
    if last.separated:
        better, low, high = (
            (first, last.low, last.high) if last.low > 0 else (second, -last.high, -last.low)
        )
        amount = _amount(abs(last.difference), low, high, metric)
        return f"measured: {better} is better by {amount}"
    amount = _amount(last.difference, last.low, last.high, metric, sign=True)
    return f"{after}: {first} against {second} {amount}"


def _amount(value: float, low: float, high: float, metric: str, *, sign: bool = False) -> str:
    """Shares in points of a hundred, everything else in its own unit: 6.1 points [3.9, 8.2]."""
    share = SCORES[metric].unit == "0–1"
    scale, digits = (100, 1) if share else (1, 3)
    unit = "points" if share else SCORES[metric].unit
    first, *ends = (one * scale + 0.0 for one in (value, low, high))
    shown = f"{first:+.{digits}f}" if sign else f"{first:.{digits}f}"
    return f"{shown} {unit} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def _why(probe: Probe, pace: Pace, done: Seeds, last: Look | None, metric: str | None) -> str:
    """Why it ended."""
    if pace.too_short:
        return pace.too_short
    if too_early(done, probe):
        return too_early(done, probe)
    if last and last.separated:
        return f"The interval keeps clear of zero after {last.seeds} seeds."
    if last and metric and last.surely_same(metric):
        margin = TASK_METRICS[metric].same_within
        unit = SCORES[metric].unit
        within = f"{100 * margin:g} points" if unit == "0–1" else f"{margin:g} {unit}"
        return f"Both are surely within {within} of each other; more seeds would not tell more."
    if len(done) == probe.seeds:
        return f"All {probe.seeds} seeds are done, and the interval still holds zero."
    seeds = f"{len(done)} seed{'' if len(done) == 1 else 's'}"
    least = f"; a verdict needs {FIRST_LOOK}" if last is None else ""
    return f"The {probe.minutes:g} minutes were over after {seeds}{least}. Give it more time."


def _notes(probe: Probe, pace: Pace, done: Seeds) -> list[str]:
    """Seeds that do not count, and what was not the same for both."""
    notes = []
    if pace.dropped:
        few = " and ".join(f"{steps:,}" for steps in dict.fromkeys(pace.dropped))
        notes.append(
            f"There was time for longer arms than planned: {len(pace.dropped)} of {few} steps came "
            "first, on which nothing here rests."
        )
    if not done or len(probe.arms) < 2:
        return notes
    learnt = [sum(arms[place].supervised_tokens for arms in done) for place in (0, 1)]
    if max(learnt) > UNEQUAL * max(1, min(learnt)):
        more = probe.arms[learnt.index(max(learnt))].doing
        times = max(learnt) / max(1, min(learnt))
        notes.append(
            f"Steps and rows per step were the same; {more} had longer answers to learn from, "
            f"{times:.1f} times the tokens."
        )
    if any(arms[0].starts_from != arms[1].starts_from for arms in done):
        notes.append("The students began with other weights: one is cut from a tuned teacher.")
    return notes


# --- curves -----------------------------------------------------------------------------------


def with_curves(found: dict[str, Any], run_dir: Path, probe: Probe, pace: Pace) -> dict[str, Any]:
    """Add each arm's learning curves, seed by seed, and where they lead.

    Per arm `"curves": [{"step": […], "value": […]}]` and `"ahead": {"steps", "value", "low",
    "high", "why"}`.
    """
    metric = found["metric"] or "exact_match"
    drawn, _ = series.read_series(run_dir, max_points=1000)
    arms = []
    for place, (arm, told) in enumerate(zip(probe.arms, found["arms"], strict=True)):
        own = []
        for seed in range(len(pace.dropped), len(pace.dropped) + probe.seeds):
            first = first_stage(probe, seed, place)
            own_stages = range(first + arm.origin, first + len(arm.recipe.stages))
            curve = _joined(drawn, own_stages, f"held_out_{metric}")
            if curve["step"]:
                own.append(curve)
        followed = curves.ahead(
            [(one["step"], one["value"]) for one in own], steps=arm.full_steps, metric=metric
        )
        arms.append(told | {"curves": own, "ahead": asdict(followed)})
    return found | {"arms": arms}


def _joined(drawn: series.Series, stages: range, name: str) -> dict[str, list[float]]:
    """The student's stages one after the other, as one curve over its own steps."""
    curve: dict[str, list[float]] = {"step": [], "value": []}
    taken = 0.0
    for stage in stages:
        part = drawn.get(f"{stage}/{name}")
        if part is None:
            continue
        curve["step"] += [taken + step for step in part["step"]]
        curve["value"] += part["value"]
        taken = curve["step"][-1]
    return curve


def read(run_dir: Path) -> dict[str, Any]:
    """The conclusion of a probe so far; raises `RunError` where the run is none."""
    if not probe_file.is_probe(run_dir):
        raise RunError(f"{run_dir.name} is an ordinary run, not a probe.")
    probe = probe_file.read(run_dir)
    pace = probe_file.read_pace(run_dir)
    stored = probe_file.stored_result(run_dir)
    final = bool(stored.get("final"))
    found = stored or conclusion(run_dir, probe, pace, final=final)
    return with_curves(found, run_dir, probe, pace)
