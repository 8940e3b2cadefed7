"""Which axis of which weight is what, architecture by architecture.

In: a configuration or a weight's name. Out: the axes of that weight in words (hidden, heads, units,
vocabulary), and where in a layer heads and feed-forward units can be watched. Data alone: loads
nothing. An architecture that is not in the table is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distill_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Axis = Literal["hidden", "heads", "groups", "fused", "units", "whole"]
"""`hidden`: the residual stream. `heads`: query heads side by side, `groups`: key and value heads,
`fused`: queries, keys and values in one matrix. `units`: the feed-forward layer. `whole`: never
cut (vocabulary, positions, labels, the inside of a head)."""

Axes = tuple[Axis, ...]
_Weights = tuple[tuple[str, Axes], ...]


@dataclass(frozen=True)
class Anatomy:
    """One family of architectures."""

    weights: _Weights
    """End of a weight's name (a regular expression) and its axes; the first that fits counts."""
    attention_out: str
    """Module in a layer whose input is the heads' outputs, side by side."""
    units_out: str
    """Module in a layer whose input is the feed-forward units."""
    norms: str
    """Modules (a regular expression) whose outputs are the hidden state, normalised."""
    own_head_width: bool
    """Whether the width of a head is a setting of its own, or hidden size over heads."""
    transposed: bool = False
    """Whether linear weights are stored as (inputs, outputs): GPT-2's Conv1D."""
    scaled_embedding: bool = False
    """Whether embeddings are multiplied by √hidden_size, and norms hold their weight less one."""

    def axes(self, name: str) -> Axes | None:
        """The axes of a weight, None for one that the family does not have."""
        for pattern, axes in self.weights:
            if re.search(rf"(^|\.){pattern}$", name):
                return axes
        return None

    def is_norm(self, module: str) -> bool:
        """Whether a module, by name, normalises the hidden state (and not what is in a head)."""
        named = re.search(rf"(^|\.)({self.norms})$", module)
        return named is not None and self.axes(f"{module}.weight") == ("hidden",)


_DECODER: _Weights = (
    (r"(embed_tokens|lm_head)\.weight", ("whole", "hidden")),
    (r"score\.weight", ("whole", "hidden")),
    (r"self_attn\.[qk]_norm\.weight", ("whole",)),
    (r"self_attn\.q_proj\.weight", ("heads", "hidden")),
    (r"self_attn\.q_proj\.bias", ("heads",)),
    (r"self_attn\.[kv]_proj\.weight", ("groups", "hidden")),
    (r"self_attn\.[kv]_proj\.bias", ("groups",)),
    (r"self_attn\.o_proj\.weight", ("hidden", "heads")),
    (r"mlp\.(gate|up)_proj\.weight", ("units", "hidden")),
    (r"mlp\.(gate|up)_proj\.bias", ("units",)),
    (r"mlp\.down_proj\.weight", ("hidden", "units")),
    (r"(o_proj|down_proj)\.bias", ("hidden",)),
    (r"\w*norm\.weight", ("hidden",)),
)

_GPT2: _Weights = (
    (r"(wte|wpe|lm_head|score)\.weight", ("whole", "hidden")),
    (r"attn\.c_attn\.weight", ("hidden", "fused")),
    (r"attn\.c_attn\.bias", ("fused",)),
    (r"attn\.c_proj\.weight", ("heads", "hidden")),
    (r"mlp\.c_fc\.weight", ("hidden", "units")),
    (r"mlp\.c_fc\.bias", ("units",)),
    (r"mlp\.c_proj\.weight", ("units", "hidden")),
    (r"c_proj\.bias", ("hidden",)),
    (r"ln_\w+\.(weight|bias)", ("hidden",)),
)

_ENCODER_HEADS: _Weights = (
    (r"(pooler\.dense|predictions\.transform\.dense|lm_head\.dense)\.weight", ("hidden", "hidden")),
    (r"(classifier\.dense|pre_classifier|vocab_transform)\.weight", ("hidden", "hidden")),
    (r"(pooler\.dense|predictions\.transform\.dense|lm_head\.dense)\.bias", ("hidden",)),
    (r"(classifier\.dense|pre_classifier|vocab_transform)\.bias", ("hidden",)),
    (r"(classifier|classifier\.out_proj|seq_relationship)\.weight", ("whole", "hidden")),
    (r"(classifier|classifier\.out_proj|seq_relationship)\.bias", ("whole",)),
    (r"(decoder|vocab_projector)\.weight", ("whole", "hidden")),
    (r"(decoder|vocab_projector|predictions|lm_head)\.bias", ("whole",)),
)

_BERT: _Weights = (
    (r"(word|position|token_type)_embeddings\.weight", ("whole", "hidden")),
    (r"attention\.self\.(query|key|value)\.weight", ("heads", "hidden")),
    (r"attention\.self\.(query|key|value)\.bias", ("heads",)),
    (r"attention\.output\.dense\.weight", ("hidden", "heads")),
    (r"intermediate\.dense\.weight", ("units", "hidden")),
    (r"intermediate\.dense\.bias", ("units",)),
    (r"output\.dense\.weight", ("hidden", "units")),
    (r"output\.dense\.bias", ("hidden",)),
    (r"(LayerNorm|layer_norm)\.(weight|bias)", ("hidden",)),
    *_ENCODER_HEADS,
)

_DISTILBERT: _Weights = (
    (r"(word|position)_embeddings\.weight", ("whole", "hidden")),
    (r"attention\.[qkv]_lin\.weight", ("heads", "hidden")),
    (r"attention\.[qkv]_lin\.bias", ("heads",)),
    (r"attention\.out_lin\.weight", ("hidden", "heads")),
    (r"ffn\.lin1\.weight", ("units", "hidden")),
    (r"ffn\.lin1\.bias", ("units",)),
    (r"ffn\.lin2\.weight", ("hidden", "units")),
    (r"(attention\.out_lin|ffn\.lin2)\.bias", ("hidden",)),
    (r"(LayerNorm|\w+_layer_norm)\.(weight|bias)", ("hidden",)),
    *_ENCODER_HEADS,
)

_LLAMA = Anatomy(_DECODER, "self_attn.o_proj", "mlp.down_proj", r"\w*norm", own_head_width=True)
_GEMMA = Anatomy(
    _DECODER,
    "self_attn.o_proj",
    "mlp.down_proj",
    r"\w*norm",
    own_head_width=True,
    scaled_embedding=True,
)
_BERT_LIKE = Anatomy(
    _BERT, "attention.output.dense", "output.dense", "LayerNorm", own_head_width=False
)

ANATOMIES: dict[str, Anatomy] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt2": Anatomy(
        _GPT2, "attn.c_proj", "mlp.c_proj", r"ln_\w+", own_head_width=False, transposed=True
    ),
    "bert": _BERT_LIKE,
    "roberta": _BERT_LIKE,
    "distilbert": Anatomy(
        _DISTILBERT,
        "attention.out_lin",
        "ffn.lin2",
        r"LayerNorm|\w+_layer_norm",
        own_head_width=False,
    ),
}
"""By `model_type`."""


def anatomy(config: PretrainedConfig) -> Anatomy:
    """The family of a configuration.

    Raises:
        ModelError: if the architecture is not in the table; names those that are.
    """
    found = ANATOMIES.get(config.model_type)
    if found is None:
        raise ModelError(
            f"A {config.model_type} model cannot be made narrower: which of its weights belong "
            f"to which head is not known.\nIt works for {', '.join(ANATOMIES)}; for others keep "
            "whole layers (layer_drop).",
            field="init",
        )
    return found
