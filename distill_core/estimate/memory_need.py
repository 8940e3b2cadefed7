"""How much memory one stage takes, by part, from sizes alone.

In: configurations of teacher and student, the optimiser's settings, lengths of rows. Out: bytes of
context, teacher, student, optimiser, activations, loss and features at the stage's highest
moment: answering, training or scoring. The accounting: fp32 AdamW holds 16 bytes a trained weight
(18 with bf16 computation), activations take about 34 · tokens · width · layers bytes at 16 bit
(Korthikanti et al. 2022, arXiv 2205.05198, attention fused), the loss a few copies of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_core.device import logit_rows_at_once
from distill_core.estimate.largest_group import Group, largest_group
from distill_core.estimate.row_facts import Lengths
from distill_core.models import model_facts
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import AttentionLoss, DistillStage, HiddenStatesLoss, LoraSettings
from distill_core.recipe.plan import PlannedStage

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PARTS = ("context", "teacher", "student", "optimiser", "activations", "loss", "features")
"""Parts of memory, in the order in which they are shown."""

CONTEXT_BYTES = {"cuda": 1_250_000_000, "mps": 700_000_000, "cpu": 425_000_000}
"""Taken by the libraries and the device's context before any model is there (CPU: measured)."""

ADAPTER_BYTES = {"cpu": 50_000_000}
"""Libraries that an adapter needs beside them; measured."""

LOSS_BYTES = {
    "forward_kl": 28,
    "reverse_kl": 28,
    "jsd": 44,
    "skewed_forward_kl": 40,
    "skewed_reverse_kl": 44,
    "total_variation": 28,
    "cross_tokenizer": 56,
    "cross_entropy": 12,
    "hidden_states": 0,
    "attention": 0,
}
"""Bytes per supervised token and vocabulary entry while a term is computed and differentiated."""

CHUNK_BYTES = 8
"""The same chunk by chunk, whatever the terms: logits of student and teacher."""

FINAL_SCORES_BYTES = {"cpu": 65_000_000}
"""What saving, loading anew and the libraries of the last evaluation add: 60 to 72 MB measured."""

_BYTES_PER_ENCODED_ROW = 2_500
_WORKSPACE = 1.15
_ANSWERS_AT_ONCE = 256
_SCORED_AT_ONCE = 128
_OWN_ANSWERS_AT_ONCE = 64
_LAST_AT_ONCE = 128
_SCORED_TOKENS = 4096
_FP32 = 4
_MAPS_KEPT = 2


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


def moments(
    stage: PlannedStage,
    networks: Networks,
    rows: Lengths,
    *,
    device: str,
    bf16: bool,
    max_new_tokens: int,
    answers: int,
) -> dict[str, dict[str, int]]:
    """Bytes by part (`PARTS`) at each moment that may be the highest; the first is the training.

    `answers`: how many rows the teacher answers.
    """
    settings = stage.settings
    teachers = networks.teachers
    taken = sum(teacher_bytes(one, networks.precision, device=device) for one in teachers)
    trained = trained_parameters(networks.student, settings.adapter)
    context = CONTEXT_BYTES[device] + (ADAPTER_BYTES.get(device, 0) if settings.adapter else 0)
    base = {
        "features": 0,
        "context": context + stage.rows * _BYTES_PER_ENCODED_ROW,
        "teacher": taken,
        "student": _student_bytes(networks.student, settings.adapter, bf16=bf16),
        "optimiser": 8 * trained,
    }
    there = networks
    if stage.keeps_teacher:  # all that is left of it is the head
        base["teacher"] = head_bytes(networks)
        there = Networks(None, networks.student)
    found = {
        "training": base | _training(stage, networks, rows, bf16=bf16, device=device),
        "scoring": base | _answering(there, rows, max_new_tokens, _SCORED_AT_ONCE),
    }
    weights = model_facts.parameters(networks.student) * _FP32
    final = {"optimiser": 0, "student": 2 * weights, "teacher": taken}  # trained, and untrained
    found["final scores"] = base | final | _answering(networks, rows, max_new_tokens, _LAST_AT_ONCE)
    found["final scores"]["activations"] += FINAL_SCORES_BYTES.get(device, 0)
    if isinstance(settings, DistillStage) and settings.on_policy_fraction:
        at_once = min(settings.optim.global_batch_size, _OWN_ANSWERS_AT_ONCE)
        longest = settings.student_answers.max_new_tokens
        alone = Networks(None, networks.student)
        found["own answers"] = base | _answering(alone, rows, longest, at_once)
    if networks.teacher is not None and answers and isinstance(settings, DistillStage):
        longest = settings.teacher_answers.max_new_tokens
        alone = Networks(networks.teacher, networks.teacher, networks.others)
        at_once = min(answers, _ANSWERS_AT_ONCE)
        only_teacher = base | {"student": 0, "optimiser": 0, "teacher": taken}
        found["answers"] = only_teacher | _answering(alone, rows, longest, at_once)
    if stage.keeps_teacher:
        asked = base | {"optimiser": 0, "teacher": taken}
        asked["student"] = weights
        asked |= _answering(networks, rows, max_new_tokens, _SCORED_AT_ONCE)
        found["asking once"] = asked
    return found


