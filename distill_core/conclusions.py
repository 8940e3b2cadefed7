"""What the scores of a run add up to: ratios with intervals, comparisons, a verdict.

In: each model's scores, and its task metric row by row on the same rows. Out: retention, gap
closed, size and speed ratios, the student against every other model, and a verdict that needs a
paired test and more than one seed. Knows nothing of models and files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill_core import intervals
from distill_core.comparing import lineup
from distill_core.scores import SCORES, TASK_METRICS, higher_is_better, speed_name

SIGNIFICANT = 0.05

Scores = Mapping[str, Mapping[str, Any]]
RowScores = Mapping[str, Sequence[float]]
"""The task metric of each model, one value a held-out row."""

Timed = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Tokens (or texts) and seconds of each model's timed answers, the same prompts for all."""

_RATIOS = ("retention", "size_ratio", "speedup", "gap_closed")


def ratios(scores: Scores, rows: RowScores, timed: Timed, *, metric: str) -> dict[str, Any]:
    """Student against its teacher (or the model it was cut from), each ratio with an interval.

    `retention`: student / teacher, for scores where less is better teacher / student.
    `gap_closed`: (student − untrained) / (teacher − untrained). The size ratio is exact.
    """
    found: dict[str, Any] = {}
    for name in _RATIOS:
        found |= {name: None, f"{name}_ci95": None}
    reference = next((key for key in (lineup.TEACHER, lineup.ORIGINAL) if key in scores), None)
    found["compared_with"] = reference
    if reference is None or lineup.STUDENT not in scores:
        return found
    student, large = scores[lineup.STUDENT], scores[reference]
    found["size_ratio"] = large["parameters"] / max(1, student["parameters"])
    found["size_ratio_ci95"] = [found["size_ratio"]] * 2
    speed = speed_name(student)
    if student.get(speed) and large.get(speed):
        found["speedup"] = student[speed] / large[speed]
        found["speedup_ci95"] = _speedup_interval(timed, reference)
    mine, theirs = student.get(metric), large.get(metric)
    if mine is None or theirs is None:
        return found
    pair = [lineup.STUDENT, reference]
    if not higher_is_better(metric):
        pair.reverse()
    top, bottom = (scores[key][metric] for key in pair)
    if bottom:
        found["retention"] = top / bottom
        if _same_rows(rows, pair):
            found["retention_ci95"] = intervals.paired_ratio(*(rows[key] for key in pair))
    return found | _gap_closed(scores, rows, reference, metric)


def _speedup_interval(timed: Timed, reference: str) -> list[float] | None:
    if not all(key in timed and len(timed[key][0]) for key in (lineup.STUDENT, reference)):
        return None
    speeds = [np.divide(*timed[key]) for key in (lineup.STUDENT, reference)]
    if len(speeds[0]) != len(speeds[1]):
        return None
    return intervals.of_medians(speeds, lambda mine, theirs: mine / theirs)


def _gap_closed(scores: Scores, rows: RowScores, reference: str, metric: str) -> dict[str, Any]:
    start = scores.get(lineup.UNTRAINED, {}).get(metric)
    if start is None:
        return {}
    way = 1 if higher_is_better(metric) else -1
    gap = way * (scores[reference][metric] - start)
    if gap <= 0:
        return {}  # the untrained one is as good already: there is no gap to close
    gained = way * (scores[lineup.STUDENT][metric] - start)
    keys = [lineup.STUDENT, reference, lineup.UNTRAINED]
    interval = None
    if _same_rows(rows, keys):
        interval = intervals.paired_bootstrap(
            [rows[key] for key in keys],
            lambda student, large, untrained: (student - untrained) / (large - untrained),
        )
    return {"gap_closed": gained / gap, "gap_closed_ci95": interval}


def comparisons(rows: RowScores, *, metric: str) -> list[dict[str, Any]]:
    """The student against every other model on the same rows: difference, interval, p-value.

    `difference` is student − other, in the metric's own unit.
    """
    found = []
    for key in rows:
        if key == lineup.STUDENT or not _same_rows(rows, [lineup.STUDENT, key]):
            continue
        mine, theirs = np.asarray(rows[lineup.STUDENT]), np.asarray(rows[key])
        found.append(
            {
                "against": key,
                "difference": float(np.mean(mine - theirs)),
                "difference_ci95": _paired_interval(mine, theirs, metric),
                "p": _paired_p(mine, theirs, metric),
                "test": "McNemar" if TASK_METRICS[metric].right_or_wrong else "permutation",
            }
        )
    return found


