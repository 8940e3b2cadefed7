"""One row as two models read it, and where their tokens meet.

In: a row and the tokenizers of a student and its teacher. Out: the student's `Encoded`, with the
teacher's side of it and the spans of text that both cut at the same characters. Each model has its
own ids and its own chat template. Knows nothing of batches or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_core.data.chat import conventions_of
from distill_core.data.formats import Row
from distill_core.data.tokenize import (
    ANSWER_END,
    IGNORE_INDEX,
    Encoded,
    Place,
    Span,
    TeacherSide,
    encode,
    encode_with_places,
)
from distill_core.data.vocabularies import compare_maps, student_ids
from distill_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Alignment", "Reader", "alignment_facts", "meet", "reader", "reads_alike"]

Reader = Callable[[Row, int], Encoded | None]
"""Encodes a row within a longest length; None where the two sides have nothing to compare."""


def reader(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase | None,
    *,
    by_text: bool,
    by_id: bool,
) -> Reader:
    """How rows are read for a stage.

    Args:
        student: The student's tokenizer.
        teacher: The teacher's, where a teacher is asked about the rows.
        by_text: Whether a term compares spans of text, so that the rows need them.
        by_id: Whether a term compares position by position: both sides must supervise the same
            ids. Rows that two templates write with different ids are then left out.

    Raises:
        ModelError: if positions are compared but the same id means different tokens, or spans are
            wanted and a tokenizer cannot tell the places of its tokens.
    """
    if teacher is None or not (by_text or by_id):
        return lambda row, max_seq_len: encode(row, student, max_seq_len)
    if by_id and not compare_maps(teacher.get_vocab(), student.get_vocab()).comparable:
        raise ModelError(
            "Teacher and student have different tokenizers, so their probabilities cannot be "
            "compared token by token. Use cross_tokenizer in the place of such terms."
        )
    if by_text:
        alignment = Alignment(student=student, teacher=teacher)
        if not by_id:
            return alignment.encode
        return lambda row, max_seq_len: _if_same(alignment.encode(row, max_seq_len))
    if reads_alike(student, teacher):
        return lambda row, max_seq_len: encode(row, student, max_seq_len)

    def side_by_side(row: Row, max_seq_len: int) -> Encoded | None:
        item, theirs = encode(row, student, max_seq_len), encode(row, teacher, max_seq_len)
        item.teacher = TeacherSide(theirs.input_ids, theirs.labels)
        item.truncated |= theirs.truncated
        return _if_same(item)

    return side_by_side


def reads_alike(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> bool:
    """Whether both write every conversation with the same ids: one map, one template, one BOS."""
    return student is teacher or (
        student.chat_template == teacher.chat_template
        and conventions_of(student) == conventions_of(teacher)
        and student.get_vocab() == teacher.get_vocab()
    )


def alignment_facts(encoded: Sequence[Encoded]) -> dict[str, Any] | None:
    """How much text two tokenizers have in common in these rows; None where it is not asked.

    `{"spans", "same_token": share of spans that are one token for both, "tokens_in_spans": share
    of the student's supervised tokens}`.
    """
    asked, count, same, inside, tokens = False, 0, 0, 0, 0
    for item in encoded:
        tokens += item.supervised_tokens
        if item.teacher is None or item.teacher.spans is None:
            continue
        asked = True
        count += len(item.teacher.spans)
        same += sum(span.coincides for span in item.teacher.spans)
        inside += sum(span.student_tokens for span in item.teacher.spans)
    if not asked:
        return None
    return {"spans": count, "same_token": same / max(1, count), "tokens_in_spans": inside / tokens}


def _if_same(item: Encoded) -> Encoded | None:
    """The row, if both sides supervise the same ids."""
    assert item.teacher is not None, "both sides have been read"
    ours = [label for label in item.labels if label != IGNORE_INDEX]
    theirs = [label for label in item.teacher.labels if label != IGNORE_INDEX]
    return item if ours == theirs else None


class Alignment:
    """Encodes rows for a student and a teacher with different tokenizers.

    Raises:
        ModelError: if one of the tokenizers cannot tell the places of its tokens.
    """

    def __init__(
        self, *, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase
    ) -> None:
        for role, tokenizer in (("student", student), ("teacher", teacher)):
            if not tokenizer.is_fast:
                raise ModelError(
                    f"The {role}'s tokenizer cannot tell where its tokens stand in a text, so they "
                    "cannot be matched. Save it as a fast tokenizer (tokenizer.json)."
                )
        self.student, self.teacher = student, teacher
        first, self._whole = student_ids(teacher, student)
        self.student_ids = np.array(first, dtype=np.int64)
        """For each teacher's id the student's id that its text begins with (`vocabularies`)."""

    def encode(self, row: Row, max_seq_len: int) -> Encoded:
        """Encode a row for both; `spans` says where their supervised tokens meet.

        Spans with a token that stands for text unknown to its vocabulary are left out.

        Raises:
            DataError: a model's chat template refuses the conversation.
        """
        mine, own_places = encode_with_places(row, self.student, max_seq_len)
        theirs, their_places = encode_with_places(row, self.teacher, max_seq_len)
        own_ids, own_places = _supervised(mine, own_places)
        their_ids, their_places = _supervised(theirs, their_places)
        _drop_unknown(own_ids, own_places, self.student)
        _drop_unknown(their_ids, their_places, self.teacher)
        spans = []
        for (a, b), (c, d) in meet(own_places, their_places):
            single = b - a == d - c == 1
            same = single and self._coincide(own_ids[a], their_ids[c])
            spans.append(Span(a, b - a, c, d - c, same))
        mine.truncated |= theirs.truncated
        mine.teacher = TeacherSide(theirs.input_ids, theirs.labels, spans, self.student_ids)
        return mine

    def _coincide(self, own: int, their: int) -> bool:
        return self._whole[their] and bool(self.student_ids[their] == own)


def meet(
    student: Sequence[Place | None], teacher: Sequence[Place | None]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Cut two runs of tokens at their common borders: pairs of ranges, the shortest there are.

    A border stands where a token ends and the next one does not reach back: the parts of one
    character stay together. A token without a place, or a stretch that only one side has, ends in
    no span.
    """
    own, their = _borders(student), _borders(teacher)
    common = sorted(own.keys() & their.keys())
    found = []
    for before, after in pairwise(common):
        if before[0] != after[0]:
            continue  # from one answer to the next
        a, b = own[before], own[after]
        c, d = their[before], their[after]
        if a < b and c < d and None not in student[a:b] and None not in teacher[c:d]:
            found.append(((a, b), (c, d)))
    return found


