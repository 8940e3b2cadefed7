"""Settings of the loss terms.

In: weights and temperatures. Out: `Loss`, one class for each term with its name as the tag.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class Term(Settings):
    """What every term has."""

    needs_labels: ClassVar[bool] = False
    """Whether it learns from hard labels; all other terms ask the teacher."""

    name: str
    weight: float = Field(0.9, ge=0, le=1000, description="Share of this term in the sum.")


class SoftTerm(Term):
    """What every term has that compares the two models' probabilities."""

    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Softens both distributions; the term is multiplied by its square, so that "
        "gradients keep their size.",
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


class CrossEntropyLoss(Term):
    """Cross-entropy on the labels: match the answers that the data gives."""

    needs_labels: ClassVar[bool] = True

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: float = Field(0.1, ge=0, le=1000, description="Share of this term in the sum.")


Loss = Annotated[
    ForwardKLLoss
    | ReverseKLLoss
    | JSDLoss
    | SkewedForwardKLLoss
    | SkewedReverseKLLoss
    | TotalVariationLoss
    | CrossEntropyLoss,
    Field(discriminator="name"),
]
