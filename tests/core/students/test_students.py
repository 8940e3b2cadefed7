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

from distill_core.data.tokenize import Encoded
from distill_core.errors import ModelError
from distill_core.recipe import (
    LayerDropStudent,
    LoraSettings,
    PretrainedStudent,
    ScratchStudent,
    WidthPruneStudent,
)
from distill_core.students import parts as student_parts
from distill_core.students.adapters import merged, with_adapter
from distill_core.students.build import build_student, choose_parts
from distill_core.students.calibration import Calibration
from distill_core.students.parts import Parts
from distill_core.students.shape import default_heads, layer_words, student_config
from tests.core.students.families import tiny

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
        ("importance", 2, "2 of 6 layers, the most important on training rows"),
        ("importance", 6, "layers 1–6 of 6"),
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


# --- parts: chosen once, kept, and enough to build the same again --------------------------------

ROWS = [Encoded([5, 6, 7, 8], [5, 6, 7, 8], True, False), Encoded([9, 3], [9, 3], True, False)]


@pytest.mark.parametrize(
    "settings",
    [
        LayerDropStudent(layers=2, keep="importance"),
        LayerDropStudent(layers=2),
        WidthPruneStudent(hidden_size=24, intermediate_size=40, layers=2),
        ScratchStudent(layers=2, hidden_size=24),
        PretrainedStudent(),
    ],
    ids=lambda settings: settings.init,
)
def test_the_stored_choice_builds_the_same_bytes(
    teacher: Any, tmp_path: Path, settings: Any
) -> None:
    source = tmp_path / "teacher"
    calibration = Calibration(ROWS, pad_token_id=0)
    file = tmp_path / "run" / "stage_0.json"
    more: Any = {"source": source, "seed": 0, "calibration": calibration}
    parts = choose_parts(settings, **more, stored=file)
    stored = student_parts.read(file)
    assert stored == parts == choose_parts(settings, **more)
    first, again = (
        build_student(settings, source=source, seed=0, chosen=chosen) for chosen in (parts, stored)
    )
    assert first.training
    assert first.dtype == torch.float32
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_nothing_stored_is_nothing_chosen(tmp_path: Path) -> None:
    assert student_parts.read(tmp_path / "none.json") is None


def test_c20_each_setting_of_a_choice_changes_the_student(tmp_path: Path) -> None:
    source = tmp_path / "teacher"
    tiny("llama").save_pretrained(source)
    rows = [Encoded([n, 63 - n, 2 * n], [1, 1, 1], True, False) for n in range(1, 31)]

    def choose(settings: Any, seed: int = 0) -> Parts:
        calibration = Calibration(rows, pad_token_id=0)
        return choose_parts(settings, source=source, seed=seed, calibration=calibration)

    drop, prune = LayerDropStudent, WidthPruneStudent
    base = {"layers": 2, "keep": "importance"}
    assert choose(drop(**base)).layers != choose(drop(**base | {"layers": 3})).layers
    assert choose(drop(**base)).layers != choose(drop(layers=2, keep="even")).layers
    assert choose(drop(**base, keep_layers=[1, 4])).layers == [0, 3]
    narrow = prune(hidden_size=24, calibration_rows=1)
    assert choose(narrow) != choose(prune(hidden_size=24, calibration_rows=30))
    assert choose(narrow) != choose(narrow, seed=1)
    assert choose(prune(attention_heads=2)).heads is not None
    assert choose(prune(intermediate_size=16)).units is not None
    assert choose(prune(layers=3)).layers is not None


@pytest.mark.parametrize("layers", [[2, 2], [3, 1], [1, 7]])
def test_listed_layers_must_be_there_in_order_once(layers: list[int]) -> None:
    with pytest.raises(ModelError, match="must name layers 1 to 6, each once") as caught:
        student_config(CONFIGS["llama"], LayerDropStudent(keep_layers=layers))
    assert caught.value.field == "keep_layers"
