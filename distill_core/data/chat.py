"""A conversation as one model writes it: pieces of text, and which of them are learnt from.

In: a row and a tokenizer with its chat template. Out: `Segment`s in order; the token that ends an
answer, the one that opens a sequence. Knows nothing of token ids in a row, batches or torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from distill_core.data.formats import Message, Row
from distill_core.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PLAIN_TEMPLATE", "Conventions", "Segment", "conventions_of", "segments"]

PLAIN_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
)
"""For models without a chat template: the prompt, a line break, the answer, end of sequence."""

_PROBE: Final = "7Fq2xanswer"


class Segment(NamedTuple):
    """A piece of a conversation's text."""

    text: str
    content: str | None
    """The answer that the piece is made of, as the data has it; None: a prompt, not learnt from."""

    @property
    def supervised(self) -> bool:
        """Whether the piece is learnt from."""
        return self.content is not None


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a tokenizer's model writes a chat."""

    template: Any
    """As `tokenizer.chat_template` was when this was found out."""
    turn_end: str
    """The token that ends an answer; "" when there is none."""
    ends_turns: bool
    """Whether the template itself writes it."""
    bos_id: int | None
    """The token that opens every sequence, None where the tokenizer adds none."""


_known: WeakKeyDictionary[Any, Conventions] = WeakKeyDictionary()


def segments(
    row: Row, tokenizer: PreTrainedTokenizerBase, *, answer_too: bool
) -> Iterator[Segment]:
    """Yield a prompt, its answer, the text up to the next one, and so on.

    Ends where the last answer begins, or with it if it is wanted and there is one.

    Raises:
        DataError: the model's chat template refuses the conversation.
    """
    conventions = conventions_of(tokenizer)
    if row.text is not None:
        yield Segment(row.text + (tokenizer.eos_token or ""), row.text)
        return
    prompt = _render(row.prompt_messages, tokenizer, row.origin, answer_next=True)
    done = ""
    for place, message in enumerate(row.prompt_messages):
        before = row.prompt_messages[:place]
        if message["role"] != "assistant" or all(item["role"] != "user" for item in before):
            continue
        start = _render(before, tokenizer, row.origin, answer_next=True)
        for answer in _answers(start, (*before, message), tokenizer, row.origin, conventions):
            # where the template writes earlier turns differently later on, they stay context
            if start.startswith(done) and prompt.startswith(start + answer):
                yield Segment(start.removeprefix(done), None)
                yield Segment(answer, message["content"])
                done = start + answer
                break
    yield Segment(prompt.removeprefix(done), None)
    if answer_too and row.response is not None:
        messages = (*row.prompt_messages, {"role": "assistant", "content": row.response})
        last = next(_answers(prompt, messages, tokenizer, row.origin, conventions))
        yield Segment(
            last.removesuffix(conventions.turn_end) if row.unfinished else last, row.response
        )


def conventions_of(tokenizer: PreTrainedTokenizerBase) -> Conventions:
    """Find out once how this tokenizer's model opens a sequence and ends an answer."""
    known = _known.get(tokenizer)
    if known is not None and known.template == tokenizer.chat_template:
        return known
    question = {"role": "user", "content": _PROBE[::-1]}
    answer = {"role": "assistant", "content": _PROBE}
    tail = _render([question, answer], tokenizer, "chat template").rpartition(_PROBE)[2]
    tokens = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    ends = sorted((tail.find(token), -len(token), token) for token in tokens if token in tail)
    bos = tokenizer.bos_token_id
    found = Conventions(
        template=tokenizer.chat_template,
        turn_end=ends[0][2] if ends else (tokenizer.eos_token or ""),
        ends_turns=bool(ends),
        bos_id=bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None,
    )
    _known[tokenizer] = found
    return found


def _answers(
    start: str,
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    origin: str,
    conventions: Conventions,
) -> Iterator[str]:
    """Yield ways in which the template may write the last message after `start`, likeliest first.

    Each runs up to and with the token that ends the turn, without what the template puts after it.
    """
    end = conventions.turn_end
    spoken = _render(messages, tokenizer, origin)
    if spoken.startswith(start):
        answer = spoken.removeprefix(start)
        ended = conventions.ends_turns and end in answer
        yield (answer[: answer.rfind(end)] if ended else answer.rstrip()) + end
    yield messages[-1]["content"] + end


def _render(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    origin: str,
    *,
    answer_next: bool = False,
) -> str:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            chat_template=None if tokenizer.chat_template else PLAIN_TEMPLATE,
            tokenize=False,
            add_generation_prompt=answer_next,
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        has_system = any(message["role"] == "system" for message in messages)
        raise DataError(
            f"{origin}: the model's chat template refuses the roles {roles} ({error}). "
            f"{'Leave the system message out' if has_system else 'Change their order'}.",
            field="data.system_prompt" if has_system else "data.columns.messages",
        ) from None
    assert isinstance(text, str), "tokenize=False gives text"
    return text
