"""The widths of a narrower student: which ones fit its architecture.

In: the teacher's configuration and the wanted widths. Out: widths that fit together, or what would
fit. Heads keep their width; queries keep their share of keys and values.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError
from distill_core.recipe import WidthPruneStudent
from distill_core.students.anatomy import anatomy

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_INNER_NAMES = ("intermediate_size", "n_inner", "hidden_dim")


@dataclass(frozen=True)
class PrunedSizes:
    """Widths of the student."""

    hidden: int
    heads: int
    """Query heads."""
    groups: int
    """Key and value heads."""
    units: int
    """Feed-forward units."""


def pruned_sizes(teacher: PretrainedConfig, student: WidthPruneStudent) -> PrunedSizes:
    """Settle the widths of a student.

    Where heads are as wide as hidden size over heads (GPT-2, BERT), either gives the other.

    Raises:
        ModelError: if the architecture is not known, a width is larger than the teacher's, or they
            do not fit together; names what would.
    """
    family = anatomy(teacher)
    whole = whole_sizes(teacher)
    for name, wanted, most in (
        ("hidden_size", student.hidden_size, whole.hidden),
        ("attention_heads", student.attention_heads, whole.heads),
        ("intermediate_size", student.intermediate_size, whole.units),
    ):
        if wanted is not None and wanted > most:
            raise ModelError(
                f"{name} = {wanted}, but the teacher has only {most}. Choose at most {most}.",
                field=name,
            )
    hidden = student.hidden_size or whole.hidden
    if not family.own_head_width and student.attention_heads and student.hidden_size is None:
        hidden = student.attention_heads * head_width(teacher)
    fitting = [
        heads for heads in range(1, whole.heads + 1) if _fits(teacher, heads=heads, hidden=hidden)
    ]
    if not fitting:
        raise _no_heads_fit(teacher, hidden)
    heads = student.attention_heads or fitting[-1]
    if heads not in fitting:
        raise ModelError(
            f"{heads} attention heads do not fit: the teacher has {whole.heads} on "
            f"{whole.groups} key-value heads, and hidden_size is {hidden}. "
            f"Choose one of {', '.join(map(str, fitting))}.",
            field="attention_heads",
        )
    share = whole.heads // whole.groups
    groups = heads // share if heads % share == 0 else whole.groups
    return PrunedSizes(hidden, heads, groups, student.intermediate_size or whole.units)


def whole_sizes(config: PretrainedConfig) -> PrunedSizes:
    """The widths of a configuration as it is."""
    return PrunedSizes(
        config.hidden_size, config.num_attention_heads, groups_of(config), inner_width(config)
    )


def set_sizes(config: Any, sizes: PrunedSizes) -> None:
    """Write the widths into a copy of the teacher's configuration; heads keep their width."""
    width = head_width(config)
    config.hidden_size = sizes.hidden
    config.num_attention_heads = sizes.heads
    if getattr(config, "num_key_value_heads", None) is not None:
        config.num_key_value_heads = sizes.groups
    if anatomy(config).own_head_width:
        config.head_dim = width
    set_inner_width(config, sizes.units)


def inner_width(config: Any) -> int:
    """Units of the feed-forward layer, whatever the architecture calls them."""
    named = (getattr(config, name, None) for name in _INNER_NAMES)
    return int(next((width for width in named if width), 4 * config.hidden_size))


def set_inner_width(config: Any, width: int) -> None:
    """Set the units of the feed-forward layer."""
    for name in _INNER_NAMES:
        if hasattr(config, name):
            setattr(config, name, width)


def head_width(config: Any) -> int:
    """Width of one attention head."""
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def groups_of(config: Any) -> int:
    """Key and value heads: as many as query heads unless these share them."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _fits(teacher: Any, *, heads: int, hidden: int) -> bool:
    groups = groups_of(teacher)
    share = teacher.num_attention_heads // groups
    if heads % share and heads % groups:
        return False
    if not anatomy(teacher).own_head_width:
        return hidden == heads * head_width(teacher)
    kind: Any = type(teacher)
    return hidden % heads == 0 or not _wants_a_multiple(kind)


@functools.cache
def _wants_a_multiple(kind: Any) -> bool:
    """Whether an architecture refuses a hidden size that its heads do not divide."""
    try:
        kind(hidden_size=20, num_attention_heads=3, num_key_value_heads=3)
    except Exception:  # a validation error of `huggingface_hub`, whose type has moved before
        return True
    return False


def _no_heads_fit(teacher: Any, hidden: int) -> ModelError:
    widths = [
        width
        for width in range(1, teacher.hidden_size + 1)
        for heads in range(1, teacher.num_attention_heads + 1)
        if _fits(teacher, heads=heads, hidden=width)
    ]
    widths = [width for width in widths if width % 8 == 0] or widths  # computed faster
    below = max((width for width in widths if width < hidden), default=0)
    above = min((width for width in widths if width > hidden), default=0)
    near = " or ".join(str(width) for width in (below, above) if width)
    return ModelError(
        f"hidden_size {hidden} does not fit the {teacher.model_type} teacher's "
        f"{teacher.num_attention_heads} heads of width {head_width(teacher)} on "
        f"{groups_of(teacher)} key-value heads. Choose {near}.",
        field="hidden_size",
    )
