"""The starter's tokenizer: lossless, short, with a template that ends each answer exactly once."""

import pytest
from transformers import AutoTokenizer

from distill_core.starter import rows, teacher_dir
from distill_core.starter.splits import correct_rows
from distill_core.starter.tokenizer import VOCABULARY_SIZE, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(teacher_dir())


@pytest.fixture(scope="module")
def pairs():
    return [(row["prompt"], row["response"]) for row in correct_rows("unlabelled")[:5_000]]


def test_loads_as_a_fast_tokenizer_with_distinct_special_tokens(tokenizer):
    assert tokenizer.is_fast
    assert len(tokenizer) == tokenizer.vocab_size == VOCABULARY_SIZE
    special = [tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    special += tokenizer.convert_tokens_to_ids(["<user>", "<assistant>"])
    assert len(set(special)) == 5
    assert tokenizer.bos_token is None


def test_every_text_survives_encoding_and_decoding(tokenizer, pairs):
    for texts in zip(*pairs, strict=True):
        decoded = tokenizer.batch_decode(tokenizer(list(texts))["input_ids"])
        assert decoded == list(texts)


@pytest.mark.parametrize(
    "text", ["  two  spaces ", "tab? no: a\nline", "~{}[]|\\^`@#$&*()_+=-<>/;!"]
)
def test_printable_ascii_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_other_characters_become_unknown_and_nothing_fails(tokenizer):
    ids = tokenizer("café")["input_ids"]
    assert tokenizer.unk_token_id in ids
    assert tokenizer.decode(ids).startswith("caf<unk>")


def test_template_renders_a_turn_with_one_end(tokenizer, pairs):
    prompt, response = pairs[0]
    turn = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    text = tokenizer.apply_chat_template(turn, tokenize=False)
    assert text == f"<user> {prompt}<assistant>{response}<eos>"
    encoded = tokenizer.apply_chat_template(turn, return_dict=True)["input_ids"]
    assert encoded.count(tokenizer.eos_token_id) == 1
    assert encoded[-1] == tokenizer.eos_token_id
    assert encoded == tokenizer(text)["input_ids"]


def test_generation_prompt_is_the_beginning_of_the_whole_turn(tokenizer, pairs):
    for prompt, response in pairs[:200]:
        turn = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        whole = tokenizer.apply_chat_template(turn, return_dict=True)["input_ids"]
        start = tokenizer.apply_chat_template(
            turn[:1], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert whole[: len(start)] == start


def test_template_marks_the_answer_with_its_end(tokenizer, pairs):
    prompt, response = pairs[0]
    turn = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    encoded = tokenizer.apply_chat_template(
        turn, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [
        token
        for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
        if mask
    ]
    assert tokenizer.decode(marked) == f"{response}<eos>"


def test_sequences_are_short(tokenizer, pairs):
    lengths = [len(tokenizer(f"<user> {p}<assistant>{r}<eos>")["input_ids"]) for p, r in pairs]
    assert sum(lengths) / len(lengths) < 32
    assert max(lengths) < 128


def test_a_slot_is_one_token(tokenizer):
    assert tokenizer.tokenize('{"do":"on","what":"light","room":"kitchen"}') == [
        '{"do":"on"',
        ',"what":"light"',
        ',"room":"kitchen"',
        "}",
    ]


def test_training_is_deterministic():
    texts = [f" {row['prompt']}" for row in rows("development")]
    first, second = (train_tokenizer(texts, size=150).get_vocab() for _ in range(2))
    assert first == second
    assert len(first) == 150
