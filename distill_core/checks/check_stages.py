"""Rules about one stage's settings: losses, adapter, batch, learning rate.

In: a stage and its networks' sizes. Out: problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from distill_core.errors import Problem
from distill_core.estimate.shapes import StageShape
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import (
    PREVIOUS,
    DistillStage,
    JSDLoss,
    PretrainedStudent,
    ScratchStudent,
    largest,
)
from distill_core.steps.schedule import moving

HOT_TEMPERATURE = 3.0
"""Above it a term warns: 1 suits language models, 2–4 a handful of classes (Hinton 2015)."""

FADING_SHARE = 0.05
"""A side whose share in a mixture is smaller leaves next to no divergence."""

_LOW_FOR_LORA = 5e-5
_HIGH_FOR_ALL_WEIGHTS = 1e-3
_SMALL_MODEL = 10_000_000


def weights_all_zero(shape: StageShape) -> Iterator[Problem]:
    """Nothing would be learnt."""
    stage = shape.stage
    if isinstance(stage, DistillStage) and not any(loss.is_active for loss in stage.losses):
        yield Problem(
            severity="error",
            field=f"{shape.field}.losses",
            message="Every loss term has weight 0, so there is nothing to learn from.",
            fix="Give at least one term a weight above 0.",
        )


def named_twice(shape: StageShape) -> Iterator[Problem]:
    """Two terms of one name would share one curve and one count."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    counts = Counter(loss.name for loss in stage.losses)
    seen: set[str] = set()
    for place, loss in enumerate(stage.losses):
        if counts[loss.name] > 1 and loss.name in seen:
            yield Problem(
                severity="error",
                field=f"{shape.field}.losses.{place}",
                message=f"{loss.name} is named {counts[loss.name]} times in one stage.",
                fix="Keep one, with the sum of the weights.",
            )
        seen.add(loss.name)


def hot_temperature(shape: StageShape) -> Iterator[Problem]:
    """Softened past the point where the teacher's preferences show; a few classes bear more."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    if shape.student is not None and is_classifier(shape.student):
        return
    for place, loss in enumerate(stage.losses):
        temperature = largest(getattr(loss, "temperature", 1.0))
        if temperature > HOT_TEMPERATURE:
            yield Problem(
                severity="warning",
                field=f"{shape.field}.losses.{place}.temperature",
                message=f"Temperature {temperature:g} flattens a whole vocabulary: most of the "
                "signal becomes unlikely tokens.",
                fix="Use 1 for language models, 2–4 for a few classes (arXiv 1503.02531); "
                "sources differ, so try both.",
            )


def fading_mixture(shape: StageShape) -> Iterator[Problem]:
    """A mixture with almost nothing of one side: the divergence from it is almost nothing too."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    for place, loss in enumerate(stage.losses):
        field = f"{shape.field}.losses.{place}"
        if isinstance(loss, JSDLoss) and 0 < min(loss.beta, 1 - loss.beta) < FADING_SHARE:
            end, kl = (0, "forward") if loss.beta < 0.5 else (1, "reverse")
            yield Problem(
                severity="warning",
                field=f"{field}.beta",
                message=f"At beta {loss.beta:g} this term is about "
                f"{min(loss.beta, 1 - loss.beta):g} times the {kl} KL: it hardly teaches.",
                fix=f"Set beta to {end} for the {kl} KL itself, or between {FADING_SHARE:g} and "
                f"{1 - FADING_SHARE:g} (arXiv 2306.13649 tries 0.1, 0.5, 0.9).",
            )
        skew = getattr(loss, "skew", 0.0)
        if skew > 1 - FADING_SHARE:
            yield Problem(
                severity="warning",
                field=f"{field}.skew",
                message=f"At skew {skew:g} each side is compared almost with itself: the term "
                "hardly teaches.",
                fix="Use 0.1 (arXiv 2402.03898), or a value well below 1.",
            )


