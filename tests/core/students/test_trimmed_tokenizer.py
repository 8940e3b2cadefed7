"""A trimmed tokenizer cuts the texts it was trimmed for into the same pieces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from distill_core.errors import ModelError
from distill_core.students.trimmed_tokenizer import kept_tokens, trimmed_tokenizer

WORDS = ["turn", "turned", "turning", "return", "the", "light", "lights", "lighter", "on", "off"]
WORDS += ["one", "only", "dim", "dimmer", "kitchen", "kitchens", "hall", "halls", "please"]
WORDS += ["pleased", "pleasing", "café", "naïve", "漢字", "語", "2024", "20", ":-)", "(", ")", ","]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]


def texts(count: int, seed: int, words: list[str] = WORDS) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(1, 9))) for _ in range(count)]


CORPUS = texts(400, 0)


def wrapped(tokenizer: Tokenizer, **more: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        **more,
    )


def trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2, Qwen and SmolLM have it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    return wrapped(trained(made, trainer), model_input_names=["input_ids", "attention_mask"])


def of_a_class() -> PreTrainedTokenizerFast:
    """GPT-2's own class: it knows by itself which inputs its model takes."""
    state = json.loads(byte_level().backend_tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    return GPT2Tokenizer(
        vocab=state["vocab"],
        merges=merges,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def whole_words_first() -> PreTrainedTokenizerFast:
    """As Llama 3 has it: a word that is a token is taken without merging."""
    made = byte_level()
    state = json.loads(made.backend_tokenizer.to_str())
    state["model"]["ignore_merges"] = True
    state["model"]["vocab"]["Ġkitchens"] = state["model"]["vocab"].get("Ġkitchens", 600)
    state["model"]["merges"] = [m for m in state["model"]["merges"] if "".join(m) != "Ġkitchens"]
    core = Tokenizer.from_str(json.dumps(state))
    core.add_special_tokens(["<|begin|>"])
    begin = ("<|begin|>", core.token_to_id("<|begin|>"))
    core.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[begin]),
        ]
    )
    return wrapped(core)


def with_bytes() -> PreTrainedTokenizerFast:
    """As Llama 2 and Gemma have it: every way to split a token is a merge; bytes for the rest."""
    plain = Tokenizer(models.BPE(unk_token="<unk>"))
    plain.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, show_progress=False, limit_alphabet=40
    )
    state = json.loads(trained(plain, trainer).to_str())
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    order = {text: number for text, number in vocabulary.items() if text not in SPECIAL}
    state["model"]["merges"] = [
        [text[:cut], text[cut:]]
        for text in sorted(order, key=order.__getitem__)
        for cut in range(1, len(text))
        if text[:cut] in order and text[cut:] in order and not text.startswith("<0x")
    ]
    state["model"] |= {"byte_fallback": True, "fuse_unk": True}
    made = Tokenizer.from_str(json.dumps(state))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return wrapped(made)


def word_piece() -> PreTrainedTokenizerFast:
    """As BERT has it, with [CLS] … [SEP] put around."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=140, special_tokens=SPECIAL, show_progress=False, limit_alphabet=40
    )
    trained(made, trainer)
    made.add_special_tokens(["[CLS]", "[SEP]"])
    made.post_processor = processors.BertProcessing(
        ("[SEP]", made.token_to_id("[SEP]")), ("[CLS]", made.token_to_id("[CLS]"))
    )
    return wrapped(made)


def unigram() -> PreTrainedTokenizerFast:
    """As XLM-R and T5 have it."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=110, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    trained(made, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(text, made.token_to_id(text)) for text in ("<s>", "</s>")],
    )
    return wrapped(made)


