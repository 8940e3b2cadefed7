"""A recipe: everything that defines a run, as validated data.

In: settings. Out: `Recipe`, frozen. Each setting is one field with type, default, description and
range; the form, `--help` and the README's table are made from them. Knows nothing of torch, of
files (`recipe_yaml.py` reads and writes), of models or of this machine (`checks.py` does).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PREVIOUS = "previous"
"""As a teacher or model: the network that the stage before has trained."""


class Settings(BaseModel):
    """Base of every group of settings: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- data -----------------------------------------------------------------------------------


class StarterSource(Settings):
    """Rows of the built-in pocket-assistant task; nothing to download."""

    kind: Literal["starter"] = "starter"
    split: Literal["labelled", "unlabelled", "development", "held_out"] = Field(
        "labelled", description="Which of the starter's splits to read."
    )
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


class FileSource(Settings):
    """Rows of a file on this machine."""

    kind: Literal["file"] = "file"
    path: str = Field(description="A .jsonl, .json, .csv, .tsv, .parquet or .txt file.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


class HubSource(Settings):
    """Rows of a data set on the Hugging Face hub."""

    kind: Literal["hub"] = "hub"
    id: str = Field(description="Name of the data set on the hub, such as stanfordnlp/sst2.")
    config: str | None = Field(None, description="Its configuration, where it has several.")
    split: str = Field("train", description="Its split.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows; all when empty.")


Source = Annotated[StarterSource | FileSource | HubSource, Field(discriminator="kind")]


class ColumnSettings(Settings):
    """Which column holds what; guessed and shown where left empty."""

    prompt: str | None = Field(None, description="Column with the question or instruction.")
    response: str | None = Field(None, description="Column with the answer; may be missing.")
    text: str | None = Field(None, description="Column with plain text, learnt from whole.")
    messages: str | None = Field(None, description="Column with a chat as role and content.")


class DataSettings(Settings):
    """What is learnt from, and what is kept aside to score on."""

    sources: list[Source] = Field(
        min_length=1, description="Any mix of sources; a row without an answer is unlabelled."
    )
    held_out: Source | Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1,
        description="A source to score on, or the share of rows to keep aside, chosen by a hash "
        "of each row's content.",
    )
    columns: ColumnSettings = Field(
        default_factory=ColumnSettings, description="Which column holds what; guessed if empty."
    )
    prompt_template: str | None = Field(
        None,
        description="Text put around each prompt; {prompt} stands for the prompt itself.",
    )
    system_prompt: str | None = Field(
        None, description="A system message put before every conversation that has none."
    )
    max_seq_len: int = Field(
        256, ge=8, le=131072, description="Longest row in tokens; longer rows are cut and counted."
    )


# --- students and adapters ------------------------------------------------------------------


class PretrainedStudent(Settings):
    """A student that starts from published weights."""

    init: Literal["pretrained"] = "pretrained"
    model: str | None = Field(
        None,
        description="A built-in name, hub id or folder; empty: the stage's own model, whole.",
    )


class ScratchStudent(Settings):
    """A smaller student of the teacher's architecture with random weights."""

    init: Literal["scratch"] = "scratch"
    layers: int = Field(2, ge=1, le=512, description="Number of transformer layers.")
    hidden_size: int = Field(80, ge=8, le=65536, description="Width of the hidden state.")
    intermediate_size: int | None = Field(
        None, ge=8, description="Width of the feed-forward layer; empty: the teacher's ratio."
    )
    attention_heads: int | None = Field(
        None, ge=1, description="Attention heads; empty: the teacher's width per head, if it fits."
    )


class LayerDropStudent(Settings):
    """A student made of some of the teacher's own layers, embeddings and head included."""

    init: Literal["layer_drop"] = "layer_drop"
    layers: int = Field(6, ge=1, le=512, description="How many of the teacher's layers to keep.")
    keep: Literal["lower", "even", "first_and_last"] = Field(
        "lower",
        description="Which layers: the lowest ones in a row, evenly spaced, or both ends.",
    )


Student = Annotated[
    PretrainedStudent | ScratchStudent | LayerDropStudent, Field(discriminator="init")
]


