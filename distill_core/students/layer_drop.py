"""A student made of some of the teacher's own layers.

In: the teacher's folder and which layers to keep. Out: a shallower model whose every weight is a
copy of the teacher's, embeddings, final norm and head included.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core import models
from distill_core.errors import ModelError
from distill_core.recipe import LayerDropStudent
from distill_core.students.shape import kept_layers, student_config

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def build(settings: LayerDropStudent, *, source: Path, seed: int) -> PreTrainedModel:
    """Copy the kept layers of the model in `source`; Raises `ModelError` if it has none."""
    import torch
    from transformers import AutoModelForCausalLM

    teacher = models.load_model(source, dtype=torch.float32, device="cpu")
    kept = kept_layers(teacher.config.num_hidden_layers, settings)
    student = AutoModelForCausalLM.from_config(student_config(teacher.config, settings))
    prefix = layer_prefix(teacher)
    new_index = {old: new for new, old in enumerate(kept)}
    pattern = re.compile(rf"^{re.escape(prefix)}\.(\d+)\.(.+)$")
    weights = {}
    for name, value in teacher.state_dict().items():
        match = pattern.match(name)
        if match is None:
            weights[name] = value
        elif int(match[1]) in new_index:
            weights[f"{prefix}.{new_index[int(match[1])]}.{match[2]}"] = value
    student.load_state_dict(weights)
    student.generation_config = teacher.generation_config
    return student


def layer_prefix(model: nn.Module) -> str:
    """The name of the list of transformer layers, such as `model.layers`.

    Raises:
        ModelError: if no list has one module for each layer.
    """
    from torch import nn

    depth = model.config.num_hidden_layers  # type: ignore[union-attr]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name
    raise ModelError(
        f"{type(model).__name__} has no list of {depth} layers to copy from. "  # type: ignore
        "Choose a student with new or published weights instead."
    )
