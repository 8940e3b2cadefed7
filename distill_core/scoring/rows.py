"""Held-out rows, encoded once for one tokenizer.

In: rows, a tokenizer, the longest lengths. Out: padded batches to read, as large as memory allows,
prompts to answer, and the references. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from distill_core.data.alignment import reader, reads_alike
from distill_core.data.batches import Batch, by_length, collate
from distill_core.data.classes import EncodedText
from distill_core.data.formats import Row
from distill_core.data.tokenize import Encoded, encode, encode_prompt, pad_token_id
from distill_core.data.vocabularies import compare_maps
from distill_core.halving import in_halves

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

B = TypeVar("B", bound=Batch)
R = TypeVar("R")

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

    def text_bytes(self) -> list[int]:
        """Bytes (UTF-8) of each row's scored text: what its supervised tokens spell."""
        return [
            _bytes_of(row, item, self.tokenizer)
            for row, item in zip(self.rows, self.encoded, strict=True)
        ]


def read_batches(
    encoded: Sequence[Encoded] | Sequence[EncodedText],
    collated: Callable[[list[int]], B],
    compute: Callable[[B], R],
    *,
    device: torch.device,
) -> Iterator[R]:
    """Yield what `compute` makes of each batch: rows of like length, at most `TOKENS_AT_ONCE`.

    Padding counts. Where memory runs out the batches become smaller, and nobody is told; what
    `compute` returns should not lie on the device.

    Args:
        encoded: All rows.
        collated: Makes a batch of the rows at some places.
        compute: Is given batches on the device.
        device: Where the model is.

    Raises:
        OutOfMemory: if a single row does not fit.
    """
    lengths = [len(item.input_ids) for item in encoded]
    parts = in_halves(
        by_length(lengths, tokens_at_once=TOKENS_AT_ONCE),
        lambda places: compute(collated(places).to(device)),  # type: ignore[arg-type]
        lengths=lengths,
        device=device,
        doing="scoring held-out rows",
    )
    return (found for _, found in parts)


def padded(
    encoded: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase
) -> Callable[[list[int]], Batch]:
    """How the rows at some places become a batch."""
    pad = pad_token_id(tokenizer)
    return lambda places: collate(
        [encoded[place] for place in places], pad_token_id=pad, rows=places
    )


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
