"""Small tokenizers of several families, for tests: each cuts the same text in its own way.

In: which family, and a chat template. Out: a fast tokenizer with <pad>, <bos>, <eos>, chat marks.
"""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMED = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "<unk>"]
CORPUS = [
    "the kitchen light is on",
    "turn the lights off in the kitchen",
    "light the fan, naïve 🙂",
]


def byte_level(
    template: str | None = CHATML, *, size: int = 400, corpus: list[str] = CORPUS
) -> PreTrainedTokenizerFast:
    """Like GPT-2's or Llama-3's: every text can be written, byte by byte where it must be."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(core, template, size, corpus, alphabet)


def metaspace(
    template: str | None = CHATML, *, size: int = 120, corpus: list[str] = CORPUS
) -> PreTrainedTokenizerFast:
    """Like Llama-2's: a space is ▁, and a text begins with one of its own."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    return _trained(core, template, size, corpus, [chr(code) for code in range(32, 127)] + ["\n"])


def words(template: str | None = CHATML, *, corpus: list[str] = CORPUS) -> PreTrainedTokenizerFast:
    """Whole words in lower case; spaces belong to no token."""
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.train_from_iterator(corpus, trainers.WordLevelTrainer(special_tokens=SPECIAL))
    return _wrapped(core, template)


def _trained(
    core: Tokenizer, template: str | None, size: int, corpus: list[str], alphabet: list[str]
) -> PreTrainedTokenizerFast:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(corpus * 5, trainer)
    return _wrapped(core, template)


def _wrapped(core: Tokenizer, template: str | None) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=template,
    )