class LoraSettings(Settings):
    """LoRA: train small low-rank matrices beside frozen weights, merged when the stage ends."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, le=1024, description="Rank of the added matrices.")
    alpha: int = Field(
        32, ge=1, le=4096, description="Scale: the update is multiplied by alpha/rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")


# --- losses ---------------------------------------------------------------------------------


class ForwardKLLoss(Settings):
    """KL(teacher ‖ student): match all of the teacher's probabilities, covering every mode."""

    name: Literal["forward_kl"] = "forward_kl"
    weight: float = Field(0.9, ge=0, le=1000, description="Share of this term in the sum.")
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Softens both distributions; the term is multiplied by its square, so that "
        "gradients keep their size.",
    )


class CrossEntropyLoss(Settings):
    """Cross-entropy on the labels: match the answers that the data gives."""

    name: Literal["cross_entropy"] = "cross_entropy"
    weight: float = Field(0.1, ge=0, le=1000, description="Share of this term in the sum.")


Loss = Annotated[ForwardKLLoss | CrossEntropyLoss, Field(discriminator="name")]


def _default_losses() -> list[Loss]:
    return [ForwardKLLoss(), CrossEntropyLoss()]


# --- stages ---------------------------------------------------------------------------------


class OptimSettings(Settings):
    """How the weights move: AdamW with warm-up and decay."""

    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate.")
    epochs: float = Field(1.0, gt=0, le=1000, description="Passes over the training rows.")
    max_steps: int | None = Field(
        None, ge=1, description="Number of optimiser steps; takes the place of epochs."
    )
    global_batch_size: int = Field(32, ge=1, le=65536, description="Rows per optimiser step.")
    micro_batch_size: int = Field(
        8, ge=1, le=65536, description="Rows at once in memory; does not change the result."
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
    """How the teacher answers rows that have no answer, before the student learns from them."""

    sampling_temperature: float = Field(
        0.0, ge=0, le=5, description="0 takes the likeliest token; higher is more varied."
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


class DistillStage(Settings):
    """Train a student to answer as its teacher does."""

    kind: Literal["distill"] = "distill"
    teacher: str = Field(
        description="A built-in name, a hub id, a folder, or `previous`: the stage before."
    )
    student: Student = Field(description="What the student starts from, and its size.")
    losses: list[Loss] = Field(
        default_factory=_default_losses,
        min_length=1,
        description="What the student is asked to match; each term is a mean over its tokens.",
    )
    teacher_answers: TeacherAnswerSettings = Field(
        default_factory=TeacherAnswerSettings,
        description="How the teacher answers rows that have no answer.",
    )
    adapter: LoraSettings | None = Field(
        None, description="Train a LoRA adapter; empty: all weights."
    )
    optim: OptimSettings = Field(default_factory=OptimSettings, description="The optimiser.")


Stage = Annotated[FineTuneStage | DistillStage, Field(discriminator="kind")]


class EvaluationSettings(Settings):
    """What is measured while training goes on, and at the end."""

    every_steps: int | None = Field(
        None, ge=1, description="Score held-out rows this often; empty: ten times per stage."
    )
    rows: int = Field(128, ge=1, description="Held-out rows scored while training.")
    final_rows: int = Field(1000, ge=1, description="Held-out rows scored at the end.")
    samples: int = Field(
        4, ge=0, le=50, description="Held-out prompts answered while training, always the same."
    )
    max_new_tokens: int = Field(64, ge=1, le=8192, description="Longest answer in tokens.")
    baselines: list[Literal["fine_tuned_on_labels"]] = Field(
        default_factory=list,
        description="Also trained, for comparison: the same student, same steps, labels only.",
    )


class CheckpointSettings(Settings):
    """What is kept so that a run can be resumed."""

    every_steps: int | None = Field(
        None, ge=1, description="Save this often; empty: ten times per stage."
    )
    keep: int = Field(2, ge=1, le=100, description="How many of the latest to keep.")


class Recipe(Settings):
    """Everything that defines a run."""

    name: str = Field(
        "my-student",
        min_length=1,
        max_length=60,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Names the run and the student; letters, digits, dot, dash, underscore.",
    )
    task: Literal["causal_lm"] = Field("causal_lm", description="What the models do.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Same recipe and seed: same student, on one machine."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to train; auto takes the best that is there."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Number format of the computation; losses are always fp32."
    )
    data: DataSettings = Field(description="Training rows and held-out rows.")
    stages: list[Stage] = Field(min_length=1, max_length=8, description="Done in this order.")
    evaluation: EvaluationSettings = Field(
        default_factory=EvaluationSettings, description="Measurements."
    )
    checkpoints: CheckpointSettings = Field(
        default_factory=CheckpointSettings, description="What is saved while training."
    )
