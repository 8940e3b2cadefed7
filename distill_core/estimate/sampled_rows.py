"""What a tokenizer makes of some rows, and what is left of them once they are cut.

In: rows, a tokenizer, the longest length. Out: a `Sample`: tokens of each row, before and after,
and which of them the tokenizer does not know. Reads no file and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_core.data.formats import Row

_EXAMPLES = 3
"""Pieces of text that a tokenizer does not know, to show."""

_NEVER = 1 << 40
"""Longer than any row."""


@dataclass(frozen=True, slots=True)
class SampledRow:
    """Tokens of one row."""

    whole: int
    """Before it is cut."""
    kept: int
    answer: int
    """Of those kept, how many are learnt from."""
    prompt_lost: int
    """Cut before its last answer."""
    prompt_gone: bool
    """Whether nothing of what is asked is left: only the template's own words."""
    unknown: int
    """Of the whole row, how many stand for text that the tokenizer does not know."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in one tokenizer's tokens."""

    rows: tuple[SampledRow, ...]
    even: tuple[SampledRow, ...]
    """Those of them that were drawn evenly: shares are theirs."""
    unknown_texts: tuple[str, ...] = ()
    """Some of what the tokenizer does not know."""

    @property
    def cut(self) -> list[SampledRow]:
        """The rows that are too long."""
        return [row for row in self.even if row.kept < row.whole]

    @property
    def unknown_share(self) -> float:
        """Unknown tokens among all."""
        return sum(row.unknown for row in self.even) / max(1, sum(row.whole for row in self.even))

    @property
    def rows_with_unknown(self) -> float:
        """The share of rows that have one."""
        return sum(row.unknown > 0 for row in self.even) / len(self.even)

    def share_within(self, tokens: int) -> float:
        """The share of rows that are no longer than `tokens`."""
        return sum(row.whole <= tokens for row in self.even) / len(self.even)


def sampled(rows: Sequence[Row], tokenizer: Any, max_seq_len: int, *, even: int) -> Sample:
    """Encode rows once, in full length, and count what is left of each in `max_seq_len` tokens.

    Args:
        rows: some of all rows, at least one.
        tokenizer: the model's.
        max_seq_len: how many tokens may stay of each.
        even: how many of `rows`, from the first on, were drawn evenly.

    Raises:
        DataError: the model's chat template refuses a row.
    """
    unknown = unknown_id(tokenizer)
    found: list[SampledRow] = []
    strange: list[str] = []
    ending: int | None = None
    for row in rows:
        ids, places, start, supervised = _encoded(row, tokenizer, max_seq_len)
        asked = sum(place < start for place in places)
        gone = False
        if len(places) < len(ids) and row.messages:
            ending = _prompt_ending(tokenizer) if ending is None else ending
            gone = asked - (ids[0] == tokenizer.bos_token_id) <= ending
        strangers = 0 if unknown is None else ids.count(unknown)
        if strangers and len(strange) < _EXAMPLES:
            strange += _unknown_texts(row, tokenizer, unknown)
        found.append(SampledRow(len(ids), len(places), supervised, start - asked, gone, strangers))
    examples = tuple(dict.fromkeys(strange))[:_EXAMPLES]
    return Sample(tuple(found), tuple(found[:even]), examples)


def unknown_id(tokenizer: Any) -> int | None:
    """The id that stands for any text that a tokenizer does not know; None: it knows all texts."""
    found = tokenizer.unk_token_id
    marks = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    return found if isinstance(found, int) and found not in marks else None


def _encoded(
    row: Row, tokenizer: Any, max_seq_len: int
) -> tuple[list[int], Sequence[int], int, int]:
    """Ids (T,), the positions that stay, where the answer starts, supervised tokens that stay."""
    from distill_core.data.classes import TextRow, encode_text
    from distill_core.data.cutting import kept_positions
    from distill_core.data.tokenize import encode_whole

    if isinstance(row, TextRow):
        own_class = [row.label] if row.label is not None else []
        ids = encode_text(row, tokenizer, _NEVER, own_class).input_ids
        return ids, range(min(len(ids), max_seq_len)), len(ids), int(bool(ids))
    ids, supervised, start = encode_whole(row, tokenizer)
    places: Sequence[int] = range(len(ids))
    if len(ids) > max_seq_len:
        bos = ids[0] == tokenizer.bos_token_id
        places = kept_positions(len(ids), start, max_seq_len, bos=bos)
    return ids, places, start, sum(supervised[place] for place in places[1:])


def _prompt_ending(tokenizer: Any) -> int:
    """Tokens that the chat template puts between what is asked and the answer."""
    from distill_core.data.tokenize import encode_prompt

    one, other = (encode_prompt([{"role": "user", "content": text}], tokenizer) for text in "az")
    same = 0
    while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
        same += 1
    return same


def _unknown_texts(row: Row, tokenizer: Any, unknown: int | None) -> Iterator[str]:
    """What the tokenizer does not know of a row's own text; nothing if it tells no places."""
    if not tokenizer.is_fast:
        return
    for text in (row.prompt_text, row.response or ""):
        found = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            if token == unknown and text[start:end].strip():
                yield text[start:end].strip()
