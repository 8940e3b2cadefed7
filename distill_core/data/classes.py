"""Rows of text classification: a text, perhaps a second one, and the class that they are.

In: one record and the columns to read; later the classes of a run and a tokenizer. Out: a `TextRow`
and its token ids with the class's number. Knows nothing of files, batches or torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_core.data.formats import Row, content_key, empty_cell, text_of
from distill_core.errors import DataError
from distill_core.models import Labels
from distill_core.models.classifiers import head_spelled_as, in_head_order
from distill_core.recipe import ColumnSettings, DataSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "EncodedText",
    "TextRow",
    "class_counts",
    "encode_text",
    "named_classes",
    "settle_classes",
    "to_text_row",
]


@dataclass(frozen=True, slots=True)
class TextRow(Row):
    """One text (or pair of texts) with its class; `label` is None where the data says none."""

    text_pair: str | None = None
    label: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether the data itself says the class."""
        return self.label is not None

    @property
    def response(self) -> str | None:
        """The class: what a model has to say."""
        return self.label

    @property
    def prompt_text(self) -> str:
        """Both texts, an empty line between them, for display."""
        return "\n\n".join(part for part in (self.text, self.text_pair) if part)

    @property
    def content_hash(self) -> str:
        """SHA-256 in hexadecimal of what is read, whatever the class is."""
        parts = [self.text or "", *([self.text_pair] if self.text_pair is not None else [])]
        return content_key([{"role": "text", "content": part} for part in parts])


def to_text_row(record: Mapping[str, Any], columns: ColumnSettings, origin: str) -> TextRow:
    """Make a row of one record; whole numbers as labels become their digits.

    Raises:
        DataError: the text is empty or of the wrong type; names file, line and column.
    """
    assert columns.text, "columns are settled before rows are read"
    text = text_of(record.get(columns.text), columns.text, origin, "data.columns.text")
    pair = None
    if columns.text_pair:
        cell = record.get(columns.text_pair)
        pair = text_of(cell, columns.text_pair, origin, "data.columns.text_pair")
    if not text.strip() and not (pair or "").strip():
        raise empty_cell(columns.text, origin, "data.columns.text")
    label = None
    if columns.label:
        value = record.get(columns.label)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # whole numbers in a column with gaps are read as 1.0
        label = text_of(value, columns.label, origin, "data.columns.label").strip() or None
    return TextRow(messages=None, text=text, origin=origin, text_pair=pair, label=label)


# --- classes --------------------------------------------------------------------------------


def named_classes(data: DataSettings) -> tuple[str, ...]:
    """The classes that the recipe names, in its order; () where it names none.

    Raises:
        DataError: one is empty or named twice, or there is only one.
    """
    if not data.classes:
        return ()
    names = tuple(name.strip() for name in data.classes.split(","))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not all(names) or twice or len(names) < 2:
        what = f"names {twice[0]!r} twice" if twice else "has an empty name"
        what = what if len(names) > 1 else "names one class, which leaves nothing to decide"
        raise DataError(
            f"classes {data.classes!r} {what}.\nWrite each class once, such as negative, positive.",
            field="data.classes",
        )
    return names


def class_counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows each class has; numbers in their order, names in the alphabet's."""
    counts = Counter(row.label for row in rows if isinstance(row, TextRow) and row.labelled)
    labels = [label for label in counts if label is not None]
    numeric = all(label.isdecimal() for label in labels)
    order = sorted(labels, key=lambda label: (int(label) if numeric else 0, label))
    return {label: counts[label] for label in order}


def settle_classes(
    data: DataSettings,
    counts: Mapping[str, int],
    held_out: Mapping[str, int],
    config: PretrainedConfig | None,
) -> Labels:
    """The classes of a run in the order of its logits.

    They are those that the recipe names, else the labels of the training rows (`counts`), in the
    order in which the head that `config` describes knows them; without any label, what that head
    knows. `held_out` must bring no other.

    Raises:
        DataError: there are fewer than two, or held-out rows have one that nothing could learn.
    """
    named = named_classes(data)
    found = named or tuple(counts)
    if not found and config is not None:
        found = head_spelled_as(list(held_out), config)
    if len(found) < 2:
        seen = f"only the class {found[0]!r}" if found else "no label"
        raise DataError(
            f"The training rows have {seen}, and classes can be told apart from two on.\n"
            "Add rows of other classes, name the label column, or name the classes in "
            "data.classes.",
            field="data.columns.label" if not found else "data.classes",
        )
    for where, labels in (("training", counts), ("held-out", held_out)):
        if strange := [label for label in labels if label not in found]:
            raise DataError(
                f"{labels[strange[0]]:,} {where} rows have the label {strange[0]!r}, which is none "
                f"of the {len(found)} classes {', '.join(found[:6])}.\n"
                "Correct the labels, or name all classes in data.classes.",
                field="data.classes",
            )
    return (in_head_order(found, config) if config is not None else None) or found


# --- tokens ---------------------------------------------------------------------------------


@dataclass(slots=True)
class EncodedText:
    """Token ids (T,) of one row, and the number of its class."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    """0 on the first text, 1 on the second; None where the tokenizer has no such thing."""
    class_id: int
    """0 where the row has no class; `labelled` tells."""
    labelled: bool
    truncated: bool

    @property
    def supervised_tokens(self) -> int:
        """Predictions of the row that are learnt from: one, or none where nothing is left."""
        return int(bool(self.input_ids))


def encode_text(
    row: Row, tokenizer: PreTrainedTokenizerBase, max_seq_len: int, classes: Sequence[str]
) -> EncodedText:
    """Token ids (T,), T ≤ `max_seq_len`, with the special tokens that the model was trained with.

    A row that is too long loses tokens at the end of its longer text.

    Raises:
        DataError: the row's class is none of `classes`.
    """
    assert isinstance(row, TextRow), "rows of this task are texts"
    if row.labelled and row.label not in classes:
        raise DataError(
            f"{row.origin}: {row.label!r} is none of the classes {', '.join(classes)}.\n"
            "Correct the label, or name every class in data.classes.",
            field="data.classes",
        )
    texts = [row.text or ""] if row.text_pair is None else [row.text or "", row.text_pair]
    found: Any = tokenizer(*texts, verbose=False)
    truncated = len(found["input_ids"]) > max_seq_len
    if truncated:
        found = tokenizer(*texts, truncation="longest_first", max_length=max_seq_len, verbose=False)
    return EncodedText(
        input_ids=list(found["input_ids"]),
        token_type_ids=list(found["token_type_ids"]) if "token_type_ids" in found else None,
        class_id=list(classes).index(row.label) if row.label is not None else 0,
        labelled=row.labelled,
        truncated=truncated,
    )
