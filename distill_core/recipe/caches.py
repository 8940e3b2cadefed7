"""Settings of the teacher cache: what is kept of a teacher, so that it is asked once.

In: a kind and its size. Out: `TeacherCache`, one class for each kind with its name as the tag.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings


class HiddenCache(Settings):
    """The teacher's last hidden states: its whole distribution, for every term that compares it."""

    kind: Literal["hidden"] = "hidden"
    precision: Literal["fp16", "bf16", "fp32"] = Field(
        "fp16",
        description="Number format in which they are kept: fp16 is the closest in 2 bytes, bf16 "
        "bears larger numbers, fp32 is exact and twice as large.",
    )

    def bytes_per_token(self, *, width: int, vocab_size: int) -> int:
        """Bytes of one position; `width` of the hidden states, of all teachers together."""
        return width * (4 if self.precision == "fp32" else 2)


class TopKCache(Settings):
    """Its likeliest tokens, and the probability of all others together; for the forward KLs."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(64, ge=1, le=4096, description="How many tokens are kept at each position.")

    def bytes_per_token(self, *, width: int, vocab_size: int) -> int:
        """Bytes of one position: id and log-probability of each token, and the rest's."""
        return min(self.k, vocab_size) * (_id_bytes(vocab_size) + 2) + 4


class SampledCache(Settings):
    """Tokens drawn from its distribution: small, right on average; for the forward KLs."""

    kind: Literal["sampled"] = "sampled"
    samples: int = Field(
        50,
        ge=1,
        le=1000,
        description="How many tokens are drawn at each position; the same one may come again.",
    )

    def bytes_per_token(self, *, width: int, vocab_size: int) -> int:
        """Bytes of one position at the most, where all tokens drawn are different ones."""
        return min(self.samples, vocab_size) * (_id_bytes(vocab_size) + 4) + 2


def _id_bytes(vocab_size: int) -> int:
    return 2 if vocab_size <= 1 << 16 else 4


TeacherCache = Annotated[HiddenCache | TopKCache | SampledCache, Field(discriminator="kind")]
