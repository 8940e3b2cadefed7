"""The starter's own tokenizer: a small byte-pair encoding in the standard Hugging Face format.

In: texts to learn the merges from. Out: a fast tokenizer with a chat template. The pieces are cut
so that a word is about one token and a JSON slot (`,"room":"kitchen"`) is one too: short sequences
are what makes the starter quick. Knows nothing of devices or rooms.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["CHAT_TEMPLATE", "VOCABULARY_SIZE", "train_tokenizer"]

VOCABULARY_SIZE: Final = 576
_PAD, _EOS, _UNKNOWN, _USER, _ASSISTANT = "<pad>", "<eos>", "<unk>", "<user>", "<assistant>"

# slot with or without its value · number · minutes · word · closing brackets · what is left
_PIECES: Final = (
    r'[{,]?"[a-z]+":(?:"[a-z]+"|"?)| ?[0-9]{1,2}|:[0-9]{2}"?| ?[A-Za-z\']+|\[|\}\]?,?'
    r"| ?[^ A-Za-z0-9]| +"
)

# the space makes a prompt's first word the same token as that word anywhere else
CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<assistant>' -}}"
    "{%- generation -%}{{- message['content'] + '<eos>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- '<user> ' + message['content'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"
)


def train_tokenizer(
    texts: Iterable[str], *, size: int = VOCABULARY_SIZE
) -> PreTrainedTokenizerFast:
    """Return a fast tokenizer of `size` entries whose merges come from the texts.

    Texts of printable ASCII survive encoding and decoding unchanged; other characters become
    `<unk>`, byte by byte: 160 rows of the embedding that the starter would never use are saved.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    printable = "\n" + "".join(map(chr, range(32, 127)))
    alphabet = [piece for piece, _ in pre_tokenizers.ByteLevel(False).pre_tokenize_str(printable)]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[_PAD, _EOS, _UNKNOWN, _USER, _ASSISTANT],
        initial_alphabet=sorted(set("".join(alphabet))),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        eos_token=_EOS,
        unk_token=_UNKNOWN,
        additional_special_tokens=[_USER, _ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
        padding_side="right",
    )
