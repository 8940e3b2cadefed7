"""Scores of one model on held-out rows.

In: a model, held-out rows, perhaps a teacher. Out: sums per token and right or wrong per row.
Used while training goes on and at the end; knows nothing of runs or intervals.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill_core.data.batches import Batch, by_length, collate
from distill_core.data.formats import Row
from distill_core.data.tokenize import Encoded, encode, encode_prompt, pad_token_id, stop_token_ids
from distill_core.device import memory_bytes
from distill_core.generate import generate
from distill_core.losses.cross_entropy import cross_entropy
from distill_core.losses.divergences import forward_kl
from distill_core.supervised import SupervisedLogits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.teachers.base import Teacher

TOKENS_AT_ONCE = 4096
"""Padded tokens in one forward pass of scoring."""


@dataclass
class HeldOut:
    """Held-out rows, encoded once for one tokenizer."""

    rows: list[Row]
    encoded: list[Encoded]
    prompts: list[list[int]]
    """Prompt ids of the rows that have one; plain texts have none and are only read."""
    references: list[str]
    tokenizer: PreTrainedTokenizerBase
    max_new_tokens: int

    @classmethod
    def make(
        cls,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_seq_len: int,
        max_new_tokens: int,
    ) -> HeldOut:
        """Encode rows; those in which nothing is left to score are dropped."""
        pairs = [(row, encode(row, tokenizer, max_seq_len)) for row in rows]
        pairs = [(row, item) for row, item in pairs if item.supervised_tokens]
        kept = [row for row, _ in pairs]
        asked = [row for row in kept if row.response is not None]
        return cls(
            rows=kept,
            encoded=[item for _, item in pairs],
            prompts=[encode_prompt(row, tokenizer, max_tokens=max_seq_len) for row in asked],
            references=[(row.response or "").strip() for row in asked],
            tokenizer=tokenizer,
            max_new_tokens=max_new_tokens,
        )

    def batches(self) -> list[Batch]:
        """Padded batches of at most `TOKENS_AT_ONCE` tokens, rows of like length together."""
        lengths = [len(item.input_ids) for item in self.encoded]
        groups = by_length(lengths, tokens_at_once=TOKENS_AT_ONCE)
        pad = pad_token_id(self.tokenizer)
        return [
            collate([self.encoded[row] for row in group], pad_token_id=pad, rows=group)
            for group in groups
        ]


@dataclass
class TokenScores:
    """Means over the supervised tokens of held-out rows."""

    cross_entropy: float
    tokens: int
    confidence: np.ndarray
    correct: np.ndarray
    kl_to_teacher: float | None = None
    top1_agreement: float | None = None

    def as_metrics(self) -> dict[str, float]:
        """Under the names of events."""
        metrics = {"held_out_cross_entropy": self.cross_entropy}
        if self.kl_to_teacher is not None and self.top1_agreement is not None:
            metrics["held_out_forward_kl"] = self.kl_to_teacher
            metrics["held_out_top1_agreement"] = self.top1_agreement
        return metrics


@torch.no_grad()
def score_tokens(
    model: torch.nn.Module, held_out: HeldOut, *, teacher: Teacher | None = None
) -> TokenScores:
    """Cross-entropy on labels, confidence, and KL(teacher ‖ model) at temperature 1, in nats."""
    was_training = model.training
    model.eval()
    network = SupervisedLogits(model, vocab_size=len(held_out.tokenizer)).eval()
    device = next(model.parameters()).device
    loss = divergence = agreed = 0.0
    confidence: list[np.ndarray] = []
    correct: list[np.ndarray] = []
    for batch in held_out.batches():
        placed = batch.to(device)
        logits, targets = network(placed), placed.targets
        loss += float(cross_entropy(logits, targets).sum())
        top = logits.float().softmax(-1).max(-1)
        confidence.append(top.values.cpu().numpy())
        correct.append((top.indices == targets).cpu().numpy())
        if teacher is not None:
            theirs = teacher.logits(placed)
            divergence += float(forward_kl(logits, theirs).sum())
            agreed += float((theirs.argmax(-1) == top.indices).sum())
    model.train(was_training)
    tokens = sum(map(len, confidence))
    return TokenScores(
        cross_entropy=loss / tokens,
        tokens=tokens,
        confidence=np.concatenate(confidence),
        correct=np.concatenate(correct),
        kl_to_teacher=divergence / tokens if teacher is not None else None,
        top1_agreement=agreed / tokens if teacher is not None else None,
    )


def score_answers(model: Any, held_out: HeldOut) -> tuple[list[bool], list[str]]:
    """Let the model answer every prompt greedily; right means equal to the label, trimmed."""
    if not held_out.prompts:
        return [], []
    texts = answer_texts(model, held_out.prompts, held_out)
    exact = [text == label for text, label in zip(texts, held_out.references, strict=True)]
    return exact, texts


def answer_texts(model: Any, prompts: Sequence[list[int]], held_out: HeldOut) -> list[str]:
    """Greedy answers in text, trimmed; the model's mode is left as it was."""
    was_training = model.training
    model.eval()
    answers = generate(
        model,
        prompts,
        stop_ids=stop_token_ids(held_out.tokenizer),
        max_new_tokens=held_out.max_new_tokens,
        batch_size=128,
    )
    model.train(was_training)
    texts = held_out.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [text.strip() for text in texts]


def measure_speed(model: Any, held_out: HeldOut, *, answers: int = 24) -> dict[str, float]:
    """Time single answers, one prompt at a time: tokens per second, latency p50 and p95 in ms.

    The first answer warms up and is not counted. Memory is what the process holds at its highest
    seen, in bytes.
    """
    prompts = held_out.prompts[: answers + 1]
    if len(prompts) < 2:
        return {"tokens_per_s": 0.0, "latency_p50_ms": 0.0, "latency_p95_ms": 0.0}
    stop_ids = stop_token_ids(held_out.tokenizer)
    device = next(model.parameters()).device
    seconds, tokens, peak = [], 0, 0
    for number, prompt in enumerate(prompts):
        started = time.perf_counter()
        answer = generate(
            model, [prompt], stop_ids=stop_ids, max_new_tokens=held_out.max_new_tokens
        )
        taken = time.perf_counter() - started
        peak = max(peak, memory_bytes(device))
        if number:
            seconds.append(taken)
            tokens += len(answer[0]) + 1  # the stop token is generated too
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return {
        "tokens_per_s": tokens / sum(seconds),
        "latency_p50_ms": float(p50),
        "latency_p95_ms": float(p95),
        "peak_memory_bytes": peak,
    }
