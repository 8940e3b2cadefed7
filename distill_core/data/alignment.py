"""One row as two models read it, and where their tokens meet.

In: a row and the tokenizers of a student and its teacher. Out: the student's `Encoded`, with the
teacher's side of it and the spans of text that both cut at the same characters. Each model has its
own ids and its own chat template. Knows nothing of batches or torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from distill_core.data.formats import Row
from distill_core.data.tokenize import (
    ANSWER_END,
    IGNORE_INDEX,
    Encoded,
    Place,
    Span,
    TeacherSide,
    encode_with_places,
)
from distill_core.data.vocabularies import student_ids
from distill_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Alignment", "meet"]


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
