"""Students: exact copies where they copy, the asked sizes, the same weights for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from distill_core.errors import ModelError
from distill_core.recipe import LayerDropStudent, LoraSettings, PretrainedStudent, ScratchStudent
from distill_core.students.adapters import merged, with_adapter
from distill_core.students.build import build_student
from distill_core.students.shape import default_heads, kept_layers, layer_words, student_config

SIZES = {
    "vocab_size": 64,
    "hidden_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=12),
    "gemma": GemmaConfig(**SIZES, head_dim=12),
    "gpt2": GPT2Config(vocab_size=64, n_embd=48, n_layer=6, n_head=4, n_positions=64),
}


@pytest.fixture(params=sorted(CONFIGS))
def teacher(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param])
    model.save_pretrained(tmp_path / "teacher")
    return model


def test_layer_drop_copies_every_kept_weight_bit_for_bit(teacher: Any, tmp_path: Path) -> None:
    settings = LayerDropStudent(layers=3, keep="even")
    student = build_student(settings, source=tmp_path / "teacher", seed=0)
    kept = [0, 2, 5]
    assert kept_layers(6, settings) == kept
    theirs, mine = teacher.state_dict(), student.state_dict()
    copied = 0
    for name, value in mine.items():
        source = name
        for new, old in enumerate(kept):
            for stem in ("model.layers", "transformer.h"):
                if name.startswith(f"{stem}.{new}."):
                    source = name.replace(f"{stem}.{new}.", f"{stem}.{old}.", 1)
                    copied += 1
        assert torch.equal(value, theirs[source]), name
    assert copied >= 3 * 8
    assert student.config.num_hidden_layers == 3
    student(input_ids=torch.tensor([[1, 2, 3]]))


def test_scratch_has_the_asked_sizes_and_follows_its_seed(teacher: Any, tmp_path: Path) -> None:
    settings = ScratchStudent(layers=2, hidden_size=24)
    first, again, other = (
        build_student(settings, source=tmp_path / "teacher", seed=seed) for seed in (5, 5, 6)
    )
    assert first.config.num_hidden_layers == 2
    assert first.config.hidden_size == 24
    assert first.num_parameters() < teacher.num_parameters()
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    first(input_ids=torch.tensor([[1, 2, 3]]))


def test_building_leaves_the_random_state_alone(teacher: Any, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    build_student(ScratchStudent(layers=1, hidden_size=16), source=tmp_path / "teacher", seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_pretrained_is_the_folder_itself(teacher: Any, tmp_path: Path) -> None:
    student = build_student(PretrainedStudent(), source=tmp_path / "teacher", seed=0)
    for name, value in student.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])
    assert student.training


@pytest.mark.parametrize(
    ("keep", "layers", "words"),
    [
        ("lower", 3, "layers 1–3 of 6"),
        ("even", 2, "layers 1, 6 of 6"),
        ("even", 1, "layers 6 of 6"),
        ("first_and_last", 3, "layers 1–2, 6 of 6"),
        ("lower", 6, "layers 1–6 of 6"),
    ],
)
def test_layers_in_words(keep: Any, layers: int, words: str) -> None:
    assert layer_words(6, LayerDropStudent(layers=layers, keep=keep)) == words


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="layers = 7, but the teacher has only 6"):
        student_config(CONFIGS["llama"], LayerDropStudent(layers=7))
    with pytest.raises(ModelError, match="cannot be divided among 5 attention heads"):
        student_config(CONFIGS["llama"], ScratchStudent(hidden_size=24, attention_heads=5))
    with pytest.raises(ModelError, match="odd width per head"):
        student_config(CONFIGS["llama"], ScratchStudent(hidden_size=24, attention_heads=8))


def test_heads_keep_the_teachers_width_where_they_can() -> None:
    assert default_heads(80, 32) == 2
    assert default_heads(96, 32) == 3
    assert default_heads(14, 32) == 1


def test_c20_intermediate_size_and_heads_reach_the_configuration() -> None:
    plain = student_config(CONFIGS["llama"], ScratchStudent(hidden_size=24))
    changed = student_config(
        CONFIGS["llama"], ScratchStudent(hidden_size=24, intermediate_size=40, attention_heads=3)
    )
    assert plain.intermediate_size == 48
    assert (changed.intermediate_size, changed.num_attention_heads) == (40, 3)


def test_an_adapter_starts_as_nothing_and_merges_to_the_same_answers(
    teacher: Any, tmp_path: Path
) -> None:
    ids = torch.tensor([[1, 2, 3, 4]])
    before = teacher.eval()(input_ids=ids).logits
    model = build_student(PretrainedStudent(), source=tmp_path / "teacher", seed=0)
    network = with_adapter(model, LoraSettings(rank=2), seed=0).eval()
    torch.testing.assert_close(network(input_ids=ids).logits, before)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "lora_" in name:
                value.normal_(std=0.1)
    changed = network(input_ids=ids).logits
    assert not torch.allclose(changed, before)
    whole = merged(network)
    torch.testing.assert_close(whole(input_ids=ids).logits, changed, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name in whole.state_dict())