def _borders(places: Sequence[Place | None]) -> dict[tuple[int, int], int]:
    """Each border of an answer, (answer, character), with the number of tokens before it."""
    borders: dict[tuple[int, int], int] = {}
    for number, place in enumerate(places):
        if place is None:
            continue
        previous = places[number - 1] if number else None
        opens = previous is None or previous.answer != place.answer
        if opens:
            borders.setdefault((place.answer, place.start), number)
        following = places[number + 1] if number + 1 < len(places) else None
        reaches_back = (
            following is not None
            and place.end is not None
            and following.answer == place.answer
            and following.start < place.end
        )
        if place.end is not None and not reaches_back:
            borders[place.answer, place.end] = number + 1
    return borders


def _supervised(item: Encoded, places: list[Place | None]) -> tuple[list[int], list[Place | None]]:
    """Ids and places of the supervised tokens alone."""
    kept = [place for place, label in enumerate(item.labels) if label != IGNORE_INDEX]
    return [item.input_ids[place] for place in kept], [places[place] for place in kept]


def _drop_unknown(
    ids: Sequence[int], places: list[Place | None], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Take the places of tokens that mean "some text that I do not know"."""
    unknown = tokenizer.unk_token_id
    ends = {place for place, spot in enumerate(places) if spot and spot.end == ANSWER_END}
    for place, token in enumerate(ids):
        if token == unknown and place not in ends:
            places[place] = None
