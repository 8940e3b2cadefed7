"""Settings of the stages and their optimiser.

In: a model or teacher, a student, terms. Out: `Stage`: fine-tune or distil.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_core.recipe.base import Settings
from distill_core.recipe.caches import TeacherCache
from distill_core.recipe.losses import CrossEntropyLoss, ForwardKLLoss, Loss
from distill_core.recipe.students import LoraSettings, PretrainedStudent, Student


def _default_losses() -> list[Loss]:
    return [ForwardKLLoss(), CrossEntropyLoss()]


class OptimSettings(Settings):
    """How the weights move: AdamW with warm-up and decay."""

    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate.")
    epochs: float = Field(1.0, gt=0, le=1000, description="Passes over the training rows.")
    max_steps: int | None = Field(
        None, ge=1, description="Number of optimiser steps; takes the place of epochs."
    )
    global_batch_size: int = Field(32, ge=1, le=65536, description="Rows per optimiser step.")
    micro_batch_size: int = Field(
        8,
        ge=1,
        le=65536,
        description="Rows at once in memory where they are as long as a step's longest; of shorter "
        "ones more. Like lengths come together. Does not change the result.",
    )
    loss_chunk_rows: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Tokens whose logits are in memory at once, of teacher and student; empty: as "
        "many as suit the device; 0: all. Does not change the result.",
    )
    compile_loss: bool = Field(
        False,
        description="Melt the loss's passes over memory into one (torch.compile; the first steps "
        "take seconds longer). Does not change the result.",
    )
    liger_loss: bool = Field(
        True,
        description="On CUDA, where liger-kernel is installed: let its kernels work the loss out "
        "if a trial at the start finds them equal and faster. Does not change the result.",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's decay of the weights.")
    grad_clip_norm: float = Field(
        1.0, gt=0, le=1e6, description="Gradients longer than this (L2 norm) are shortened to it."
    )


class TeacherAnswerSettings(Settings):
    """How the teacher answers rows in text, before the student learns from them."""

    rows: Literal["unlabelled", "all"] = Field(
        "unlabelled",
        description="Which rows the teacher answers: those that have no answer, or all, whose own "
        "answers are then put aside (sequence-level distillation).",
    )
    sampling_temperature: float = Field(
        0.0, ge=0, le=5, description="0 takes the likeliest token; higher is more varied."
    )
    best_of: int = Field(
        1,
        ge=1,
        le=64,
        description="Sample so many answers to each prompt and keep the one that the teacher "
        "itself finds likeliest, per token.",
    )
    max_new_tokens: int = Field(64, ge=1, le=8192, description="Longest answer in tokens.")


class StudentAnswerSettings(Settings):
    """How the student answers prompts while it is trained, in on-policy steps."""

    sampling_temperature: float = Field(
        1.0, ge=0, le=5, description="1 samples as the student speaks; 0 takes the likeliest token."
    )
    max_new_tokens: int = Field(64, ge=1, le=8192, description="Longest answer in tokens.")


class FineTuneStage(Settings):
    """Train a network on the labels alone."""

    kind: Literal["fine_tune"] = "fine_tune"
    model: str = Field(
        description="Where the weights come from: a built-in name, a hub id, a folder, or "
        "`previous`."
    )
    student: Student = Field(
        default_factory=PretrainedStudent,
        description="What is trained: the model itself, or a smaller network shaped from it.",
    )
    adapter: LoraSettings | None = Field(
        None, description="Train a LoRA adapter; empty: all weights."
    )
    optim: OptimSettings = Field(default_factory=OptimSettings, description="The optimiser.")


class TeacherShare(Settings):
    """One of several teachers, whose probabilities are mixed."""

    model: str = Field(
        min_length=1,
        description="A built-in name, a hub id, a folder, or `previous`: the stage before.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Its share in the mixture of probabilities; shares are divided by their sum.",
    )


class DistillStage(Settings):
    """Train a student to answer as its teacher does."""

    kind: Literal["distill"] = "distill"
    teacher: str | Annotated[list[TeacherShare], Field(min_length=1, max_length=8)] = Field(
        description="A built-in name, a hub id, a folder, or `previous`: the stage before. Or a "
        "list of several with weights, whose probabilities are mixed; a student made of its "
        "teacher is made of the first."
    )
    teacher_precision: Literal["auto", "fp32", "bf16", "int8", "int4"] = Field(
        "auto",
        description="Number format of the teacher's weights: auto is the run's own; int8 (CPU, "
        "CUDA) and int4 (CUDA) take less memory and come close.",
    )
    teacher_cache: TeacherCache | None = Field(
        None,
        description="Ask the teacher about every row once, keep what it says beside the runs and "
        "train without it in memory; none: it is asked at every step.",
    )
    student: Student = Field(description="What the student starts from, and its size.")
    losses: list[Loss] = Field(
        default_factory=_default_losses,
        min_length=1,
        description="What the student is asked to match; each term is a mean over its tokens.",
    )
    teacher_answers: TeacherAnswerSettings = Field(
        default_factory=TeacherAnswerSettings,
        description="How the teacher answers rows in text, before training begins.",
    )
    on_policy_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the steps whose answers the student writes itself, for the teacher "
        "to judge (GKD); these have no labels, and cost about twice the time.",
    )
    student_answers: StudentAnswerSettings = Field(
        default_factory=StudentAnswerSettings,
        description="How the student answers in those steps.",
    )
    adapter: LoraSettings | None = Field(
        None, description="Train a LoRA adapter; empty: all weights."
    )
    optim: OptimSettings = Field(default_factory=OptimSettings, description="The optimiser.")

    @property
    def teachers(self) -> list[TeacherShare]:
        """All teachers, whether one is named or several; weights sum to 1."""
        if isinstance(self.teacher, str):
            return [TeacherShare(model=self.teacher)]
        total = sum(one.weight for one in self.teacher)
        return [TeacherShare(model=one.model, weight=one.weight / total) for one in self.teacher]


Stage = Annotated[FineTuneStage | DistillStage, Field(discriminator="kind")]
