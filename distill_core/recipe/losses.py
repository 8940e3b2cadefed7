"""Settings of the loss terms.

In: weights and temperatures. Out: `Loss`, one class for each term with its name as the tag.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from distill_core.recipe.base import Settings


class Schedule(Settings):
    """A number that moves while its stage is trained."""

    start: float = Field(description="Value at the first step.")
    end: float = Field(description="Value at the end of the way.")
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="How it moves: evenly, or slowly at both ends."
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="Share of the steps that the way takes; then it stays."
    )


class WeightSchedule(Schedule):
    """A weight that moves while its stage is trained."""

    start: float = Field(ge=0, le=1000, description="Weight at the first step.")
    end: float = Field(ge=0, le=1000, description="Weight at the end of the way.")


class TemperatureSchedule(Schedule):
    """A temperature that moves while its stage is trained."""

    start: float = Field(gt=0, le=100, description="Temperature at the first step.")
    end: float = Field(gt=0, le=100, description="Temperature at the end of the way.")


NUMBER, SCHEDULE = "<number>", "<schedule>"
"""What a weight or temperature is; pydantic names it in the place of an error."""


def _number_or_schedule(value: Any) -> str:
    return SCHEDULE if isinstance(value, dict | Schedule) else NUMBER


Weight = Annotated[
    Annotated[float, Field(ge=0, le=1000), Tag(NUMBER)] | Annotated[WeightSchedule, Tag(SCHEDULE)],
    Discriminator(_number_or_schedule),
]
Temperature = Annotated[
    Annotated[float, Field(gt=0, le=100), Tag(NUMBER)]
    | Annotated[TemperatureSchedule, Tag(SCHEDULE)],
    Discriminator(_number_or_schedule),
]

_WEIGHT = "Share of this term in the sum: a number, or start and end of a schedule."


def largest(value: float | Schedule) -> float:
    """The highest that a number or a schedule gets."""
    return max(value.start, value.end) if isinstance(value, Schedule) else value


class Term(Settings):
    """What every term has."""

    across_tokenizers: ClassVar[bool] = False
    """Whether it makes sense for a teacher and a student with different tokenizers."""
    asks_teacher: ClassVar[bool] = True
    """Whether it compares the student with its teacher, at every step."""

    name: str
    weight: Weight = Field(0.9, description=_WEIGHT)

    @property
    def is_active(self) -> bool:
        """Whether it has a weight at any step."""
        return largest(self.weight) > 0

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from the data's labels alone; all other terms ask the teacher."""
        return False


class SoftTerm(Term):
    """What every term has that compares the two models' probabilities."""

    temperature: Temperature = Field(
        1.0,
        description="Softens both distributions; the term is multiplied by its square, so that "
        "gradients keep their size. A number, or start and end of a schedule.",
    )


class ForwardKLLoss(SoftTerm):
    """KL(teacher ‖ student), teacher → student: covers every mode of the teacher."""

    name: Literal["forward_kl"] = "forward_kl"


class ReverseKLLoss(SoftTerm):
    """KL(student ‖ teacher), student → teacher: seeks the teacher's likeliest modes."""

    name: Literal["reverse_kl"] = "reverse_kl"


class JSDLoss(SoftTerm):
    """Jensen–Shannon divergence: both meet in their mixture, between the two KLs."""

    name: Literal["jsd"] = "jsd"
    beta: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the teacher in the mixture: 0 is teacher → student and covers every "
        "mode, 1 is student → teacher and seeks modes, 0.5 is symmetric.",
    )


class SkewedForwardKLLoss(SoftTerm):
    """Teacher → student, covers every mode; bounded, so that rare tokens cannot rule it."""

    name: Literal["skewed_forward_kl"] = "skewed_forward_kl"
    skew: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the teacher in the mixture that it is compared with; 0 is the plain "
        "KL, towards 1 the term fades.",
    )


class SkewedReverseKLLoss(SoftTerm):
    """Student → teacher, seeks modes; bounded, so that no token is forbidden outright."""

    name: Literal["skewed_reverse_kl"] = "skewed_reverse_kl"
    skew: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the student in the mixture that it is compared with; 0 is the plain "
        "KL, towards 1 the term fades.",
    )


