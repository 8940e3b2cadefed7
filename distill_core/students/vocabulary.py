"""A student with fewer tokens than its teacher: its weights, and how their ids correspond.

In: a network and the tokens to keep, or two tokenizers. Out: the network with those rows of its
embedding and head alone; a map from the student's ids to the teacher's. Works on any architecture
whose vocabulary shows in its embedding and head.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_core import files
from distill_core.data.vocabularies import compare_maps
from distill_core.errors import ModelError
from distill_core.students.copying import blank
from distill_core.students.shape import SPECIAL_IDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def with_tokens(model: PreTrainedModel, tokens: Sequence[int]) -> PreTrainedModel:
    """The network with the rows of `tokens` alone, in their order; all else is copied.

    Raises:
        ModelError: if the vocabulary stands elsewhere than in embedding, head and its bias.
    """
    config = copy.deepcopy(model.config)
    config.vocab_size = len(tokens)
    set_special_ids(config, model.config, tokens)
    if _positions_start_after_padding(model) and config.pad_token_id != model.config.pad_token_id:
        raise ModelError(
            f"A {config.model_type} model counts its positions from the id of its padding token, "
            "which trimming would change.\nKeep the whole vocabulary.",
            field="vocab_trim",
        )
    student = blank(model, config)
    rows = torch.tensor(tokens)
    before, weights = model.config.vocab_size, {}
    theirs = model.state_dict()
    for name, mine in student.state_dict().items():
        value = theirs[name]
        if value.shape != mine.shape and len(value) == before:
            value = value.index_select(0, rows)
        if value.shape != mine.shape:
            raise ModelError(
                f"The vocabulary of a {config.model_type} model cannot be trimmed: {name} depends "
                "on it in a way that is not known.\nKeep the whole vocabulary.",
                field="vocab_trim",
            )
        weights[name] = value
    student.load_state_dict(weights)
    if hasattr(model, "generation_config"):
        student.generation_config = copy.deepcopy(model.generation_config)
        set_special_ids(student.generation_config, model.generation_config, tokens)
    return student


def _positions_start_after_padding(model: PreTrainedModel) -> bool:
    """Whether the model is like RoBERTa, whose first position is one more than the padding's id."""
    return any(
        name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
        for name, module in model.named_modules()
    )


def set_special_ids(target: Any, source: Any, tokens: Sequence[int]) -> None:
    """Write the new ids of a configuration's special tokens; what is not kept is None."""
    new_ids = {old: new for new, old in enumerate(tokens)}
    for name in SPECIAL_IDS:
        old = getattr(source, name, None)
        if isinstance(old, list):
            setattr(target, name, [new_ids[one] for one in old if one in new_ids] or None)
        elif old is not None:
            setattr(target, name, new_ids.get(old))


def special_ids(folder: Path) -> set[int]:
    """Ids that the configuration files of a model folder name: they have to be kept."""
    found: set[int] = set()
    for file in ("config.json", "generation_config.json"):
        named = files.read_json(folder / file)
        for name in SPECIAL_IDS:
            value = named.get(name)
            found |= {
                one for one in (value if isinstance(value, list) else [value]) if one is not None
            }
    return found


def kept_ids(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> Tensor | None:
    """The teacher's id of each of the student's tokens, (student's tokens,).

    None unless these are some of the teacher's tokens under ids 0 … n−1 of their own: where the
    same ids mean the same there is nothing to translate, and other tokenizers have no such map.
    """
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if not (len(mine) < len(theirs) and mine.keys() <= theirs.keys()):
        return None
    if compare_maps(theirs, mine).comparable or sorted(mine.values()) != list(range(len(mine))):
        return None
    ids = torch.empty(len(mine), dtype=torch.long)
    for text, number in mine.items():
        ids[number] = theirs[text]
    return ids
