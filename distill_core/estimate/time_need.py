"""How long a stage takes, as a range, from sizes and this machine's speed.

In: configurations, lengths of rows, floating-point operations per second, perhaps a speed measured
in an earlier run. Out: seconds, lowest and highest. Counts the teacher's answers, training, the
scores on the way and at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_core.estimate.row_facts import Lengths
from distill_core.estimate.weights_need import Networks
from distill_core.models import model_facts
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import PREVIOUS, DistillStage, TeacherAnswerSettings
from distill_core.recipe.plan import PlannedStage

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LAYER_OVERHEAD_S = {"cpu": 4e-4, "cuda": 2.5e-4, "mps": 4e-4}
"""Time for starting the kernels of one layer's forward pass, however small it is."""

GAINS = {("int8", "cpu"): 1.5}
"""1.4 and 1.6 were measured on the starter's teacher and on SmolLM2-135M (README, Teachers)."""

FORMULA_RANGE = (0.7, 3.0)
MEASURED_RANGE = (0.8, 1.4)
_ANSWERS_AT_ONCE = 256


@dataclass(frozen=True)
class Speed:
    """This machine: floating-point operations per second, and which device."""

    flops_per_s: float
    device: str

    def forward_s(
        self, shape: PretrainedConfig, tokens: float, predicted: float, length: float
    ) -> float:
        """Seconds of one forward pass.

        Narrow layers reach less of a matrix product's speed: about 0.36, 0.50 and 0.69 of it at
        widths 80, 160 and 576 on a CPU with AVX-512, where rows lie side by side; this follows it.
        """
        reached = 0.8 * shape.hidden_size / (shape.hidden_size + 96)
        return forward_flops(shape, tokens, predicted, length) / (self.flops_per_s * reached)


def training_s(stage: PlannedStage, networks: Networks, rows: Lengths, speed: Speed) -> float:
    """Seconds of a stage's optimiser steps, by the formula."""
    optim = stage.settings.optim
    tokens = optim.global_batch_size * rows.mean
    supervised = min(tokens, optim.global_batch_size * rows.answer)
    passes = 2.0 if stage.settings.adapter else 3.0  # forward and backward, in forward passes
    seconds = passes * speed.forward_s(networks.student, tokens, supervised, rows.mean)
    layers = passes * networks.student.num_hidden_layers
    faster = gain(networks.precision, speed.device)
    asked = any(one.asks_teacher for one in stage.losses) and not stage.keeps_teacher
    for teacher in networks.teachers if asked else ():
        seconds += speed.forward_s(teacher, tokens, supervised, rows.mean) / faster
        layers += teacher.num_hidden_layers
    turns = math.ceil(optim.global_batch_size / optim.micro_batch_size)
    overhead = turns * layers * LAYER_OVERHEAD_S[speed.device]
    if isinstance(stage.settings, DistillStage) and stage.settings.on_policy_fraction:
        written = answering_s(
            networks.student,
            rows,
            speed,
            count=optim.global_batch_size,
            max_new_tokens=stage.settings.student_answers.max_new_tokens,
        )
        seconds += stage.settings.on_policy_fraction * written
    return stage.total_steps * (seconds + overhead)


def gain(precision: str, device: str) -> float:
    """How many times faster than fp32 a teacher is in that number format, as far as measured."""
    return GAINS.get((precision, device), 1.0)


def answering_s(
    shape: PretrainedConfig, rows: Lengths, speed: Speed, *, count: int, max_new_tokens: int
) -> float:
    """Seconds in which a model answers `count` prompts, many at once; a classifier writes none."""
    if not count or is_classifier(shape):
        return 0.0
    batches = math.ceil(count / _ANSWERS_AT_ONCE)
    length = min(max_new_tokens, 1.5 * rows.answer)
    tokens = count * (rows.prompt + length)
    seconds = speed.forward_s(shape, tokens, count * (length + 1), rows.mean)
    return seconds + batches * length * shape.num_hidden_layers * 2 * LAYER_OVERHEAD_S[speed.device]


def asking_s(
    networks: Networks,
    rows: Lengths,
    speed: Speed,
    *,
    count: int,
    settings: TeacherAnswerSettings,
) -> float:
    """Seconds in which all teachers write `count` answers, and read each where it has rivals."""
    written = sum(
        answering_s(one, rows, speed, count=count, max_new_tokens=settings.max_new_tokens)
        for one in networks.teachers
    )
    seconds = written / gain(networks.precision, speed.device)
    if settings.best_of > 1:
        seconds += reading_s(networks, rows, speed, count=count)
    return seconds


