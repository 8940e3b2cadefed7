"""The evidence as typed data: rules, clauses, sources, published ranges, licences.

In: `evidence.yaml`. Out: `Evidence`, checked once at first use. Knows no answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

PATH = Path(__file__).with_name("evidence.yaml")

Strength = Literal["M", "A", "B", "C"]
"""From the strongest: measured by the user, read, second-hand, our own inference."""

STRENGTHS: tuple[Strength, ...] = ("M", "A", "B", "C")
Road = Literal["teacher", "labels", "none"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Data):
    """Where a fact was read."""

    text: str
    url: str


class Verdict(_Data):
    """What the advisor may recommend."""

    title: str
    road: Road
    summary: str
    doing: str = ""
    """As in "distilling is better", of verdicts that train."""
    next_steps: list[str] = []


class Clause(_Data):
    """One condition of a rule and what follows from it."""

    when: str
    """The condition in words; `conditions.py` holds the code."""
    votes: dict[str, float] = {}
    veto: list[str] = []
    headline: str = ""
    sentence: str = ""
    warning: str = ""
    method: dict[str, Any] = {}
    conflicting: bool = False
    """Whether the rule's sources disagree on what this clause says."""
    firm: bool = False
    """Whether its method settings hold whatever other clauses advise."""
    source: str = ""
    strength: Strength | None = None
    """Own source and strength, where they differ from the rule's."""


class Rule(_Data):
    """A rule of thumb with its source; its clauses vote, veto, warn and set the method."""

    rule: str
    source: str
    strength: Strength
    published: str = ""
    conflict: str = ""
    numbers: dict[str, float] = {}
    clauses: dict[str, Clause]


class Range(_Data):
    """A published outcome; `ratio` is teacher over student, `kept` in percent, `speed` in times."""

    id: str
    name: str
    ratio: float
    kept: tuple[float, float] | None
    speed: tuple[float, float]
    what: str
    strength: Strength
    tasks: list[str]


class HeadToHead(_Data):
    """A published comparison of the same student, distilled and fine-tuned."""

    id: str
    what: str
    distilled: str
    fine_tuned: str
    better: Literal["teacher", "labels"]
    strength: Strength
    tasks: list[str]


class RecipeStart(_Data):
    """Where a recipe starts; our own choice, to be tuned on held-out rows."""

    learning_rates: dict[Literal["full", "new", "shaped", "lora", "own_samples"], float]
    epochs: float
    held_out_share: tuple[float, float]
    held_out_rows: int
    times_smaller: float
    starter_tuning: dict[str, Any]
    middle_layers: int
    middle_width: int
    hidden_states_weight: float
    jsd_beta: float
    row_tokens: int
    answer_tokens: int


class Arithmetic(_Data):
    """What time and cost are worked out from; ranges from low to high."""

    tokens_per_row: tuple[float, float]
    flops_per_s: dict[Literal["cpu", "mps", "cuda"], tuple[float, float]]
    own_samples: tuple[float, float]


class License(_Data):
    """What a teacher's licence says about students."""

    name: str
    matches: list[str]
    outputs: Literal["free", "conditions", "restricted"]
    strength: Strength
    text: str
    url: str


class Note(_Data):
    """A single fact with its source."""

    source: str
    strength: Strength
    what: str
    kept: tuple[float, float] | None = None


class Levels(_Data):
    """The lead that a level of confidence asks for."""

    high: float
    medium: float


class Evidence(_Data):
    """All that the advisor knows."""

    confidence: Levels
    max_vote: dict[Strength, float]
    verdicts: dict[str, Verdict]
    prior: dict[str, float]
    sources: dict[str, Source]
    sets: dict[str, list[str]]
    rules: dict[str, Rule]
    recipe: RecipeStart
    arithmetic: Arithmetic
    ranges: list[Range]
    head_to_head: list[HeadToHead]
    range_reach: float
    quantised: Note
    extra_compute: Note
    method_for: dict[Road, list[str]]
    """Road → method settings that make sense on it, in the order in which they are shown."""
    warnings_for_none: list[str]
    """Rules whose warnings matter where nothing is trained."""
    licences: dict[str, License]
    licence_note: str

    @model_validator(mode="after")
    def _names_are_known(self) -> Evidence:
        names = set(self.verdicts) | set(self.sets)
        for clause_id, rule, clause in self.clauses():
            if {rule.source, clause.source or rule.source} - set(self.sources):
                raise ValueError(f"{clause_id} names an unknown source")
            unknown = (set(clause.votes) | set(clause.veto)) - names
            if unknown:
                raise ValueError(f"{clause_id} names unknown verdicts {unknown}")
        return self

    def clauses(self) -> Iterator[tuple[str, Rule, Clause]]:
        """Yield every clause with its id, such as `R5.few_labels`, and its rule."""
        for rule_id, rule in self.rules.items():
            for name, clause in rule.clauses.items():
                yield f"{rule_id}.{name}", rule, clause

    @functools.cached_property
    def ballots(self) -> list[tuple[str, dict[str, float], list[str]]]:
        """Every clause that votes or vetoes: its id, votes per verdict and verdicts ruled out."""
        listed = [
            (name, self.votes(clause), self.vetoes(clause)) for name, _, clause in self.clauses()
        ]
        return [ballot for ballot in listed if ballot[1] or ballot[2]]

    def members(self, name: str) -> list[str]:
        """Verdicts of a set, or the verdict itself."""
        return self.sets.get(name, [name])

    def votes(self, clause: Clause) -> dict[str, float]:
        """Votes of a clause per verdict, sets spelt out and added to its own entry."""
        total: dict[str, float] = {}
        for name, vote in clause.votes.items():
            for verdict in self.members(name):
                total[verdict] = total.get(verdict, 0.0) + vote
        return total

    def vetoes(self, clause: Clause) -> list[str]:
        """Verdicts that a clause rules out."""
        return [verdict for name in clause.veto for verdict in self.members(name)]

    def license(self, name: str | None) -> License | None:
        """Find the licence that a name belongs to; None when it is unknown or not in the table."""
        text = (name or "").lower()
        for entry in self.licences.values():
            if any(match in text for match in entry.matches) and text:
                return entry
        return None


@functools.cache
def load() -> Evidence:
    """Read the evidence that comes with the studio."""
    return Evidence.model_validate(yaml.safe_load(PATH.read_text(encoding="utf-8")))
