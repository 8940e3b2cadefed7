"""A recipe: everything that defines a run, as validated data.

In: settings. Out: `Recipe`, frozen. Each setting is one field with type, default, description and
range; the form, `--help` and the README's table are made from them. Knows nothing of torch, of
files (`recipe_yaml.py` reads and writes), of models or of this machine (`checks` does).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.recipe.base import (
    PREVIOUS,
    Settings,
)
from distill_core.recipe.caches import (
    HiddenCache,
    SampledCache,
    TeacherCache,
    TopKCache,
)
from distill_core.recipe.data import (
    ColumnSettings,
    DataSettings,
    FileSource,
    HubSource,
    Source,
    StarterSource,
)
from distill_core.recipe.losses import (
    AttentionLoss,
    CrossEntropyLoss,
    CrossTokenizerLoss,
    ForwardKLLoss,
    HiddenStatesLoss,
    JSDLoss,
    Loss,
    ReverseKLLoss,
    Schedule,
    SkewedForwardKLLoss,
    SkewedReverseKLLoss,
    SoftTerm,
    TemperatureSchedule,
    Term,
    TotalVariationLoss,
    WeightSchedule,
    largest,
)
from distill_core.recipe.stages import (
    DistillStage,
    FineTuneStage,
    OptimSettings,
    Stage,
    StudentAnswerSettings,
    TeacherAnswerSettings,
    TeacherShare,
)
from distill_core.recipe.students import (
    LayerDropStudent,
    LoraSettings,
    PretrainedStudent,
    ScratchStudent,
    Student,
    VocabTrim,
    WidthPruneStudent,
)

__all__ = [
    "PREVIOUS",
    "AttentionLoss",
    "CheckpointSettings",
    "ColumnSettings",
    "CrossEntropyLoss",
    "CrossTokenizerLoss",
    "DataSettings",
    "DistillStage",
    "EvaluationSettings",
    "FileSource",
    "FineTuneStage",
    "ForwardKLLoss",
    "HiddenCache",
    "HiddenStatesLoss",
    "HubSource",
    "JSDLoss",
    "LayerDropStudent",
    "LoraSettings",
    "Loss",
    "OptimSettings",
    "PretrainedStudent",
    "Recipe",
    "ReverseKLLoss",
    "SampledCache",
    "Schedule",
    "ScratchStudent",
    "Settings",
    "SkewedForwardKLLoss",
    "SkewedReverseKLLoss",
    "SoftTerm",
    "Source",
    "Stage",
    "StarterSource",
    "Student",
    "StudentAnswerSettings",
    "TeacherAnswerSettings",
    "TeacherCache",
    "TeacherShare",
    "TemperatureSchedule",
    "Term",
    "TopKCache",
    "TotalVariationLoss",
    "VocabTrim",
    "WeightSchedule",
    "WidthPruneStudent",
    "largest",
]


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
    metric: Literal["auto", "exact_match", "rouge_l", "bits_per_byte"] = Field(
        "auto",
        description="What models are judged by; auto: exact match for JSON, labels and short "
        "answers, ROUGE-L for free text, bits per byte for plain text.",
    )
    baselines: list[Literal["fine_tuned_on_labels", "fine_tuned_on_teacher_text"]] = Field(
        default_factory=list,
        description="Also trained, for comparison: the same student for the same steps, on the "
        "labels alone or on the text that its teacher answers.",
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
    task: Literal["causal_lm", "text_classification"] = Field(
        "causal_lm",
        description="What the models do: write text, or say which of a few classes a text is.",
    )
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
