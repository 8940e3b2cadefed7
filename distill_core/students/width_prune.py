"""A narrower student: the teacher without its least active heads, units and dimensions.

In: the teacher, the wanted widths, calibration rows. Out: a model whose every weight is a slice of
the teacher's (Minitron, arXiv 2407.14679). Queries stay with their keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_core.recipe import WidthPruneStudent
from distill_core.students.copying import copied
from distill_core.students.importance import layer_importance, width_importance
from distill_core.students.layer_drop import highest
from distill_core.students.parts import Parts
from distill_core.students.pruned_sizes import pruned_sizes, whole_sizes
from distill_core.students.shape import kept_count, kept_layers, student_config

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch


def choose(
    settings: WidthPruneStudent, teacher: PreTrainedModel, batches: Sequence[Batch]
) -> Parts:
    """The most important parts on the batches; None where nothing is left out of a kind."""
    config = teacher.config
    sizes = pruned_sizes(config, settings)
    there = config.num_hidden_layers
    kept = kept_layers(there, settings)
    if kept is None:
        kept = highest(layer_importance(teacher, batches), kept_count(there, settings))
    heads = groups = units = hidden = None
    whole = whole_sizes(config)
    if sizes == whole:
        return Parts(layers=kept)
    measured = width_importance(teacher, batches)
    if sizes.heads < whole.heads:
        pairs = [
            kept_heads(measured.heads[layer], whole.groups, heads=sizes.heads) for layer in kept
        ]
        heads, groups = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if sizes.units < whole.units:
        units = [highest(measured.units[layer], sizes.units) for layer in kept]
    if sizes.hidden < whole.hidden:
        hidden = highest(measured.hidden, sizes.hidden)
    return Parts(layers=kept, heads=heads, groups=groups, units=units, hidden=hidden)


def build(settings: WidthPruneStudent, teacher: PreTrainedModel, parts: Parts) -> PreTrainedModel:
    """Copy the kept slices; raises `ModelError` for an architecture that is not kept."""
    config = student_config(teacher.config, settings, layers=parts.layers)
    return copied(teacher, config, parts)


def kept_heads(importance: Tensor, groups: int, *, heads: int) -> tuple[list[int], list[int]]:
    """Which query heads and which key-value heads of one layer stay, both ascending.

    `importance` (query heads,); each run of query heads shares one of the `groups`. Whole groups
    go where that gives the wanted number: the cache of keys and values shrinks with them.
    Otherwise every group keeps as many of its own heads.
    """
    share = len(importance) // groups
    by_group = importance.view(groups, share)
    if heads % share == 0:
        kept = highest(by_group.sum(1), heads // share)
        return [group * share + place for group in kept for place in range(share)], kept
    each = heads // groups
    chosen = [highest(by_group[group], each) for group in range(groups)]
    return [group * share + place for group in range(groups) for place in chosen[group]], list(
        range(groups)
    )
