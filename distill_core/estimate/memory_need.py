"""How much memory one stage takes, by part, from sizes alone.

In: configurations of teacher and student, the optimiser's settings, lengths of rows. Out: bytes of
context, teacher, student, optimiser, activations, loss and features at the stage's highest
moment: answering, training or scoring. The accounting: fp32 AdamW holds 16 bytes a trained weight
(18 with bf16 computation), activations twice what the linear layers give, at least 17 numbers for
each token, layer and unit of width (Korthikanti et al. 2022, arXiv 2205.05198, attention fused),
the loss a few copies of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from distill_core.device import MOST_SCORED_ROWS, logit_rows_at_once
from distill_core.estimate.largest_group import Group, largest_group
from distill_core.estimate.row_facts import Lengths
from distill_core.estimate.weights_need import (
    Networks,
    head_bytes,
    student_bytes,
    teacher_bytes,
    trained_parameters,
)
from distill_core.models import model_facts
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import AttentionLoss, DistillStage, HiddenStatesLoss
from distill_core.recipe.plan import PlannedStage

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PARTS = ("context", "teacher", "student", "optimiser", "activations", "loss", "features")
"""Parts of memory, in the order in which they are shown."""

CONTEXT_BYTES = {"cuda": 1_250_000_000, "mps": 700_000_000, "cpu": 425_000_000}
"""Taken by the libraries and the device's context before any model is there (CPU: measured)."""

TRITON_BYTES = {"cpu": 75_000_000}
"""Where triton is installed, torch loads it too; measured."""

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
_BYTES_PER_SPOOLED_ROW = 32
"""Where it lies in the files of the lists; 31 measured from 10,000 to 1,000,000 rows."""
_WORKSPACE = 1.15
_ANSWERS_AT_ONCE = 256
_SCORED_AT_ONCE = 128
_OWN_ANSWERS_AT_ONCE = 64
_LAST_AT_ONCE = 128
_SCORED_TOKENS = 4096
_FP32 = 4
_MAPS_KEPT = 2
_LEAST_KEPT = 17
_HOLES = {"cpu": 1.8}
"""Heap between what an adapter keeps and what it throws away at once: measured on SmolLM2-135M."""


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
    context = context_bytes(device)
    context += ADAPTER_BYTES.get(device, 0) if settings.adapter else 0
    base = {
        "features": 0,
        "context": context + rows_bytes(stage.rows),
        "teacher": taken,
        "student": student_bytes(networks.student, settings.adapter, bf16=bf16),
        "optimiser": 8 * trained,
    }
    there = networks
    if stage.keeps_teacher:  # all that is left of it is the head
        base["teacher"] = head_bytes(networks)
        there = Networks(None, networks.student)
    found = {
        "training": base | _training(stage, networks, rows, bf16=bf16, device=device),
        "scoring": base | _answering(there, rows, max_new_tokens, _SCORED_AT_ONCE, device),
    }
    weights = model_facts.parameters(networks.student) * _FP32
    final = {"optimiser": 0, "student": 2 * weights, "teacher": taken}  # trained, and untrained
    last = _answering(networks, rows, max_new_tokens, _LAST_AT_ONCE, device)
    found["final scores"] = base | final | last
    found["final scores"]["activations"] += FINAL_SCORES_BYTES.get(device, 0)
    if isinstance(settings, DistillStage) and settings.on_policy_fraction:
        at_once = min(settings.optim.global_batch_size, _OWN_ANSWERS_AT_ONCE)
        longest = settings.student_answers.max_new_tokens
        alone = Networks(None, networks.student)
        found["own answers"] = base | _answering(alone, rows, longest, at_once, device)
    if networks.teacher is not None and answers and isinstance(settings, DistillStage):
        longest = settings.teacher_answers.max_new_tokens
        alone = Networks(networks.teacher, networks.teacher, networks.others)
        at_once = min(answers, _ANSWERS_AT_ONCE)
        only_teacher = base | {"student": 0, "optimiser": 0, "teacher": taken}
        found["answers"] = only_teacher | _answering(alone, rows, longest, at_once, device)
    if stage.keeps_teacher:
        asked = base | {"optimiser": 0, "teacher": taken}
        asked["student"] = weights
        asked |= _answering(networks, rows, max_new_tokens, _SCORED_AT_ONCE, device)
        found["asking once"] = asked
    return found


def context_bytes(device: str) -> int:
    """What is in memory before any model is: the libraries, the device's context."""
    return CONTEXT_BYTES[device] + (TRITON_BYTES.get(device, 0) if find_spec("triton") else 0)


def rows_bytes(count: int) -> int:
    """Bytes of the rows, as text and as token ids: the first in memory, all others on the disk."""
    from distill_core.data.spooled import IN_MEMORY

    held = min(count, IN_MEMORY)
    return held * _BYTES_PER_ENCODED_ROW + (count - held) * _BYTES_PER_SPOOLED_ROW


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


def _training(
    stage: PlannedStage, networks: Networks, rows: Lengths, *, bf16: bool, device: str
) -> dict[str, int]:
    optim = stage.settings.optim
    group = group_of(stage, networks, rows, device=device)
    tokens = group.tokens
    student, teacher = networks.student, networks.teacher
    activations = tokens * kept_per_token(student, bf16=bf16)
    if stage.settings.adapter:
        activations *= _HOLES.get(device, 1.0)
    if teacher is not None:  # one layer at a time, nothing is kept
        activations += tokens * teacher.hidden_size * _LEAST_KEPT * (2 if bf16 else _FP32)
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


def kept_per_token(shape: PretrainedConfig, *, bf16: bool) -> float:
    """Bytes that the backward pass of a network's body finds for one token, attention fused.

    Twice the outputs of its linear layers: what goes in, what comes out, and what lies between
    (Llama, Qwen3 and GPT-NeoX keep that, within 7 %). Autocast keeps some of it in fp32: 3 bytes a
    number were measured. Experts are no linear layers, so there is a least.
    """
    outputs = sum(outputs for _, outputs in model_facts.linear_layers(shape))
    least = _LEAST_KEPT * shape.hidden_size * shape.num_hidden_layers
    return max(2 * outputs * (3 if bf16 else _FP32), least * (2 if bf16 else _FP32))


def group_of(stage: PlannedStage, networks: Networks, rows: Lengths, *, device: str) -> Group:
    """The largest micro-batch of a stage."""
    return largest_group(
        stage.settings.optim,
        rows,
        steps=stage.total_steps,
        device=device,
        packed=may_pack(stage, networks.student),
    )


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
    networks: Networks, rows: Lengths, max_new_tokens: int, at_once: int, device: str
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
    supervised = min(supervised, logit_rows_at_once(device, vocabulary), MOST_SCORED_ROWS)
    return {
        "activations": round(tokens * kept * _WORKSPACE),
        "loss": round(max(at_once, supervised * 5) * vocabulary * _FP32),
    }


def _cache_bytes_per_token(shape: PretrainedConfig) -> int:
    heads = shape.num_attention_heads
    groups = getattr(shape, "num_key_value_heads", None) or heads
    per_head = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    return 2 * shape.num_hidden_layers * groups * per_head * _FP32
