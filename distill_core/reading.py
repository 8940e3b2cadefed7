"""How a recipe's task reads rows, in training and while it is watched.

In: rows, a tokenizer, the classes where texts are told apart. Out: encoded rows, and who looks at
the network on held-out rows. The one place where a stage asks which task it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_core.class_watcher import ClassWatcher
from distill_core.data.classes import encode_text
from distill_core.data.formats import Row
from distill_core.data.tokenize import encode
from distill_core.errors import DataError
from distill_core.models import Labels, model_facts
from distill_core.models.classifiers import check_teacher
from distill_core.plan import PlannedStage
from distill_core.recipe import PREVIOUS, Recipe
from distill_core.scoring import HeldOut, choose_metric
from distill_core.scoring.classes import HeldOutTexts
from distill_core.teachers.local import LocalTeacher
from distill_core.watcher import Watcher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_rows(
    rows: list[Row],
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    classes: Labels | None,
) -> tuple[list[Row], list[Any]]:
    """Rows that have something to learn, and their tokens."""
    longest = recipe.data.max_seq_len
    pairs: list[tuple[Row, Any]] = [
        (
            row,
            encode(row, tokenizer, longest)
            if classes is None
            else encode_text(row, tokenizer, longest, classes),
        )
        for row in rows
    ]
    pairs = [(row, item) for row, item in pairs if item.supervised_tokens]
    if not pairs:
        raise DataError(
            f"No row has a supervised token left within max_seq_len = {recipe.data.max_seq_len}. "
            "Raise it, or give rows with answers.",
            field="data.max_seq_len",
        )
    return [row for row, _ in pairs], [item for _, item in pairs]


def watcher_of(
    recipe: Recipe,
    classes: Labels | None,
    *,
    stage: int,
    network: torch.nn.Module,
    teacher: LocalTeacher | None,
    held_out: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
) -> Watcher | ClassWatcher:
    """Who scores the network on the first held-out rows while it is trained."""
    settings, longest = recipe.evaluation, recipe.data.max_seq_len
    rows = held_out[: max(settings.rows, settings.samples)]
    if classes is not None:
        texts = HeldOutTexts.make(rows, tokenizer, max_seq_len=longest, classes=classes)
        return ClassWatcher(stage, network, teacher, texts, samples=settings.samples)
    asked = HeldOut.make(
        rows,
        tokenizer,
        max_seq_len=longest,
        max_new_tokens=settings.max_new_tokens,
        metric=choose_metric(settings.metric, held_out)[0],
    )
    return Watcher(stage, network, teacher, asked, samples=settings.samples)


def check_teacher_of(stage: PlannedStage, source: Path, classes: Labels, *, named: bool) -> None:
    """Make sure that the logits of a stage's teacher mean the classes; raises `ModelError`."""
    if stage.source != PREVIOUS:
        check_teacher(
            classes,
            model_facts.config(str(source)),
            named=named,
            name=stage.source,
            field=f"stages.{stage.index}.teacher",
        )
