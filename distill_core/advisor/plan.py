"""How to do it, and what to expect: method settings and published ranges for a verdict.

In: a `Scoring` and its verdict. Out: plain dictionaries, every number with its source. Knows no
recipe; where nothing was published it says so.
"""

from __future__ import annotations

from typing import Any

from distill_core.advisor.evidence import Clause, Evidence, Range, Rule, Strength
from distill_core.advisor.facts import Facts, fill, words
from distill_core.advisor.scoring import Scoring

NO_EVIDENCE = "no evidence"


def cite(source: str, strength: Strength, evidence: Evidence) -> dict[str, str]:
    """A source as the app shows it."""
    entry = evidence.sources[source]
    return {"source": entry.text, "url": entry.url, "strength": strength}


def method(scoring: Scoring, evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Settings that the rules advise for the verdict.

    Returns setting → `{"value", "why", "rule", "source", "url", "strength", "published",
    "conflict"}`. The first clause that holds sets a value, unless a firm one does.
    """
    road = evidence.verdicts[scoring.verdict].road
    allowed = evidence.method_for[road]
    values = words(scoring.facts)
    chosen: dict[str, dict[str, Any]] = {}
    for firm in (True, False):
        for clause_id, rule, clause in evidence.clauses():
            if not scoring.truths[clause_id] or clause.firm != firm:
                continue
            for setting, value in clause.method.items():
                if setting in allowed and setting not in chosen:
                    chosen[setting] = {
                        "value": value.format_map(values) if isinstance(value, str) else value,
                        "why": fill(clause.sentence, values),
                        "rule": clause_id,
                        "published": rule.published,
                        "conflict": rule.conflict if clause.conflicting else "",
                        **_cite_rule(rule, clause, evidence),
                    }
    return {setting: chosen[setting] for setting in allowed if setting in chosen}


def _cite_rule(rule: Rule, clause: Clause, evidence: Evidence) -> dict[str, str]:
    return cite(clause.source or rule.source, clause.strength or rule.strength, evidence)


def expected(scoring: Scoring, evidence: Evidence) -> dict[str, Any]:
    """What published studies and arithmetic let one expect of the verdict.

    Returns `retention` (percent of the teacher's score), `speed` (times), `size`, `memory`
    (bytes while training) and `time` (times plain fine-tuning), each `{"low", "high", "what",
    "source", "url", "strength"}` or "no evidence".
    """
    verdict, facts = scoring.verdict, scoring.facts
    road = evidence.verdicts[verdict].road
    if verdict == "quantize_only":
        note = evidence.quantised
        kept = _between(note.kept, note.what, cite(note.source, note.strength, evidence))
        return {
            "retention": kept,
            "speed": NO_EVIDENCE,
            "size": _between((2, 4), "× smaller, from 16 or 32 bits to 8", _arithmetic(evidence)),
            "memory": NO_EVIDENCE,
            "time": NO_EVIDENCE,
        }
    if road == "none":
        return dict.fromkeys(("retention", "speed", "size", "memory", "time"), NO_EVIDENCE)
    points = comparable(facts, evidence)
    return {
        "retention": _spread(points, "kept", evidence) if road == "teacher" else NO_EVIDENCE,
        "speed": _spread(points, "speed", evidence),
        "size": _size(facts, evidence),
        "memory": _memory(scoring, evidence),
        "time": _time(facts, evidence) if road == "teacher" else NO_EVIDENCE,
    }


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


def _spread(points: list[Range], field: str, evidence: Evidence) -> dict[str, Any] | str:
    """From the lowest to the highest of some published points."""
    if not points:
        return NO_EVIDENCE
    ends = [getattr(point, field) for point in points]
    weakest = max(point.strength for point in points)
    sources = [evidence.sources[point.id] for point in points]
    citation = {
        "source": "; ".join(source.text for source in sources),
        "url": next((source.url for source in sources if source.url), ""),
        "strength": weakest,
    }
    what = "; ".join(f"{point.name}: {point.what}" for point in points)
    return _between((min(e[0] for e in ends), max(e[1] for e in ends)), what, citation)


def _between(
    ends: tuple[float, float] | None, what: str, citation: dict[str, str]
) -> dict[str, Any] | str:
    if ends is None:
        return NO_EVIDENCE
    return {"low": ends[0], "high": ends[1], "what": what, **citation}


def _arithmetic(evidence: Evidence) -> dict[str, str]:
    return cite("arithmetic", "C", evidence)


def _size(facts: Facts, evidence: Evidence) -> dict[str, Any] | str:
    ratio = facts.size_ratio
    if ratio is None:
        return NO_EVIDENCE
    what = "for the largest student allowed"
    return _between((ratio, ratio), what, _arithmetic(evidence))


def _memory(scoring: Scoring, evidence: Evidence) -> dict[str, Any] | str:
    facts = scoring.facts
    what = "weights and optimiser; activations come on top"
    if evidence.verdicts[scoring.verdict].road == "labels":
        need = facts.lora_bytes if scoring.verdict == "lora_fine_tune" else facts.full_bytes
        ends = None if need is None else (need, need)
        return _between(ends, what, _arithmetic(evidence))
    if facts.full_bytes is None or facts.both_bytes is None:
        return NO_EVIDENCE
    low = max(facts.full_bytes, facts.both_bytes - facts.full_bytes)
    what = "with a cached teacher, to teacher and student together; activations come on top"
    return _between((low, facts.both_bytes), what, _arithmetic(evidence))


def _time(facts: Facts, evidence: Evidence) -> dict[str, Any] | str:
    if facts.size_ratio is None:
        return NO_EVIDENCE
    note = evidence.extra_compute
    factor = 1 + facts.size_ratio / 3
    ends = (1.0, factor)
    return _between(
        ends,
        f"times plain fine-tuning: {note.what}; a cache saves it",
        cite(note.source, note.strength, evidence),
    )