def word_level() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrapped(
        trained(made, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level BPE": byte_level,
    "GPT-2's class": of_a_class,
    "BPE, whole words first": whole_words_first,
    "BPE with bytes": with_bytes,
    "WordPiece": word_piece,
    "Unigram": unigram,
    "words": word_level,
}


def used_by(tokenizer: Any, rows: list[str]) -> set[int]:
    return {number for row in rows for number in tokenizer(row)["input_ids"]}


@pytest.fixture(params=sorted(KINDS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made = KINDS[request.param]()
    made.add_tokens(["<extra>", "<never>"])
    made.chat_template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    return made


def test_known_texts_are_cut_into_the_same_pieces(tokenizer: Any) -> None:
    for seed in range(20):
        rows = texts(6, seed, random.Random(seed).sample(WORDS, 9))
        tokens = kept_tokens(tokenizer, used_by(tokenizer, rows))
        trimmed = trimmed_tokenizer(tokenizer, tokens)
        assert len(trimmed) == len(tokens) < len(tokenizer)
        for row in rows:
            before, after = tokenizer(row)["input_ids"], trimmed(row)["input_ids"]
            assert [tokens[number] for number in after] == before, row
            assert trimmed.convert_ids_to_tokens(after) == tokenizer.convert_ids_to_tokens(before)
            assert trimmed.decode(after) == tokenizer.decode(before)


def test_ids_are_without_gaps_and_texts_keep_their_names(tokenizer: Any) -> None:
    tokens = kept_tokens(tokenizer, used_by(tokenizer, CORPUS[:3]))
    vocabulary = trimmed_tokenizer(tokenizer, tokens).get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(tokens)))
    old = tokenizer.get_vocab()
    assert {text: old[text] for text in vocabulary} == {
        text: tokens[number] for text, number in vocabulary.items()
    }


def test_special_tokens_stay_and_mean_the_same(tokenizer: Any) -> None:
    tokens = kept_tokens(tokenizer, [])
    trimmed = trimmed_tokenizer(tokenizer, tokens)
    assert trimmed.special_tokens_map == tokenizer.special_tokens_map
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id"):
        assert tokens[getattr(trimmed, name)] == getattr(tokenizer, name)
    assert trimmed.all_special_tokens == tokenizer.all_special_tokens
    assert trimmed.chat_template == tokenizer.chat_template
    assert trimmed.model_input_names == tokenizer.model_input_names
    assert "<never>" not in trimmed.get_vocab()
    assert (
        "<extra>"
        in trimmed_tokenizer(
            tokenizer, kept_tokens(tokenizer, used_by(tokenizer, ["on <extra> off"]))
        ).get_vocab()
    )


def test_what_bytes_or_letters_spell_can_still_be_written(tokenizer: Any) -> None:
    rows = ["turn the light on"]
    trimmed = trimmed_tokenizer(tokenizer, kept_tokens(tokenizer, used_by(tokenizer, rows)))
    for row in ["only halls", "dimmer kitchens"]:
        if tokenizer.backend_tokenizer.model.__class__.__name__ == "WordLevel":
            continue
        plain = tokenizer.decode(tokenizer(row)["input_ids"], skip_special_tokens=True)
        assert trimmed.decode(trimmed(row)["input_ids"], skip_special_tokens=True) == plain


@pytest.mark.parametrize("kind", ["byte-level BPE", "BPE with bytes"])
def test_bytes_write_what_was_never_seen(kind: str) -> None:
    tokenizer = KINDS[kind]()
    trimmed = trimmed_tokenizer(tokenizer, kept_tokens(tokenizer, used_by(tokenizer, ["on"])))
    assert trimmed.decode(trimmed("ß 🙂 żółw", add_special_tokens=False)["input_ids"]).strip() == (
        "ß 🙂 żółw"
    )


def test_an_unknown_letter_costs_what_it_did() -> None:
    # z is no piece: a + bz + cd costs 29; with an unknown letter as cheap as the used pieces alone
    # would make it, ab + z + cd would cost 26
    scores = {"<unk>": 0.0, "ab": -1.0, "cd": -1.0, "a": -14.0, "bz": -14.0, "rare": -20.0}
    pieces = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")
    rows = ["abzcd", "ab"]
    assert tokenizer.tokenize("abzcd") == ["a", "bz", "cd"]
    trimmed = trimmed_tokenizer(tokenizer, kept_tokens(tokenizer, used_by(tokenizer, rows)))
    assert trimmed.tokenize("abzcd") == ["a", "bz", "cd"]


def test_what_is_put_around_a_text_stays() -> None:
    core = word_level().backend_tokenizer
    please = [("please", core.token_to_id("please"))]
    core.post_processor = processors.TemplateProcessing(single="please $A", special_tokens=please)
    tokenizer = wrapped(core)
    trimmed = trimmed_tokenizer(tokenizer, kept_tokens(tokenizer, []))
    assert trimmed.convert_ids_to_tokens(trimmed("")["input_ids"]) == ["please"]


def test_the_inputs_that_a_class_names_stay() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "on": 5, "off": 6}
    tokenizer = BertTokenizer(vocab=vocabulary)
    trimmed = trimmed_tokenizer(tokenizer, kept_tokens(tokenizer, used_by(tokenizer, ["off"])))
    assert "token_type_ids" in tokenizer("off", "off")
    assert trimmed("off", "off")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert trimmed.convert_ids_to_tokens(trimmed("off")["input_ids"]) == ["[CLS]", "off", "[SEP]"]


def test_extra_tokens_are_the_first_others_and_whatever_they_need(tokenizer: Any) -> None:
    used = used_by(tokenizer, ["on off"])
    plain, more = (kept_tokens(tokenizer, used, extra_tokens=count) for count in (0, 10))
    assert set(plain) < set(more)
    assert len(more) >= len(plain) + 10
    everything = kept_tokens(tokenizer, used, extra_tokens=10_000)
    assert len(everything) >= len(tokenizer) - 2  # added tokens are no common ones


def test_it_is_saved_in_the_standard_format(tokenizer: Any, tmp_path: Path) -> None:
    tokens = kept_tokens(tokenizer, used_by(tokenizer, CORPUS[:9]))
    trimmed = trimmed_tokenizer(tokenizer, tokens)
    trimmed.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for row in CORPUS[:9]:
        assert loaded(row) == trimmed(row)
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert alone.encode(CORPUS[0]).ids == trimmed(CORPUS[0])["input_ids"]
    text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert str(tmp_path.parent) not in text


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    marked = Tokenizer(models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"))
    with pytest.raises(ModelError, match=r"marks at word borders cannot be trimmed.\nIt works for"):
        kept_tokens(PreTrainedTokenizerFast(tokenizer_object=marked), [0])
    with pytest.raises(ModelError, match="cannot be trimmed") as caught:
        kept_tokens(object(), [0])  # type: ignore[arg-type]
    assert caught.value.field == "vocab_trim"
