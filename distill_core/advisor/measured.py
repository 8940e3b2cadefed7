"""Probes of these very answers: found again by what they were about.

In: answers, a runs folder. Out: the runs that probe them, and `Past` with the newest result. Reads
what probes wrote; starts nothing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill_core import runs
from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import load
from distill_core.advisor.past_runs import EVEN, LABELS, TEACHER, Measured, Past
from distill_core.errors import DistillError
from distill_core.probe import probe_file


def fingerprint(answers: Answers) -> dict[str, Any]:
    """What a probe is about: task, rows by their content, teacher and student.

    Other answers, such as calls a month, do not change what it measures.
    """
    teacher, student = answers.teacher, answers.student
    return {
        "task": answers.task,
        "rows": _mark(answers.data.source),
        "held_out": _mark(answers.data.held_out_source),
        "teacher": None if teacher.exists is False else teacher.name,
        "student": student.name or student.max_parameters,
    }


def _mark(source: str | None) -> str | None:
    """A file by a hash of what is in it; anything else by its name."""
    if not source:
        return None
    path = Path(source).expanduser()
    try:
        stat = path.stat()
    except OSError:
        return source
    return _hash(path, stat.st_size, stat.st_mtime_ns) if path.is_file() else source


@functools.lru_cache(maxsize=16)
def _hash(path: Path, size: int, stamp: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def probes(answers: Answers, runs_dir: Path) -> Iterator[Path]:
    """Folders of the probes of these answers, the newest first, in whatever state."""
    wanted = fingerprint(answers)
    for folder in reversed(runs.folders(runs_dir)):
        if not probe_file.is_probe(folder):
            continue
        try:
            if probe_file.read(folder).fingerprint == wanted:
                yield folder
        except DistillError:
            continue  # damaged, or written by another version


def with_probe(past: Past, answers: Answers, runs_dir: Path) -> Past:
    """Put the newest probe that has ended before all other evidence.

    An inconclusive one counts where it has shown that both are surely the same.
    """
    if not answers.data.source:
        return past
    for folder in probes(answers, runs_dir):
        told = probe_file.stored_result(folder)
        if not told.get("final"):
            continue
        found = Measured(
            run=folder.name,
            winner=told["winner"],
            loser=told["loser"],
            words=told["words"],
            why=told["why"],
            seeds=told["seeds"],
            used_s=told["used_s"],
            without=past,
        )
        won = _road_of(told)
        if won is None:
            return replace(past, measured=found)
        says = found.words.removeprefix("measured: ") + "." if found.winner else found.why
        return replace(
            past,
            winner=won,
            words=f"The probe {folder.name}, over {found.seeds} seeds: {says}",
            labelled_rows=None,
            measured=found,
        )
    return past


def _road_of(told: dict[str, Any]) -> str | None:
    """Which road won, where both were measured: the teacher's or that of labels."""
    verdicts = load().verdicts
    roads = [verdicts[arm["verdict"]].road for arm in told["arms"] if arm["verdict"] in verdicts]
    if sorted(roads) != [LABELS, TEACHER]:
        return None
    if told["winner"] is None:
        return EVEN if told["same"] else None
    return verdicts[told["winner"]].road
