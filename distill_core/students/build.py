"""From a student's settings to a network with its first weights.

In: settings, the teacher's weights where the student starts from them, training rows where its
parts have to be chosen. Out: what was chosen, then a `PreTrainedModel` in train mode, fp32. Knows
nothing of losses or of how rows are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distill_core import models
from distill_core.models import Labels
from distill_core.recipe import (
    LayerDropStudent,
    PretrainedStudent,
    ScratchStudent,
    Student,
    WidthPruneStudent,
)
from distill_core.students import layer_drop, parts, pretrained, scratch, width_prune
from distill_core.students.parts import Parts
from distill_core.students.trimmed_tokenizer import kept_tokens
from distill_core.students.vocabulary import special_ids, with_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_core.students.calibration import Calibration

CHOOSE: dict[type, Callable[..., Parts]] = {
    LayerDropStudent: layer_drop.choose,
    WidthPruneStudent: width_prune.choose,
}
"""Of the students that are made of their teacher: which parts stay."""

BUILD: dict[type, Callable[..., Any]] = {
    PretrainedStudent: pretrained.build,
    ScratchStudent: scratch.build,
    LayerDropStudent: layer_drop.build,
    WidthPruneStudent: width_prune.build,
}


def chosen_on_rows(settings: Student) -> bool:
    """Whether `choose_parts` may need rows to choose on."""
    if isinstance(settings, LayerDropStudent):
        by_importance = settings.keep == "importance" and settings.keep_layers is None
        return by_importance or settings.vocab_trim is not None
    return isinstance(settings, WidthPruneStudent) or settings.vocab_trim is not None


def choose_parts(
    settings: Student,
    *,
    source: Path,
    seed: int,
    calibration: Calibration,
    tokenizer: PreTrainedTokenizerBase | None = None,
    stored: Path | None = None,
    labels: Labels | None = None,
) -> Parts:
    """Choose what the student keeps of the model in `source`, on training rows where it must be.

    The same settings, source, rows and seed give the same parts. What is `stored` already is taken
    as it is; else the choice is stored there.

    Raises:
        ModelError: if the sizes do not fit the source's architecture, or its vocabulary cannot be
            trimmed.
    """
    known = parts.read(stored) if stored is not None else None
    if known is not None:
        return known
    chosen = Parts()
    choose = CHOOSE.get(type(settings))
    if choose is not None:
        teacher = _load(source, labels, seed)
        teacher.to(calibration.device)  # type: ignore[arg-type]
        count = settings.calibration_rows  # type: ignore[union-attr]
        chosen = choose(settings, teacher, calibration.batches(count, seed=seed))
    if settings.vocab_trim is not None:
        assert tokenizer is not None, "a vocabulary is trimmed with its tokenizer"
        tokens = kept_tokens(
            tokenizer,
            calibration.used_tokens(),
            extra_tokens=settings.vocab_trim.extra_tokens,
            also=special_ids(own_folder(settings, source)),
        )
        chosen = chosen.model_copy(update={"tokens": tokens})
    if stored is not None:
        parts.write(stored, chosen)
    return chosen


def build_student(
    settings: Student,
    *,
    source: Path,
    seed: int,
    chosen: Parts | None = None,
    labels: Labels | None = None,
) -> PreTrainedModel:
    """Build the student that `settings` describe, shaped from the model folder `source`.

    The same settings, source, seed, choice and labels give the same weights, bit for bit. Without
    `chosen` only a student can be built whose parts are plain from its settings. With `labels` it
    tells those classes apart, by the source's head where that does so already.

    Raises:
        ModelError: if the sizes do not fit the source's architecture.
    """
    choose = CHOOSE.get(type(settings))
    if choose is not None:
        teacher = _load(source, labels, seed)
        chosen = chosen if chosen is not None else choose(settings, teacher, ())
        model: PreTrainedModel = BUILD[type(settings)](settings, teacher, chosen)
    else:
        model = BUILD[type(settings)](settings, source=source, seed=seed, labels=labels)
    if chosen is not None and chosen.tokens is not None:
        model = with_tokens(model, chosen.tokens)
    model.config.use_cache = True
    return model.float().train()


def own_folder(student: Student | None, source: Path) -> Path:
    """The folder of a student's tokenizer: a published student keeps its own, others `source`'s."""
    if isinstance(student, PretrainedStudent) and student.model:
        return models.resolve(student.model, field="student.model")
    return source


def _load(source: Path, labels: Labels | None, seed: int) -> PreTrainedModel:
    import torch

    return models.load_model(
        source, dtype=torch.float32, device="cpu", labels=labels, new_head_seed=seed
    )
