"""How well a classifier tells held-out texts apart, and how far it is from a teacher.

In: a model, encoded texts with their classes, perhaps a teacher of the same classes. Out: values
per row, from which accuracy, macro-F1, calibration and distances are made. Knows nothing of runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill_core import device as machine
from distill_core import intervals
from distill_core.data.class_batches import ClassBatch, collate_texts
from distill_core.data.classes import EncodedText, encode_text
from distill_core.data.formats import Row
from distill_core.data.tokenize import pad_token_id
from distill_core.forward.class_logits import ClassLogits
from distill_core.losses.cross_entropy import cross_entropy
from distill_core.losses.divergences import forward_kl
from distill_core.models import Labels
from distill_core.scoring.in_turn import shape_of
from distill_core.scoring.rows import read_batches
from distill_core.scoring.speed import median_speed, peak_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.teachers.base import Teacher

ROWS_TIMED = 48
WARM_UP = 4
"""Rows read before those that are timed."""
TOGETHER_TIMED = 3


@dataclass
class HeldOutTexts:
    """Held-out texts, encoded once for one tokenizer."""

    rows: list[Row]
    encoded: list[EncodedText]
    tokenizer: PreTrainedTokenizerBase
    classes: Labels
    """Names of the classes, in the order of the logits."""

    @classmethod
    def make(
        cls,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_seq_len: int,
        classes: Labels,
    ) -> HeldOutTexts:
        """Encode rows; those in which nothing is left to read are dropped.

        Raises:
            DataError: a row's class is none of `classes`.
        """
        pairs = [(row, encode_text(row, tokenizer, max_seq_len, classes)) for row in rows]
        pairs = [(row, item) for row, item in pairs if item.supervised_tokens]
        return cls([row for row, _ in pairs], [item for _, item in pairs], tokenizer, classes)

    def batch(self, rows: Sequence[int]) -> ClassBatch:
        """Some rows as one batch."""
        return collate_texts(
            [self.encoded[row] for row in rows],
            pad_token_id=pad_token_id(self.tokenizer),
            rows=rows,
        )


@dataclass
class ClassScores:
    """What a model says of each of R rows."""

    probabilities: np.ndarray
    """(R, V): of every class."""
    labels: np.ndarray
    """(R,): the number of the class that the data says."""
    nats: np.ndarray
    """(R,): −log probability of that class."""
    divergence: np.ndarray | None = None
    """(R,): KL(teacher ‖ model) at temperature 1; None where there is no teacher."""
    agreed: np.ndarray | None = None

    @property
    def chosen(self) -> np.ndarray:
        """(R,): the number of the likeliest class."""
        return self.probabilities.argmax(1)

    @property
    def correct(self) -> np.ndarray:
        """(R,): whether that is the class that the data says."""
        return self.chosen == self.labels

    def as_metrics(self) -> dict[str, float]:
        """Under the names of events."""
        metrics = {
            "held_out_cross_entropy": float(self.nats.mean()),
            "held_out_accuracy": float(self.correct.mean()),
            "held_out_macro_f1": self.macro_f1()[0],
        }
        if self.divergence is not None and self.agreed is not None:
            metrics["held_out_forward_kl"] = float(self.divergence.mean())
            metrics["held_out_top1_agreement"] = float(self.agreed.mean())
        return metrics

    def as_scores(self) -> dict[str, Any]:
        """Under the names of `scores.SCORES`, with intervals over rows."""
        f1, f1_interval = self.macro_f1(interval=True)
        found: dict[str, Any] = {
            "accuracy": float(self.correct.mean()),
            "accuracy_ci95": intervals.wilson(self.correct),
            "macro_f1": f1,
            "macro_f1_ci95": f1_interval,
            "cross_entropy": float(self.nats.mean()),
            "cross_entropy_ci95": intervals.mean(self.nats),
        }
        if self.divergence is not None and self.agreed is not None:
            found |= {
                "kl_to_teacher": float(self.divergence.mean()),
                "kl_to_teacher_ci95": intervals.mean(self.divergence),
                "top1_agreement": float(self.agreed.mean()),
                "top1_agreement_ci95": intervals.wilson(self.agreed),
            }
        error = intervals.calibration_error(self.probabilities.max(1), self.correct)
        return found | {"calibration_error": error}

    def macro_f1(self, *, interval: bool = False) -> tuple[float, list[float] | None]:
        """Mean over classes of F1 = 2 · right / (said + meant), 0–1; with its 95 % interval.

        Over the classes that the rows have: one that is never meant could only be said wrongly,
        which lowers the others' F1 already.
        """
        meant = [self.labels == place for place in np.unique(self.labels)]
        said = [self.chosen == place for place in np.unique(self.labels)]
        right = [one & other for one, other in zip(meant, said, strict=True)]
        count = len(meant)

        def mean_f1(*means: np.ndarray) -> np.ndarray:
            hits, meant_share, said_share = (
                np.stack(means[start : start + count]) for start in (0, count, 2 * count)
            )
            total = meant_share + said_share
            return np.where(total > 0, 2 * hits / np.maximum(total, 1e-12), 0.0).mean(0)

        columns = [*right, *meant, *said]
        value = float(mean_f1(*(np.asarray([column.mean()]) for column in columns))[0])
        return value, intervals.paired_bootstrap(columns, mean_f1) if interval else None


def score_classes(
    model: torch.nn.Module, held_out: HeldOutTexts, *, teacher: Teacher | None = None
) -> ClassScores:
    """Read every held-out row once; `teacher` must know the same classes in the same order."""
    was_training = model.training
    model.eval()
    network = ClassLogits(model).eval()
    found = _score(network, next(model.parameters()).device, held_out, teacher)
    model.train(was_training)
    return found


def score_teacher(teacher: Teacher, held_out: HeldOutTexts) -> ClassScores:
    """As `score_classes`, of a teacher, whether it is in memory or not."""
    return _score(teacher.logits, teacher.device, held_out, None)


@torch.no_grad()
def _score(
    network: Callable[[ClassBatch], torch.Tensor],
    place: torch.device,
    held_out: HeldOutTexts,
    teacher: Teacher | None,
) -> ClassScores:
    rows = len(held_out.encoded)
    probabilities = np.zeros((rows, len(held_out.classes)), np.float32)
    nats, divergence, agreed = np.zeros(rows), np.zeros(rows), np.zeros(rows, bool)

    def read(placed: ClassBatch) -> list[int]:
        logits = network(placed)
        probabilities[placed.rows] = logits.float().softmax(-1).cpu().numpy()
        nats[placed.rows] = cross_entropy(logits, placed.targets).cpu().numpy()
        if teacher is not None:
            theirs = teacher.logits(placed)
            divergence[placed.rows] = forward_kl(logits, theirs).cpu().numpy()
            agreed[placed.rows] = (theirs.argmax(-1) == logits.argmax(-1)).cpu().numpy()
        return placed.rows

    done = read_batches(held_out.encoded, held_out.batch, read, device=place)
    assert sum(map(len, done)) == rows, "every row is read once"
    return ClassScores(
        probabilities=probabilities,
        labels=np.array([item.class_id for item in held_out.encoded]),
        nats=nats,
        divergence=divergence if teacher is not None else None,
        agreed=agreed if teacher is not None else None,
    )


# --- speed ------------------------------------------------------------------------------------


@dataclass
class RowTimings:
    """Seconds of single rows, read one at a time; and of all of them in batches."""

    seconds: list[float] = field(default_factory=list)
    together_s: list[float] = field(default_factory=list)
    """A row's share of a batch, measured several times."""

    @property
    def tokens(self) -> list[int]:
        """What `seconds` were spent on: a row each."""
        return [1] * len(self.seconds)

    def as_scores(self) -> dict[str, Any]:
        """Under the names of `scores.SCORES`; None where nothing could be timed."""
        names = ("rows_per_s", "batched_rows_per_s", "latency_p50_ms", "latency_p95_ms")
        if not self.seconds:
            return dict.fromkeys(names)
        p50, p95 = np.quantile(self.seconds, [0.5, 0.95]) * 1000
        return {
            **median_speed("rows_per_s", self.tokens, self.seconds),
            "batched_rows_per_s": 1 / float(np.median(self.together_s)),
            "latency_p50_ms": float(p50),
            "latency_p95_ms": float(p95),
        }


