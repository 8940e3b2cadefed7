"""C11, special tokens: one BOS, a supervised end, and padding told by the mask, never by its id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors

from distill_core.data.batches import collate
from distill_core.data.formats import Row
from distill_core.data.tokenize import (
    IGNORE_INDEX,
    Encoded,
    encode,
    encode_prompt,
    pad_token_id,
    stop_token_ids,
)
from tests.core.data import tokenizers
from tests.core.definition import encoded
from tests.core.ways import WAYS, case, cases

LLAMA3 = "{{ bos_token }}" + tokenizers.CHATML
FAMILIES: dict[str, Callable[..., Any]] = {
    "byte level": tokenizers.byte_level,
    "metaspace": tokenizers.metaspace,
    "words": tokenizers.words,
}
TEMPLATES = {
    "chatml": tokenizers.CHATML,
    "with a BOS": LLAMA3,
    "ends in eos": tokenizers.TRIMMED,
    "no template": None,
}


def tokenizer_of(family: str, template: str, *, adds_bos: bool) -> Any:
    tokenizer = FAMILIES[family](TEMPLATES[template])
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
        )
    return tokenizer


def chat(*contents: str) -> Row:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    return Row(tuple(messages), None, "row")


ROWS = [chat("turn the light", "on"), chat("the fan"), chat("light", "on", "fan", "off")]


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_one_bos_where_the_tokenizer_or_the_template_uses_one(
    family: str, template: str, adds_bos: bool
) -> None:
    tokenizer = tokenizer_of(family, template, adds_bos=adds_bos)
    wanted = int(adds_bos or template == "with a BOS")
    for row in [*ROWS, Row(None, "the kitchen light", "text")]:
        if row.text is not None:
            expected = int(adds_bos)  # a plain text has no template
        else:
            expected = wanted
            prompt = encode_prompt(row, tokenizer)
            assert prompt.count(tokenizer.bos_token_id) == expected
        item = encode(row, tokenizer, 256)
        assert item.input_ids.count(tokenizer.bos_token_id) == expected
        if expected:
            assert item.input_ids[0] == tokenizer.bos_token_id
        assert item.labels[0] == IGNORE_INDEX


@pytest.mark.parametrize("pad", ["<pad>", "<eos>"])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_teaches_to_stop(family: str, template: str, pad: str) -> None:
    tokenizer = tokenizer_of(family, template, adds_bos=False)
    tokenizer.pad_token = pad
    stops = stop_token_ids(tokenizer)
    assert tokenizer.eos_token_id in stops
    for row in (ROWS[0], ROWS[2]):
        item = encode(row, tokenizer, 256)
        learnt = [label for label in item.labels if label != IGNORE_INDEX]
        assert learnt[-1] in stops
        assert sum(label in stops for label in learnt) == len(row.messages or ()) // 2
        batch = collate([item], pad_token_id=pad_token_id(tokenizer), rows=[0], pad_to=90)
        assert batch.targets.tolist() == learnt, "also where padding has the same id"
    assert encode(Row(None, "light", "t"), tokenizer, 64).labels[-1] == tokenizer.eos_token_id


def test_without_a_padding_token_the_end_pads() -> None:
    tokenizer = tokenizers.byte_level()
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer) == tokenizer.eos_token_id


END = 2
"""The end of an answer in the rows of `encoded`, which have none of their own."""


def ended(row: Encoded) -> Encoded:
    return Encoded([*row.input_ids, END], [*row.labels, END], row.labelled, row.truncated)


@pytest.mark.parametrize(("way", "terms"), cases())
def test_what_pads_may_be_any_token(tmp_path: Path, way: str, terms: str) -> None:
    """Padded by 0, by the end of answers, or by a token that the rows are full of."""
    rows = [ended(row) for row in encoded(8)]
    often = rows[0].input_ids[0]
    steps = []
    for pad in (0, END, often):
        made = case(tmp_path / str(pad), way, terms, rows=rows)
        made.stage.pad_token_id = pad
        steps.append(made.step())
    (expected, shown), *others = steps
    allowed = WAYS[way].rounding
    for gradient, metrics in others:
        assert metrics["loss"] == pytest.approx(shown["loss"], abs=1e-6 + allowed)
        for name, value in expected.items():
            torch.testing.assert_close(
                gradient[name], value, rtol=1e-4 + allowed, atol=1e-6 + allowed, msg=name
            )
