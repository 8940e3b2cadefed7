"""From rows to token ids, with the positions marked that the student learns from.

In: a row, a tokenizer, the longest length. Out: ids and labels; or the ids of a prompt alone. Both
come from the same list of segments, so training and generation see the same ids before an answer.
Knows nothing of batches, shifting or torch; shifting happens once, in `batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from distill_core.data.chat import (
    PLAIN_TEMPLATE,
    Conventions,
    Segment,
    conventions_of,
    segments,
)
from distill_core.data.cutting import kept_positions
from distill_core.data.formats import Message, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ANSWER_END",
    "IGNORE_INDEX",
    "PLAIN_TEMPLATE",
    "Encoded",
    "Place",
    "Span",
    "TeacherSide",
    "Whole",
    "encode",
    "encode_prompt",
    "encode_whole",
    "encode_with_places",
    "pad_token_id",
    "stop_token_ids",
    "turn_end_id",
]

IGNORE_INDEX: Final = -100
"""The label of a position that is not supervised."""

ANSWER_END: Final = 1 << 40
"""Where, in characters, the token that ends an answer ends: beyond every answer."""


class Place(NamedTuple):
    """Where a token of an answer stands in the answer's own text, in characters."""

    answer: int
    """Which of the row's answers, counted from 0."""
    start: int
    end: int | None
    """None between an answer and its end token, where templates differ: no border there."""


class Span(NamedTuple):
    """A piece of an answer that both tokenizers begin and end at the same characters.

    Tokens are counted among the row's supervised ones, from 0.
    """

    student_first: int
    student_tokens: int
    teacher_first: int
    teacher_tokens: int
    coincides: bool
    """Whether it is one token on both sides, of the same text in both vocabularies."""


@dataclass(slots=True)
class TeacherSide:
    """One row as its teacher reads it: ids and labels, both (T,), with a T of its own."""

    input_ids: list[int]
    labels: list[int]
    spans: list[Span] | None = None
    """How its supervised tokens meet the student's (`data.alignment`); None: one by one."""
    student_ids: NDArray[np.int64] | None = None
    """For each teacher's id the student's id that begins it (`data.vocabularies`); one for all."""


@dataclass(slots=True)
class Encoded:
    """Token ids of one row and their labels, both (T,)."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where it is supervised, else `IGNORE_INDEX`; not shifted."""
    labelled: bool
    """Whether the answer comes from the data; False: from a model, or not there."""
    truncated: bool
    teacher: TeacherSide | None = None
    """The same row in the teacher's ids; None: the teacher reads the student's."""

    @property
    def supervised_tokens(self) -> int:
        """Number of tokens that are predicted and learnt from."""
        return sum(label != IGNORE_INDEX for label in self.labels)


class Whole(NamedTuple):
    """One row before it is cut, however long it is."""

    input_ids: list[int]
    supervised: list[bool]
    """Whether each of them is learnt from; the first is not, even if it says so."""
    answer_start: int
    """Where the last answer starts; their number where there is none."""


def encode(row: Row, tokenizer: PreTrainedTokenizerBase, max_seq_len: int) -> Encoded:
    """Token ids and labels, both (T,) with T ≤ `max_seq_len`, of one row.

    Every answer of a chat is supervised up to and with the token that ends it; a plain text is
    supervised whole, its end included. The first token never is: nothing predicts it. A row that is
    too long loses the head of its prompt first (its BOS stays), at most down to a quarter of
    `max_seq_len`; then the end of the answer goes, end token included, so that nobody learns to
    stop there. An unfinished answer has no end token either. A plain text loses its end.

    Raises:
        DataError: the model's chat template refuses the conversation.
    """
    return _encode(row, tokenizer, max_seq_len, None)


def encode_with_places(
    row: Row, tokenizer: PreTrainedTokenizerBase, max_seq_len: int
) -> tuple[Encoded, list[Place | None]]:
    """As `encode`, with the place (T,) of each token in its answer; None outside of answers.

    Needs a tokenizer that tells the places of its tokens (`tokenizer.is_fast`).
    """
    places: list[Place | None] = []
    return _encode(row, tokenizer, max_seq_len, places), places


def _encode(
    row: Row,
    tokenizer: PreTrainedTokenizerBase,
    max_seq_len: int,
    places: list[Place | None] | None,
) -> Encoded:
    ids, supervised, start = encode_whole(row, tokenizer, places=places)
    labels = [token if on else IGNORE_INDEX for token, on in zip(ids, supervised, strict=True)]
    truncated = len(ids) > max_seq_len
    if truncated:
        keep = kept_positions(len(ids), start, max_seq_len, bos=ids[0] == tokenizer.bos_token_id)
        ids, labels = [ids[i] for i in keep], [labels[i] for i in keep]
        if places:
            places[:] = [places[i] for i in keep]
    labels[:1] = [IGNORE_INDEX] * len(labels[:1])
    return Encoded(ids, labels, row.labelled, truncated)


