"""What a row is, whatever shape it had in its file.

In: one record (a mapping of columns) and the settings that say which column holds what.
Out: a `Row`, a chat or a plain text. Knows nothing of files, tokens or torch.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from distill_core.data.columns import is_list, is_missing, parts_of
from distill_core.errors import DataError
from distill_core.recipe import ColumnSettings, DataSettings

__all__ = ["Message", "Row", "content_key", "empty_cell", "text_of", "to_row"]

Message = dict[str, str]

_ROLES: Final = {
    **{"system": "system", "developer": "system"},
    **{"user": "user", "human": "user", "prompter": "user"},
    **{"assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant"},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a chat in `messages`, or a plain `text`; the other one is None."""

    messages: tuple[Message, ...] | None
    text: str | None
    origin: str
    """Where it came from: `rows.jsonl:12`, `starter/labelled:3`."""
    answered_by_teacher: bool = False
    unfinished: bool = False  # the answer was cut: nobody learns to stop there

    @property
    def _ends_in_answer(self) -> bool:
        return bool(self.messages) and self.messages[-1]["role"] == "assistant"  # type: ignore[index]

    @property
    def labelled(self) -> bool:
        """Whether the data itself says what to answer; a teacher's answer is no label."""
        return self.text is not None or (self._ends_in_answer and not self.answered_by_teacher)

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        """All messages before the last answer; all messages when there is none yet."""
        messages = self.messages or ()
        return messages[:-1] if self._ends_in_answer else messages

    @property
    def response(self) -> str | None:
        """The last answer, or None."""
        return self.messages[-1]["content"] if self.messages and self._ends_in_answer else None

    @property
    def prompt_text(self) -> str:
        """The last thing the user said, or the plain text: for display."""
        asked = (item["content"] for item in self.prompt_messages[::-1] if item["role"] == "user")
        return next(asked, self.text or "")

    @property
    def content_hash(self) -> str:
        """SHA-256 in hexadecimal of what is asked (or the text), whatever the answer is.

        Case, Unicode form and white space do not matter: such twins are the same prompt.
        """
        return content_key(self.prompt_messages if self.text is None else self.text)

    def answered(self, response: str, *, unfinished: bool = False) -> Row:
        """Return the row with the teacher's answer in the place of its own, if it had one."""
        assert self.text is None, "a plain text asks nothing"
        messages = (*self.prompt_messages, {"role": "assistant", "content": response})
        return replace(self, messages=messages, answered_by_teacher=True, unfinished=unfinished)


def content_key(content: str | Sequence[Message]) -> str:
    """SHA-256 in hexadecimal of messages or text, normalised (NFKC, case folded, single spaces)."""
    if isinstance(content, str):
        parts = ["text", _normalised(content)]
    else:
        parts = [part for item in content for part in (item["role"], _normalised(item["content"]))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _normalised(text: str) -> str:
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


# --- one record -----------------------------------------------------------------------------


def to_row(
    record: Mapping[str, Any], columns: ColumnSettings, data: DataSettings, origin: str
) -> Row:
    """Make a row of one record.

    Raises:
        DataError: the prompt, text or chat is empty or of the wrong type; names file, line, column.
    """
    if columns.messages:
        return _chat_row(record.get(columns.messages), columns.messages, data, origin)
    if columns.text:
        text = text_of(record.get(columns.text), columns.text, origin, "data.columns.text")
        if not text.strip():
            raise empty_cell(columns.text, origin, "data.columns.text")
        return Row(messages=None, text=text, origin=origin)
    assert columns.prompt, "columns are settled before rows are read"
    field = "data.columns.prompt"
    parts = [
        text_of(record.get(name), name, origin, field) for name in parts_of(columns.prompt, record)
    ]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt.strip():
        raise empty_cell(columns.prompt, origin, field)
    messages = [{"role": "user", "content": prompt}]
    if columns.response:
        answer = record.get(columns.response)
        response = text_of(answer, columns.response, origin, "data.columns.response")
        if response.strip():
            messages.append({"role": "assistant", "content": response})
    return Row(messages=_framed(messages, data), text=None, origin=origin)


def _chat_row(value: Any, column: str, data: DataSettings, origin: str) -> Row:
    """Make a row of a chat in OpenAI's form (role, content) or ShareGPT's (from, value)."""
    field = "data.columns.messages"
    if isinstance(value, str) and value.lstrip().startswith("["):  # a chat in a CSV cell
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{origin}: column {column!r} starts like a list of messages but is not JSON "
                f"({error.msg}). Write it as JSON.",
                field=field,
            ) from None
    if is_missing(value):
        raise empty_cell(column, origin, field)
    if not is_list(value):
        raise DataError(
            f"{origin}: column {column!r} holds {_seen(value)}, not a list of messages. "
            'Write [{"role": "user", "content": "…"}, …].',
            field=field,
        )
    messages = [_message(item, place, column, origin) for place, item in enumerate(value, 1)]
    if messages and messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages.pop()  # an answer still to be given
    if not any(message["role"] == "user" and message["content"].strip() for message in messages):
        raise DataError(
            f"{origin}: the chat in column {column!r} has no user message with text, so there is "
            "nothing to answer. Add one or remove the row.",
            field=field,
        )
    return Row(messages=_framed(messages, data), text=None, origin=origin)


def _message(item: Any, place: int, column: str, origin: str) -> Message:
    field = "data.columns.messages"
    if not isinstance(item, Mapping):
        raise DataError(
            f"{origin}: message {place} in column {column!r} is {_seen(item)}, not a mapping. "
            'Write {"role": "user", "content": "…"}.',
            field=field,
        )
    role = item.get("role", item.get("from"))
    known = _ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise DataError(
            f"{origin}: message {place} in column {column!r} has the role {role!r}. "
            "Use system, user (human) or assistant (gpt).",
            field=field,
        )
    content = item["content"] if "content" in item else item.get("value")
    return {"role": known, "content": text_of(content, column, origin, field)}


def _framed(messages: list[Message], data: DataSettings) -> tuple[Message, ...]:
    """Put the recipe's template around every prompt, and its system prompt before a chat."""
    if data.prompt_template is not None:
        messages = [
            {**message, "content": data.prompt_template.replace("{prompt}", message["content"])}
            if message["role"] == "user"
            else message
            for message in messages
        ]
    if data.system_prompt and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": data.system_prompt}, *messages]
    return tuple(messages)


# --- values ---------------------------------------------------------------------------------


def text_of(value: Any, column: str, origin: str, field: str) -> str:
    """Return a value as text, "" when it is missing; refuses lists and mappings."""
    if is_missing(value):
        return ""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise DataError(
                f"{origin}: column {column!r} holds half a character (a lone surrogate), which no "
                "tokenizer can read. Write the text again as UTF-8.",
                field=field,
            )
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes) or is_list(value) or isinstance(value, Mapping):
        raise DataError(
            f"{origin}: column {column!r} holds {_seen(value)}, not text. "
            "Name a column of texts in data.columns.",
            field=field,
        )
    return str(value)


def _seen(value: Any) -> str:
    kind = "a list" if is_list(value) else "a mapping" if isinstance(value, Mapping) else "a value"
    text = repr(value)
    return f"{kind} ({text if len(text) <= 40 else text[:39] + '…'})"


def empty_cell(column: str, origin: str, field: str) -> DataError:
    """The error for a row without the text that it is about."""
    return DataError(
        f"{origin}: column {column!r} is empty, so there is nothing to learn from. "
        "Fill it in or remove the row.",
        field=field,
    )
