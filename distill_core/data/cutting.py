"""Which tokens stay of a row that is longer than it may be.

In: how long a row is, where its last answer starts, how many tokens may stay. Out: their positions.
Knows nothing of texts and tokenizers.
"""

from __future__ import annotations

from typing import Final

__all__ = ["kept_positions"]

_PROMPT_SHARE: Final = 4
"""A prompt may be cut to this fraction (1/4) of the longest length, not further."""


def kept_positions(length: int, start: int, max_seq_len: int, *, bos: bool) -> list[int]:
    """Return which positions of a row stay: prompt [0, start), answer [start, length)."""
    answer = min(length - start, max_seq_len - min(start, max_seq_len // _PROMPT_SHARE))
    prompt = min(start, max_seq_len - answer)
    keep = list(range(start - prompt, start + answer))
    if bos and prompt:
        keep[0] = 0
    return keep
