"""The rows of a recipe: where they come from, which are held out, how long they may be.

In: answers, and how many tokens the models can read. Out: the recipe's `data`, and room for its
answers. Reads no row; what was seen of them stands in the answers.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from distill_core.advisor.answers import Answers
from distill_core.advisor.evidence import RecipeStart
from distill_core.advisor.observed import STARTER

_TOKEN_STEP = 64
_ANSWER_STEP = 32
_STARTER_TOKENS = 128


def data(
    answers: Answers, start: RecipeStart, *, text_only: bool, most: float | None
) -> dict[str, Any]:
    """Sources and held-out rows; the starter's where none are named.

    `text_only`: the teacher's answers will come as rows, so unlabelled ones are of no use.
    """
    rows, aside = answers.data.source or STARTER, answers.data.held_out_source
    if rows == STARTER:
        splits = ["labelled"] if text_only else ["labelled", "unlabelled"]
        return {
            "sources": [{"kind": "starter", "split": split} for split in splits],
            "held_out": {"kind": "starter", "split": "held_out"},
            "max_seq_len": _STARTER_TOKENS,
        }
    return {
        "sources": [_source(rows)],
        "held_out": _source(aside) if aside else _share(answers, start),
        "max_seq_len": longest_row(answers, start, most),
    }


def longest_row(answers: Answers, start: RecipeStart, most: float | None) -> int:
    """As long as the longest row, with room for marks; no longer than the models can read."""
    longest = answers.data.longest_tokens
    length = start.row_tokens
    if longest:
        length = int(-(-(longest + _TOKEN_STEP / 2) // _TOKEN_STEP) * _TOKEN_STEP)
    return int(min(length, most)) if most else length


def answer_room(answers: Answers, start: RecipeStart, most: float | None) -> int | None:
    """Tokens for the longest answer that was seen; None where the default does."""
    longest = answers.data.answer_tokens
    if not longest or longest < start.answer_tokens:
        return None
    room = min(
        longest_row(answers, start, most) // 2, int(-(-longest // _ANSWER_STEP) * _ANSWER_STEP)
    )
    return max(start.answer_tokens, room)


def _share(answers: Answers, start: RecipeStart) -> float:
    """So many of the labelled rows that they are enough to start with, within limits."""
    least, most = start.held_out_share
    labelled = answers.data.labelled_rows
    return round(min(most, max(least, start.held_out_rows / labelled)), 3) if labelled else least


def _source(name: str) -> dict[str, Any]:
    """A file, or a data set on the hub: `owner/name` with nothing that looks like a file's end."""
    is_file = "." in PurePath(name).name or name.count("/") != 1
    return {"kind": "file", "path": name} if is_file else {"kind": "hub", "id": name}
