"""A forecast after a dry step: the formula, with what was measured in the place of its guesses.

In: the formula's moments of a stage and what `dry_step` measured of it. Out: the same moments,
fitted: memory is a line in the tokens of a micro-batch, peak(T) = peak + slope · (T − tokens). What
is counted exactly (weights, optimiser) stays as it is; context, activations, loss and features take
what is left. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_core.estimate.memory_need import PARTS

COUNTED = ("teacher", "student", "optimiser")
WORKING = ("activations", "loss", "features")

STEEPEST = 4.0
"""Two points closer than the noise may give any slope: at most so many times the formula's."""

Moments = dict[str, dict[str, int]]


def fitted(
    formula: Mapping[str, Mapping[str, int]],
    measured: Mapping[str, Any],
    *,
    tokens: float,
    weights: int,
    on_cpu: bool,
) -> Moments:
    """Fit a stage's moments.

    Args:
        formula: as `memory_need.moments` gives them for the recipe as it stands.
        measured: of the stage, as `dry_step` writes it.
        tokens: of the largest micro-batch; the step may have been taken with fewer rows, or with
            longer ones.
        weights: bytes of teacher and student alone, as they are before the first step.
        on_cpu: whether the peak is that of the process; elsewhere it leaves the context out.
    """
    training = formula["training"]
    working = sum(training.get(part, 0) for part in WORKING)
    last = measured["points"][-1]
    known = working / max(1.0, tokens)
    per_token = slope(measured["points"], least=0.0, most=STEEPEST * known)
    if tokens < last["tokens"]:  # the second point has the first one's heap: its rise is too much
        per_token = min(per_token, known)
    peak = last["peak_bytes"] + per_token * (tokens - last["tokens"])
    context = max(0, measured["held_bytes"] - weights) if on_cpu else training["context"]
    apart = 0 if on_cpu else context
    found = {
        name: {part: moment.get(part, 0) for part in PARTS} | {"context": context}
        for name, moment in formula.items()
    }
    found["training"] = _shared_out(found["training"], round(peak) + apart)
    loading = {**found["training"], "optimiser": 0}
    found["loading"] = _shared_out(loading, measured["loading_bytes"] + apart)
    return found


def scaled(formula: Mapping[str, Mapping[str, int]], *, context: int, working: float) -> Moments:
    """The formula's moments with a measured context, training's working memory times `working`."""
    found = {name: {**moment, "context": context} for name, moment in formula.items()}
    training = found["training"]
    for part in WORKING:
        training[part] = round(training.get(part, 0) * working)
    return found


def slope(points: Sequence[Mapping[str, int]], *, least: float, most: float) -> float:
    """Bytes per token, between two bounds; the upper one where the points are the same."""
    first, last = points[0], points[-1]
    if last["tokens"] <= first["tokens"]:
        return most / STEEPEST
    rise = (last["peak_bytes"] - first["peak_bytes"]) / (last["tokens"] - first["tokens"])
    return min(most, max(least, rise))


def _shared_out(parts: Mapping[str, int], total: int) -> dict[str, int]:
    """Parts that make up `total`: what is counted stays, the working memory takes the rest.

    Where that is less than nothing, weights are not all in memory (files read in part): they are
    shown smaller.
    """
    found = dict(parts)
    counted = sum(found[part] for part in COUNTED)
    rest = total - found["context"] - counted
    if rest < 0:
        scale = max(0.0, (total - found["context"]) / max(1, counted))
        for part in COUNTED:
            found[part] = round(found[part] * scale)
        rest = 0
    working = sum(found[part] for part in WORKING)
    for part in WORKING:
        share = found[part] / working if working else float(part == "activations")
        found[part] = round(rest * share)
    found["activations"] += total - sum(found.values())
    return found