class TotalVariationLoss(SoftTerm):
    """Half the sum of all differences in probability: symmetric, and rare tokens hardly count."""

    name: Literal["total_variation"] = "total_variation"


class CrossTokenizerLoss(SoftTerm):
    """For two tokenizers: compares both models on the pieces of text that both cut alike."""

    across_tokenizers: ClassVar[bool] = True

    name: Literal["cross_tokenizer"] = "cross_tokenizer"
    hybrid: bool = Field(
        True,
        description="Where one token is the same on both sides, KL(teacher ‖ student), and ULD "
        "elsewhere; off: ULD everywhere, which compares sorted probabilities and no tokens.",
    )
    uld_weight: float = Field(
        1.0, ge=0, le=1000, description="Share of the pieces compared by ULD beside the others."
    )


class CrossEntropyLoss(Term):
    """Cross-entropy on the labels: match the answers that the data gives, or the teacher too."""

    across_tokenizers: ClassVar[bool] = True
    asks_teacher: ClassVar[bool] = False

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: Weight = Field(0.1, description=_WEIGHT)
    targets: Literal["labels", "labels_and_teacher_text"] = Field(
        "labels",
        description="Which answers are hard labels: the data's, or those that the teacher has "
        "written as well (sequence-level distillation); the student's own never are.",
    )

    @property
    def needs_labels(self) -> bool:
        """Whether the teacher's text is no label for it."""
        return self.targets == "labels"


def _as_text(value: Any) -> Any:
    """Write a mapping {1: 2, 2: 4} as "1:2, 2:4"."""
    if isinstance(value, dict):
        return ", ".join(f"{student}:{teacher}" for student, teacher in value.items())
    return value


_Pairs = Annotated[
    str, Field(pattern=r"^\s*[1-9]\d*\s*:\s*[1-9]\d*\s*(,\s*[1-9]\d*\s*:\s*[1-9]\d*\s*)*$")
]
LayerMap = Annotated[_Pairs | None, BeforeValidator(_as_text)]
"""Which layers are compared, as text such as "1:2, 2:4", or as a mapping of numbers."""

_LAYERS = "Which layers are compared: each of the student's, or the last one only."
_LAYER_MAP = (
    "Pairs of student's and teacher's layer, counted from 1, such as 1:2, 2:4; empty: last with "
    "last, the others with the layer they were copied from, or evenly spaced."
)


class HiddenStatesLoss(Term):
    """Hidden states: pass through the same intermediate results, layer by layer."""

    name: Literal["hidden_states"] = "hidden_states"
    weight: Weight = Field(1.0, description=_WEIGHT)
    distance: Literal["mse", "cosine"] = Field(
        "mse", description="Mean squared difference, or the angle between the vectors alone."
    )
    normalize: bool = Field(
        True,
        description="Bring every vector to a root mean square of 1 first, so that a few huge "
        "coordinates do not decide; for mse.",
    )
    layers: Literal["all", "last"] = Field("all", description=_LAYERS)
    layer_map: LayerMap = Field(None, description=_LAYER_MAP)


class AttentionLoss(Term):
    """Attention transfer: look where the teacher looks."""

    name: Literal["attention"] = "attention"
    weight: Weight = Field(1.0, description=_WEIGHT)
    compares: Literal["maps", "values"] = Field(
        "maps",
        description="Attention maps (averaged over heads where their counts differ), or MiniLM's "
        "relations between values.",
    )
    distance: Literal["kl", "mse"] = Field(
        "kl", description="KL(teacher ‖ student) over the keys, or the squared difference."
    )
    relation_heads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Parts into which values are split to be related; empty: as many as both "
        "networks allow, at most the student's heads.",
    )
    layers: Literal["all", "last"] = Field("last", description=_LAYERS)
    layer_map: LayerMap = Field(None, description=_LAYER_MAP)


Loss = Annotated[
    ForwardKLLoss
    | ReverseKLLoss
    | JSDLoss
    | SkewedForwardKLLoss
    | SkewedReverseKLLoss
    | TotalVariationLoss
    | CrossTokenizerLoss
    | CrossEntropyLoss
    | HiddenStatesLoss
    | AttentionLoss,
    Field(discriminator="name"),
]
