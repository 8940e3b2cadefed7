"""Logits at the supervised positions only.

In: a causal language model and a `Batch`. Out: logits (N, V) of the positions whose next token is
supervised, cut to the shared vocabulary, or the loss that is made of them chunk by chunk. The body
sees whole sequences; the head, often the larger half of a small model, sees only the rows that the
loss asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_core.forward import packed
from distill_core.forward.class_logits import ClassLogits
from distill_core.losses.chunked import Compared, Comparison, compared
from distill_core.losses.heads import Head, bend_of, linear_head
from distill_core.losses.logit_rows import DenseRows, HeadRows, LogitRows
from distill_core.models.classifiers import is_classifier
from distill_core.teachers.mixture import MixedRows, Mixture

if TYPE_CHECKING:
    from distill_core.data.batches import Batch


class SupervisedLogits(nn.Module):
    """A model whose forward pass gives logits (N, V) at supervised positions.

    Args:
        model: A causal language model, with or without a LoRA adapter, or a `Mixture` of them.
        vocab_size: Number of ids that the tokenizer has; padded rows of the head beyond it are
            cut off before any softmax.
    """

    def __init__(self, model: nn.Module, *, vocab_size: int) -> None:
        super().__init__()
        self.model = model
        self.vocab_size = vocab_size
        several = model.members if isinstance(model, Mixture) else ()
        # a list, so that the members are not registered twice as submodules
        self._members = [SupervisedLogits(one, vocab_size=vocab_size) for one in several]
        self._parts = None if self._members else _body_and_head(model)
        self._reach: dict[torch.dtype, int] = {}

    def forward(self, batch: Batch) -> Tensor:
        """Logits (N, V), N = `batch.supervised.sum()`, in row-major order of the batch."""
        return self.logits(self.outputs(batch), batch)

    def outputs(self, batch: Batch, *, whole: bool = False, **wishes: bool) -> Any:
        """What the body says of whole sequences; `wishes` such as `output_hidden_states`.

        Unless somebody looks inside (`whole`, or any wish), several sequences are packed.
        """
        if self._members:
            return [one.outputs(batch, whole=whole, **wishes) for one in self._members]
        several = len(batch.rows) > 1 and not whole and not any(wishes.values())
        # one row alone needs no trial
        if self._parts and several and max(batch.real.lengths) <= self.longest_packed():
            return packed.packed_outputs(self._parts[0], _config(self.model), batch)
        inputs = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "position_ids": batch.position_ids,
            "use_cache": False,
            **wishes,
        }
        return self.model(**inputs) if self._parts is None else self._parts[0](**inputs)

    def longest_packed(self) -> int:
        """Tokens of the longest row that need not be padded; 0: all are. Tried once a format."""
        if self._members:
            return min(one.longest_packed() for one in self._members)
        if self._parts is None:
            return 0
        computed = packed.computes_in(self._parts[0])
        if computed not in self._reach:
            self._reach[computed] = packed.reach(self._parts[0], _config(self.model))
        return self._reach[computed]

    def logits(self, outputs: Any, batch: Batch) -> Tensor:
        """Logits (N, V) from the body's outputs: the head sees the supervised positions alone."""
        return self.rows(outputs, batch).all()

    def rows(self, outputs: Any, batch: Batch) -> LogitRows:
        """The same logits, as rows that the head makes when they are asked for."""
        if self._members:
            pairs = zip(self._members, outputs, strict=True)
            members = [one.rows(output, batch) for one, output in pairs]
            return MixedRows(members, self.model.weights)  # type: ignore[arg-type]
        if self._parts is None:
            return DenseRows(_chosen(outputs.logits, batch)[:, : self.vocab_size])
        return HeadRows(_states(outputs, batch), self._parts[1], self.vocab_size)

    def compared(self, outputs: Any, batch: Batch, comparison: Comparison) -> Compared | None:
        """The loss chunk by chunk; None where the head is more than one matrix."""
        if not comparison.terms:  # nobody asks for logits: the head is left alone
            return Compared(torch.zeros((), device=batch.labels.device), {})
        if self._parts is None or linear_head(self._parts[1]) is None:
            return None
        states, head = _states(outputs, batch), self._parts[1]
        return compared(states, head, comparison, vocab_size=self.vocab_size)


def supervised_logits(model: nn.Module, *, vocab_size: int) -> SupervisedLogits | ClassLogits:
    """What gives the logits that losses and scores compare, by what stands on the model."""
    whole: Any = model
    base = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    if is_classifier(base.config):
        return ClassLogits(model)
    return SupervisedLogits(model, vocab_size=vocab_size)


def _config(model: Any) -> Any:
    """The configuration that the layers ask for their attention."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return causal.config.get_text_config()


def _states(outputs: Any, batch: Batch) -> Tensor:
    """Last hidden states (N, d) at the supervised positions."""
    if isinstance(outputs, packed.SideBySide):
        return outputs.states.index_select(0, batch.real.supervised)
    return _chosen(outputs.last_hidden_state, batch)


def _chosen(values: Tensor, batch: Batch) -> Tensor:
    """The supervised positions of `values[B, T, d]`: (N, d)."""
    return values.flatten(0, 1).index_select(0, batch.places)


def _body_and_head(model: Any) -> tuple[nn.Module, nn.Module] | None:
    """Split a model into body and head, or None where its logits are more than head(body(x)).

    A head scales and caps its logits as the configuration says; a two-token trial tells whether
    that is all, whatever the class.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    body, head = causal.base_model, causal.get_output_embeddings()
    if head is None or body is causal:
        return None
    bend = bend_of(causal.config)
    made = head if bend.is_none else Head(head, bend)
    device = next(causal.parameters()).device
    ids = torch.tensor([[0, 1]], device=device)
    was_training = causal.training
    causal.eval()
    try:
        with torch.no_grad():
            whole = causal(input_ids=ids, use_cache=False).logits
            split = made(body(input_ids=ids, use_cache=False).last_hidden_state)
        equal = torch.equal(whole, split)
        if not (equal or bend.is_none):  # to divide is not quite to multiply by the inverse
            apart = (whole.float() - split.float()).abs().max()
            equal = bool(apart <= 16 * torch.finfo(split.dtype).eps * whole.abs().max())
    except (AttributeError, TypeError):
        equal = False
    finally:
        causal.train(was_training)
    # a tuple, so that the parts are not registered twice as submodules
    return (body, made) if equal else None
