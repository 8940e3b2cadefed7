"""The shape of a student: a configuration made from its teacher's.

In: the teacher's configuration and the student's settings. Out: a new configuration. Works for
every architecture that names its sizes in the standard way; builds no weights.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.recipe import LayerDropStudent, PretrainedStudent, ScratchStudent

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def student_config(
    teacher: PretrainedConfig, student: ScratchStudent | LayerDropStudent | PretrainedStudent
) -> PretrainedConfig:
    """Make the student's configuration from its teacher's (for `pretrained`: a plain copy).

    Raises:
        ModelError: if the architecture does not name its sizes, or the sizes do not fit.
    """
    config = copy.deepcopy(teacher)
    if isinstance(student, PretrainedStudent):
        return config
    missing = [name for name in _SIZES if getattr(config, name, None) is None]
    if missing:
        raise ModelError(
            f"{type(config).__name__} does not name {', '.join(missing)}, so a smaller student "
            "cannot be shaped from it. Choose a published student instead."
        )
    if isinstance(student, LayerDropStudent):
        kept_layers(teacher.num_hidden_layers, student)
        _set_layers(config, student.layers)
        return config
    _set_width(config, teacher, student)
    _set_layers(config, student.layers)
    return config


def kept_layers(teacher_layers: int, student: LayerDropStudent) -> list[int]:
    """Which of the teacher's layers (0-based, ascending) the student keeps.

    Raises:
        ModelError: if the teacher has fewer layers than the student asks for.
    """
    count = student.layers
    if count > teacher_layers:
        raise ModelError(
            f"layers = {count}, but the teacher has only {teacher_layers}. "
            f"Choose at most {teacher_layers}."
        )
    if student.keep == "lower":
        return list(range(count))
    if student.keep == "first_and_last":
        head = (count + 1) // 2
        return [*range(head), *range(teacher_layers - (count - head), teacher_layers)]
    if count == 1:
        return [teacher_layers - 1]
    return [round(index * (teacher_layers - 1) / (count - 1)) for index in range(count)]


def layer_words(teacher_layers: int, student: LayerDropStudent) -> str:
    """The kept layers in words, counted from 1: "layers 1–6 of 30"."""
    kept = kept_layers(teacher_layers, student)
    ranges: list[list[int]] = []
    for layer in kept:
        if ranges and ranges[-1][1] == layer - 1:
            ranges[-1][1] = layer
        else:
            ranges.append([layer, layer])
    parts = [f"{a + 1}" if a == b else f"{a + 1}–{b + 1}" for a, b in ranges]
    return f"layers {', '.join(parts)} of {teacher_layers}"


def _set_layers(config: Any, layers: int) -> None:
    """Set the depth, and cut every per-layer list to it."""
    before = config.num_hidden_layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == before and name.endswith(("types", "layers")):
            setattr(config, name, value[:layers])
    config.num_hidden_layers = layers


def _set_width(config: Any, teacher: Any, student: ScratchStudent) -> None:
    ratio = (getattr(teacher, "intermediate_size", None) or 4 * teacher.hidden_size) / (
        teacher.hidden_size
    )
    per_head = getattr(teacher, "head_dim", None) or (
        teacher.hidden_size // teacher.num_attention_heads
    )
    heads = student.attention_heads or default_heads(student.hidden_size, per_head)
    if student.hidden_size % heads:
        raise ModelError(
            f"hidden_size {student.hidden_size} cannot be divided among {heads} attention heads. "
            f"Choose a multiple of {heads}, or other heads."
        )
    if (student.hidden_size // heads) % 2:
        raise ModelError(
            f"hidden_size {student.hidden_size} over {heads} heads gives an odd width per head, "
            "which rotary positions cannot use. Choose an even one."
        )
    config.hidden_size = student.hidden_size
    config.num_attention_heads = heads
    if getattr(teacher, "num_key_value_heads", None):
        group = max(1, teacher.num_attention_heads // teacher.num_key_value_heads)
        config.num_key_value_heads = heads // group if heads % group == 0 else heads
    if getattr(teacher, "head_dim", None):
        config.head_dim = student.hidden_size // heads
    width = student.intermediate_size or max(8, round(student.hidden_size * ratio / 8) * 8)
    for name in ("intermediate_size", "n_inner"):
        if hasattr(teacher, name):
            setattr(config, name, width)


def default_heads(hidden_size: int, per_head: int) -> int:
    """The number of heads, of even width, whose width is nearest to `per_head`."""
    fitting = [
        heads
        for heads in range(1, hidden_size + 1)
        if hidden_size % heads == 0 and (hidden_size // heads) % 2 == 0
    ]
    return min(fitting or [1], key=lambda heads: abs(hidden_size / heads - per_head))
