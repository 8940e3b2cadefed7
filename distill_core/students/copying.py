"""A student whose every weight is the teacher's, or a slice of it.

In: a loaded teacher, the student's configuration, the parts that stay. Out: the student. Works on
any head (language model, classifier) and, as long as whole layers stay, on any architecture whose
layers stand in one list.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_core.errors import ModelError
from distill_core.students.anatomy import ANATOMIES, Anatomy, anatomy
from distill_core.students.parts import Parts
from distill_core.students.pruned_sizes import head_width

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


def copied(teacher: PreTrainedModel, config: PretrainedConfig, parts: Parts) -> PreTrainedModel:
    """Build the student of `config` from the teacher's own numbers, kept rows and columns.

    Every weight is copied byte for byte, but for one factor where the hidden size shrinks from D
    to d: a norm divides by a root mean over d numbers instead of D, so its gain is multiplied by
    √(D/d), and what stays keeps the scale that it had in the teacher. (Dropping dimensions that
    are always 0 then changes nothing; SmolLM2-135M at 432 of 576 starts 2.07 nats from its teacher
    instead of 2.73.) Gemma multiplies its embeddings by √hidden_size; they take the same factor.

    Raises:
        ModelError: if the teacher's layers are not alike, or do not stand in one list.
    """
    student = blank(teacher, config)
    prefix = layer_prefix(teacher)
    kept = parts.layers if parts.layers is not None else range(config.num_hidden_layers)
    theirs = teacher.state_dict()
    family = anatomy(teacher.config) if parts.is_narrower else None
    pattern = re.compile(rf"^{re.escape(prefix)}\.(\d+)\.(.+)$")
    weights: dict[str, Tensor] = {}
    for name, mine in student.state_dict().items():
        match = pattern.match(name)
        place = int(match[1]) if match else None
        source = name if match is None else f"{prefix}.{kept[int(match[1])]}.{match[2]}"
        value = theirs.get(source)
        if value is not None and family is not None:
            value = _sliced(value, source, family, teacher.config, parts, place)
        if value is None or value.shape != mine.shape:
            raise ModelError(
                f"The layers of a {teacher.config.model_type} model cannot be taken apart: "
                f"{source} does not fit.\nThat works for {', '.join(ANATOMIES)} and others whose "
                "layers are all alike; choose new or published weights instead."
            )
        weights[name] = value
    if family is not None and parts.hidden is not None:
        ratio = (teacher.config.hidden_size / config.hidden_size) ** 0.5
        _keep_scale(weights, student, family, ratio)
    student.load_state_dict(weights)
    if hasattr(teacher, "generation_config"):  # a classifier has none
        student.generation_config = copy.deepcopy(teacher.generation_config)
    return student


def blank(teacher: PreTrainedModel, config: PretrainedConfig) -> PreTrainedModel:
    """A model of the teacher's class with another configuration; its weights mean nothing yet."""
    with torch.random.fork_rng(devices=[]):
        made: Any = type(teacher)(config)
        return made.to(teacher.dtype)


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


def _sliced(
    value: Tensor,
    name: str,
    family: Anatomy,
    config: Any,
    parts: Parts,
    place: int | None,
) -> Tensor | None:
    """The kept rows and columns of one weight; `place` is its layer's place in the student."""
    axes = family.axes(name)
    if axes is None or len(axes) != value.dim():
        return None
    chosen: Mapping[str, Sequence[int] | None] = {"hidden": parts.hidden}
    if place is not None:
        width = head_width(config)
        heads = _at(parts.heads, place)
        fused = None
        if heads is not None:
            whole = config.num_attention_heads
            fused = [block * whole + head for block in range(3) for head in heads]
        chosen = {
            "hidden": parts.hidden,
            "units": _at(parts.units, place),
            "heads": _spread(heads, width),
            "groups": _spread(_at(parts.groups, place), width),
            "fused": _spread(fused, width),
        }
    for dimension, axis in enumerate(axes):
        keep = chosen.get(axis)
        if keep is not None:
            value = value.index_select(dimension, torch.tensor(keep, device=value.device))
    return value


def _at(per_layer: list[list[int]] | None, place: int) -> list[int] | None:
    return None if per_layer is None else per_layer[place]


def _spread(heads: Sequence[int] | None, width: int) -> list[int] | None:
    """Rows of the kept heads, each `width` of them."""
    if heads is None:
        return None
    return [head * width + row for head in heads for row in range(width)]


def _keep_scale(
    weights: dict[str, Tensor], student: PreTrainedModel, family: Anatomy, ratio: float
) -> None:
    """Multiply norms, and Gemma's embeddings, by √(D/d): see `copied`."""
    embedding: Any = student.get_input_embeddings()
    head: Any = student.get_output_embeddings()
    tied = head is not None and head.weight is embedding.weight
    body: Any = student.base_model
    for name, value in student.named_parameters(remove_duplicate=False):
        module = name.removesuffix(".weight")
        if family.scaled_embedding and value is embedding.weight:
            weights[name] = weights[name] * ratio
        elif module != name and family.is_norm(module):
            if family.scaled_embedding and tied and value is body.norm.weight:
                continue  # the tied head has the factor already
            less = 1 if family.scaled_embedding else 0  # Gemma's norms hold their gain less one
            weights[name] = (weights[name] + less) * ratio - less
