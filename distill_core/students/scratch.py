"""A smaller student of the teacher's architecture with random weights.

In: sizes and a seed. Out: a fresh model, initialised as its architecture does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill_core import models
from distill_core.models import Labels
from distill_core.models.classifiers import with_labels
from distill_core.recipe import ScratchStudent
from distill_core.students.shape import student_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build(
    settings: ScratchStudent, *, source: Path, seed: int, labels: Labels | None = None
) -> PreTrainedModel:
    """Initialise from the configuration in `source` with the student's sizes."""
    import torch
    from transformers import AutoConfig

    config = student_config(AutoConfig.from_pretrained(source), settings)
    if labels is not None:
        config = with_labels(config, labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.new_model(config)
