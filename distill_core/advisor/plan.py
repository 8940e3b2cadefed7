"""How to do it: the method settings that the rules advise for a verdict.

In: a `Scoring` and its verdict. Out: plain dictionaries, every number with its source. Knows no
recipe; what to expect is worked out in `outlook.py`.
"""

from __future__ import annotations

from typing import Any

from distill_core.advisor.evidence import Clause, Evidence, Rule, Strength
from distill_core.advisor.facts import fill, words
from distill_core.advisor.scoring import Scoring


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
                        "published": "" if clause.source else rule.published,
                        "conflict": rule.conflict if clause.conflicting else "",
                        **_cite_rule(rule, clause, evidence),
                    }
    return {setting: chosen[setting] for setting in allowed if setting in chosen}


def _cite_rule(rule: Rule, clause: Clause, evidence: Evidence) -> dict[str, str]:
    return cite(clause.source or rule.source, clause.strength or rule.strength, evidence)
