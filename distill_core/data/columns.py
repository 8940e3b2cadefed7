"""Which column of a source holds what, guessed from well-known names where nobody says.

In: the recipe's columns, the names of a source's columns and its first records. Out: the columns
to read, and whether any was guessed. Makes no rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings

if TYPE_CHECKING:
    from distill_core.data.files import Records

__all__ = [
    "JOIN",
    "columns_read",
    "guess_columns",
    "guess_text_columns",
    "is_list",
    "is_missing",
    "parts_of",
    "settle_columns",
    "settle_text_columns",
]

JOIN: Final = " + "
"""Joins two columns into one prompt, as in `instruction + input`."""

_PROMPT_NAMES: Final = ("prompt", "question", "instruction", "query", "input", "sentence", "text")
_RESPONSE_NAMES: Final = (
    *("response", "answer", "output", "completion", "solution", "target", "label", "labels"),
)
_TEXT_NAMES: Final = ("text", "content", "document", "sentence")
_MESSAGE_NAMES: Final = ("messages", "conversations", "conversation", "chat", "dialogue")

_PAIR_NAMES: Final = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
)
_TOLD_APART_NAMES: Final = (
    *("text", "sentence", "content", "review", "document", "prompt", "question", "input", "title"),
)
_LABEL_NAMES: Final = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "topic"),
    *("response", "answer", "output"),
)


def guess_columns(names: Sequence[str], first_rows: Sequence[Mapping[str, Any]]) -> ColumnSettings:
    """Guess which column is what from well-known names; all four are None when nothing fits.

    A `text` beside a `label` is a prompt with its answer, a `text` alone is learnt from whole;
    `instruction` takes a filled `input` column with it.
    """
    by_name = {name.strip().lower(): name for name in reversed(names)}

    def first(candidates: Iterable[str], *, but: str | None = None) -> str | None:
        found = (by_name[name] for name in candidates if name in by_name)
        return next((name for name in found if name != but), None)

    chat = first(_MESSAGE_NAMES)
    if chat and any(_looks_like_chat(row.get(chat)) for row in first_rows):
        return ColumnSettings(messages=chat)
    prompt = first(_PROMPT_NAMES)
    response = first(_RESPONSE_NAMES, but=prompt)
    text = first(_TEXT_NAMES)
    if text and not response and prompt in (None, text):
        return ColumnSettings(text=text)
    if prompt and prompt.strip().lower() == "instruction" and "input" in by_name:
        context = by_name["input"]
        if any(not is_missing(row.get(context)) for row in first_rows):
            prompt = f"{prompt}{JOIN}{context}"
    return ColumnSettings(prompt=prompt, response=response if prompt else None)


def columns_read(columns: ColumnSettings, names: Iterable[str]) -> list[str]:
    """Return the names of the columns that the settings read, joined ones one by one."""
    present = set(names)
    used = [columns.messages, columns.text, columns.prompt, columns.response]
    used += [columns.text_pair, columns.label]
    return [part for name in used if name for part in parts_of(name, present)]


def parts_of(name: str, present: Iterable[str]) -> list[str]:
    """Take a name apart that joins two columns, unless one column is called just that."""
    return [name] if name in present else name.split(JOIN)


def guess_text_columns(names: Sequence[str]) -> ColumnSettings:
    """Guess the columns of text, second text and class from well-known names."""
    by_name = {name.strip().lower(): name for name in reversed(names)}
    label = next((by_name[name] for name in _LABEL_NAMES if name in by_name), None)
    for first, second in _PAIR_NAMES:
        if first in by_name and second in by_name:
            return ColumnSettings(text=by_name[first], text_pair=by_name[second], label=label)
    texts = (by_name[name] for name in _TOLD_APART_NAMES if name in by_name)
    return ColumnSettings(text=next((name for name in texts if name != label), None), label=label)


def settle_text_columns(
    wanted: ColumnSettings, found: Records, title: str
) -> tuple[ColumnSettings, bool]:
    """Return the columns of text, second text and class, and whether any of them was guessed."""
    names = found.names
    there = _listed(names)
    for kind in ("prompt", "response", "messages"):
        if getattr(wanted, kind):
            raise DataError(
                f"text_classification reads a text and its label, not a {kind}. {there}\n"
                "Name the columns as `text` and `label`, and leave this one empty.",
                field=f"data.columns.{kind}",
            )
    guess = guess_text_columns(names)
    text = wanted.text or guess.text
    if text is None:
        raise DataError(
            f"{title}: no column has a name that says text. {there}\nName one in data.columns.",
            field="data.columns.text",
            columns=names,
        )
    # a second text is read unasked only where both were found together
    pair = wanted.text_pair or (guess.text_pair if text == guess.text else None)
    label: str | None = wanted.label or (guess.label if guess.label not in (text, pair) else None)
    for kind, named in (("text", text), ("text_pair", pair)):
        if named is not None and named not in names:
            raise _no_column(named, kind, names, title)
    if label not in names:
        if wanted.label and guess.label:
            raise _no_column(wanted.label, "label", names, title)
        label = None  # texts alone, perhaps beside another source with labels
    columns = ColumnSettings(text=text, text_pair=pair, label=label)
    found_by_name = {kind for kind, name in columns if name and getattr(wanted, kind) is None}
    return columns, bool(found_by_name)


def settle_columns(
    wanted: ColumnSettings, found: Records, title: str
) -> tuple[ColumnSettings, bool]:
    """Return the columns to read and whether any of them was guessed."""
    names = found.names
    for other in ("label", "text_pair"):
        if getattr(wanted, other):
            raise DataError(
                f"The column {other} is for the task text_classification; this recipe writes text."
                "\nName `prompt` and `response` instead, or set task to text_classification.",
                field=f"data.columns.{other}",
            )
    guess = guess_columns(names, [record for _, record in found.records[:100]])
    there = _listed(names)
    kinds = [kind for kind in ("messages", "text", "prompt") if getattr(wanted, kind)]
    kind = kinds[0] if kinds else next((kind for kind, _ in guess if getattr(guess, kind)), None)
    if kind is None:
        raise DataError(
            f"{title}: no column has a name that says prompt, text or messages. {there}\n"
            "Name one in data.columns.",
            field="data.columns.prompt",
            columns=names,
        )
    if not kinds and kind == "text" and wanted.response:
        guess, kind = ColumnSettings(prompt=guess.text), "prompt"
    if len(kinds) > 1 or (wanted.response and kind != "prompt"):
        raise DataError(
            f"{title}: the columns name {' and '.join(kinds or [kind, 'response'])}, but a row has "
            "one form. Name `messages` alone, `text` alone, or `prompt` with `response`.",
            field=f"data.columns.{kinds[-1] if len(kinds) > 1 else 'response'}",
        )
    main = getattr(wanted if kinds else guess, kind)
    columns = ColumnSettings.model_validate({kind: main})
    if missing := [name for name in columns_read(columns, names) if name not in names]:
        raise _no_column(missing[0], kind, names, title)
    if kind != "prompt":
        return columns, not kinds
    response = wanted.response or guess.response
    if response not in names or response in columns_read(columns, names):
        if wanted.response and guess.response and wanted.response not in names:
            raise _no_column(wanted.response, "response", names, title)
        response = None  # prompts alone, perhaps beside another source with answers
    guessed = not kinds or (wanted.response is None and response is not None)
    return ColumnSettings(prompt=main, response=response), guessed


def _listed(names: Sequence[str]) -> str:
    return f"Its columns: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}."


def _no_column(name: str, kind: str, names: Sequence[str], title: str) -> DataError:
    return DataError(
        f"{title} has no column {name!r}. {_listed(names)}",
        field=f"data.columns.{kind}",
        columns=names,
    )


# --- cells ----------------------------------------------------------------------------------


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def is_list(value: Any) -> bool:
    """Whether a cell holds a list; text is none."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _looks_like_chat(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[")
    return is_list(value) and len(value) > 0 and isinstance(value[0], Mapping)
