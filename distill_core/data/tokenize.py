"""From rows to token ids, with the positions marked that the student learns from.

In: a row, a tokenizer, the longest length. Out: ids and labels; or the ids of a prompt alone. Both
come from the same list of segments, so training and generation see the same ids before an answer.
Knows nothing of batches, shifting or torch; shifting happens once, in `batches`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from distill_core.data.formats import Message, Row
from distill_core.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "PLAIN_TEMPLATE",
    "Encoded",
    "encode",
    "encode_prompt",
    "pad_token_id",
    "stop_token_ids",
]

IGNORE_INDEX: Final = -100
"""The label of a position that is not supervised."""

PLAIN_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
)
"""For models without a chat template: the prompt, a line break, the answer, end of sequence."""

_PROBE: Final = "7Fq2xanswer"
_PROMPT_SHARE: Final = 4
"""A prompt may be cut to this fraction (1/4) of the longest length, not further."""


@dataclass(slots=True)
class Encoded:
    """Token ids of one row and their labels, both (T,)."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where it is supervised, else `IGNORE_INDEX`; not shifted."""
    labelled: bool
    """Whether the answer comes from the data; False: from the teacher, or not there."""
    truncated: bool

    @property
    def supervised_tokens(self) -> int:
        """Number of tokens that are predicted and learnt from."""
        return sum(label != IGNORE_INDEX for label in self.labels)


@dataclass(frozen=True, slots=True)
class _Conventions:
    """How a tokenizer's model writes a chat."""

    template: Any
    """As `tokenizer.chat_template` was when this was found out."""
    turn_end: str
    """The token that ends an answer; "" when there is none."""
    ends_turns: bool
    """Whether the template itself writes it."""
    bos_id: int | None
    """The token that opens every sequence, None where the tokenizer adds none."""


_known: WeakKeyDictionary[Any, _Conventions] = WeakKeyDictionary()


def encode(row: Row, tokenizer: PreTrainedTokenizerBase, max_seq_len: int) -> Encoded:
    """Token ids and labels, both (T,) with T ≤ `max_seq_len`, of one row.

    Every answer of a chat is supervised up to and with the token that ends it; a plain text is
    supervised whole, its end included. The first token never is: nothing predicts it. A row that is
    too long loses the head of its prompt first (its BOS stays), at most down to a quarter of
    `max_seq_len`; then the end of the answer goes, end token included, so that nobody learns to
    stop there. A plain text loses its end.

    Raises:
        DataError: the model's chat template refuses the conversation.
    """
    ids, supervised, answer_start = _joined(row, tokenizer)
    labels = [token if on else IGNORE_INDEX for token, on in zip(ids, supervised, strict=True)]
    truncated = len(ids) > max_seq_len
    if truncated:
        keep = _kept(len(ids), answer_start, max_seq_len, bos=ids[0] == tokenizer.bos_token_id)
        ids, labels = [ids[i] for i in keep], [labels[i] for i in keep]
    labels[:1] = [IGNORE_INDEX] * len(labels[:1])
    return Encoded(ids, labels, row.labelled, truncated)


def encode_prompt(
    row: Row | Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int | None = None,
) -> list[int]:
    """Token ids (T,) of all that stands before the last answer: what generation continues.

    The same ids that `encode` puts before the answer. More than `max_tokens` lose their head, as
    there; the BOS stays.

    Raises:
        DataError: the model's chat template refuses the conversation.
    """
    if not isinstance(row, Row):
        row = Row(tuple(row), None, "prompt")
    assert row.messages, "a plain text asks nothing"
    ids, _, end = _joined(row, tokenizer, answer=False)
    if max_tokens is None or len(ids) <= max_tokens:
        return ids
    bos = ids[0] == tokenizer.bos_token_id
    return [ids[place] for place in _kept(len(ids), end, max_tokens, bos=bos)]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids at which an answer ends: end of sequence, and the template's end of turn."""
    end = _conventions(tokenizer).turn_end
    ids = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end) if end else None}
    return {token for token in ids if isinstance(token, int)}


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id to pad with: the tokenizer's own, else its end of sequence, else 0; masked anyway."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in ids if isinstance(token, int))


# --- segments: text, and whether it is learnt from ------------------------------------------


def _segments(
    row: Row,
    tokenizer: PreTrainedTokenizerBase,
    conventions: _Conventions,
    *,
    answer_too: bool,
) -> Iterator[tuple[str, bool]]:
    """Yield (text, supervised): a prompt, its answer, the text up to the next one.

    Ends where the last answer begins, or with it if it is wanted and there is one.
    """
    if row.text is not None:
        yield row.text + (tokenizer.eos_token or ""), True
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
                yield start.removeprefix(done), False
                yield answer, True
                done = start + answer
                break
    yield prompt.removeprefix(done), False
    if answer_too and row.response is not None:
        messages = (*row.prompt_messages, {"role": "assistant", "content": row.response})
        yield next(_answers(prompt, messages, tokenizer, row.origin, conventions)), True


def _answers(
    start: str,
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    origin: str,
    conventions: _Conventions,
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


def _joined(
    row: Row, tokenizer: PreTrainedTokenizerBase, *, answer: bool = True
) -> tuple[list[int], list[bool], int]:
    """Return ids (T,), supervised (T,) and where the last answer starts.

    A segment never changes the ids before it: where tokenising it together with the text before
    would merge across the border, it is tokenised by itself.
    """
    conventions = _conventions(tokenizer)
    text, start = "", 0
    ids: list[int] = []
    supervised: list[bool] = []
    for segment, on in _segments(row, tokenizer, conventions, answer_too=answer):
        whole = _ids(text + segment, tokenizer, conventions)
        new = whole[len(ids) :] if whole[: len(ids)] == ids else _ids(segment, tokenizer)
        text, start = text + segment, len(ids)
        ids, supervised = ids + new, supervised + [on] * len(new)
    if not supervised or not supervised[-1]:
        start = len(ids)
    elif start == 0 and ids[0] == conventions.bos_id:
        start, supervised[0] = 1, False
    return ids, supervised, start


def _ids(
    text: str, tokenizer: PreTrainedTokenizerBase, opening: _Conventions | None = None
) -> list[int]:
    """Token ids of a text; at the opening of a sequence, with exactly one BOS if it has any."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    bos = opening.bos_id if opening else None
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def _kept(length: int, start: int, max_seq_len: int, *, bos: bool) -> list[int]:
    """Return which positions of a row stay: prompt [0, start), answer [start, length)."""
    answer = min(length - start, max_seq_len - min(start, max_seq_len // _PROMPT_SHARE))
    prompt = min(start, max_seq_len - answer)
    keep = list(range(start - prompt, start + answer))
    if bos and prompt:
        keep[0] = 0
    return keep


def _conventions(tokenizer: PreTrainedTokenizerBase) -> _Conventions:
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
    found = _Conventions(
        template=tokenizer.chat_template,
        turn_end=ends[0][2] if ends else (tokenizer.eos_token or ""),
        ends_turns=bool(ends),
        bos_id=bos if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else None,
    )
    _known[tokenizer] = found
    return found
