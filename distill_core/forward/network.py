"""A model as the losses see it: logits at supervised positions, and its inside where it is wanted.

In: a causal language model and a `Batch`. Out: `View`. Of hidden states, attention maps and values
only the wanted layers are kept, at feature positions only. What is trained beside the model lives
in here, inside the one module that is wrapped for several processes: learnt projectors, which are
no part of the model that is saved, and the loss that is made of the head chunk by chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from distill_core.errors import ModelError
from distill_core.forward.supervised import supervised_logits
from distill_core.losses.base import Features
from distill_core.losses.chunked import Compared, Comparison
from distill_core.losses.logit_rows import DenseRows, LogitRows, TrimmedRows
from distill_core.losses.sparse import SparseRows
from distill_core.students.copying import layer_prefix

if TYPE_CHECKING:
    from distill_core.data.batches import Batch


@dataclass(frozen=True)
class Wanted:
    """Which layers (counted from 1) of a network are looked into."""

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()
    relation_heads: int = 1
    causal: bool = True
    """Whether a position's relations reach back only; encoders relate it to the whole row."""

    def __bool__(self) -> bool:
        return bool(self.hidden_states or self.attention or self.values)


class View(NamedTuple):
    """Logits at the supervised positions, features at the feature positions.

    Of a student that has compared itself chunk by chunk there are no logits, but the outcome; of a
    teacher of whom only some tokens are known there is what is known, `sparse`.
    """

    rows: LogitRows | None
    features: Features | None = None
    compared: Compared | None = None
    sparse: SparseRows | None = None

    @property
    def logits(self) -> Tensor:
        """All logits (N, V)."""
        assert self.rows is not None, "compared chunk by chunk, or known in part: no logits"
        return self.rows.all()

    @property
    def dropped_mass(self) -> Tensor | None:
        """What a teacher gives to tokens that a trimmed student lacks, (N,); None: it is whole."""
        return self.rows.dropped_mass if isinstance(self.rows, TrimmedRows) else None


