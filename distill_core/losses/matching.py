"""Which layers of which network the terms of a stage compare, and what bridges their widths.

In: the terms and both configurations. Out: `Matching`: what to look at in each network, the pairs
of layers by term, projectors for the student, and the pairs in words. Looks at no batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import torch
from torch import nn

from distill_core.errors import ModelError
from distill_core.forward.network import Wanted
from distill_core.losses.base import LayerPairs
from distill_core.recipe import AttentionLoss, HiddenStatesLoss, Loss
from distill_core.students.layer_map import layer_pairs, pair_words


@dataclass(frozen=True)
class Matching:
    """How two networks are compared inside."""

    student: Wanted = field(default_factory=Wanted)
    teacher: Wanted = field(default_factory=Wanted)
    pairs: dict[str, LayerPairs] = field(default_factory=dict)
    projectors: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    words: dict[str, str] = field(default_factory=dict)
    """By term: which layer learns from which."""


def match(
    losses: Sequence[Loss],
    student: Any,
    teacher: Any,
    *,
    kept: Sequence[int] | None = None,
    seed: int = 0,
    causal: bool = True,
) -> Matching:
    """Pair the layers of two configurations for every term that compares them inside.

    `kept` are the teacher's layers (from 0) that the student's were copied from. Projectors are
    linear maps without bias from the student's width to the teacher's, one for each compared
    layer, drawn from `seed`; there are none where the widths are equal.

    Raises:
        ModelError: if a layer map names layers that are not there, or relation heads do not fit.
    """
    pairs: dict[str, LayerPairs] = {}
    layers: dict[str, tuple[set[int], set[int]]] = {
        kind: (set(), set()) for kind in ("hidden_states", "maps", "values")
    }
    heads = 1
    for term in losses:
        if not isinstance(term, HiddenStatesLoss | AttentionLoss) or not term.is_active:
            continue
        chosen = layer_pairs(
            student.num_hidden_layers,
            teacher.num_hidden_layers,
            layers=term.layers,
            layer_map=term.layer_map,
            kept=kept,
        )
        pairs[term.name] = chosen
        kind = term.compares if isinstance(term, AttentionLoss) else "hidden_states"
        layers[kind][0].update(ours for ours, _ in chosen)
        layers[kind][1].update(theirs for _, theirs in chosen)
        if isinstance(term, AttentionLoss) and term.compares == "values":
            heads = relation_heads(term, student, teacher)
    ours, theirs = (
        Wanted(
            hidden_states=frozenset(layers["hidden_states"][side]),
            attention=frozenset(layers["maps"][side]),
            values=frozenset(layers["values"][side]),
            relation_heads=heads,
            causal=causal,
        )
        for side in (0, 1)
    )
    return Matching(
        ours,
        theirs,
        pairs,
        _projectors(ours.hidden_states, student.hidden_size, teacher.hidden_size, seed=seed),
        {name: pair_words(chosen) for name, chosen in pairs.items()},
    )


def relation_heads(term: AttentionLoss, student: Any, teacher: Any) -> int:
    """Into how many parts the values of both networks are split.

    Raises:
        ModelError: if the number in the recipe does not divide both widths.
    """
    widths = [_value_width(student), _value_width(teacher)]
    common = gcd(*widths)
    if term.relation_heads is None:
        fitting = [n for n in range(1, student.num_attention_heads + 1) if common % n == 0]
        return max(fitting)
    if common % term.relation_heads:
        raise ModelError(
            f"relation_heads = {term.relation_heads} does not divide the values' widths "
            f"{widths[0]} (student) and {widths[1]} (teacher).\n"
            f"Choose a divisor of {common}, or leave it empty."
        )
    return term.relation_heads


def _value_width(config: Any) -> int:
    heads = config.num_attention_heads
    per_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(per_head * (getattr(config, "num_key_value_heads", None) or heads))


def _projectors(layers: frozenset[int], width: int, wide: int, *, seed: int) -> nn.ModuleDict:
    if width == wide:
        return nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleDict(
            {str(layer): nn.Linear(width, wide, bias=False) for layer in sorted(layers)}
        )
