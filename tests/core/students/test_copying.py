"""Students that are copies: every weight is the teacher's, or a slice of it, byte for byte."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import FalconConfig, FalconForCausalLM

from distill_core.errors import ModelError
from distill_core.recipe import LayerDropStudent, WidthPruneStudent
from distill_core.students import layer_drop, width_prune
from distill_core.students.copying import layer_prefix
from distill_core.students.parts import Parts
from tests.core.students.families import (
    FAMILIES,
    HEADS,
    HIDDEN,
    LAYERS,
    UNITS,
    WIDTH,
    batches,
    logits,
    tiny,
)


@pytest.fixture(params=sorted(FAMILIES))
def teacher(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param)


def source_name(name: str, kept: list[int]) -> tuple[str, int | None]:
    """The teacher's name of a student's weight, and its layer in the student."""
    match = re.search(r"\.(layers|h|layer)\.(\d+)\.", name)
    if match is None:
        return name, None
    place = int(match[2])
    return name.replace(match[0], f".{match[1]}.{kept[place]}.", 1), place


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (LayerDropStudent(layers=2), [0, 1]),
        (LayerDropStudent(layers=2, keep="even"), [0, 3]),
        (LayerDropStudent(layers=3, keep="first_and_last"), [0, 1, 3]),
        (LayerDropStudent(keep_layers=[2, 4]), [1, 3]),
    ],
)
def test_layer_drop_copies_every_kept_weight_bit_for_bit(
    teacher: Any, settings: LayerDropStudent, kept: list[int]
) -> None:
    student = layer_drop.build(settings, teacher, layer_drop.choose(settings, teacher, ()))
    theirs, copied = teacher.state_dict(), 0
    for name, mine in student.state_dict().items():
        source, place = source_name(name, kept)
        assert torch.equal(mine, theirs[source]), name
        copied += place is not None
    assert copied >= len(kept) * 8
    assert student.config.num_hidden_layers == len(kept)
    logits(student)


def test_a_kept_layer_keeps_its_kind_of_attention() -> None:
    teacher = tiny("gemma3")
    settings = LayerDropStudent(keep_layers=[2, 4])
    student = layer_drop.build(settings, teacher, layer_drop.choose(settings, teacher, ()))
    assert student.config.layer_types == ["full_attention", "full_attention"]
    assert [layer.self_attn.is_sliding for layer in student.model.layers] == [False, False]


def test_pruning_nothing_gives_the_same_logits_bit_for_bit(teacher: Any) -> None:
    settings = WidthPruneStudent()
    student = width_prune.build(settings, teacher, width_prune.choose(settings, teacher, ()))
    assert torch.equal(logits(student), logits(teacher))


AXES: list[tuple[str, str]] = [
    # end of a weight's name, and what its axes are; written down apart from the sources
    (r"(embed_tokens|wte|wpe|lm_head|score|\w+_embeddings|decoder)\.weight", "-d"),
    (r"(q_proj|query|q_lin)\.weight", "hd"),
    (r"(self\.key|self\.value|k_lin|v_lin)\.weight", "hd"),
    (r"(k_proj|v_proj)\.weight", "gd"),
    (r"(q_proj|query|key|value|[qkv]_lin)\.bias", "h"),
    (r"(k_proj|v_proj)\.bias", "g"),
    (r"(o_proj|attention\.output\.dense|out_lin)\.weight", "dh"),
    (r"(gate_proj|up_proj|intermediate\.dense|lin1)\.weight", "ud"),
    (r"(gate_proj|up_proj|intermediate\.dense|lin1|c_fc)\.bias", "u"),
    (r"(down_proj|output\.dense|lin2)\.weight", "du"),
    (r"attn\.c_attn\.weight", "df"),
    (r"attn\.c_attn\.bias", "f"),
    (r"attn\.c_proj\.weight", "hd"),
    (r"c_fc\.weight", "du"),
    (r"mlp\.c_proj\.weight", "ud"),
    (r"(pooler\.dense|pre_classifier|classifier\.dense|transform\.dense)\.weight", "dd"),
    (r"(classifier|out_proj)\.weight", "-d"),
    (r"(classifier|out_proj|predictions|decoder)\.bias", "-"),
    (r"(pooler\.dense|pre_classifier|transform\.dense|output\.dense|o_proj)\.bias", "d"),
    (r"(out_lin|lin2|down_proj|c_proj|classifier\.dense)\.bias", "d"),
    (r"[qk]_norm\.weight", "-"),
    (r"\w*(norm|Norm|ln_\w+)\.(weight|bias)", "d"),
]


def axes_of(name: str) -> str:
    return next(axes for pattern, axes in AXES if re.search(rf"(^|\.){pattern}$", name))


def expected(name: str, value: Tensor, parts: Parts, place: int | None) -> Tensor:
    """Cut a weight with plain indexing."""
    axes = axes_of(name)
    groups = heads = units = None
    if place is not None:
        heads, groups, units = parts.heads[place], parts.groups[place], parts.units[place]
    for axis, letter in enumerate(axes):
        rows: list[int] | None = None
        if letter == "d":
            rows = parts.hidden
        elif letter == "u":
            rows = units
        elif letter in "hg":
            rows = [i * WIDTH + j for i in (heads if letter == "h" else groups) for j in range(12)]
        elif letter == "f":
            rows = [b * HIDDEN + i * WIDTH + j for b in range(3) for i in heads for j in range(12)]
        if rows is not None:
            value = torch.stack([value.select(axis, row) for row in rows], axis)
    return value


def test_width_prune_copies_slices_bit_for_bit(teacher: Any) -> None:
    settings = WidthPruneStudent(layers=3, hidden_size=24, intermediate_size=16, attention_heads=2)
    parts = width_prune.choose(settings, teacher, batches())
    student = width_prune.build(settings, teacher, parts)
    config = student.config
    assert parts.layers is not None
    assert parts.hidden is not None
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 24, 2)
    is_gemma = config.model_type.startswith("gemma")
    ratio = (HIDDEN / 24) ** 0.5
    theirs, exact = teacher.state_dict(), 0
    for name, mine in student.state_dict().items():
        source, place = source_name(name, parts.layers)
        value = expected(source, theirs[source], parts, place)
        is_norm = re.search(r"(?<![qk]_)([nN]orm|ln_\w+)\.weight$", name)
        if is_gemma and name.endswith(("embed_tokens.weight", "lm_head.weight")):
            value = value * ratio
        elif is_norm and is_gemma and not name.endswith("model.norm.weight"):
            value = (value + 1) * ratio - 1
        elif is_norm and not is_gemma:
            value = value * ratio
        else:
            exact += 1
        assert torch.equal(mine, value), name
    assert exact >= 3 * 7
    logits(student)


def test_only_heads_and_units_are_plain_slices(teacher: Any) -> None:
    own_width = hasattr(teacher.config, "num_key_value_heads")
    settings = WidthPruneStudent(intermediate_size=16, attention_heads=2 if own_width else None)
    parts = width_prune.choose(settings, teacher, batches())
    student = width_prune.build(settings, teacher, parts)
    assert parts.hidden is None
    theirs = {value.numpy().tobytes() for value in teacher.state_dict().values()}
    norms = [v for n, v in student.state_dict().items() if re.search(r"(norm|Norm|ln_\w+)\.", n)]
    assert all(value.numpy().tobytes() in theirs for value in norms)


def kill(teacher: Any, *, heads: list[int], units: list[int], hidden: list[int]) -> None:
    """Make heads, units and hidden dimensions of a teacher do nothing."""
    rows = [head * WIDTH + row for head in heads for row in range(WIDTH)]
    dead = {"h": rows, "u": units, "d": hidden}
    written = r"(o_proj|out_lin|c_proj|down_proj|output\.dense|lin2)"
    for name, value in teacher.state_dict().items():
        if re.search(rf"(^|\.)({written}\.(weight|bias)|embed_tokens\.weight)$", name):
            for axis, letter in enumerate(axes_of(name)):
                if numbers := dead.get(letter):
                    value.index_fill_(axis, torch.tensor(numbers), 0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_pruning_dead_heads_and_units_changes_nothing(family: str) -> None:
    teacher = tiny(family)
    own_width = hasattr(teacher.config, "num_key_value_heads")
    dead_units = [1, 7, 30]
    kill(teacher, heads=[2, 3] if own_width else [], units=dead_units, hidden=[])
    settings = WidthPruneStudent(
        intermediate_size=UNITS - len(dead_units), attention_heads=2 if own_width else None
    )
    parts = width_prune.choose(settings, teacher, batches())
    student = width_prune.build(settings, teacher, parts)
    assert parts.units is not None
    assert all(not set(dead_units) & set(units) for units in parts.units)
    if own_width:
        assert parts.heads == [[0, 1]] * LAYERS
        assert parts.groups == [[0]] * LAYERS
        assert student.config.head_dim == WIDTH
    assert student.num_parameters() < teacher.num_parameters()
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma"])
def test_pruning_dead_dimensions_changes_nothing(family: str) -> None:
    teacher = tiny(family)
    dead = [0, 5, 6, 17, 18, 30, 41, 47]
    kill(teacher, heads=[], units=[], hidden=dead)
    settings = WidthPruneStudent(hidden_size=HIDDEN - len(dead))
    parts = width_prune.choose(settings, teacher, batches())
    student = width_prune.build(settings, teacher, parts)
    assert parts.hidden is not None
    assert not set(dead) & set(parts.hidden)
    torch.testing.assert_close(logits(student), logits(teacher), rtol=1e-3, atol=1e-4)


def test_the_same_rows_and_seed_give_the_same_bytes() -> None:
    settings = WidthPruneStudent(hidden_size=24, layers=2)
    chosen = [width_prune.choose(settings, tiny("qwen3"), batches(2)) for _ in range(2)]
    assert chosen[0] == chosen[1]
    first, second = (width_prune.build(settings, tiny("qwen3"), parts) for parts in chosen)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_an_unknown_architecture_is_refused_by_name() -> None:
    config = FalconConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    teacher = FalconForCausalLM(config)
    with pytest.raises(ModelError, match=r"falcon model cannot be made narrower.*\n.*llama.*gpt2"):
        width_prune.choose(WidthPruneStudent(hidden_size=16), teacher, ())
    student = layer_drop.build(LayerDropStudent(layers=1), teacher, Parts(layers=[1]))
    prefix = layer_prefix(teacher)
    kept = teacher.get_submodule(prefix)[1].state_dict()  # type: ignore[index,operator]
    for name, value in student.get_submodule(prefix)[0].state_dict().items():  # type: ignore
        assert torch.equal(value, kept[name])
    assert HEADS == 4
