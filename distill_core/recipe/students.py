"""Settings of students and adapters.

In: what a network starts from, and its size. Out: `Student`, `LoraSettings`. Builds nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class PretrainedStudent(Settings):
    """A student that starts from published weights."""

    init: Literal["pretrained"] = "pretrained"
    model: str | None = Field(
        None,
        description="A built-in name, hub id or folder; empty: the stage's own model, whole.",
    )


class ScratchStudent(Settings):
    """A smaller student of the teacher's architecture with random weights."""

    init: Literal["scratch"] = "scratch"
    layers: int = Field(2, ge=1, le=512, description="Number of transformer layers.")
    hidden_size: int = Field(80, ge=8, le=65536, description="Width of the hidden state.")
    intermediate_size: int | None = Field(
        None, ge=8, description="Width of the feed-forward layer; empty: the teacher's ratio."
    )
    attention_heads: int | None = Field(
        None, ge=1, description="Attention heads; empty: the teacher's width per head, if it fits."
    )


class LayerDropStudent(Settings):
    """A student made of some of the teacher's own layers, embeddings and head included."""

    init: Literal["layer_drop"] = "layer_drop"
    layers: int = Field(6, ge=1, le=512, description="How many of the teacher's layers to keep.")
    keep: Literal["lower", "even", "first_and_last"] = Field(
        "lower",
        description="Which layers: the lowest ones in a row, evenly spaced, or both ends.",
    )


Student = Annotated[
    PretrainedStudent | ScratchStudent | LayerDropStudent, Field(discriminator="init")
]


class LoraSettings(Settings):
    """LoRA: train small low-rank matrices beside frozen weights, merged when the stage ends."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, le=1024, description="Rank of the added matrices.")
    alpha: int = Field(
        32, ge=1, le=4096, description="Scale: the update is multiplied by alpha/rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
