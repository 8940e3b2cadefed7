"""The user's own runs on the same rows, as evidence.

In: a runs folder, the answers and what is planned. Out: `Past`: what each run measured, and who won
where distilling and fine-tuning can be compared. Reads what runs wrote; knows no rule and no votes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core import files, runs
from distill_core.advisor.answers import Answers
from distill_core.advisor.extents import Extent, extent, unlike
from distill_core.advisor.observed import row_facts
from distill_core.errors import DistillError
from distill_core.recipe import DistillStage, FileSource, HubSource, Recipe, Source, StarterSource
from distill_core.scores import SCORES, TASK_METRICS, higher_is_better
from distill_core.starter.splits import SPLITS

TEACHER, LABELS, EVEN = "teacher", "labels", "even"

NEWEST = 20
"""Runs that are looked at."""

SAME_SIZE = 1.25
"""Students within this factor are compared with each other across runs."""

_BASELINE = "fine_tuned_on_labels"


@dataclass(frozen=True)
class PastRun:
    """What one finished run has measured."""

    run: str
    name: str
    road: str
    """`teacher` where a stage was distilled, else `labels`."""
    metric: str
    score: float | None
    interval: tuple[float, float] | None
    retention: float | None
    size_ratio: float | None
    speedup: float | None
    seconds: float | None
    student_parameters: int
    labelled_rows: int | None
    winner: str | None = None
    """Against the baseline of the same run; None where that is not settled."""
    words: str = ""
    not_counted: str = ""
    """Why it says nothing of what is planned: a short trial, a student of another size."""


@dataclass(frozen=True)
class Measured:
    """What a probe of these very answers has found: verdicts, with several seeds and a test."""

    run: str
    winner: str | None
    """A verdict; None where the probe was inconclusive."""
    loser: str | None
    words: str
    why: str
    seeds: int
    used_s: float
    without: Past
    """What is known without the probe."""


@dataclass(frozen=True)
class Past:
    """What past runs on these rows add up to."""

    runs: tuple[PastRun, ...] = ()
    winner: str | None = None
    words: str = ""
    """What was measured, with the names of the runs."""
    labelled_rows: int | None = None
    """Labels that the deciding run had."""
    measured: Measured | None = None
    """The newest probe of these answers; it stands before all else."""

    @property
    def counted(self) -> list[PastRun]:
        """Runs that are like what is planned."""
        return [run for run in self.runs if not run.not_counted]


NO_PAST = Past()


def past_runs(answers: Answers, runs_dir: Path, plans: Mapping[str, Extent] | None = None) -> Past:
    """Find the newest finished runs on the rows that the answers name; raises nothing.

    `plans`: what either road would train now; a run that trained far less is no evidence.
    """
    wanted = answers.data.source
    if not wanted:
        return NO_PAST
    found: list[PastRun] = []
    for listed in runs.list_runs(runs_dir):
        if listed["status"]["state"] == "finished" and len(found) < NEWEST:
            found += _read(listed, wanted, plans or {})
    return sum_up(found)


def sum_up(found: Sequence[PastRun]) -> Past:
    """Who won, by the newest comparison that is settled: within a run first, else across two."""
    counted = Past(tuple(found)).counted
    for one in counted:
        if one.winner:
            return Past(tuple(found), one.winner, one.words, one.labelled_rows)
    for first, second in _pairs(counted):
        winner, words = _across(first, second)
        if winner:
            return Past(tuple(found), winner, words, second.labelled_rows)
    return Past(tuple(found))


# --- reading ----------------------------------------------------------------------------------


def _read(listed: dict[str, Any], wanted: str, plans: Mapping[str, Extent]) -> Iterator[PastRun]:
    """The run, where its rows are those wanted and it was scored."""
    folder = Path(listed["path"])
    try:
        recipe = runs.load_recipe(folder)
    except (DistillError, OSError):
        return  # damaged, or written by another version
    where = Path(str(listed["status"].get("cwd") or "."))
    if not any(same_rows(source, wanted, where) for source in recipe.data.sources):
        return
    told = files.read_json(folder / "evaluation.json")
    student = (told.get("models") or {}).get("student")
    if not isinstance(student, dict):
        return
    metric = str((told.get("metric") or {}).get("name") or "exact_match")
    interval = student.get(f"{metric}_ci95")
    winner, words = _within(told, metric, str(listed["name"]))
    road = TEACHER if any(isinstance(one, DistillStage) for one in recipe.stages) else LABELS
    rows, parameters = _rows(recipe, where), int(student.get("parameters") or 0)
    yield PastRun(
        run=str(listed["run"]),
        name=str(listed["name"]),
        road=road,
        metric=metric,
        score=student.get(metric),
        interval=(interval[0], interval[1]) if interval else None,
        retention=told.get("retention"),
        size_ratio=told.get("size_ratio"),
        speedup=told.get("speedup"),
        seconds=(listed["summary"] or {}).get("seconds"),
        student_parameters=parameters,
        labelled_rows=rows[0] if rows else None,
        winner=winner,
        words=words,
        not_counted=unlike(
            extent(recipe, rows=rows, parameters=parameters), plans.get(road, Extent())
        ),
    )


def same_rows(source: Source, wanted: str, where: Path) -> bool:
    """Whether a recipe's source is what the answers name: the starter, a file, a data set.

    `where` is the folder that the recipe's relative paths start from.
    """
    if isinstance(source, StarterSource):
        return wanted == "starter"
    if isinstance(source, HubSource):
        return source.id == wanted
    assert isinstance(source, FileSource)
    own = where / Path(source.path).expanduser()
    return own.resolve() == Path(wanted).expanduser().resolve()


def _rows(recipe: Recipe, where: Path) -> tuple[int, int] | None:
    """Labelled and unlabelled rows of all sources, up to their limits; None if not known.

    A share that is held out is taken off the labelled ones.
    """
    labelled = unlabelled = 0
    for source in recipe.data.sources:
        counts = _counts(source, where)
        if counts is None:
            return None
        whole = sum(counts)
        used = whole if source.limit is None else min(whole, source.limit)
        labelled += min(counts[0], used)
        unlabelled += min(counts[1], used - min(counts[0], used))
    aside = recipe.data.held_out
    return round(labelled * (1 - aside)) if isinstance(aside, float) else labelled, unlabelled


def _counts(source: Source, where: Path) -> tuple[int, int] | None:
    if isinstance(source, StarterSource):
        split = SPLITS[source.split]
        return (split.size, 0) if split.labelled else (0, split.size)
    if isinstance(source, HubSource):
        return None
    try:
        found = row_facts(FileSource(path=str(where / Path(source.path).expanduser())))
    except (DistillError, OSError):
        return None  # moved, or no longer what it was
    return found.labelled, found.unlabelled


# --- comparing --------------------------------------------------------------------------------


def _within(told: dict[str, Any], metric: str, name: str) -> tuple[str | None, str]:
    """Who won in a run that trained the same student on labels as well, by its paired interval."""
    against = [one for one in told.get("comparisons") or [] if one.get("against") == _BASELINE]
    taught = "teacher" in (told.get("models") or {})
    if not against or not taught or not against[0].get("difference_ci95"):
        return None, ""
    way = 1 if higher_is_better(metric) else -1
    low, high = sorted(way * end for end in against[0]["difference_ci95"])
    difference = way * against[0]["difference"]
    margin = TASK_METRICS[metric].same_within
    if low > 0:
        by = f"{_shown(difference, metric)} [{_shown(low, metric)}, {_shown(high, metric)}]"
        return TEACHER, f"In {name} distilling was better than fine-tuning by {by}."
    if high < 0:
        by = f"{_shown(-difference, metric)} [{_shown(-high, metric)}, {_shown(-low, metric)}]"
        return LABELS, f"In {name} fine-tuning was better than distilling by {by}."
    if low > -margin and high < margin:
        ends = f"{_shown(low, metric)} to {_shown(high, metric)}"
        return EVEN, f"In {name} distilling was better than fine-tuning by {ends}."
    return None, ""


def _pairs(found: Sequence[PastRun]) -> Iterator[tuple[PastRun, PastRun]]:
    """A distilled and a fine-tuned student of one size, judged alike; the newest first."""
    for first in found:
        for second in found:
            sizes = sorted((first.student_parameters, second.student_parameters))
            if (
                (first.road, second.road) == (TEACHER, LABELS)
                and first.metric == second.metric
                and sizes[0] > 0
                and sizes[1] <= SAME_SIZE * sizes[0]
                and first.labelled_rows == second.labelled_rows
            ):
                yield first, second


def _across(taught: PastRun, tuned: PastRun) -> tuple[str | None, str]:
    """Who won of two runs; only where their intervals lie apart."""
    if taught.interval is None or tuned.interval is None:
        return None, ""
    way = 1 if higher_is_better(taught.metric) else -1
    mine = sorted(way * end for end in taught.interval)
    theirs = sorted(way * end for end in tuned.interval)
    scores = (
        f"{taught.name} {_shown(taught.score, taught.metric)}, "
        f"{tuned.name} {_shown(tuned.score, tuned.metric)}"
    )
    if mine[0] > theirs[1]:
        return TEACHER, f"Distilling was better than fine-tuning: {scores}."
    if mine[1] < theirs[0]:
        return LABELS, f"Fine-tuning was better than distilling: {scores}."
    return None, ""


def _shown(value: float | None, metric: str) -> str:
    """Shares in percent, everything else in its own unit."""
    if value is None:
        return "?"
    unit = SCORES[metric].unit
    return f"{100 * value:.1f} %" if unit == "0–1" else f"{value:.3f} {unit}"
