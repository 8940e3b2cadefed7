"""From a teacher's last hidden states to its logits, without the rest of the teacher.

In: a loaded teacher. Out: what it says of a batch as rows (N, d) before its head, and the head as
plain tensors, which can be kept. A trial makes sure that the two together are the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_core.errors import ModelError
from distill_core.forward.class_logits import ClassLogits
from distill_core.losses.heads import Bend, Head, bend_of
from distill_core.losses.logit_rows import DenseRows, HeadRows, LogitRows
from distill_core.models.classifiers import is_classifier
from distill_core.teachers.mixture import MixedRows, Mixture

if TYPE_CHECKING:
    from distill_core.data.batches import Batch


@dataclass(frozen=True)
class HeadParts:
    """What a head is made of, ready to be kept: `weight` (V, d), `bias` (V,)."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    @property
    def width(self) -> int:
        """Of the hidden states that it reads."""
        return self.weight.shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights."""
        tensors = [self.weight, *([] if self.bias is None else [self.bias])]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def module(self) -> nn.Module:
        """The head itself, of these very tensors; one plain matrix where it is no more."""
        outputs, inputs = self.weight.shape
        linear = nn.Linear(inputs, outputs, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias, requires_grad=False)
        bend = Bend(self.scale, self.cap)
        return linear if bend.is_none else Head(linear, bend)


class Heads:
    """All heads of a teacher: one, one for each of several, or none where rows are logits.

    Args:
        parts: Of each head.
        weights: Of each member in the mixture; they sum to 1.
    """

    def __init__(self, parts: Sequence[HeadParts] = (), weights: Sequence[float] = ()) -> None:
        self.parts, self.weights = parts, weights
        self._modules = [one.module() for one in parts]

    def rows(self, states: Tensor) -> LogitRows:
        """Rows of logits from `states[N, d]`, those of several teachers side by side."""
        if not self.parts:
            return DenseRows(states)
        split = states.split([one.width for one in self.parts], -1)
        several = [
            HeadRows(part.to(one.weight.dtype), head, len(one.weight))
            for one, head, part in zip(self.parts, self._modules, split, strict=True)
        ]
        return several[0] if len(several) == 1 else MixedRows(several, self.weights)

    def to(self, device: torch.device | str) -> Heads:
        """Return the heads on a device."""
        moved = [
            replace(
                one,
                weight=one.weight.to(device),
                bias=None if one.bias is None else one.bias.to(device),
            )
            for one in self.parts
        ]
        return Heads(moved, self.weights)

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(one.size_bytes for one in self.parts)

    @property
    def width(self) -> int:
        """Of the rows that they read."""
        return sum(one.width for one in self.parts)


class Reader:
    """A teacher taken apart: its bodies read batches, its heads are plain tensors.

    Args:
        model: A causal language model, a classifier, or a `Mixture` of either, in eval mode.
        vocab_size: Number of ids that the tokenizer has; heads are cut to it.

    Raises:
        ModelError: if the logits are more than a head on the last hidden states.
    """

    def __init__(self, model: Any, *, vocab_size: int) -> None:
        self._model = model
        several = isinstance(model, Mixture)
        members = list(model.members) if several else [model]
        self._bodies: list[Any] = []
        if is_classifier(members[0].config):
            self._classes: ClassLogits | None = ClassLogits(model)
            self.heads = Heads()
            return
        self._classes = None
        pairs = [_taken_apart(one, vocab_size) for one in members]
        self._bodies = [body for body, _ in pairs]
        self.heads = Heads([head for _, head in pairs], model.weights if several else [1.0])

    @torch.no_grad()
    def rows(self, batch: Batch) -> Tensor:
        """Rows (N, d) at the supervised positions of `batch`; a classifier's are its logits."""
        self._model.eval()
        with torch.autocast(batch.input_ids.device.type, enabled=False):  # in its own format
            return self._rows(batch)

    def _rows(self, batch: Batch) -> Tensor:
        if self._classes is not None:
            logits: Tensor = self._classes(batch)
            return logits
        found = [
            body(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state[batch.supervised]
            for body in self._bodies
        ]
        return found[0] if len(found) == 1 else torch.cat(found, -1)


def _taken_apart(model: Any, vocab_size: int) -> tuple[Any, HeadParts]:
    """Body and head of a causal language model, tried on two tokens."""
    body, linear = model.base_model, model.get_output_embeddings()
    if linear is not None and body is not model:
        bias = getattr(linear, "bias", None)
        head = HeadParts(
            linear.weight.detach()[:vocab_size],
            None if bias is None else bias.detach()[:vocab_size],
            *bend_of(model.config),
        )
        ids = torch.tensor([[0, 1]], device=linear.weight.device)
        with torch.no_grad():
            whole = model(input_ids=ids, use_cache=False).logits[0, :, :vocab_size].float()
            hidden = body(input_ids=ids, use_cache=False).last_hidden_state[0]
            apart = (head.module()(hidden).float() - whole).abs().max()
            if apart <= 16 * torch.finfo(hidden.dtype).eps * whole.abs().max():
                return body, head
    raise ModelError(
        f"{type(model).__name__} makes its logits in a way of its own, which no teacher cache "
        "knows.\nLeave teacher_cache empty: the teacher is then asked at every step.",
        field="teacher_cache",
    )
