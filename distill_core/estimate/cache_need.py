"""What a teacher cache will take on disk, before it is built.

In: a planned stage, its networks' configurations, lengths of rows. Out: bytes of a token and of
all together, or nothing where a stage keeps nothing. What is there already from earlier runs is
not taken off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distill_core.estimate.row_facts import Lengths
from distill_core.estimate.weights_need import Networks, head_bytes
from distill_core.models.classifiers import is_classifier
from distill_core.recipe import DistillStage, SampledCache
from distill_core.recipe.plan import PlannedStage

_BYTES_PER_ROW = 60
"""Key, checksum and where the row starts."""


@dataclass(frozen=True)
class CacheNeed:
    """The forecast of one stage's cache."""

    stage: int
    kind: str
    bytes_per_token: int
    tokens: int
    bytes: int
    """With the teacher's head, by which held-out rows are scored."""
    at_most: bool
    """Whether the kind takes less where the teacher is sure."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data (keys: `api.estimate`)."""
        return asdict(self)


def rows_asked(stage: PlannedStage) -> int:
    """How many different rows the steps of a stage take."""
    return min(stage.rows, stage.total_steps * stage.settings.optim.global_batch_size)


def cache_need(stage: PlannedStage, networks: Networks, rows: Lengths) -> CacheNeed | None:
    """Forecast a stage's cache; None where it keeps nothing."""
    settings = stage.settings
    if not stage.keeps_teacher or not isinstance(settings, DistillStage):
        return None
    cache = settings.teacher_cache
    assert cache is not None, "such a stage has a cache"
    teachers = networks.teachers
    width = sum(int(one.hidden_size) for one in teachers)
    vocabulary, per_row = max(int(one.vocab_size) for one in teachers), rows.answer
    if any(is_classifier(one) for one in teachers):  # the logits of all classes are kept
        width, per_row = int(teachers[0].num_labels or 0), 1.0
    size = cache.bytes_per_token(width=width, vocab_size=vocabulary)
    tokens = round(rows_asked(stage) * per_row)
    return CacheNeed(
        stage=stage.index,
        kind=cache.kind,
        bytes_per_token=size,
        tokens=tokens,
        bytes=size * tokens + _BYTES_PER_ROW * rows_asked(stage) + head_bytes(networks),
        at_most=isinstance(cache, SampledCache),
    )
