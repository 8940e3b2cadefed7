"""The shape of a student: a configuration made from its teacher's.

In: the teacher's configuration and the student's settings. Out: a new configuration. Works for
every architecture that names its sizes in the standard way; builds no weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.recipe import (
    LayerDropStudent,
    PretrainedStudent,
    ScratchStudent,
    Student,
    WidthPruneStudent,
)
from distill_core.students import pruned_sizes
from distill_core.students.parts import layers_in_words

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""What configurations call the ids that mean something to a model."""

_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads")


def student_config(
    teacher: PretrainedConfig,
    student: Student,
    *,
    layers: Sequence[int] | None = None,
    vocabulary: int | None = None,
) -> PretrainedConfig:
    """Make the student's configuration from its teacher's (for `pretrained`: a plain copy).

    Args:
        teacher: what the student is shaped from.
        student: its settings.
        layers: the kept layers (0-based) where they have been measured; else the lowest stand in.
        vocabulary: how many of the teacher's tokens are left, None for all.

    Raises:
        ModelError: if the architecture does not name its sizes, or the sizes do not fit.
    """
    config = copy.deepcopy(teacher)
    if not isinstance(student, PretrainedStudent):
        missing = [name for name in _SIZES if getattr(config, name, None) is None]
        if missing:
            raise ModelError(
                f"{type(config).__name__} does not name {', '.join(missing)}, so a smaller student "
                "cannot be shaped from it. Choose a published student instead.",
                field="init",
            )
        if isinstance(student, ScratchStudent):
            _set_width(config, teacher, student)
            _set_layers(config, range(student.layers))
        else:
            if isinstance(student, WidthPruneStudent):
                pruned_sizes.set_sizes(config, pruned_sizes.pruned_sizes(teacher, student))
            there = teacher.num_hidden_layers
            kept = layers if layers is not None else kept_layers(there, student)
            _set_layers(config, range(kept_count(there, student)) if kept is None else kept)
    if vocabulary is not None:
        config.vocab_size = vocabulary
        for name in SPECIAL_IDS:  # known once the tokens are chosen
            setattr(config, name, None)
    return config


def kept_count(teacher_layers: int, student: LayerDropStudent | WidthPruneStudent) -> int:
    """How many of the teacher's layers the student keeps.

    Raises:
        ModelError: if the teacher has fewer, or a listed one does not exist.
    """
    listed = getattr(student, "keep_layers", None)
    if listed is not None:
        if sorted(set(listed)) != listed or listed[-1] > teacher_layers:
            raise ModelError(
                f"keep_layers {', '.join(map(str, listed))} must name layers 1 to "
                f"{teacher_layers}, each once, in ascending order. Correct the list.",
                field="keep_layers",
            )
        return len(listed)
    count = student.layers or teacher_layers
    if count > teacher_layers:
        raise ModelError(
            f"layers = {count}, but the teacher has only {teacher_layers}. "
            f"Choose at most {teacher_layers}.",
            field="layers",
        )
    return count


def kept_layers(
    teacher_layers: int, student: LayerDropStudent | WidthPruneStudent
) -> list[int] | None:
    """Which of the teacher's layers (0-based, ascending) stay; None where that is measured first.

    Raises:
        ModelError: as `kept_count` does.
    """
    count = kept_count(teacher_layers, student)
    if count == teacher_layers:
        return list(range(count))
    if isinstance(student, WidthPruneStudent):
        return None
    if student.keep_layers is not None:
        return [layer - 1 for layer in student.keep_layers]
    if student.keep == "importance":
        return None
    if student.keep == "lower":
        return list(range(count))
    if student.keep == "first_and_last":
        head = (count + 1) // 2
        return [*range(head), *range(teacher_layers - (count - head), teacher_layers)]
    if count == 1:
        return [teacher_layers - 1]
    return [round(index * (teacher_layers - 1) / (count - 1)) for index in range(count)]


def layer_words(teacher_layers: int, student: LayerDropStudent | WidthPruneStudent) -> str:
    """The kept layers in words, counted from 1: "layers 1–6 of 30"."""
    kept = kept_layers(teacher_layers, student)
    if kept is None:
        count = kept_count(teacher_layers, student)
        return f"{count} of {teacher_layers} layers, the most important on training rows"
    return layers_in_words(kept, teacher_layers)


def _set_layers(config: Any, kept: Sequence[int]) -> None:
    """Set the depth, and take every per-layer list's entries along with their layers."""
    before = config.num_hidden_layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == before and name.endswith(("types", "layers")):
            setattr(config, name, [value[layer % before] for layer in kept])
    config.num_hidden_layers = len(kept)


def _set_width(config: Any, teacher: Any, student: ScratchStudent) -> None:
    ratio = pruned_sizes.inner_width(teacher) / teacher.hidden_size
    per_head = pruned_sizes.head_width(teacher)
    heads = student.attention_heads or default_heads(student.hidden_size, per_head)
    field = "attention_heads" if student.attention_heads else "hidden_size"
    if student.hidden_size % heads:
        raise ModelError(
            f"hidden_size {student.hidden_size} cannot be divided among {heads} attention heads. "
            f"Choose a multiple of {heads}, or other heads.",
            field=field,
        )
    if (student.hidden_size // heads) % 2:
        raise ModelError(
            f"hidden_size {student.hidden_size} over {heads} heads gives an odd width per head, "
            "which rotary positions cannot use. Choose an even one.",
            field=field,
        )
    config.hidden_size = student.hidden_size
    config.num_attention_heads = heads
    if getattr(teacher, "num_key_value_heads", None):
        group = max(1, teacher.num_attention_heads // teacher.num_key_value_heads)
        config.num_key_value_heads = heads // group if heads % group == 0 else heads
    if getattr(teacher, "head_dim", None):
        config.head_dim = student.hidden_size // heads
    pruned_sizes.set_inner_width(
        config, student.intermediate_size or max(8, round(student.hidden_size * ratio / 8) * 8)
    )


def default_heads(hidden_size: int, per_head: int) -> int:
    """The number of heads, of even width, whose width is nearest to `per_head`."""
    fitting = [
        heads
        for heads in range(1, hidden_size + 1)
        if hidden_size % heads == 0 and (hidden_size // heads) % 2 == 0
    ]
    return min(fitting or [1], key=lambda heads: abs(hidden_size / heads - per_head))
