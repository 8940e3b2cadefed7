"""Settings of students and adapters.

In: what a network starts from, and its size. Out: `Student`, `LoraSettings`. Builds nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class VocabTrim(Settings):
    """Keep only the tokens that the training rows use: the embedding shrinks, and the head too."""

    extra_tokens: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Also keep this many of the tokenizer's other tokens, its commonest, for text "
        "unlike the training rows.",
    )


Trim = Annotated[
    VocabTrim | None,
    Field(
        description="Keep only the tokens that the training rows use, and what spells any other "
        "text; empty: the whole vocabulary."
    ),
]

CalibrationRows = Annotated[
    int,
    Field(
        ge=1,
        le=4096,
        description="Training rows on which importance is measured, drawn by the seed.",
    ),
]


class PretrainedStudent(Settings):
    """A student that starts from published weights."""

    init: Literal["pretrained"] = "pretrained"
    model: str | None = Field(
        None,
        description="A built-in name, hub id or folder; empty: the stage's own model, whole.",
    )
    vocab_trim: Trim = None


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
    vocab_trim: Trim = None


class LayerDropStudent(Settings):
    """A student made of some of the teacher's own layers, embeddings and head included."""

    init: Literal["layer_drop"] = "layer_drop"
    layers: int = Field(6, ge=1, le=512, description="How many of the teacher's layers to keep.")
    keep: Literal["lower", "even", "first_and_last", "importance"] = Field(
        "lower",
        description="Which layers: the lowest ones in a row, evenly spaced, both ends, or those "
        "that change the hidden state most on training rows (block influence, arXiv 2403.03853).",
    )
    keep_layers: list[Annotated[int, Field(ge=1, le=512)]] | None = Field(
        None,
        min_length=1,
        description="Exactly these layers, counted from 1, such as 1, 2, 30; takes the place of "
        "layers and keep.",
    )
    calibration_rows: CalibrationRows = 64
    vocab_trim: Trim = None


class WidthPruneStudent(Settings):
    """A narrower teacher: its most active heads, feed-forward units and hidden dimensions.

    What is left out was least active on training rows (Minitron, arXiv 2407.14679); what stays
    keeps the teacher's weights.
    """

    init: Literal["width_prune"] = "width_prune"
    layers: int | None = Field(
        None, ge=1, le=512, description="Layers to keep, by importance; empty: all."
    )
    hidden_size: int | None = Field(
        None, ge=8, le=65536, description="Width of the hidden state; empty: the teacher's."
    )
    intermediate_size: int | None = Field(
        None, ge=8, description="Width of the feed-forward layer; empty: the teacher's."
    )
    attention_heads: int | None = Field(
        None,
        ge=1,
        description="Attention heads, each as wide as the teacher's; empty: as many of the "
        "teacher's as fit the width.",
    )
    calibration_rows: CalibrationRows = 64
    vocab_trim: Trim = None


Student = Annotated[
    PretrainedStudent | ScratchStudent | LayerDropStudent | WidthPruneStudent,
    Field(discriminator="init"),
]


class LoraSettings(Settings):
    """LoRA: train small low-rank matrices beside frozen weights, merged when the stage ends."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, le=1024, description="Rank of the added matrices.")
    alpha: int = Field(
        32, ge=1, le=4096, description="Scale: the update is multiplied by alpha/rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    base_precision: Literal["full", "int4"] = Field(
        "full",
        description="The frozen weights beneath: in full, or in four bits (QLoRA, "
        "arXiv 2305.14314: a quarter of the memory; needs CUDA and bitsandbytes).",
    )
