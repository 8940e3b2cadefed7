"""How good a model's answers are: right or wrong, ROUGE-L, and whether they are of any use.

In: a model, held-out prompts and references. Out: one value per row, and counts of invalid
answers. Which metric suits the references is decided here, once. Knows nothing of runs.
"""

from __future__ import annotations

import functools
import json
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill_core.data.classes import TextRow
from distill_core.data.formats import Row
from distill_core.data.tokenize import stop_token_ids
from distill_core.generate import Continuation, continuations
from distill_core.scoring.rows import HeldOut
from distill_core.teachers.base import Teacher

LONG_ANSWER_WORDS = 10
"""References of more words than this (median) are free text: few would be met letter by letter."""

MOST_LABELS = 20
ROWS_PER_LABEL = 5
"""References are labels if there are at most so many different ones, each met so often (mean)."""

# a word: letters and digits; scripts without spaces count by character
_WORDS = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]|[^\W_぀-ヿ㐀-䶿一-鿿가-힯]+")


# --- which metric -----------------------------------------------------------------------------


def choose_metric(wanted: str, rows: Sequence[Row]) -> tuple[str, str]:
    """The task metric for held-out rows, and why: `wanted` itself unless that is `auto`."""
    if any(isinstance(row, TextRow) for row in rows):
        return "accuracy", "the rows have classes"
    references = [row.response.strip() for row in rows if row.response is not None]
    if not references:
        if wanted in ("exact_match", "rouge_l"):
            return "bits_per_byte", f"no row asks for an answer, so {wanted} has nothing to score"
        return "bits_per_byte", "no row asks for an answer" if wanted == "auto" else "as set"
    if wanted != "auto":
        return wanted, "as set"
    if all(map(_is_json, references)):
        return "exact_match", "all labels are JSON"
    if labels := label_set(references):
        return "exact_match", f"the labels are {len(labels)} different answers: it is the accuracy"
    words = statistics.median(len(_WORDS.findall(text)) for text in references)
    if words > LONG_ANSWER_WORDS:
        return "rouge_l", f"the labels are free text of {words:g} words (median)"
    return "exact_match", f"the labels are short, {words:g} words (median)"


def label_set(references: Sequence[str]) -> frozenset[str]:
    """The different references where they are labels: few, and each met often; else none."""
    different = frozenset(references)
    few = len(different) <= MOST_LABELS and len(references) >= ROWS_PER_LABEL * len(different)
    return different if few else frozenset()


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or array; a bare number or word is not meant as JSON."""
    if text[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# --- answers ----------------------------------------------------------------------------------


@dataclass
class Answers:
    """Greedy answers to held-out prompts (R,), trimmed, and whether each one ended by itself."""

    texts: list[str]
    ended: list[bool]


def answer_prompts(model: Any, held_out: HeldOut) -> Answers:
    """Let the model answer every prompt greedily; its mode is left as it was."""
    if not held_out.prompts:
        return Answers([], [])
    was_training = model.training
    model.eval()
    answers = continuations(
        model,
        held_out.prompts,
        stop_ids=stop_token_ids(held_out.tokenizer),
        max_new_tokens=held_out.max_new_tokens,
        vocab_size=len(held_out.tokenizer),
        batch_size=128,
    )
    model.train(was_training)
    return Answers(_texts(answers, held_out), [one.stop is not None for one in answers])


def teacher_texts(teacher: Teacher, held_out: HeldOut) -> list[str]:
    """What a teacher answers to every prompt, greedily, whether it is in memory or not."""
    if not held_out.prompts:
        return []
    answers = teacher.answers(held_out.prompts, max_new_tokens=held_out.max_new_tokens)
    return _texts(answers, held_out)


def _texts(answers: Sequence[Continuation], held_out: HeldOut) -> list[str]:
    texts = held_out.tokenizer.batch_decode([one.ids for one in answers], skip_special_tokens=True)
    return [text.strip() for text in texts]


def row_scores(metric: str, texts: Sequence[str], references: Sequence[str]) -> list[float]:
    """Score each answer (R,) by a metric that judges texts; 0–1, more is better."""
    judge = ANSWER_METRICS[metric]
    return [judge(text, label) for text, label in zip(texts, references, strict=True)]


def exact_match(text: str, label: str) -> float:
    """1 if the trimmed answer is the label, letter by letter; else 0."""
    return float(text == label)


def rouge_l(text: str, label: str) -> float:
    """F1 of the longest common subsequence of words, 0–1 (ROUGE-L; Lin 2004, W04-1013)."""
    return float(_rouge().score(label, text)["rougeL"].fmeasure)


ANSWER_METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "rouge_l": rouge_l,
}
"""Task metrics that judge an answer's text against the label: 0–1, more is better."""


class _Words:
    """Splits into words of any script; the scorer's own keeps only a–z and digits."""

    def tokenize(self, text: str) -> list[str]:
        return _WORDS.findall(text.casefold())


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk: only where it is asked for

    return RougeScorer(["rougeL"], tokenizer=_Words())


# --- answers of no use ------------------------------------------------------------------------


@dataclass(frozen=True)
class Validity:
    """What makes an answer invalid, read off the references; `rule` says it in words."""

    json: bool
    labels: frozenset[str]
    may_be_empty: bool
    max_new_tokens: int

    @classmethod
    def of(cls, references: Sequence[str], *, max_new_tokens: int) -> Validity:
        """Look at all references: are they JSON, are they a few labels, are some empty?"""
        return cls(
            json=bool(references) and all(map(_is_json, references)),
            labels=label_set(references),
            may_be_empty=not all(references),
            max_new_tokens=max_new_tokens,
        )

    @property
    def rule(self) -> str:
        """The rule that applied, for people."""
        parts = [
            "" if self.may_be_empty else "empty",
            f"not ended within {self.max_new_tokens} tokens",
            "not JSON, as all labels are" if self.json else "",
            f"none of the {len(self.labels)} labels" if self.labels else "",
        ]
        return ", or ".join(part for part in parts if part)

    def fault(self, text: str, ended: bool) -> str:
        """The first reason why an answer is invalid; "" for a valid one."""
        if not text and not self.may_be_empty:
            return "empty"
        if not ended:
            return "not_ended"
        if self.json and not _is_json(text):
            return "not_json"
        if self.labels and text not in self.labels:
            return "not_a_label"
        return ""