class Network(nn.Module):
    """A model whose forward pass gives a `View`.

    Args:
        model: A causal language model or a classifier, with or without a LoRA adapter.
        vocab_size: Number of ids that the tokenizer has; a classifier asks for none.
        wanted: Layers to look into. Attention maps force the attention that returns weights.
        projectors: By layer number as text: maps hidden states to the teacher's width.
        reads_logits: Whether anybody learns from the logits; else they come without gradients, so
            that the head counts as unused where several processes average theirs.

    Raises:
        ModelError: if the values of a wanted layer cannot be found.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        vocab_size: int,
        wanted: Wanted | None = None,
        projectors: nn.ModuleDict | None = None,
        reads_logits: bool = True,
    ) -> None:
        super().__init__()
        self.wanted = wanted or Wanted()
        if self.wanted.attention:
            _base(model).set_attn_implementation("eager")  # the others return no weights
        self.supervised = supervised_logits(model, vocab_size=vocab_size)
        self.projectors = projectors if projectors is not None else nn.ModuleDict()
        self.reads_logits = reads_logits
        self._values = _Values(_base(model), self.wanted.values) if self.wanted.values else None

    def forward(self, batch: Batch, comparison: Comparison | None = None) -> View:
        """Look at a batch; rows are in its row-major order.

        With a `comparison` its loss is worked out in here, where the head allows it.
        """
        outputs = self._outputs(batch)
        features = self._features(outputs, batch) if self.wanted else None
        if comparison is not None:
            outcome = self.supervised.compared(outputs, batch, comparison)
            if outcome is not None:
                return View(None, features, outcome)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.reads_logits):
            logits = self.supervised.logits(outputs, batch)
        return View(DenseRows(logits), features)

    def look(self, batch: Batch) -> View:
        """As the forward pass, but the head waits until its rows are asked for."""
        outputs = self._outputs(batch)
        rows = self.supervised.rows(outputs, batch)
        return View(rows, self._features(outputs, batch) if self.wanted else None)

    def longest_packed(self) -> int:
        """Tokens of the longest row that need not be padded; 0: all are."""
        return 0 if self.wanted else self.supervised.longest_packed()

    def _outputs(self, batch: Batch) -> Any:
        wishes = {
            "output_hidden_states": bool(self.wanted.hidden_states),
            "output_attentions": bool(self.wanted.attention),
        }
        wishes = {name: wish for name, wish in wishes.items() if wish}
        return self.supervised.outputs(batch, whole=bool(self.wanted), **wishes)

    def _features(self, outputs: Any, batch: Batch) -> Features:
        chosen, width = batch.feature_places, batch.input_ids.shape[1]
        at = (chosen // width, chosen % width)  # a mask would be searched for every layer
        hidden = {
            layer: outputs.hidden_states[layer].flatten(0, 1).index_select(0, chosen)
            for layer in self._of_hidden()
        }
        maps = {
            layer: outputs.attentions[layer - 1].transpose(1, 2)[at]
            for layer in sorted(self.wanted.attention)
        }
        relations = {}
        if self._values is not None:
            for layer, values in self._values.taken().items():
                related = value_relations(
                    values,
                    batch.attention_mask,
                    heads=self.wanted.relation_heads,
                    causal=self.wanted.causal,
                )
                relations[layer] = related.transpose(1, 2)[at]
        return Features(
            {layer: self._projected(layer, states) for layer, states in hidden.items()},
            maps,
            relations,
        )

    def _of_hidden(self) -> list[int]:
        return sorted(self.wanted.hidden_states)

    def _projected(self, layer: int, states: Tensor) -> Tensor:
        name = str(layer)
        return self.projectors[name](states) if name in self.projectors else states


def value_relations(values: Tensor, mask: Tensor, *, heads: int, causal: bool) -> Tensor:
    """Softmax over keys of scaled products of values: (B, R, T, T) from `values[B, T, D]`.

    R = `heads` parts of D/R each: softmax(v · vᵀ / √(D/R)), as in MiniLM (Wang et al. 2020, arXiv
    2002.10957, section 3.2), in fp32. Keys that are padding, or later ones if `causal`, get 0.
    """
    rows, length, width = values.shape
    parts = values.float().view(rows, length, heads, width // heads).transpose(1, 2)
    products = parts @ parts.transpose(-1, -2) / (width // heads) ** 0.5
    seen = mask[:, None, None, :].bool().expand(-1, 1, length, -1)
    if causal:
        seen = seen & torch.ones(length, length, dtype=torch.bool, device=values.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=values.device)
    lowest = torch.finfo(products.dtype).min
    # a padded query sees itself, so that its row is a number; nobody reads it
    return products.masked_fill(~(seen | itself), lowest).softmax(-1)


@dataclass
class _Values:
    """Takes along the values of the wanted layers while a forward pass goes on."""

    model: Any
    layers: frozenset[int]
    _seen: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer, (module, part) in value_modules(self.model, self.layers).items():
            module.register_forward_hook(self._keeper(layer, part))

    def _keeper(self, layer: int, part: slice | None) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._seen[layer] = output if part is None else output[..., part]

        return keep

    def taken(self) -> dict[int, Tensor]:
        """The values (B, T, D) of the pass just made, by layer; they are handed out once."""
        seen, self._seen = self._seen, {}
        return seen


_VALUE = re.compile(r"(^|\.)(v_proj|value|v_lin)$")
_FUSED = re.compile(r"(^|\.)c_attn$")


def value_modules(model: Any, layers: frozenset[int]) -> dict[int, tuple[nn.Module, slice | None]]:
    """The module that gives the values of each layer, and which part of its output they are.

    Raises:
        ModelError: if the architecture names its values in no known way.
    """
    stack = model.get_submodule(layer_prefix(model))
    found: dict[int, tuple[nn.Module, slice | None]] = {}
    for layer in sorted(layers):
        modules = dict(stack[layer - 1].named_modules())
        own = next((modules[name] for name in modules if _VALUE.search(name)), None)
        fused = next((modules[name] for name in modules if _FUSED.search(name)), None)
        if own is not None:
            found[layer] = (own, None)
        elif fused is not None:  # GPT-2: queries, keys and values side by side
            width = model.config.hidden_size
            found[layer] = (fused, slice(2 * width, 3 * width))
        else:
            raise ModelError(
                f"{type(model).__name__} names no values in its layers, so their relations cannot "
                "be compared.\nCompare attention maps instead: compares = maps."
            )
    return found


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
