"""Whether a teacher and a student can be compared, and how, before anything is loaded.

In: the pair of a stage, or two models by name. Out: a `PairReport`: findings, a verdict in words,
and the loss that fits. What each model brings along is read in `sides.py`, what there is to say
about the two stands in `findings.py`. Loads no weights.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from distill_core.errors import RecipeError
from distill_core.estimate.shapes import StageShape, stage_shapes
from distill_core.models.classifiers import is_classifier
from distill_core.pair_doctor.findings import Finding, findings
from distill_core.pair_doctor.sides import Side, side
from distill_core.recipe import Recipe, Student, recipe_yaml

if TYPE_CHECKING:
    from distill_core.data.vocabularies import MapMatch

TOKEN_BY_TOKEN = "forward_kl"
ACROSS_TOKENIZERS = "cross_tokenizer"
"""The loss for each kind of pair."""


@dataclass(frozen=True)
class PairReport:
    """What was found about a pair."""

    teacher: Side
    student: Side
    match: MapMatch | None
    """How their token → id maps relate; None: a tokenizer cannot be read yet."""
    findings: tuple[Finding, ...]
    tells_classes_apart: bool = False
    """Of text_classification: both read the same ids of a text, in no chat, and write none."""

    @property
    def comparable(self) -> bool | None:
        """Whether probabilities may be compared id by id; None: not known yet."""
        if self.match is None:
            return None
        if self.tells_classes_apart:
            return self.match.kind == "same"
        return self.match.comparable and self.same_end

    @property
    def same_end(self) -> bool:
        """Whether both end an answer with the same token."""
        return self.teacher.turn_end == self.student.turn_end

    @property
    def other_template(self) -> bool:
        """Whether the two write a conversation differently."""
        own = (self.teacher.template or ""), (self.student.template or "")
        return not self.tells_classes_apart and own[0] != own[1]

    @property
    def loss(self) -> str:
        """The loss that fits the pair."""
        across = self.comparable is False and not self.tells_classes_apart
        return ACROSS_TOKENIZERS if across else TOKEN_BY_TOKEN

    @property
    def verdict(self) -> str:
        """All of it in a sentence."""
        if self.match is None:
            return "The tokenizers are compared once both are on this machine."
        if self.tells_classes_apart:
            return (
                "Same tokenizer: their classes are compared."
                if self.comparable
                else "Different tokenizers: the two cannot read the same texts."
            )
        if not self.match.comparable:
            return "Different tokenizers: cross-tokenizer loss or text."
        if not self.same_end:
            return "Same tokenizer, but answers end differently: cross-tokenizer loss or text."
        more = abs((self.teacher.tokens or 0) - (self.student.tokens or 0))
        padded = max(0, self.teacher.padded, self.student.padded)
        if self.student.trimmed and not self.teacher.trimmed:
            return f"Same tokenizer, of which the student keeps {self.student.kept_words}."
        cut = [f"{more:,} extra tokens"] * bool(more) + [f"{padded:,} padded rows"] * bool(padded)
        return (
            "Same tokenizer"
            + (f", {' and '.join(cut)}: cut" if cut else "")
            + ("; each reads its own chat template" if self.other_template else "")
            + "."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data (shape: `api.pair_report`)."""
        return {
            "verdict": self.verdict,
            "comparable": self.comparable,
            "loss": self.loss,
            "findings": [asdict(finding) for finding in self.findings],
            "teacher": self.teacher.as_dict(),
            "student": self.student.as_dict(),
        }


def pair_reports(recipe: Recipe) -> list[dict[str, Any]]:
    """Look at every distil stage of a recipe; stages with an unknown model are left out."""
    found = [(shape.index, examine(shape)) for shape in stage_shapes(recipe)]
    return [{"stage": index, **report.as_dict()} for index, report in found if report is not None]


def examine(shape: StageShape) -> PairReport | None:
    """Look at the pair of a distil stage; None where there is no pair, or a model is unknown."""
    if not shape.is_distill or shape.source is None or shape.student is None:
        return None
    teacher = side(shape.source_name, shape.source, trimmed=shape.source_trimmed)
    student = side(shape.student_name, shape.student, trimmed=shape.student_trimmed)
    match = _match(teacher, student)
    classes = is_classifier(shape.student)
    found = findings(teacher, student, match, classes=classes)
    return PairReport(teacher, student, match, found, classes)


def pair_report(teacher: str, student: Student, *, task: str = "causal_lm") -> dict[str, Any]:
    """Look at two models by name (shape: `api.pair_report`).

    Raises:
        RecipeError: if one of them cannot be found, or the student's sizes do not fit.
    """
    stage = {"kind": "distill", "teacher": teacher, "student": student.model_dump()}
    data = {"sources": [{"kind": "starter"}]}
    (shape,) = stage_shapes(recipe_yaml.parse({"task": task, "data": data, "stages": [stage]}))
    report = examine(shape)
    if report is None:
        raise RecipeError(list(shape.problems))
    return report.as_dict()


def _match(teacher: Side, student: Side) -> MapMatch | None:
    if teacher.tokenizer is None or student.tokenizer is None:
        return None
    return _compared(teacher.tokenizer, student.tokenizer)


@functools.lru_cache(maxsize=16)
def _compared(teacher: Any, student: Any) -> MapMatch:
    from distill_core.data.vocabularies import compare_maps

    return compare_maps(teacher.get_vocab(), student.get_vocab())
