"""Rows that grow by a token at a time, and what a model says comes next.

In: a causal language model and rows of token ids. Out: logits after each row. A model that hands
out what it has read (attention's keys and values, a recurrent state) reads each token once; one
that keeps nothing reads its rows anew for every token. Knows nothing of sampling or of when to end.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.teachers.mixture import Mixture

CACHES = ("past_key_values", "cache_params")
"""What models call their memory, of which the second kind is told of the newest tokens alone."""


class GrowingRows:
    """Rows of unequal length in one batch; none of them depends on its neighbours.

    With a memory they are padded on the left and masked, so that all grow at the same place, and
    positions count real tokens only. Without one they are padded on the right, where no causal
    model looks, whether it knows masks or not.

    Args:
        model: A causal language model, with or without an adapter, or a `Mixture` of them.
        rows: Token ids of each row, none of them empty.
    """

    def __init__(self, model: Any, rows: Sequence[list[int]]) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._lengths = torch.tensor([len(row) for row in rows], device=device)
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for line, row in enumerate(rows):
            ids[line, longest - len(row) :] = torch.tensor(row)
            mask[line, longest - len(row) :] = 1
        self._ids, self._mask = ids.to(device), mask.to(device)
        self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._cache: Any = None
        self._cache_name = CACHES[0]
        self._forgets = False
        if not _heeds_masks(model):
            self._forget()

    @property
    def can_shrink(self) -> bool:
        """Whether some of the rows may go on without the others."""
        return all(hasattr(cache, "reorder_cache") for cache in self._caches)

    def logits(self) -> Tensor:
        """Logits (B, V) of the token after each row."""
        if not self._forgets:
            output = self._model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=self._positions,
                use_cache=True,
                logits_to_keep=1,
                **({} if self._cache is None else {self._cache_name: self._cache}),
            )
            for name in CACHES:
                if (cache := getattr(output, name, None)) is not None:
                    self._cache_name, self._cache = name, cache
                    return output.logits[:, -1]
            self._forget()
        return self._logits_of_whole_rows()

    def grow(self, following: Tensor) -> None:
        """Put `following[B]` behind the rows."""
        self._lengths = self._lengths + 1
        if self._forgets:
            self._ids = functional.pad(self._ids, (0, 1))
            self._ids.scatter_(1, self._lengths[:, None] - 1, following[:, None])
            return
        self._ids, self._positions = following[:, None], self._positions[:, -1:] + 1
        if self._cache_name == "past_key_values":
            self._mask = functional.pad(self._mask, (0, 1), value=1)
        else:
            self._mask = torch.ones_like(self._ids)

    def shrink(self, kept: Tensor) -> None:
        """Go on with the rows at the places `kept` alone."""
        self._ids, self._lengths = self._ids[kept], self._lengths[kept]
        self._mask, self._positions = self._mask[kept], self._positions[kept]
        for cache in self._caches:
            cache.reorder_cache(kept)

    @property
    def _caches(self) -> list[Any]:
        """One, or none yet; of a mixture each member's."""
        if self._cache is None:
            return []
        return self._cache if isinstance(self._cache, list) else [self._cache]

    def _forget(self) -> None:
        """From now on read whole rows, padded on the right."""
        self._forgets = True
        width = self._ids.shape[1]
        places = torch.arange(width, device=self._ids.device)
        self._ids = self._ids.gather(1, (places - self._lengths[:, None]) % width)

    def _logits_of_whole_rows(self) -> Tensor:
        width = self._ids.shape[1]
        places = torch.arange(width, device=self._ids.device)
        logits = self._model(
            input_ids=self._ids,
            attention_mask=(places < self._lengths[:, None]).long(),
            position_ids=places.expand_as(self._ids),
            use_cache=False,
            logits_to_keep=width - int(self._lengths.min()) + 1,
        ).logits
        # counted from the end: not every model heeds `logits_to_keep`
        last = logits.shape[1] - width + self._lengths - 1
        return logits[torch.arange(len(last), device=last.device), last]


def _heeds_masks(model: Any) -> bool:
    """Whether padding on the left can be hidden from a model: all that would remember it do."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if isinstance(base, Mixture):
        return all(map(_heeds_masks, base.members))
    return "attention_mask" in inspect.signature(base.forward).parameters
