"""What one model of a pair brings along.

In: a model's name and its configuration. Out: a `Side`: sizes, tokens, template, licence. Reads the
tokenizer's files, no weights; from the hub it takes those files alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import models
from distill_core.errors import ModelError
from distill_core.models import model_facts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Side:
    """One model; what is not known yet is None."""

    name: str
    architecture: str | None = None
    layers: int | None = None
    hidden_size: int | None = None
    context: int | None = None
    """Longest text in tokens."""
    rows: int | None = None
    """Of its embedding."""
    tokens: int | None = None
    """Ids that its tokenizer has."""
    bos: str | None = None
    eos: str | None = None
    pad: str | None = None
    turn_end: str | None = None
    """The token that ends an answer."""
    template: str | None = None
    """Its chat template; None: it has none of its own."""
    licence: str | None = None
    trimmed: bool = False
    """Whether it has only those of its tokens that the training rows use."""
    tokenizer: Any = field(default=None, repr=False, compare=False)

    @property
    def kept_words(self) -> str:
        """How many tokens are left of a vocabulary that is trimmed."""
        if self.rows is None or self.tokens is None or self.rows >= self.tokens:
            return "the tokens that the training rows use"
        return f"{self.rows:,} of {self.tokens:,} tokens"

    @property
    def padded(self) -> int:
        """Rows of the embedding that stand for no token."""
        if self.trimmed:
            return 0
        return self.rows - self.tokens if self.rows and self.tokens else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: value for name, value in vars(self).items() if name != "tokenizer"}


def side(name: str, config: Any, *, trimmed: bool = False) -> Side:
    """Look at a model by its name and configuration; `tokens` are those before it is trimmed."""
    from distill_core.data.tokenize import turn_end_id

    known = Side(
        name=name,
        architecture=(getattr(config, "architectures", None) or [type(config).__name__])[0],
        layers=getattr(config, "num_hidden_layers", None),
        hidden_size=getattr(config, "hidden_size", None),
        context=getattr(config, "max_position_embeddings", None),
        rows=getattr(config, "vocab_size", None),
        licence=_licence(name),
        trimmed=trimmed,
    )
    tokenizer = tokenizer_of(name)
    if tokenizer is None:
        return known
    end = turn_end_id(tokenizer)
    return replace(
        known,
        tokens=_id_count(tokenizer),
        bos=tokenizer.bos_token,
        eos=tokenizer.eos_token,
        pad=tokenizer.pad_token,
        turn_end=None if end is None else str(tokenizer.convert_ids_to_tokens(end)),
        template=str(tokenizer.chat_template) if tokenizer.chat_template else None,
        tokenizer=tokenizer,
    )


def tokenizer_of(name: str) -> PreTrainedTokenizerBase | None:
    """A model's tokenizer, remembered; None where its files cannot be had now."""
    try:
        folder = models.tokenizer_folder(name)
        return _loaded(folder, (folder / "config.json").stat().st_mtime_ns)
    except (ModelError, OSError):
        return None  # told when the model is loaded


@functools.lru_cache(maxsize=8)
def _loaded(folder: Path, stamp: int) -> PreTrainedTokenizerBase:
    return models.load_tokenizer(folder)


@functools.lru_cache(maxsize=8)
def _id_count(tokenizer: Any) -> int:
    from distill_core.data.vocabularies import id_count

    return id_count(tokenizer.get_vocab())


def _licence(name: str) -> str | None:
    try:
        return str(model_facts.facts(name)["license"])
    except ModelError:
        return None