def verdict(
    rows: RowScores, others: Sequence[RowScores] = (), *, metric: str, titles: Mapping[str, str]
) -> dict[str, Any]:
    """Is the student better than the best baseline (else: than before its training)?

    `others` are the row results of runs of the same recipe with other seeds. Verdicts: `beats`,
    `worse`, `no difference` (surely within the metric's `same_within`), `inconclusive`.
    """
    against = _rival(rows, metric)
    runs = [one for one in (rows, *others) if _comparable(one, rows, against)]
    nothing = {
        "verdict_against": against,
        "paired_test_p": None,
        "difference_ci95": None,
        "seeds": len(runs),
    }
    if not runs:
        why = "Nothing to compare the student with on these rows."
        return {"verdict": "inconclusive", "verdict_reason": why, **nothing}
    mine = np.mean([one[lineup.STUDENT] for one in runs], axis=0)
    theirs = np.mean([one[against] for one in runs], axis=0)
    p = max(_paired_p(one[lineup.STUDENT], one[against], metric) for one in runs)
    low, high = (
        _paired_interval(mine, theirs, metric)
        if len(runs) == 1
        else intervals.paired_difference(mine, theirs)
    )
    way = 1 if higher_is_better(metric) else -1
    better, worse = (low > 0, high < 0) if way > 0 else (high < 0, low > 0)
    margin = TASK_METRICS[metric].same_within
    told = _difference_words(float(np.mean(mine - theirs)), low, high, metric)
    words = f"{told} against {titles.get(against, lineup.TITLES.get(against, against))}"
    word, reason = "inconclusive", f"{words}; p = {p:.2g}."
    if (better or worse) and p >= SIGNIFICANT:
        reason = f"{words} over {len(runs)} seeds, but p = {p:.2g} in one of them."
    if len(runs) < 2:
        reason = f"{words}, p = {p:.2g}, but from one seed: start it again with another seed."
    elif better and p < SIGNIFICANT:
        word, reason = "beats", f"{words}, {len(runs)} seeds, p ≤ {p:.2g} in each."
    elif worse and p < SIGNIFICANT:
        word, reason = "worse", f"{words}, {len(runs)} seeds, p ≤ {p:.2g} in each."
    elif low > -margin and high < margin:
        word, reason = "no difference", f"{words}, {len(runs)} seeds."
    return nothing | {
        "verdict": word,
        "verdict_reason": reason,
        "paired_test_p": p,
        "difference_ci95": [low, high],
    }


def _difference_words(difference: float, low: float, high: float, metric: str) -> str:
    """Shares in points of a hundred, everything else in its own unit."""
    if SCORES[metric].unit == "0–1":
        return f"{100 * difference:+.1f} points [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{difference:+.3f} {SCORES[metric].unit} [{low:.3f}, {high:.3f}]"


def _rival(rows: RowScores, metric: str) -> str:
    """The best of the baselines that were trained; without one, the student before training."""
    trained = [key for key in lineup.BASELINES if rows.get(key)]
    if not trained:
        return lineup.UNTRAINED
    way = 1 if higher_is_better(metric) else -1
    return max(trained, key=lambda key: way * float(np.mean(rows[key])))


def _comparable(one: RowScores, rows: RowScores, against: str) -> bool:
    """Whether a run has both models on the very rows that this run was scored on."""
    return _same_rows(one, [lineup.STUDENT, against]) and len(one[lineup.STUDENT]) == len(
        rows[lineup.STUDENT]
    )


def _same_rows(rows: RowScores, keys: Sequence[str]) -> bool:
    """Whether all models have values for equally many rows: the same rows, in one run."""
    counts = {len(rows.get(key, ())) for key in keys}
    return len(counts) == 1 and 0 not in counts


def _paired_interval(first: intervals.Values, second: intervals.Values, metric: str) -> list[float]:
    """The interval that belongs to `_paired_p`."""
    if TASK_METRICS[metric].right_or_wrong:
        return intervals.paired_share_difference(np.asarray(first) > 0.5, np.asarray(second) > 0.5)
    return intervals.paired_difference(first, second)


def _paired_p(first: intervals.Values, second: intervals.Values, metric: str) -> float:
    if TASK_METRICS[metric].right_or_wrong:
        return intervals.mcnemar(np.asarray(first) > 0.5, np.asarray(second) > 0.5)
    return intervals.sign_flip(first, second)
