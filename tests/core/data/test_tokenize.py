"""Templates, special tokens, supervised positions and what is cut.

The expected ids are put together here, piece by piece, from text written by hand.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from distill_core.data.formats import Row
from distill_core.data.tokenize import (
    IGNORE_INDEX,
    Encoded,
    encode,
    encode_prompt,
    stop_token_ids,
)
from distill_core.errors import DataError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n"
    "{{ m['content'] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
WORDS_ONLY = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS_THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['content'] }}<eos>{% endfor %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
CORPUS = ["user assistant system turn the light on off please \n\n what is it : ok", "so good\n\n"]

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def make() -> MakeTokenizer:
    """Make a small byte-level tokenizer, like GPT-2's or Llama-3's."""

    def make_one(
        template: str | None, *, adds_bos: bool = False, metaspace: bool = False, pad: str = "<pad>"
    ) -> PreTrainedTokenizerFast:
        core = Tokenizer(models.BPE(unk_token=None if not metaspace else "<pad>"))
        if metaspace:  # like Llama-2's: a text begins with a space of its own
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
            core.decoder = decoders.Metaspace(prepend_scheme="always")
            alphabet = [chr(code) for code in range(32, 127)] + ["\n"]
        else:
            core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            core.decoder = decoders.ByteLevel()
            alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
        core.train_from_iterator(CORPUS * 5, trainer)
        if adds_bos:
            core.post_processor = processors.TemplateProcessing(
                single="<bos> $A", special_tokens=[("<bos>", core.token_to_id("<bos>"))]
            )
        return PreTrainedTokenizerFast(
            tokenizer_object=core,
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token=pad,
            chat_template=template,
        )

    return make_one


def chat(*contents: str, system: str | None = None) -> Row:
    """User and assistant in turn, starting with the user."""
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": content}
        for place, content in enumerate(contents)
    ]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return Row(tuple(messages), None, "rows.jsonl:7")


def plain(text: str) -> Row:
    return Row(None, text, "rows.txt:7")


def ids(tokenizer: PreTrainedTokenizerFast, *texts: str) -> list[int]:
    return [token for text in texts for token in tokenizer.encode(text, add_special_tokens=False)]


def supervised(tokenizer: PreTrainedTokenizerFast, encoded: Encoded) -> str:
    """The text of the supervised positions, with a bar between runs of them."""
    runs: list[list[int]] = []
    before = False
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        assert label in (token, IGNORE_INDEX)
        if label != IGNORE_INDEX:
            if not before:
                runs.append([])
            runs[-1].append(token)
        before = label != IGNORE_INDEX
    return "|".join(tokenizer.decode(run) for run in runs)


# --- templates ------------------------------------------------------------------------------


def test_chatml_supervises_the_answer_and_its_end(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    row = chat("turn the light on", "ok")
    prompt = ids(
        tokenizer, "<|im_start|>user\nturn the light on<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = ids(tokenizer, "ok<|im_end|>")
    encoded = encode(row, tokenizer, 256)
    assert encoded.input_ids == prompt + answer
    assert encoded.labels == [IGNORE_INDEX] * len(prompt) + answer
    assert encode_prompt(row, tokenizer) == prompt
    assert encode_prompt(row.prompt_messages, tokenizer) == prompt
    assert (encoded.labelled, encoded.truncated) == (True, False)
    assert encoded.supervised_tokens == len(answer)
    assert stop_token_ids(tokenizer) == set(ids(tokenizer, "<|im_end|>", "<eos>"))


def test_every_answer_of_a_chat_is_supervised(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    row = chat("on", "ok", "off", "so good", system="please")
    encoded = encode(row, tokenizer, 256)
    assert supervised(tokenizer, encoded) == "ok<|im_end|>|so good<|im_end|>"
    whole = tokenizer.apply_chat_template(list(row.messages or ()), tokenize=False)
    assert tokenizer.decode(encoded.input_ids) == whole.removesuffix("\n")


def test_an_answer_that_the_template_writes_differently_later_is_still_found(
    make: MakeTokenizer,
) -> None:
    tokenizer = make(THINKS)
    encoded = encode(chat("on", "ok", "off", "good"), tokenizer, 256)
    assert supervised(tokenizer, encoded) == "ok<|im_end|>|<think></think>good<|im_end|>"


def test_a_generation_prompt_that_the_finished_chat_lacks_stays_before_the_answer(
    make: MakeTokenizer,
) -> None:
    tokenizer = make(OPENS_THINKING)
    row = chat("on", "ok")
    encoded = encode(row, tokenizer, 256)
    prompt = encode_prompt(row, tokenizer)
    assert tokenizer.decode(prompt).endswith("<think>")
    assert encoded.input_ids == prompt + ids(tokenizer, "ok<|im_end|>")


def test_without_an_end_of_turn_the_answer_ends_in_eos(make: MakeTokenizer) -> None:
    tokenizer = make(WORDS_ONLY)
    encoded = encode(chat("on", "ok"), tokenizer, 256)
    assert tokenizer.decode(encoded.input_ids) == "user: on\nassistant: ok<eos>"
    assert supervised(tokenizer, encoded) == " ok<eos>"
    assert stop_token_ids(tokenizer) == {tokenizer.eos_token_id}


def test_without_a_template_prompt_line_break_answer_eos(make: MakeTokenizer) -> None:
    tokenizer = make(None, adds_bos=True)
    encoded = encode(chat("on", "ok", system="please"), tokenizer, 256)
    assert encoded.input_ids == [tokenizer.bos_token_id, *ids(tokenizer, "please\non\n", "ok<eos>")]
    assert supervised(tokenizer, encoded) == "ok<eos>"


def test_a_template_that_refuses_a_system_message_is_named(make: MakeTokenizer) -> None:
    with pytest.raises(
        DataError, match=r"rows.jsonl:7: .*refuses the roles system, user"
    ) as raised:
        encode(chat("on", "ok", system="please"), make(NO_SYSTEM), 256)
    assert raised.value.field == "data.system_prompt"
    assert "System role not supported" in str(raised.value)


def test_a_greeting_before_the_first_question_is_context(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    hello = {"role": "assistant", "content": "please"}
    row = Row((hello, *(chat("on", "ok").messages or ())), None, "x:1")
    assert supervised(tokenizer, encode(row, tokenizer, 256)) == "ok<|im_end|>"


def test_two_answers_in_a_row_are_both_supervised(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    twice = {"role": "assistant", "content": "so good"}
    row = Row((*(chat("on", "ok").messages or ()), twice), None, "x:1")
    encoded, prompt = encode(row, tokenizer, 256), encode_prompt(row, tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert supervised(tokenizer, encoded) == "ok<|im_end|>|so good<|im_end|>"
    assert encode_prompt(row.messages or (), tokenizer) == prompt


def test_an_end_of_turn_inside_an_answer_does_not_cut_it(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    encoded = encode(chat("on", "ok<|im_end|>off"), tokenizer, 256)
    assert supervised(tokenizer, encoded) == "ok<|im_end|>off<|im_end|>"


def test_a_changed_template_is_noticed(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    encode(chat("on", "ok"), tokenizer, 256)
    tokenizer.chat_template = WORDS_ONLY
    assert supervised(tokenizer, encode(chat("on", "ok"), tokenizer, 256)) == " ok<eos>"


# --- the same ids in training and generation --------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=12)


@pytest.mark.parametrize("template", [CHATML, LLAMA3, WORDS_ONLY, THINKS, OPENS_THINKING, None])
@pytest.mark.parametrize("metaspace", [False, True])
def test_training_and_generation_see_the_same_prefix(
    make: MakeTokenizer, template: str | None, metaspace: bool
) -> None:
    tokenizer = make(template, adds_bos=True, metaspace=metaspace)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(TEXTS, min_size=1, max_size=5), st.none() | TEXTS)
    def check(contents: list[str], system: str | None) -> None:
        row = chat(*contents, system=system)
        encoded, prompt = encode(row, tokenizer, 100_000), encode_prompt(row, tokenizer)
        assert encoded.input_ids[: len(prompt)] == prompt
        assert encode_prompt(row.prompt_messages, tokenizer) == prompt
        assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
        assert encoded.input_ids[0] == tokenizer.bos_token_id
        answer = encoded.labels[len(prompt) :]
        assert answer == encoded.input_ids[len(prompt) :]
        if row.response is None:
            assert answer == []
        else:
            assert answer[-1] in stop_token_ids(tokenizer)

    check()


def test_a_merge_across_the_border_never_changes_the_prefix(make: MakeTokenizer) -> None:
    tokenizer = make(None)
    together = ids(tokenizer, "on\n\n\nok<eos>")  # its first two line breaks are one token
    assert together != ids(tokenizer, "on\n", "\n\nok<eos>")
    row = chat("on", "\n\nok")
    encoded = encode(row, tokenizer, 256)
    assert encoded.input_ids == ids(tokenizer, "on\n", "\n\nok<eos>")
    assert encode_prompt(row, tokenizer) == ids(tokenizer, "on\n")


def test_an_answer_gets_no_space_that_the_text_lacks(make: MakeTokenizer) -> None:
    tokenizer = make(None, metaspace=True)
    encoded = encode(chat("on:", "ok"), tokenizer, 256)
    assert encoded.input_ids == ids(tokenizer, "on:\nok<eos>")
    assert encoded.input_ids != ids(tokenizer, "on:\n", "ok<eos>")


# --- special tokens -------------------------------------------------------------------------


def test_plain_text_is_supervised_whole(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML, adds_bos=True)
    encoded = encode(plain("so good"), tokenizer, 256)
    assert encoded.input_ids == [tokenizer.bos_token_id, *ids(tokenizer, "so good<eos>")]
    assert encoded.labels == [IGNORE_INDEX, *encoded.input_ids[1:]]
    assert encoded.labelled


def test_the_first_token_of_a_text_is_predicted_by_nothing(make: MakeTokenizer) -> None:
    encoded = encode(plain("so good"), make(None), 256)
    assert encoded.labels == [IGNORE_INDEX, *encoded.input_ids[1:]]


def test_labels_of_the_data_and_of_the_teacher_are_told_apart(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    asked = chat("on")
    assert encode(asked, tokenizer, 256).supervised_tokens == 0
    assert not encode(asked, tokenizer, 256).labelled
    answered = encode(asked.answered("ok"), tokenizer, 256)
    assert not answered.labelled
    assert supervised(tokenizer, answered) == "ok<|im_end|>"


def test_an_empty_answer_of_the_teacher_still_teaches_to_stop(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML)
    assert supervised(tokenizer, encode(chat("on").answered(""), tokenizer, 256)) == "<|im_end|>"


# --- too long -------------------------------------------------------------------------------


def test_the_head_of_the_prompt_goes_first(make: MakeTokenizer) -> None:
    tokenizer = make(LLAMA3)
    row = chat("abcdefghijklmnopqrstuvwxyz" * 4, "ok")
    whole = encode(row, tokenizer, 1000)
    encoded = encode(row, tokenizer, 40)
    assert encoded.truncated
    assert encoded.input_ids == [whole.input_ids[0], *whole.input_ids[-39:]]
    assert encoded.labels == [IGNORE_INDEX, *whole.labels[-39:]]
    assert supervised(tokenizer, encoded) == "ok<|im_end|>"


def test_a_prompt_that_generation_cuts_keeps_its_opening_and_its_end(make: MakeTokenizer) -> None:
    tokenizer = make(LLAMA3)
    row = chat("abcdefghijklmnopqrstuvwxyz" * 4, "ok")
    whole = encode_prompt(row, tokenizer)
    assert encode_prompt(row, tokenizer, max_tokens=20) == [whole[0], *whole[-19:]]
    assert encode_prompt(row, tokenizer, max_tokens=len(whole)) == whole
    cut = encode(row, tokenizer, 40)
    prompt = len(cut.input_ids) - cut.supervised_tokens
    assert encode_prompt(row, tokenizer, max_tokens=prompt) == cut.input_ids[:prompt]


def test_then_the_end_of_the_answer_and_nobody_learns_to_stop_there(make: MakeTokenizer) -> None:
    tokenizer = make(LLAMA3)
    row = chat("abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")
    whole, start = encode(row, tokenizer, 1000), len(encode_prompt(row, tokenizer))
    encoded = encode(row, tokenizer, 20)
    assert encoded.truncated
    assert encoded.input_ids == [
        whole.input_ids[0],
        *whole.input_ids[start - 4 : start],
        *whole.input_ids[start : start + 15],
    ]
    assert encoded.supervised_tokens == 15
    assert not stop_token_ids(tokenizer) & set(encoded.labels)


def test_a_long_text_loses_its_end(make: MakeTokenizer) -> None:
    tokenizer = make(None, adds_bos=True)
    whole = encode(plain("abcdefghijklmnopqrstuvwxyz"), tokenizer, 1000)
    encoded = encode(plain("abcdefghijklmnopqrstuvwxyz"), tokenizer, 10)
    assert encoded.truncated
    assert encoded.input_ids == whole.input_ids[:10]


def test_what_is_cut_never_takes_all_that_is_learnt_from(make: MakeTokenizer) -> None:
    tokenizer = make(CHATML, adds_bos=True)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.text("ab ", max_size=60), min_size=2, max_size=4), st.integers(8, 80))
    def check(contents: list[str], max_seq_len: int) -> None:
        row = chat(*contents)
        encoded = encode(row, tokenizer, max_seq_len)
        whole = encode(row, tokenizer, 10_000)
        assert len(encoded.input_ids) == len(encoded.labels) <= max_seq_len
        assert encoded.truncated == (len(whole.input_ids) > max_seq_len)
        if encoded.truncated:
            assert len(encoded.input_ids) == max_seq_len
        assert encoded.input_ids[0] == tokenizer.bos_token_id
        assert encoded.supervised_tokens > 0 or row.response is None

    check()
