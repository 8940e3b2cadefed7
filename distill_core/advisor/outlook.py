"""What to expect of a verdict: quality, speed, size, memory, time and cost.

In: a `Scoring`, past runs and perhaps a forecast of this machine. Out: ranges, every one with its
source, or "no evidence". What the user's own runs have measured stands before what was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_core.advisor.evidence import STRENGTHS, Evidence, Range
from distill_core.advisor.extents import Extent
from distill_core.advisor.facts import Facts, parameters, training_flops
from distill_core.advisor.past_runs import LABELS, TEACHER, PastRun
from distill_core.advisor.plan import cite
from distill_core.advisor.scoring import Scoring

NO_EVIDENCE = "no evidence"
FIELDS = ("retention", "speed", "size", "memory", "time", "cost")

Entry = dict[str, Any] | str

NOTHING_PLANNED = Extent()


def expected(
    scoring: Scoring,
    evidence: Evidence,
    forecast: Mapping[str, Any] | None = None,
    planned: Extent = NOTHING_PLANNED,
) -> dict[str, Entry]:
    """What studies, arithmetic and own runs let one expect of the verdict.

    Returns `retention` (percent of the teacher's score), `speed` (times the teacher's), `size`
    (times smaller), `memory` (bytes while training), `time` (seconds of training) and `cost`
    (times the compute of fine-tuning on the same rows), each `{"low", "high", "unit", "what",
    "source", "url", "strength"}` or "no evidence". Where own runs count, `published` holds what
    the studies say.
    """
    verdict, facts = scoring.verdict, scoring.facts
    road = evidence.verdicts[verdict].road
    nothing: dict[str, Entry] = dict.fromkeys(FIELDS, NO_EVIDENCE)
    if verdict == "quantize_only":
        note = evidence.quantised
        cited = cite(note.source, note.strength, evidence)
        fewer_bits = "from 16 or 32 bits to 8"
        return nothing | {
            "retention": _between(note.kept, "%", note.what, cited),
            "size": _between((2, 4), "×", fewer_bits, _arithmetic(evidence)),
        }
    if road == "none":
        return nothing
    points = comparable(facts, evidence)
    kept = _spread(points, "kept", "%", evidence) if road == "teacher" else NO_EVIDENCE
    own = [
        run for run in facts.past.counted if run.road == (LABELS if road == "labels" else TEACHER)
    ]
    return {
        "retention": _measured(own, "retention", 100, "%", kept, facts, evidence),
        "speed": _measured(
            own, "speedup", 1, "×", _spread(points, "speed", "×", evidence), facts, evidence
        ),
        "size": _size(facts, planned, evidence),
        "memory": _forecast_memory(forecast, evidence) or _memory(scoring, evidence),
        "time": _forecast_time(forecast, evidence) or _time(scoring, evidence),
        "cost": _cost(scoring, evidence),
    }


# --- published --------------------------------------------------------------------------------


def comparable(facts: Facts, evidence: Evidence) -> list[Range]:
    """Published points of this kind of task whose compression is near the one asked for."""
    ratio, task = facts.size_ratio, facts.answers.task
    if ratio is None or ratio <= 1:
        return []
    reach = evidence.range_reach
    return [
        point
        for point in evidence.ranges
        if point.ratio / reach <= ratio <= point.ratio * reach
        and (task is None or task in point.tasks)
    ]


def head_to_head(scoring: Scoring, evidence: Evidence) -> list[dict[str, Any]]:
    """Published comparisons of the two roads on this kind of task."""
    task = scoring.facts.answers.task
    return [
        {**entry.model_dump(exclude={"id", "tasks"}), **cite(entry.id, entry.strength, evidence)}
        for entry in evidence.head_to_head
        if task is None or task in entry.tasks
    ]


def _spread(points: list[Range], field: str, unit: str, evidence: Evidence) -> Entry:
    """From the lowest to the highest of some published points."""
    points = [point for point in points if getattr(point, field) is not None]
    if not points:
        return NO_EVIDENCE
    ends = [getattr(point, field) for point in points]
    sources = [evidence.sources[point.id] for point in points]
    citation = {
        "source": "; ".join(source.text for source in sources),
        "url": next((source.url for source in sources if source.url), ""),
        "strength": max((point.strength for point in points), key=STRENGTHS.index),
    }
    what = "; ".join(f"{point.name}: {point.what}" for point in points)
    return _between((min(e[0] for e in ends), max(e[1] for e in ends)), unit, what, citation)


def _between(
    ends: tuple[float, float] | None, unit: str, what: str, citation: dict[str, str]
) -> Entry:
    if ends is None:
        return NO_EVIDENCE
    return {"low": ends[0], "high": ends[1], "unit": unit, "what": what, **citation}


# --- measured ---------------------------------------------------------------------------------


def _measured(
    own: list[PastRun],
    field: str,
    scale: float,
    unit: str,
    published: Entry,
    facts: Facts,
    evidence: Evidence,
) -> Entry:
    """What own runs of such a size have measured, before what was published."""
    found = [run for run in own if getattr(run, field) and _near(run, facts, evidence)]
    if not found:
        return published
    values = [scale * getattr(run, field) for run in found]
    names = ", ".join(dict.fromkeys(run.name for run in found))
    runs = "your run" if len(found) == 1 else f"{len(found)} of your runs"
    entry = _between(
        (min(values), max(values)),
        unit,
        f"measured in {runs}: {names}",
        cite("runs", "M", evidence),
    )
    assert isinstance(entry, dict)
    return entry | {"published": published}


def _near(run: PastRun, facts: Facts, evidence: Evidence) -> bool:
    ratio, reach = facts.size_ratio, evidence.range_reach
    if ratio is None or not run.size_ratio:
        return True
    return run.size_ratio / reach <= ratio <= run.size_ratio * reach


# --- arithmetic -------------------------------------------------------------------------------


def _arithmetic(evidence: Evidence) -> dict[str, str]:
    return cite("arithmetic", "C", evidence)


def times_smaller(facts: Facts, planned: Extent) -> float | None:
    """How many times smaller than its teacher the planned student is."""
    if facts.answers.teacher.exists is False:
        return None
    teacher, student = facts.answers.teacher.parameters, planned.parameters
    return teacher / student if teacher and student else facts.size_ratio


def _size(facts: Facts, planned: Extent, evidence: Evidence) -> Entry:
    ratio = times_smaller(facts, planned)
    if ratio is None:
        return NO_EVIDENCE
    what = "at least, for the largest student allowed"
    if planned.counted:
        what = f"for a student of {parameters(planned.parameters)} parameters"
    return _between((ratio, ratio), "×", what, _arithmetic(evidence))


def _memory(scoring: Scoring, evidence: Evidence) -> Entry:
    facts = scoring.facts
    what = "weights and optimiser; activations come on top"
    if evidence.verdicts[scoring.verdict].road == "labels":
        need = facts.lora_bytes if scoring.verdict == "lora_fine_tune" else facts.full_bytes
        ends = None if need is None else (need, need)
        return _between(ends, "bytes", what, _arithmetic(evidence))
    if facts.full_bytes is None or facts.both_bytes is None:
        return NO_EVIDENCE
    low = max(facts.full_bytes, facts.both_bytes - facts.full_bytes)
    what = "with a cached teacher, to teacher and student together; activations come on top"
    return _between((low, facts.both_bytes), "bytes", what, _arithmetic(evidence))


def _forecast_memory(forecast: Mapping[str, Any] | None, evidence: Evidence) -> Entry:
    if forecast is None:
        return ""
    need = float(forecast["total_memory_bytes"])
    what = "forecast of the recipe on this machine, all parts"
    return _between((need, need), "bytes", what, _arithmetic(evidence))


def _forecast_time(forecast: Mapping[str, Any] | None, evidence: Evidence) -> Entry:
    if forecast is None:
        return ""
    low, high = forecast["time_s"]
    measured = str(forecast["time_basis"]).startswith("measured")
    cited = cite("runs", "M", evidence) if measured else _arithmetic(evidence)
    what = f"forecast of the recipe on this machine: {forecast['time_basis']}"
    return _between((low, high), "s", what, cited)


def _tokens(facts: Facts, road: str, evidence: Evidence) -> tuple[float, float] | None:
    """Tokens of one pass: the rows that the road learns from, by their length."""
    data = facts.answers.data
    counts = [data.labelled_rows, *([data.unlabelled_rows] if road == "teacher" else [])]
    rows = sum(count for count in counts if count)
    if not rows:
        return None
    seen = data.mean_tokens
    low, high = (seen, seen) if seen else evidence.arithmetic.tokens_per_row
    return rows * low, rows * high


def _time(scoring: Scoring, evidence: Evidence) -> Entry:
    """6 operations per parameter and token, at what devices of such a kind reach."""
    facts = scoring.facts
    road = evidence.verdicts[scoring.verdict].road
    student, device = facts.answers.student.max_parameters, facts.answers.machine.device
    tokens = _tokens(facts, road, evidence)
    if student is None or device is None or tokens is None:
        return NO_EVIDENCE
    slow, fast = evidence.arithmetic.flops_per_s[device]
    epochs, (cheapest, dearest) = evidence.recipe.epochs, _factor(scoring, evidence)
    ends = (
        training_flops(student, tokens[0]) * cheapest / fast,
        training_flops(student, tokens[1]) * epochs * dearest / slow,
    )
    seen = facts.answers.data.mean_tokens
    long = f"{seen:g}" if seen else "{:g} to {:g}".format(*evidence.arithmetic.tokens_per_row)
    what = (
        f"one to {epochs:g} passes over rows of {long} tokens, "
        f"on a fast {device} device to a slow one"
    )
    return _between(ends, "s", what, _arithmetic(evidence))


def _factor(scoring: Scoring, evidence: Evidence) -> tuple[float, float]:
    """Compute as times that of fine-tuning the student on the same rows."""
    facts, verdict = scoring.facts, scoring.verdict
    if evidence.verdicts[verdict].road != "teacher":
        return 1.0, 1.0
    # a teacher that only writes text is not asked while the student is trained
    asked = facts.answers.teacher.access in {None, "weights"}
    along = 1 + (facts.size_ratio or 0.0) / 3 if asked else 1.0
    low, high = 1.0, along
    if verdict == "progressive_distill":
        middle = (facts.size_ratio or 1.0) ** 0.5
        low, high = 1 + middle, (1 + middle) * along
    elif verdict == "distill_then_fine_tune":
        high = along + 1
    elif verdict == "fine_tune_then_distill":
        low, high = 1 + (facts.size_ratio or 1.0), along + (facts.size_ratio or 1.0)
    if scoring.truths["R9.later"] and asked and verdict == "distill":
        high *= evidence.arithmetic.own_samples[1]
    return low, high


def _cost(scoring: Scoring, evidence: Evidence) -> Entry:
    facts = scoring.facts
    road = evidence.verdicts[scoring.verdict].road
    if road == "teacher" and facts.size_ratio is None:
        return NO_EVIDENCE
    low, high = _factor(scoring, evidence)
    note = evidence.extra_compute
    what = "against fine-tuning the student on as many rows"
    if road == "teacher":
        what += f"; {note.what}, and kept answers save it"
    return _between((low, high), "×", what, cite(note.source, note.strength, evidence))