def reading_s(networks: Networks, rows: Lengths, speed: Speed, *, count: int) -> float:
    """Seconds in which all teachers read `count` rows with their answers."""
    seconds = sum(scoring_s(one, rows, speed, count=count) for one in networks.teachers)
    return seconds / gain(networks.precision, speed.device)


def scoring_s(shape: PretrainedConfig, rows: Lengths, speed: Speed, *, count: int) -> float:
    """Seconds in which a model reads `count` rows with their answers."""
    return speed.forward_s(shape, count * rows.mean, count * rows.answer, rows.mean)


def forward_flops(shape: PretrainedConfig, tokens: float, predicted: float, length: float) -> float:
    """Operations of one forward pass; the head sees only the `predicted` tokens."""
    attention = 4 * shape.num_hidden_layers * shape.hidden_size * length
    table = shape.vocab_size * shape.hidden_size
    if is_classifier(shape):  # ids are looked up, and the head is next to nothing
        return tokens * (2 * (model_facts.parameters(shape) - table) + attention)
    tables = 1 if getattr(shape, "tie_word_embeddings", False) else 2
    body = model_facts.parameters(shape) - tables * table
    return tokens * (2 * body + attention) + predicted * 2 * table


def parts(stages: Sequence[PlannedStage], *, answers: bool) -> list[str]:
    """What a run's time goes into, in words, in the order in which it comes."""
    own = sum(stage.total_steps for stage in stages if not stage.baseline)
    baselines = [stage.total_steps for stage in stages if stage.baseline]
    writes = answers or any(stage.text_of is not None for stage in stages)
    found = ["the teacher's answers"] if writes else []
    found += ["the teacher's cache"] if any(stage.keeps_teacher for stage in stages) else []
    found.append(f"{own:,} steps")
    if baselines:
        many = f"{len(baselines)} baselines" if len(baselines) > 1 else "baseline"
        found.append(f"{many} {sum(baselines):,} steps")
    return [*found, "scoring"]


def measured_s(
    stage: PlannedStage, rows: Lengths, key: str, history: Sequence[Mapping[str, Any]]
) -> float | None:
    """Seconds of a stage's steps, by the newest stage that trained the same networks the same way.

    An earlier run's speed is that of all its steps. A dry step's leaves out what the student writes
    itself: `own_answers_s` of a batch, whose rows have `own_row_tokens`. None: nothing is alike.
    """
    alike = (one for one in history if one["stage"] == key and one["tokens_per_s"] > 0)
    found = next(alike, None)
    if found is None:
        return None
    batch = stage.settings.optim.global_batch_size
    plain = own = batch * rows.mean / found["tokens_per_s"]
    if "own_answers_s" in found:
        own = found["own_answers_s"] + batch * found["own_row_tokens"] / found["tokens_per_s"]
    share = getattr(stage.settings, "on_policy_fraction", 0.0)
    return float(stage.total_steps * (plain + share * (own - plain)))


def stage_keys(stages: Sequence[PlannedStage], *, device: str, precision: str) -> list[str]:
    """What two stages share when their speeds can be compared; `precision`: fp32 or bf16.

    The device, the networks, what is asked of them, and how many rows come together. A stage that
    goes on from the one before is the same only where that one is.
    """
    keys: list[str] = []
    before = ""
    for stage in stages:
        settings = stage.settings
        adapter = settings.adapter.model_dump_json() if settings.adapter else ""
        source = stage.source
        if isinstance(settings, DistillStage):
            source = _teaching(settings, precision)
        terms = "+".join(sorted(term.name for term in stage.losses if term.is_active))
        step = settings.optim.model_dump_json(include=_CHANGE_THE_SPEED)
        student = settings.student.model_dump_json()
        key = "|".join((device, precision, stage.kind, source, student, adapter, terms, step))
        if PREVIOUS in (stage.source, getattr(settings.student, "model", None)):
            key = f"{before}>{key}"
        keys.append(key)
        before = before if stage.baseline else key
    return keys


_CHANGE_THE_SPEED = {
    *("global_batch_size", "micro_batch_size"),
    *("loss_chunk_rows", "compile_loss", "liger_loss"),
}


def _teaching(settings: DistillStage, precision: str) -> str:
    """Who teaches in a stage, in which number format, and what else makes its steps longer."""
    found = "+".join(one.model for one in settings.teachers)
    chosen = settings.teacher_precision
    found += f"@{precision if chosen == 'auto' else chosen}"
    if settings.teacher_cache is not None:
        found += f"#{settings.teacher_cache.model_dump_json()}"
    if settings.on_policy_fraction:
        longest = settings.student_answers.max_new_tokens
        found += f"~{settings.on_policy_fraction:g}*{longest}"
    return found
