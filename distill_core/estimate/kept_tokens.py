"""How many tokens are left of a vocabulary that is trimmed, before anything is loaded.

In: a recipe's data, a model's name, how many tokens more are wanted. Out: a count, remembered until
the data changes; None where rows or tokenizer are not on this disk yet. Reads no weights. What the
teacher will answer is not known yet, so that unlabelled rows may add a few tokens.
"""

from __future__ import annotations

import functools
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import models
from distill_core.errors import ModelError
from distill_core.estimate.row_facts import data_stamp, training_rows
from distill_core.recipe import DataSettings, VocabTrim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distill_core.data.formats import Row

_SAMPLE = 64
"""Rows that are written out whole, template included; of all others the texts are enough."""

_TEXTS_AT_ONCE = 2000


def kept_token_count(
    data: DataSettings,
    model: str,
    trim: VocabTrim,
    *,
    task: str = "causal_lm",
    field: str = "vocab_trim",
) -> int | None:
    """Tokens that stay of `model`'s vocabulary.

    Raises:
        ModelError: at `field`, if the tokenizer is of a kind that cannot be trimmed.
    """
    try:
        folder = models.local_folder(model) if model else None
    except ModelError:
        return None  # told where the model is named
    if folder is None:
        return None
    try:
        return _count(data.model_dump_json(), task, data_stamp(data), folder, trim.extra_tokens)
    except ModelError as error:
        raise ModelError(str(error), field=field) from None


@functools.lru_cache(maxsize=64)
def _count(
    data: str, task: str, stamp: tuple[Any, ...], folder: Path, extra_tokens: int
) -> int | None:
    from distill_core.students.trimmed_tokenizer import kept_tokens
    from distill_core.students.vocabulary import special_ids

    found = _used(data, task, stamp, folder)
    if found is None:
        return None
    tokenizer, used = found
    also = special_ids(folder)
    return len(kept_tokens(tokenizer, used, extra_tokens=extra_tokens, also=also))


@functools.lru_cache(maxsize=8)
def _used(
    data: str, task: str, stamp: tuple[Any, ...], folder: Path
) -> tuple[Any, frozenset[int]] | None:
    """The tokenizer, and the ids that the training rows use; None while the rows are unknown."""
    from distill_core.data.classes import TextRow, encode_text
    from distill_core.data.tokenize import encode

    settings = DataSettings.model_validate_json(data)
    rows = training_rows(settings, task)
    if not rows:
        return None
    tokenizer: Any = models.load_tokenizer(folder)
    used: set[int] = set()
    for row in rows[:: max(1, len(rows) // _SAMPLE)]:
        if isinstance(row, TextRow):
            own_class = [row.label] if row.label is not None else []
            used.update(encode_text(row, tokenizer, settings.max_seq_len, own_class).input_ids)
        else:
            used.update(encode(row, tokenizer, settings.max_seq_len).input_ids)
    texts = (text for row in rows for text in _texts(row))
    while some := list(dict.fromkeys(islice(texts, _TEXTS_AT_ONCE))):
        for ids in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
            used.update(ids)
    return tokenizer, frozenset(used)


def _texts(row: Row) -> Sequence[str]:
    if row.text is not None:
        return [text for text in (row.text, getattr(row, "text_pair", None)) if text is not None]
    return [message["content"] for message in row.messages or ()]
