"""How much each part of a network does, measured on rows.

In: a loaded model and batches. Out: one number for each layer, head, feed-forward unit and hidden
dimension; larger matters more. One forward pass, no gradients, no labels: what is measured is the
same whatever the rows are used for. Chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.students.anatomy import Anatomy, anatomy
from distill_core.students.copying import layer_prefix
from distill_core.students.pruned_sizes import head_width

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from distill_core.data.batches import Batch


@dataclass(frozen=True)
class WidthImportance:
    """`heads` (L, heads), `units` (L, units), `hidden` (hidden,), all fp64."""

    heads: Tensor
    units: Tensor
    hidden: Tensor


@torch.no_grad()
def layer_importance(model: PreTrainedModel, batches: Sequence[Batch]) -> Tensor:
    """Block influence of each layer, (L,) in fp64, 0–2: 1 − mean cosine(input, output).

    Over the real tokens of all rows. A layer that turns the hidden state little is missed little
    (ShortGPT, Men et al. 2024, arXiv 2403.03853, section 2.3). It needs one pass, where the loss
    without each layer in turn, the other common measure, needs one for every layer.
    """
    layers: list[Any] = list(model.get_submodule(layer_prefix(model)).children())
    sums, counts = torch.zeros(len(layers), dtype=torch.float64), 0

    def watch(place: int) -> Callable[..., None]:
        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = functional.cosine_similarity(before.double(), after.double(), dim=-1)
            sums[place] += (1 - cosine)[real[0]].sum().cpu()

        return hook

    real: list[Tensor] = []
    handles = [
        layer.register_forward_hook(watch(place), with_kwargs=True)
        for place, layer in enumerate(layers)
    ]
    for mask in _run(model, batches, handles, real):
        counts += int(mask.sum())
    return sums / counts


@torch.no_grad()
def width_importance(model: PreTrainedModel, batches: Sequence[Batch]) -> WidthImportance:
    """How much each head, unit and hidden dimension does, averaged over real tokens.

    Activations alone (Minitron, Muralidharan et al. 2024, arXiv 2407.14679, section 2.2):

    - a head: ‖W_out · z‖₂, the length of what it adds to the hidden state;
    - a feed-forward unit: abs(h) · ‖outgoing weights‖₂, likewise;
    - a hidden dimension: abs(norm(x)), summed over all norms, as every layer reads it.

    Heads and units are weighted by what leaves them, so that one whose output goes nowhere
    counts for nothing.

    Raises:
        ModelError: if the architecture is not known (`anatomy.py`).
    """
    family = anatomy(model.config)
    layers: list[Any] = list(model.get_submodule(layer_prefix(model)).children())
    width = head_width(model.config)
    real: list[Tensor] = []
    heads = _Sums(len(layers))
    units = _Sums(len(layers))
    hidden = _Sums(1)

    def watch_heads(place: int, module: nn.Module) -> Callable[..., None]:
        out = _outgoing(module, family).double()  # (D, heads · width)
        blocks = out.unflatten(1, (-1, width)).transpose(0, 1)  # (heads, D, width)
        gram = blocks.transpose(1, 2) @ blocks  # |W z|² = zᵀ WᵀW z

        def hook(_: Any, args: Any) -> None:
            z = args[0].flatten(0, -2)[real[0].flatten()].double().unflatten(1, (-1, width))
            squared = torch.einsum("nhi,hij,nhj->nh", z, gram, z)
            heads.add(place, squared.clamp(min=0).sqrt())

        return hook

    def watch_units(place: int, module: nn.Module) -> Callable[..., None]:
        length = _outgoing(module, family).double().norm(dim=0)

        def hook(_: Any, args: Any) -> None:
            h = args[0].flatten(0, -2)[real[0].flatten()].double()
            units.add(place, h.abs() * length)

        return hook

    def watch_norm(_: Any, __: Any, output: Tensor) -> None:
        hidden.add(0, output.flatten(0, -2)[real[0].flatten()].double().abs())

    handles = []
    for place, layer in enumerate(layers):
        for name, watch in ((family.attention_out, watch_heads), (family.units_out, watch_units)):
            module = layer.get_submodule(name)
            handles.append(module.register_forward_pre_hook(watch(place, module)))
    for name, module in model.named_modules():
        if family.is_norm(name):
            handles.append(module.register_forward_hook(watch_norm))
    for _ in _run(model, batches, handles, real):
        pass
    return WidthImportance(heads.mean(), units.mean(), hidden.mean()[0])


class _Sums:
    """Means of (N, parts) values for each of several places."""

    def __init__(self, places: int) -> None:
        self.sums: list[Tensor | None] = [None] * places
        self.counts = [0] * places

    def add(self, place: int, values: Tensor) -> None:
        total = values.sum(0).cpu()
        before = self.sums[place]
        self.sums[place] = total if before is None else before + total
        self.counts[place] += len(values)

    def mean(self) -> Tensor:
        pairs = zip(self.sums, self.counts, strict=True)
        return torch.stack([total / count for total, count in pairs if total is not None])


def _run(
    model: PreTrainedModel, batches: Sequence[Batch], handles: list[Any], real: list[Tensor]
) -> Iterator[Tensor]:
    """Run the body over the batches with hooks in place; `real[0]` is the batch's mask."""
    assert batches, "importance is measured on rows"
    with _eval_without_cache(model):
        try:
            for batch in batches:
                real[:] = [batch.attention_mask.bool()]
                model.base_model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
                yield real[0]
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _eval_without_cache(model: PreTrainedModel) -> Iterator[None]:
    was_training, cached = model.training, getattr(model.config, "use_cache", None)
    model.eval()
    if cached is not None:
        model.config.use_cache = False
    try:
        yield
    finally:
        model.train(was_training)
        if cached is not None:
            model.config.use_cache = cached


def _outgoing(module: Any, family: Anatomy) -> Tensor:
    """Weights (outputs, inputs) of a linear layer, however it stores them."""
    return module.weight.T if family.transposed else module.weight