def highest(found: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Parts of the highest moment, as they are shown.

    Training is what is shown, or the teacher's one turn where that is higher; where another moment
    needs more, its working memory is added.
    """
    shown = found["training"]
    if "asking once" in found:
        shown = max(shown, found["asking once"], key=lambda moment: sum(moment.values()))
    parts = {part: int(shown.get(part, 0)) for part in PARTS}
    most = max(sum(moment.values()) for moment in found.values())
    parts["activations"] += round(most) - sum(parts.values())
    return parts


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


def _student_bytes(student: PretrainedConfig, adapter: LoraSettings | None, *, bf16: bool) -> int:
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


def _training(
    stage: PlannedStage, networks: Networks, rows: Lengths, *, bf16: bool, device: str
) -> dict[str, int]:
    optim = stage.settings.optim
    packed = may_pack(stage, networks.student)
    group = largest_group(optim, rows, steps=stage.total_steps, device=device, packed=packed)
    tokens = group.tokens
    width = 34 if bf16 else 68  # bytes per token, layer and unit of width
    student, teacher = networks.student, networks.teacher
    activations = tokens * student.hidden_size * student.num_hidden_layers * width
    if teacher is not None:  # one layer at a time, nothing is kept
        activations += tokens * teacher.hidden_size * width
    supervised = min(tokens, group.rows * min(group.longest, rows.answer * 1.5))
    per_entry = sum(LOSS_BYTES.get(term.name, 28) for term in stage.losses if term.is_active)
    entries = _entries(networks)
    if _in_chunks(stage, networks) and per_entry:
        most = optim.loss_chunk_rows or logit_rows_at_once(device, entries)
        supervised, per_entry = min(supervised, most), CHUNK_BYTES
    return {
        "activations": round(activations * _WORKSPACE),
        "loss": round(supervised * entries * per_entry * _WORKSPACE),
        "features": round(_features(stage, networks, group) * _WORKSPACE),
    }


def may_pack(stage: PlannedStage, student: PretrainedConfig) -> bool:
    """Whether rows may lie side by side, unpadded, so that more of them come together.

    Only a trial with the weights can tell; a stage that pads after all needs hardly more.
    """
    inside = (HiddenStatesLoss, AttentionLoss)
    looked_into = any(isinstance(term, inside) and term.is_active for term in stage.losses)
    return not looked_into and not is_classifier(student)


def _in_chunks(stage: PlannedStage, networks: Networks) -> bool:
    """Whether only a chunk of logits is in memory: not for spans or classes."""
    spans = any(term.name == "cross_tokenizer" and term.is_active for term in stage.losses)
    whole = spans or is_classifier(networks.student)
    return not whole and stage.settings.optim.loss_chunk_rows != 0


def _entries(networks: Networks) -> int:
    """Logits that a term goes over: those of the larger vocabulary, where the two differ."""
    both = (networks.student, networks.teacher)
    return max(model_facts.head_width(one) for one in both if one is not None)


def _features(stage: PlannedStage, networks: Networks, group: Group) -> float:
    """What terms keep that look inside: hidden states, and whole maps of attention, (T, T)."""
    if networks.teacher is None:
        return 0.0
    tokens, total = group.tokens, 0.0
    both = (networks.student, networks.teacher)
    for term in stage.losses:
        if not term.is_active:
            continue
        if isinstance(term, HiddenStatesLoss):
            total += sum(tokens * one.hidden_size * one.num_hidden_layers for one in both)
        elif isinstance(term, AttentionLoss):
            cells = tokens * group.longest * _MAPS_KEPT
            total += sum(cells * one.num_attention_heads * one.num_hidden_layers for one in both)
    return total * _FP32


def _answering(
    networks: Networks, rows: Lengths, max_new_tokens: int, at_once: int
) -> dict[str, int]:
    """Generation: keys and values of every token, and logits of the last; or scoring, if more."""
    both = [*networks.teachers, networks.student]
    if is_classifier(networks.student):  # nothing is written; one layer at a time is kept
        widest = max(shape.hidden_size for shape in both)
        return {"activations": round(_SCORED_TOKENS * widest * 68 * _WORKSPACE), "loss": 0}
    tokens = at_once * (min(rows.prompt * 1.5, rows.longest) + max_new_tokens)
    mixed = sum(_cache_bytes_per_token(shape) for shape in networks.teachers)
    kept = max(mixed, _cache_bytes_per_token(networks.student))
    vocabulary = max(shape.vocab_size for shape in both)
    supervised = _SCORED_TOKENS * rows.answer / max(1.0, rows.mean)
    return {
        "activations": round(tokens * kept * _WORKSPACE),
        "loss": round(max(at_once, supervised * 5) * vocabulary * _FP32),
    }


def _cache_bytes_per_token(shape: PretrainedConfig) -> int:
    heads = shape.num_attention_heads
    groups = getattr(shape, "num_key_value_heads", None) or heads
    per_head = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    return 2 * shape.num_hidden_layers * groups * per_head * _FP32