class RowClock:
    """Times the first held-out rows one a turn, then together, each after a warm-up."""

    def __init__(self, model: Any, held_out: HeldOutTexts) -> None:
        self.timings = RowTimings()
        self._network, self._held_out = ClassLogits(model).eval(), held_out
        self._place = next(model.parameters()).device
        self._rows = min(len(held_out.encoded), ROWS_TIMED + WARM_UP)
        self.turns = self._rows + 1 + TOGETHER_TIMED
        read = [held_out.encoded[row].input_ids for row in range(self._rows)]
        self.shape = shape_of(model, read)

    @torch.no_grad()
    def take(self, turn: int) -> None:
        """Time one row; after the last one all of them at once."""
        rows = [turn] if turn < self._rows else range(self._rows)
        batch = self._held_out.batch(rows).to(self._place)
        machine.synchronize(self._place)
        started = time.perf_counter()
        self._network(batch)
        machine.synchronize(self._place)
        seconds = time.perf_counter() - started
        if turn > self._rows:
            self.timings.together_s.append(seconds / self._rows)
        elif min(WARM_UP, self._rows - 1) <= turn < self._rows:
            self.timings.seconds.append(seconds)


def peak_memory(model: Any, held_out: HeldOutTexts) -> int:
    """Bytes at the highest point of reading the longest of the timed rows, weights included."""
    count = min(len(held_out.encoded), ROWS_TIMED + WARM_UP)
    longest = max(range(count), key=lambda row: len(held_out.encoded[row].input_ids))
    network = ClassLogits(model).eval()

    def read() -> Iterator[torch.Tensor]:
        with torch.no_grad():
            yield network(held_out.batch([longest]).to(next(model.parameters()).device))

    return peak_bytes(model, read())


def score_whole(
    model: Any, held_out: HeldOutTexts, teacher: Teacher | None
) -> tuple[dict[str, Any], list[float]]:
    """All scores but the speed, and right (1) or wrong (0) row by row."""
    found = score_classes(model, held_out, teacher=teacher)
    scores = found.as_scores() | {"peak_memory_bytes": peak_memory(model, held_out)}
    return scores, [float(value) for value in found.correct]
