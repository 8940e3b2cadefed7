"""Teachers from disk: number formats, mixtures, and what identifies them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from distill_core.errors import ModelError
from distill_core.models import weights
from distill_core.teachers.int8 import Int8Linear
from distill_core.teachers.loading import Part, load_network
from distill_core.teachers.mixture import Mixture

CPU = torch.device("cpu")


def load(*parts: Part, precision: str = "fp32", **more: Any) -> Any:
    return load_network(parts, precision=precision, device=CPU, vocab_size=49, **more)


def test_each_format_is_what_it_says(tiny_teacher_dir: Path) -> None:
    one = Part(tiny_teacher_dir)
    assert load(one).dtype == torch.float32
    assert load(one, precision="bf16").dtype == torch.bfloat16
    kinds = {type(layer) for layer in load(one, precision="int8").model.layers.modules()}
    assert Int8Linear in kinds
    assert torch.nn.Linear not in kinds
    with pytest.raises(ModelError, match="CUDA only") as caught:
        load(one, precision="int4", field="here")
    assert caught.value.field == "here"


def test_several_become_a_mixture_in_their_order(
    tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    made = load(Part(tiny_teacher_dir, 0.3), Part(tiny_student_dir, 0.7))
    assert isinstance(made, Mixture)
    assert not made.training
    assert made.weights == [0.3, 0.7]
    assert [one.config.hidden_size for one in made.members] == [32, 16]


@pytest.mark.parametrize("bits", [4, 8])
def test_cuda_is_asked_for_quantised_weights(
    tiny_teacher_dir: Path, monkeypatch: pytest.MonkeyPatch, bits: Any
) -> None:
    asked: dict[str, Any] = {}
    real = AutoModelForCausalLM.from_pretrained

    def keep(folder: Any, **settings: Any) -> Any:
        asked.update(settings)
        settings.pop("quantization_config")
        settings.pop("device_map")
        return real(folder, **settings)

    class Quiet:
        """Stands for transformers' settings, which refuse to be made without the package."""

        def __init__(self, **settings: Any) -> None:
            self.settings = settings

    monkeypatch.setattr("transformers.BitsAndBytesConfig", Quiet)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", keep)
    model = weights.load_model(
        tiny_teacher_dir, dtype=torch.bfloat16, device=torch.device("cuda"), bits=bits
    )
    assert not model.training
    settings = asked["quantization_config"].settings
    assert (settings["load_in_8bit"], settings["load_in_4bit"]) == (bits == 8, bits == 4)
    assert settings["bnb_4bit_compute_dtype"] == torch.bfloat16
    assert asked["device_map"] == {"": torch.device("cuda")}
    assert asked["dtype"] == torch.bfloat16
