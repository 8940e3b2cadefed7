"""How a model's probabilities fit held-out text, and how far they are from a teacher's.

In: a model, encoded rows, perhaps a teacher that shares its tokens. Out: sums per row, so that
every mean over tokens has an interval over rows. Knows nothing of runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill_core import intervals
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, TeacherSide, stop_token_ids
from distill_core.forward.supervised import SupervisedLogits
from distill_core.generate import continuations
from distill_core.scoring.one_batch import nats_of, read
from distill_core.scoring.rows import HeldOut, padded, read_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.teachers.base import Teacher

OWN_SAMPLES = 256
"""Prompts whose sampled answers are compared with the teacher."""


@dataclass
class TokenScores:
    """Sums over each row's supervised tokens (R,), and what was thought of each token (N,)."""

    nats: np.ndarray
    """−log probability of the labels."""
    counts: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    text_bytes: np.ndarray
    divergence: np.ndarray | None = None
    """KL(teacher ‖ model); None where there is no teacher to compare with."""
    agreed: np.ndarray | None = None
    dropped: np.ndarray | None = None
    """The teacher's mass on tokens that the model lacks; None where it lacks none."""

    @property
    def tokens(self) -> int:
        """Number of supervised tokens."""
        return int(self.counts.sum())

    @property
    def cross_entropy(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens)

    @property
    def kl_to_teacher(self) -> float | None:
        """Nats per token."""
        return None if self.divergence is None else float(self.divergence.sum() / self.tokens)

    @property
    def top1_agreement(self) -> float | None:
        """Share of the tokens."""
        return None if self.agreed is None else float(self.agreed.sum() / self.tokens)

    @property
    def dropped_mass(self) -> float | None:
        """Mean over the tokens, 0–1."""
        return None if self.dropped is None else float(self.dropped.sum() / self.tokens)

    @property
    def bits_of_rows(self) -> np.ndarray:
        """Bits by the mean row's bytes (R,): their mean is the bits per byte of the whole text."""
        return self.nats / math.log(2) / max(1e-9, float(self.text_bytes.mean()))

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of the text scored."""
        return float(self.nats.sum() / math.log(2) / max(1.0, float(self.text_bytes.sum())))

    def as_metrics(self) -> dict[str, float]:
        """Under the names of events."""
        metrics = {"held_out_cross_entropy": self.cross_entropy}
        if self.kl_to_teacher is not None and self.top1_agreement is not None:
            metrics["held_out_forward_kl"] = self.kl_to_teacher
            metrics["held_out_top1_agreement"] = self.top1_agreement
        if self.dropped_mass is not None:
            metrics["held_out_dropped_mass"] = self.dropped_mass
        return metrics

    def as_scores(self) -> dict[str, Any]:
        """Under the names of `scores.SCORES`, with intervals over rows."""
        bits = self.nats / math.log(2)
        sure = intervals.paired_ratio(self.nats, self.counts)
        found: dict[str, Any] = {
            "tokens": self.tokens,
            "cross_entropy": self.cross_entropy,
            "cross_entropy_ci95": sure,
            "perplexity": _perplexity(self.cross_entropy),
            "perplexity_ci95": sure and [_perplexity(bound) for bound in sure],
        }
        if self.text_bytes.sum():
            found["bits_per_byte"] = float(bits.sum() / self.text_bytes.sum())
            found["bits_per_byte_ci95"] = intervals.paired_ratio(bits, self.text_bytes)
        if self.divergence is not None and self.agreed is not None:
            found |= {
                "kl_to_teacher": self.kl_to_teacher,
                "kl_to_teacher_ci95": intervals.paired_ratio(self.divergence, self.counts),
                "top1_agreement": self.top1_agreement,
                "top1_agreement_ci95": intervals.paired_ratio(self.agreed, self.counts),
            }
        if self.dropped is not None:
            found["dropped_mass"] = self.dropped_mass
            found["dropped_mass_ci95"] = intervals.paired_ratio(self.dropped, self.counts)
        error = intervals.calibration_error(self.confidence, self.correct)
        return found | {"calibration_error": error}


def _perplexity(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def score_tokens(
    model: torch.nn.Module, held_out: HeldOut, *, teacher: Teacher | None = None
) -> TokenScores:
    """Cross-entropy on labels, confidence, and KL(teacher ‖ model) at temperature 1, in nats.

    The teacher reads rows in its own chat template if `held_out` has been made with its tokenizer;
    where that has other tokens it is not asked.
    """
    asked = teacher if held_out.comparable else None
    scores = _score(model, held_out.encoded, held_out.tokenizer, asked)
    scores.text_bytes = np.array(held_out.text_bytes(), float)
    return scores


@torch.no_grad()
def teacher_bits_per_byte(teacher: Teacher, held_out: HeldOut) -> float:
    """Bits per byte of held-out text by a teacher, whether it is in memory or not."""
    nats = sum(
        read_batches(
            held_out.encoded,
            padded(held_out.encoded, held_out.tokenizer),
            lambda placed: nats_of(teacher.rows(placed), placed, len(held_out.tokenizer)),
            device=teacher.device,
        )
    )
    return nats / math.log(2) / max(1, sum(held_out.text_bytes()))


def score_own_samples(model: Any, held_out: HeldOut, *, teacher: Teacher) -> dict[str, Any]:
    """KL(teacher ‖ model) in nats per token on answers that the model samples at temperature 1.

    Reference text shows the student where the data leads; its own samples show it where it will
    really be (exposure bias; GKD, arXiv 2306.13649). The end token counts where it was reached.
    """
    prompts = held_out.prompts[:OWN_SAMPLES]
    was_training = model.training
    model.eval()
    answers = continuations(
        model,
        prompts,
        stop_ids=stop_token_ids(held_out.tokenizer),
        max_new_tokens=held_out.max_new_tokens,
        sampling_temperature=1.0,
        vocab_size=len(held_out.tokenizer),
        batch_size=128,
    )
    model.train(was_training)
    theirs = (held_out.teacher_prompts or prompts)[:OWN_SAMPLES]
    sampled = []
    for prompt, their_prompt, answer in zip(prompts, theirs, answers, strict=True):
        row = answer.with_stop
        ids, labels = _after(prompt, row)
        item = Encoded(ids, labels, labelled=False, truncated=False)
        if held_out.teacher_prompts is not None:
            item.teacher = TeacherSide(*_after(their_prompt, row))
        sampled.append(item)
    sampled = [item for item in sampled if item.supervised_tokens]
    if not sampled:
        return {}
    scores = _score(model, sampled, held_out.tokenizer, teacher)
    assert scores.divergence is not None
    return {
        "kl_to_teacher_on_own_samples": scores.kl_to_teacher,
        "kl_to_teacher_on_own_samples_ci95": intervals.paired_ratio(
            scores.divergence, scores.counts
        ),
    }


def _after(prompt: list[int], answer: list[int]) -> tuple[list[int], list[int]]:
    """Ids and labels (T,) of an answer after a prompt."""
    return [*prompt, *answer], [IGNORE_INDEX] * len(prompt) + answer


@torch.no_grad()
def _score(
    model: torch.nn.Module,
    encoded: Sequence[Encoded],
    tokenizer: PreTrainedTokenizerBase,
    teacher: Teacher | None,
) -> TokenScores:
    was_training = model.training
    model.eval()
    network = SupervisedLogits(model, vocab_size=len(tokenizer)).eval()
    rows = len(encoded)
    nats, counts, divergence, agreed = (np.zeros(rows) for _ in range(4))
    dropped: np.ndarray | None = None
    confidence: list[np.ndarray] = []
    correct: list[np.ndarray] = []
    for one in read_batches(
        encoded,
        padded(encoded, tokenizer),
        lambda placed: read(network, placed, teacher),
        device=next(model.parameters()).device,
    ):
        np.add.at(nats, one.rows, one.nats)
        np.add.at(counts, one.rows, 1)
        confidence.append(one.confidence)
        correct.append(one.correct)
        if one.divergence is not None and one.agreed is not None:
            np.add.at(divergence, one.rows, one.divergence)
            np.add.at(agreed, one.rows, one.agreed)
        if one.dropped is not None:
            dropped = np.zeros(rows) if dropped is None else dropped
            np.add.at(dropped, one.rows, one.dropped)
    model.train(was_training)
    return TokenScores(
        nats=nats,
        counts=counts,
        confidence=np.concatenate(confidence),
        correct=np.concatenate(correct),
        text_bytes=np.zeros(rows),
        divergence=divergence if teacher is not None else None,
        agreed=agreed if teacher is not None else None,
        dropped=dropped,
    )
