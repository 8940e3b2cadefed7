"""C5, vocabulary: padded rows never count; token → id maps are compared, never sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.data.alignment import reader, reads_alike
from distill_core.data.vocabularies import compare_maps
from distill_core.errors import ModelError
from distill_core.losses.objective import Objective
from tests.core.data import tokenizers
from tests.core.ways import TERMS, WAYS, case, cases


def padded(model: Any) -> None:
    """Add rows to the embedding that no token has, with large logits; each depth adds others."""
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 8 * model.config.num_hidden_layers, mean_resizing=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[size:] = 3.0


@pytest.mark.parametrize(("way", "terms"), cases())
def test_padded_rows_of_the_embedding_change_nothing(tmp_path: Path, way: str, terms: str) -> None:
    expected, shown = case(tmp_path / "plain", way, terms).step()
    found, metrics = case(tmp_path / "padded", way, terms, alter=padded).step()
    allowed = WAYS[way].rounding
    assert metrics["loss"] == pytest.approx(shown["loss"], abs=1e-6 + allowed)
    for name, value in expected.items():
        ours = found[name][: len(value)]
        torch.testing.assert_close(ours, value, rtol=1e-4 + allowed, atol=1e-6 + allowed, msg=name)
        assert not found[name][len(value) :].any(), "a row that no token has learns nothing"


MAP = {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("student", "kind", "shared"),
    [
        ({"c": 2, "a": 0, "b": 1}, "same", 3),
        ({"a": 0, "b": 1, "c": 2, "<tool>": 3}, "extended", 3),
        ({"a": 0, "b": 1}, "extended", 2),
        ({"a": 1, "b": 0, "c": 2}, "different", 1),  # as many tokens, other ids
        ({"a": 0, "b": 1, "d": 2}, "different", 2),
        ({"a": 0, "c": 2}, "different", 2),  # a hole where the teacher has a token
    ],
)
def test_maps_are_compared_token_by_token(student: dict[str, int], kind: str, shared: int) -> None:
    for pair in ((MAP, student), (student, MAP)):
        match = compare_maps(*pair)
        assert (match.kind, match.shared) == (kind, shared)
        assert match.comparable is (kind != "different")


def turned(tokenizer: Any) -> Any:
    """A tokenizer of the same size whose last two tokens have changed their ids."""
    text = tokenizer.backend_tokenizer.to_str()
    last, other = tokenizer.convert_ids_to_tokens([len(tokenizer) - 1, len(tokenizer) - 2])
    swapped = text.replace(f'"{last}":', '"\x00":').replace(f'"{other}":', f'"{last}":')
    backend = type(tokenizer.backend_tokenizer).from_str(swapped.replace('"\x00":', f'"{other}":'))
    return type(tokenizer)(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")


@pytest.mark.parametrize("terms", TERMS)
def test_other_maps_of_the_same_size_are_never_compared_by_id(
    tiny_tokenizer: Any, terms: str
) -> None:
    other = turned(tiny_tokenizer)
    assert len(other) == len(tiny_tokenizer)
    assert not reads_alike(other, tiny_tokenizer)
    objective = Objective(TERMS[terms])
    how = {"by_text": objective.by_text, "by_id": objective.by_id}
    if objective.by_id:
        with pytest.raises(ModelError, match="different tokenizers"):
            reader(other, tiny_tokenizer, **how)
    else:  # labels alone, or spans of text
        assert reader(other, tiny_tokenizer, **how)


def test_the_refusal_names_the_term_that_can_compare_them() -> None:
    with pytest.raises(ModelError, match=r"different tokenizers.*Use cross_tokenizer"):
        reader(tokenizers.metaspace(), tokenizers.byte_level(), by_text=False, by_id=True)
