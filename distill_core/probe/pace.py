"""How much each arm may do, so that enough seeds fit into the time.

In: what a few steps of each arm took, the time that is left; later what a whole seed took. Out:
steps, rows to learn from and to score on, the same for all arms and seeds. Knows no files and
trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill_core.probe.looks import FIRST_LOOK
from distill_core.probe.probe_file import Pace, Trained

LEAST_STEPS = 10
LEAST_ROWS = 50
"""Held-out rows, where there are so many."""

LOOKS = 6
"""How often an arm is scored while it is trained, for its curve."""

SEEDS = 4
"""So many are to fit into the time: the second look tells most."""

FOR_SEEDS = 0.85
"""Share of the time that they may plan with; the rest is reserve."""
FOR_ANSWERS = 0.25
FOR_SCORES = 0.2
FOR_CURVES = 0.1

OF_WHAT_IS_LEFT = 0.9
"""Share of the time that may be planned with once a whole seed has shown what it takes."""

MUCH_LONGER = 1.5
"""So many times the steps, for as many seeds, are worth beginning again for: below that the seeds
that are planned use most of the time."""
A_BIT_LONGER = 1.1
"""The same where the finished seeds are too short for any verdict."""


@dataclass(frozen=True)
class Timing:
    """What an arm takes, in seconds, measured on a few of its steps."""

    step_s: float
    """For one step of the student: the steps of teachers in training and assistants included."""
    row_s: float
    """For scoring one held-out row."""
    fixed_s: float
    """For reading, loading, building and saving."""
    answer_s: float = 0.0
    """For one row that the teacher has to answer first."""


@dataclass(frozen=True)
class Share:
    """What each arm is given with each seed."""

    steps: int
    final_rows: int
    watched_rows: int
    most_rows: int


def share(
    timings: Sequence[Timing],
    *,
    left_s: float,
    full_steps: int,
    rows_per_step: int,
    held_out: int,
    unanswered: int,
) -> Share:
    """Divide the time that is left.

    Args:
        timings: of each arm.
        left_s: seconds that are left.
        full_steps: of the shorter full run; no arm takes more.
        rows_per_step: of the batch.
        held_out: rows that could be scored on.
        unanswered: rows that a teacher would have to answer.
    """
    answer_s = max(one.answer_s for one in timings)
    affordable = math.inf if not answer_s else FOR_ANSWERS * left_s / answer_s
    all_rows_s = min(affordable, unanswered) * answer_s
    seed_s = FOR_SEEDS * (left_s - all_rows_s) / SEEDS
    row_s = sum(one.row_s for one in timings)
    fixed_s = sum(one.fixed_s for one in timings)
    scored = (len(timings) + 1) / len(timings)  # the untrained student is scored, too
    final = _rows(FOR_SCORES * seed_s / max(1e-9, row_s * scored), held_out, LEAST_ROWS)
    watched = _rows(FOR_CURVES * seed_s / max(1e-9, row_s * (LOOKS + 1)), min(held_out, 128), 8)
    scoring_s = row_s * (scored * final + (LOOKS + 1) * watched)
    step_s = sum(one.step_s for one in timings)
    steps = int(min(full_steps, (seed_s - fixed_s - scoring_s) / step_s))
    wanted = max(1, steps) * rows_per_step
    return Share(steps, final, watched, int(min(max(affordable, LEAST_ROWS), wanted)))


def too_short(given: Share, timings: Sequence[Timing], *, minutes: float, full_steps: int) -> str:
    """Why there is no point in beginning; "" where there is."""
    if given.steps >= min(LEAST_STEPS, full_steps):
        return ""
    step_s = sum(one.step_s for one in timings)
    lacking = (LEAST_STEPS - given.steps) * step_s * SEEDS / FOR_SEEDS / 60
    return (
        f"{minutes:g} minutes are enough for {max(0, given.steps)} steps of each, and "
        f"{LEAST_STEPS} are the least that tells anything: give it about "
        f"{math.ceil(1.2 * (minutes + lacking))} minutes."
    )


def longer(
    known: Pace,
    done: Sequence[Sequence[Trained]],
    *,
    left_s: float,
    full_steps: int,
    too_early: bool,
) -> Pace | None:
    """What to begin again with, where the time that is left allows longer arms; None: go on.

    The pace at the start is that of a machine which warms up, or has other work just then; a whole
    seed tells what one takes. New seeds begin, and what the finished ones have scored is in no
    interval.

    Args:
        known: what each seed was given so far.
        done: the finished seeds, of each its arms; the last one tells what another takes.
        left_s: seconds that are left.
        full_steps: of the shorter full run; no arm takes more.
        too_early: whether so few steps allow no verdict; the fewest seeds with one will do then.
    """
    steps, steps_s = known.steps, [one.step_s for one in done[-1] if one.step_s is not None]
    if not steps or len(steps_s) < len(done[-1]):  # an arm that was interrupted tells too little
        return None
    seed_s = sum(one.seconds - one.once_s for one in done[-1])
    wanted = [(SEEDS, MUCH_LONGER)] + [(FIRST_LOOK, A_BIT_LONGER)] * too_early
    for seeds, times in wanted:
        spare_s = OF_WHAT_IS_LEFT * left_s / seeds - seed_s
        more = int(min(full_steps, steps + spare_s / sum(steps_s)))
        if more >= times * steps:
            break
    else:
        return None
    rows = known.most_rows
    if rows is not None and not any(one.once_s for arms in done for one in arms):
        rows = math.ceil(rows * more / steps)  # where a teacher answers, it is not asked for others
    dropped = known.dropped + [steps] * len(done)
    return known.model_copy(update={"steps": more, "most_rows": rows, "dropped": dropped})


def _rows(affordable: float, there: int, least: int) -> int:
    return int(min(there, max(affordable, least)))
