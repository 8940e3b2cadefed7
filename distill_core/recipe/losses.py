"""Settings of the loss terms.

In: weights and temperatures. Out: `Loss`, one class for each term with its name as the tag.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class ForwardKLLoss(Settings):
    """KL(teacher ‖ student): match all of the teacher's probabilities, covering every mode."""

    name: Literal["forward_kl"] = "forward_kl"
    weight: float = Field(0.9, ge=0, le=1000, description="Share of this term in the sum.")
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Softens both distributions; the term is multiplied by its square, so that "
        "gradients keep their size.",
    )


class CrossEntropyLoss(Settings):
    """Cross-entropy on the labels: match the answers that the data gives."""

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: float = Field(0.1, ge=0, le=1000, description="Share of this term in the sum.")


Loss = Annotated[ForwardKLLoss | CrossEntropyLoss, Field(discriminator="name")]
