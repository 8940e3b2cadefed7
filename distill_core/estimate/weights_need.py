"""Bytes of the networks of a stage: weights, and gradients of what is trained.

In: configurations, number formats, LoRA's settings. Out: bytes, from sizes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_core.models import model_facts
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import LoraSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_FP32 = 4


@dataclass(frozen=True)
class Networks:
    """Who is in memory: the teacher (None while fine-tuning) and the student."""

    teacher: PretrainedConfig | None
    student: PretrainedConfig
    others: tuple[PretrainedConfig, ...] = ()
    """The other teachers, where there are several."""
    precision: str = "fp32"
    """Number format of the teachers' weights."""

    @property
    def teachers(self) -> tuple[PretrainedConfig, ...]:
        """All teachers."""
        return () if self.teacher is None else (self.teacher, *self.others)


def teacher_bytes(shape: PretrainedConfig, precision: str, *, device: str) -> int:
    """Bytes of a teacher's weights: fp32, bf16, or its linear layers in int8 or int4.

    Embeddings, norms and head stay in the format that the device computes in. int4 is NF4 with
    doubly quantised scales: 4.127 bits a weight (Dettmers et al. 2023, arXiv 2305.14314).
    """
    count = model_facts.parameters(shape)
    if precision in {"fp32", "bf16"}:
        return count * {"fp32": _FP32, "bf16": 2}[precision]
    layers = sum(a * b for a, b in model_facts.linear_layers(shape))
    rest = (count - layers) * (_FP32 if device == "cpu" else 2)
    if precision == "int4":
        return rest + round(layers * 4.127 / 8)
    scales = sum(outputs for _, outputs in model_facts.linear_layers(shape))
    return rest + layers + scales * _FP32


def student_bytes(student: PretrainedConfig, adapter: LoraSettings | None, *, bf16: bool) -> int:
    """Weights, gradients of what is trained, and autocast's copies in bf16."""
    count = model_facts.parameters(student)
    trained = trained_parameters(student, adapter)
    if adapter is None:
        return 2 * trained * _FP32 + (2 * count if bf16 else 0)
    if adapter.base_precision == "int4":
        layers = sum(a * b for a, b in model_facts.linear_layers(student))
        return 2 * trained * _FP32 + (count - layers) * _FP32 + round(layers * 4.127 / 8)
    return (count + 2 * trained) * _FP32 + (2 * count if bf16 else 0)


def head_bytes(networks: Networks) -> int:
    """Bytes of the heads of all teachers, in which their logits are made; classifiers keep none."""
    each = 2 if networks.precision == "bf16" else _FP32
    texts = [one for one in networks.teachers if not is_classifier(one)]
    return sum(each * one.hidden_size * one.vocab_size for one in texts)


def trained_parameters(student: PretrainedConfig, adapter: LoraSettings | None) -> int:
    """Weights that the optimiser moves: all of them, or the adapter's."""
    if adapter is None:
        return model_facts.parameters(student)
    return sum(adapter.rank * (a + b) for a, b in model_facts.linear_layers(student))
