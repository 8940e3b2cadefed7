"""A student made of some of the teacher's own layers.

In: the teacher and which layers to keep. Out: a shallower model whose every weight is a copy of
the teacher's, embeddings, final norm and head included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_core.recipe import LayerDropStudent
from distill_core.students.copying import copied
from distill_core.students.importance import layer_importance
from distill_core.students.parts import Parts
from distill_core.students.shape import kept_count, kept_layers, student_config

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch


def choose(settings: LayerDropStudent, teacher: PreTrainedModel, batches: Sequence[Batch]) -> Parts:
    """The layers that `settings` name, or the most important ones on the batches."""
    kept = kept_layers(teacher.config.num_hidden_layers, settings)
    if kept is None:
        count = kept_count(teacher.config.num_hidden_layers, settings)
        kept = highest(layer_importance(teacher, batches), count)
    return Parts(layers=kept)


def build(settings: LayerDropStudent, teacher: PreTrainedModel, parts: Parts) -> PreTrainedModel:
    """Copy the kept layers; raises `ModelError` where they cannot be taken apart."""
    config = student_config(teacher.config, settings, layers=parts.layers)
    return copied(teacher, config, parts)


def highest(values: Tensor, count: int) -> list[int]:
    """Places of the `count` highest of `values` (N,), ascending; of equal ones the first."""
    order = values.argsort(descending=True, stable=True)
    return sorted(int(place) for place in order[:count])