def schedule_that_stays(shape: StageShape) -> Iterator[Problem]:
    """Something is to move and does not."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    for place, loss in enumerate(stage.losses):
        for name, found in moving(loss).items():
            if found.start == found.end:
                yield Problem(
                    severity="info",
                    field=f"{shape.field}.losses.{place}.{name}",
                    message=f"{name} goes from {found.start:g} to {found.end:g}: it does not move.",
                    fix="Change its start or end, or write the number alone.",
                )


def micro_above_global(shape: StageShape) -> Iterator[Problem]:
    """A micro-batch cannot hold more rows than its step has."""
    optim = shape.stage.optim
    if optim.micro_batch_size > optim.global_batch_size:
        yield Problem(
            severity="warning",
            field=f"{shape.field}.optim.micro_batch_size",
            message=f"micro_batch_size {optim.micro_batch_size} is more than the "
            f"{optim.global_batch_size} rows of a step.",
            fix=f"Set it to {optim.global_batch_size} or less; it has no effect above that.",
        )


def fine_tune_from_scratch(shape: StageShape) -> Iterator[Problem]:
    """Labels alone rarely teach random weights."""
    if not shape.is_distill and isinstance(shape.stage.student, ScratchStudent):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.student.init",
            message="This fine-tunes random weights on labels alone, which needs far more rows "
            "than starting from a trained model.",
            fix="Start from layers (layer_drop) or published weights, or distil instead "
            "(arXiv 1908.08962: 80.5 from scratch, 81.6 pre-trained, 82.1 distilled).",
        )


def lora_on_random_weights(shape: StageShape) -> Iterator[Problem]:
    """LoRA leaves the random weights as they are."""
    if shape.stage.adapter is not None and isinstance(shape.stage.student, ScratchStudent):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.adapter",
            message="LoRA freezes the student's weights, and these are random: almost nothing "
            "can be learnt.",
            fix="Leave the adapter out; a new student is small enough to train whole.",
        )


def learning_rate(shape: StageShape) -> Iterator[Problem]:
    """Far from what suits the way of training."""
    rate = shape.stage.optim.learning_rate
    field = f"{shape.field}.optim.learning_rate"
    is_large = shape.student_parameters > _SMALL_MODEL
    if shape.stage.adapter is not None and rate < _LOW_FOR_LORA:
        yield Problem(
            severity="info",
            field=field,
            message=f"{rate:g} is low for LoRA, which usually takes about ten times the rate of "
            "full training.",
            fix="1e-4 to 3e-4 is a common start.",
        )
    elif (
        shape.stage.adapter is None
        and is_large
        and rate > _HIGH_FOR_ALL_WEIGHTS
        and not isinstance(shape.stage.student, ScratchStudent)
    ):
        yield Problem(
            severity="info",
            field=field,
            message=f"{rate:g} is high for training all weights of a model that has learnt "
            "already: it may forget.",
            fix="1e-5 to 5e-4 is a common start; LoRA takes more.",
        )


def no_teacher_asked(shape: StageShape) -> Iterator[Problem]:
    """A distill stage whose terms ask no teacher is a fine-tuning by another name."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    active = [loss for loss in stage.losses if loss.is_active]
    if active and all(loss.needs_labels for loss in active):
        yield Problem(
            severity="warning",
            field=f"{shape.field}.losses",
            message=f"Only {active[0].name} has a weight, so the teacher is never asked and rows "
            "without labels are left out.",
            fix="Add forward_kl, or make this a fine_tune stage.",
        )


def best_of_the_same(shape: StageShape) -> Iterator[Problem]:
    """Without sampling every answer is the likeliest one."""
    stage = shape.stage
    if not isinstance(stage, DistillStage):
        return
    answers = stage.teacher_answers
    if answers.best_of > 1 and answers.sampling_temperature == 0:
        yield Problem(
            severity="warning",
            field=f"{shape.field}.teacher_answers.best_of",
            message=f"At sampling_temperature 0 the {answers.best_of} answers to a prompt are all "
            "the same one.",
            fix="Set sampling_temperature to about 0.7–1, or best_of to 1.",
        )


def trimmed_teacher(shape: StageShape) -> Iterator[Problem]:
    """A student has no tokens that its teacher has lost."""
    stage = shape.stage
    own = stage.student.model if isinstance(stage.student, PretrainedStudent) else None
    if not isinstance(stage, DistillStage) or not shape.source_trimmed or own in (None, PREVIOUS):
        return
    if any(loss.is_active and not loss.across_tokenizers for loss in stage.losses):
        yield Problem(
            severity="error",
            field=f"{shape.field}.student.model",
            message=f"{own} has tokens that its teacher lacks: an earlier stage has trimmed them.",
            fix="Make the student from its teacher (leave this empty), or trim in this stage only.",
        )


RULES: tuple[Callable[[StageShape], Iterator[Problem]], ...] = (
    weights_all_zero,
    named_twice,
    hot_temperature,
    fading_mixture,
    schedule_that_stays,
    micro_above_global,
    fine_tune_from_scratch,
    lora_on_random_weights,
    learning_rate,
    no_teacher_asked,
    best_of_the_same,
    trimmed_teacher,
)