def encode_prompt(
    row: Row | Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int | None = None,
) -> list[int]:
    """Token ids (T,) of all that stands before the last answer: what generation continues.

    The same ids that `encode` puts before the answer. More than `max_tokens` lose their head, as
    there; the BOS stays.

    Raises:
        DataError: the model's chat template refuses the conversation.
    """
    if not isinstance(row, Row):
        row = Row(tuple(row), None, "prompt")
    assert row.messages, "a plain text asks nothing"
    ids, _, end = encode_whole(row, tokenizer, answer=False)
    if max_tokens is None or len(ids) <= max_tokens:
        return ids
    bos = ids[0] == tokenizer.bos_token_id
    return [ids[place] for place in kept_positions(len(ids), end, max_tokens, bos=bos)]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids at which an answer ends: end of sequence, and the template's end of turn."""
    ids = {tokenizer.eos_token_id, turn_end_id(tokenizer)}
    return {token for token in ids if isinstance(token, int)}


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that ends an answer; None where a model has none."""
    end = conventions_of(tokenizer).turn_end
    found = tokenizer.convert_tokens_to_ids(end) if end else None
    return found if isinstance(found, int) else None


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id to pad with: the tokenizer's own, else its end of sequence, else 0; masked anyway."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in ids if isinstance(token, int))


# --- from segments to ids -----------------------------------------------------------------------


def encode_whole(
    row: Row,
    tokenizer: PreTrainedTokenizerBase,
    *,
    answer: bool = True,
    places: list[Place | None] | None = None,
) -> Whole:
    """Token ids (T,) of a row in full length, and which are supervised (T,); fills `places` (T,).

    A segment never changes the ids before it: where tokenising it together with the text before
    would merge across the border, it is tokenised by itself.
    """
    conventions = conventions_of(tokenizer)
    text, start, answers = "", 0, 0
    ids: list[int] = []
    supervised: list[bool] = []
    located = places is not None
    for segment in segments(row, tokenizer, answer_too=answer):
        whole, offsets = _ids(text + segment.text, tokenizer, conventions, located=located)
        done, before = len(ids), len(text)
        if whole[:done] != ids:
            whole, offsets = _ids(segment.text, tokenizer, located=located)
            done = before = 0
        text, start = text + segment.text, len(ids)
        ids, supervised = ids + whole[done:], supervised + [segment.supervised] * len(whole[done:])
        if places is not None:
            spots = [(left - before, right - before) for left, right in offsets[done:]]
            ends = {conventions.turn_end, tokenizer.eos_token or ""} - {""}
            places += _places(segment, spots, answers, ends=segment.text.endswith(tuple(ends)))
        answers += segment.supervised
    if not supervised or not supervised[-1]:
        start = len(ids)
    elif start == 0 and ids[0] == conventions.bos_id:
        start, supervised[0] = 1, False
    return Whole(ids, supervised, start)


def _places(
    segment: Segment, spots: list[tuple[int, int]], answer: int, *, ends: bool
) -> list[Place | None]:
    """Where each token of a segment, at characters `spots` of it, stands in the answer's text.

    Characters are counted in the answer as the data has it, so that two templates that trim it, or
    put something before it, still meet. What the template has rewritten has no places.
    """
    none: list[Place | None] = [None] * len(spots)
    if segment.content is None:
        return none
    core = segment.content.strip()
    found = segment.text.find(core)
    if found < 0:
        return none
    shift = segment.content.find(core) - found
    last = shift + found + len(core)
    places: list[Place | None] = []
    reached = None
    for number, (left, right) in enumerate(spots):
        start, end = left + shift, right + shift
        gap = segment.text[reached:left] if reached is not None and reached < left else ""
        if gap and not gap.strip():  # some tokenizers count a space to no token
            start = reached + shift  # type: ignore[operator]
        reached = max(right, reached or 0)
        if not any(places):
            start = min(start, 0)  # white space before it may have been trimmed
        is_end = ends and number == len(spots) - 1 and end > last
        if not is_end and (end <= 0 or segment.text[max(0, left) : found].strip()):
            places.append(None)  # a template's own words before the answer
        elif is_end:
            places.append(Place(answer, start, ANSWER_END))
        else:
            places.append(Place(answer, start, end if end <= last else None))
    return places


def _ids(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    opening: Conventions | None = None,
    *,
    located: bool = False,
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text, and each one's characters in it if `located`.

    At the opening of a sequence, with exactly one BOS if the model has any.
    """
    found = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=located)
    ids, offsets = found["input_ids"], found["offset_mapping"] if located else []
    bos = opening.bos_id if opening else None
    if bos is None or ids[:1] == [bos]:
        return ids, offsets
    return [bos, *ids], [(0, 0), *offsets]
