"""Held-out rows, encoded once for one tokenizer.

In: rows, a tokenizer, the longest lengths. Out: padded batches to read, prompts to answer, and
the references. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_core.data.alignment import reader, reads_alike
from distill_core.data.batches import Batch, by_length, collate
from distill_core.data.formats import Row
from distill_core.data.tokenize import Encoded, encode, encode_prompt, pad_token_id
from distill_core.data.vocabularies import compare_maps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    metric: str = "exact_match"
    """What answers are judged by; a name of `scores.TASK_METRICS`."""
    comparable: bool = True
    """Whether the teacher's probabilities can be compared token by token on these rows."""
    teacher_prompts: list[list[int]] | None = None
    """The prompts as the teacher's template writes them; None: as the model's own does."""

    @classmethod
    def make(
        cls,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_seq_len: int,
        max_new_tokens: int,
        metric: str = "exact_match",
        teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> HeldOut:
        """Encode rows; those in which nothing is left to score are dropped.

        `teacher_tokenizer`: of the teacher that the model is compared with. It reads the rows in
        its own chat template; where its ids mean other tokens, there is no comparison.
        """
        pairs = [(row, encode(row, tokenizer, max_seq_len)) for row in rows]
        pairs = [(row, item) for row, item in pairs if item.supervised_tokens]
        kept = [row for row, _ in pairs]
        asked = [row for row in kept if row.response is not None]
        made = cls(
            rows=kept,
            encoded=[item for _, item in pairs],
            prompts=[encode_prompt(row, tokenizer, max_tokens=max_seq_len) for row in asked],
            references=[(row.response or "").strip() for row in asked],
            tokenizer=tokenizer,
            max_new_tokens=max_new_tokens,
            metric=metric,
        )
        if teacher_tokenizer is not None:
            made._read_by(teacher_tokenizer, max_seq_len)
        return made

    def _read_by(self, teacher: PreTrainedTokenizerBase, max_seq_len: int) -> None:
        """Add the teacher's side of the rows, if its tokens are the model's."""
        if not compare_maps(teacher.get_vocab(), self.tokenizer.get_vocab()).comparable:
            self.comparable = False
        elif not reads_alike(self.tokenizer, teacher):
            read = reader(self.tokenizer, teacher, by_text=False, by_id=True)
            both = [read(row, max_seq_len) for row in self.rows]
            self.comparable = None not in both
            if self.comparable:
                asked = [row for row in self.rows if row.response is not None]
                self.encoded = [item for item in both if item is not None]
                self.teacher_prompts = [
                    encode_prompt(row, teacher, max_tokens=max_seq_len) for row in asked
                ]

    def batches(self) -> list[Batch]:
        """Padded batches of at most `TOKENS_AT_ONCE` tokens, rows of like length together."""
        return padded_batches(self.encoded, self.tokenizer)

    def text_bytes(self) -> list[int]:
        """Bytes (UTF-8) of each row's scored text: what its supervised tokens spell."""
        return [
            _bytes_of(row, item, self.tokenizer)
            for row, item in zip(self.rows, self.encoded, strict=True)
        ]


def padded_batches(encoded: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase) -> list[Batch]:
    """Batch rows of like length together, at most `TOKENS_AT_ONCE` padded tokens each."""
    groups = by_length([len(item.input_ids) for item in encoded], tokens_at_once=TOKENS_AT_ONCE)
    pad = pad_token_id(tokenizer)
    return [
        collate([encoded[row] for row in group], pad_token_id=pad, rows=group) for group in groups
    ]


def _bytes_of(row: Row, item: Encoded, tokenizer: PreTrainedTokenizerBase) -> int:
    """Count a whole answer's own bytes; other rows by the text that their tokens spell.

    Decoding may lose a space at the start or a character cut in two, hence the answer's own text
    wherever exactly that is scored.
    """
    answers = [m for m in row.messages or () if m["role"] == "assistant"]
    if not item.truncated and row.response is not None and len(answers) == 1:
        return len(row.response.encode())
    scored = [label for label in item.labels if label >= 0]
    return len(str(tokenizer.decode(scored, skip_special_tokens=True)).encode())
