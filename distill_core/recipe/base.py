"""What all groups of settings have in common.

In: nothing. Out: their base class, and the names that stand for a model.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

PREVIOUS = "previous"
"""As a teacher or model: the network that the stage before has trained."""


class Settings(BaseModel):
    """Base of every group of settings: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
