"""From a student's settings to a network with its first weights.

In: settings, and the teacher's weights where the student starts from them. Out: a
`PreTrainedModel` in train mode, fp32. Knows nothing of losses or data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distill_core.recipe import LayerDropStudent, PretrainedStudent, ScratchStudent, Student
from distill_core.students import layer_drop, pretrained, scratch

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

STUDENTS: dict[type, Callable[..., Any]] = {
    PretrainedStudent: pretrained.build,
    ScratchStudent: scratch.build,
    LayerDropStudent: layer_drop.build,
}


def build_student(settings: Student, *, source: Path, seed: int) -> PreTrainedModel:
    """Build the student that `settings` describe, shaped from the model folder `source`.

    The same settings, source and seed give the same weights, bit for bit.

    Raises:
        ModelError: if the sizes do not fit the source's architecture.
    """
    model: PreTrainedModel = STUDENTS[type(settings)](settings, source=source, seed=seed)
    model.config.use_cache = True
    return model.float().train()
