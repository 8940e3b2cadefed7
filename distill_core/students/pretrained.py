"""A student that starts from published weights.

In: a folder, or the name in the settings. Out: the model as it was saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill_core import models
from distill_core.models import Labels
from distill_core.recipe import PretrainedStudent

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build(
    settings: PretrainedStudent, *, source: Path, seed: int, labels: Labels | None = None
) -> PreTrainedModel:
    """Load the named model, or `source` itself where none is named."""
    import torch

    folder = models.resolve(settings.model, field="student.model") if settings.model else source
    return models.load_model(
        Path(folder), dtype=torch.float32, device="cpu", labels=labels, new_head_seed=seed
    )
