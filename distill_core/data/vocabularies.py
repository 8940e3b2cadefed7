"""What the tokens of two vocabularies have to do with each other.

In: tokenizers of a teacher and a student. Out: whether their token → id maps allow comparing id by
id, how many ids they share, and for each teacher's token the student's token that its text begins
with. Knows nothing of rows, models or losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from distill_core.data.tokenize import turn_end_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["NO_TOKEN", "MapMatch", "compare_maps", "id_count", "student_ids", "token_texts"]

NO_TOKEN = -1
"""In the place of a student's token: nothing that the student can write begins like this."""

_HALF_A_CHARACTER = "\ufffd"
_texts: WeakKeyDictionary[Any, list[str | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class MapMatch:
    """How two token → id maps relate.

    `same`: equal. `extended`: equal up to an id, after which one of them has more tokens, so that
    both can be cut to the `shared` ids. `different`: the same id means different tokens.
    """

    kind: Literal["same", "extended", "different"]
    shared: int
    """Ids from 0 that both have; if `different`, how many tokens have the same id in both."""
    named: int
    """How many tokens both have by name, under whatever id."""

    @property
    def comparable(self) -> bool:
        """Whether probabilities may be compared id by id, cut to the shared ids."""
        return self.kind != "different"


def compare_maps(teacher: Mapping[str, int], student: Mapping[str, int]) -> MapMatch:
    """Compare two vocabularies by their token → id maps, never by their sizes."""
    if teacher == student:
        return MapMatch("same", id_count(teacher), len(teacher))
    fewer, more = sorted((teacher, student), key=len)
    common = len(teacher.items() & student.items())
    named, limit = len(teacher.keys() & student.keys()), id_count(fewer)
    beyond = all(number >= limit for token, number in more.items() if token not in fewer)
    if common == len(fewer) and beyond:
        return MapMatch("extended", limit, named)
    return MapMatch("different", common, named)


def id_count(vocabulary: Mapping[str, int]) -> int:
    """How many rows of an embedding have a token: one more than the largest id."""
    return max(vocabulary.values(), default=-1) + 1


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str | None]:
    """The text that each id adds to what stands before it; None for special ids and unused ones.

    Vocabularies of different families write the same text differently (`Ġthe`, `▁the`, `the` beside
    `##e`), so tokens are told apart by what they decode to after another token. Parts of a
    character have no text of their own and keep the vocabulary's word for them after a NUL.
    """
    known = _texts.get(tokenizer)
    if known is not None:
        return known
    vocabulary = tokenizer.get_vocab()
    words: list[str | None] = [None] * id_count(vocabulary)
    for word, number in vocabulary.items():
        words[number] = word
    special = {*tokenizer.all_special_ids}
    before = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    start = len(_decode(tokenizer, [before])[0])
    ids = [n for n, word in enumerate(words) if word is not None and n not in special]
    texts: list[str | None] = [None] * len(words)
    for number, text in zip(ids, _decode(tokenizer, [[*before, n] for n in ids]), strict=True):
        added = text[start:]
        texts[number] = f"\0{words[number]}" if _HALF_A_CHARACTER in added or not added else added
    _texts[tokenizer] = texts
    return texts


def student_ids(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase
) -> tuple[list[int], list[bool]]:
    """For each teacher's id the student's token that its text begins with, and whether it is all.

    The student's longest token that begins the text is taken; `NO_TOKEN` where there is none, or
    where the id is special and the student has no such token. The tokens that end an answer
    correspond, whatever they are called: they are said at the same place and mean the same.
    """
    theirs, own = token_texts(teacher), token_texts(student)
    by_text = _by_text(own, student)
    longest = max(map(len, by_text), default=0)
    first, whole = [NO_TOKEN] * len(theirs), [False] * len(theirs)
    vocabulary, their_vocabulary = student.get_vocab(), teacher.get_vocab()
    for number, text in enumerate(theirs):
        if text is None:
            continue
        shortest = len(text) if text.startswith("\0") else 1
        for length in range(min(len(text), longest), shortest - 1, -1):
            found = by_text.get(text[:length])
            if found is not None:
                first[number], whole[number] = found, length == len(text)
                break
    for token in vocabulary.keys() & their_vocabulary.keys():
        number, match = their_vocabulary[token], vocabulary[token]
        if theirs[number] == own[match]:  # of one name and text, or both special
            first[number], whole[number] = match, True
    ends = (
        (teacher.eos_token_id, student.eos_token_id),
        (turn_end_id(teacher), turn_end_id(student)),
    )
    for end, own_end in ends:
        if isinstance(end, int) and isinstance(own_end, int):
            first[end], whole[end] = own_end, True
    return first, whole


def _by_text(texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Id of each text; of several ids with one text, the one that the tokenizer itself writes."""
    known: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        if text is not None:
            known.setdefault(text, []).append(number)
    found = {}
    for text, numbers in known.items():
        if len(numbers) > 1:
            written = tokenizer(f"a{text}", add_special_tokens=False)["input_ids"]
            numbers = [number for number in numbers if number in written] or numbers
        found[text] = numbers[0]
    return found


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[list[int]]) -> list[str]:
    return list(tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False))
