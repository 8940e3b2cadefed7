"""Sequences side by side in one row, without padding, each attending to itself alone.

In: the body of a causal language model and a `Batch`. Out: its last hidden states, unpadded.
Attention goes over one sequence after the other, on CUDA in half precision over all at once
(`varlen_attn`). Whether a body can be run so is found by trying, not by its name; and it is run so
only as far as the trial reaches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from distill_core.data.batches import Batch, collate
from distill_core.data.tokenize import Encoded

NAME = "sequences_side_by_side"
"""transformers knows the attention by this name; it makes no mask for it."""

TRIED_LENGTHS = (5, 1, 3)
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-8}
_CLOSE_IN_HALF_PRECISION = 5e-2

UNLIMITED = sys.maxsize
"""Reach of a body in which a sequence may be as long as it likes."""

WINDOWS = {"sliding_window": "sliding_attention", "attention_chunk_size": "chunked_attention"}
"""What a configuration calls how far a layer sees, and the layers that see so far."""


@dataclass(frozen=True, slots=True)
class _Sequences:
    """How the row is cut."""

    lengths: list[int]
    starts: Tensor | None
    """(N + 1,) on the device, for kernels that take all at once."""
    windows: set[int] = field(default_factory=set)
    """Those that layers have asked `attend` for."""


class SideBySide(NamedTuple):
    """What a body says of a batch whose rows lay side by side."""

    states: Tensor
    """(M, d): last hidden states of the tokens that `Batch.real` names."""


_now: ContextVar[_Sequences] = ContextVar("sequences")


def reach(body: nn.Module, config: Any) -> int:
    """Tokens of the longest sequence that comes out the same packed as padded; 0: none does.

    Three short ones are tried. Windows that layers see through their mask alone, which nobody makes
    for `attend`, would be lost: then a sequence must fit into the narrowest.
    """
    if config._attn_implementation != "sdpa":  # "eager" has been asked for to see the maps
        return 0
    batch = _trial(config).to(next(body.parameters()).device)
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():
            padded = body(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
            packed, asked = _states(body, config, batch)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError):
        return 0
    finally:
        body.train(was_training)
    padded = padded.flatten(0, 1)[batch.real.places]
    close = CLOSE.get(computes_in(body), _CLOSE_IN_HALF_PRECISION)
    same = bool((packed - padded).abs().max() <= close * padded.abs().max())
    return min(_windows(config) - asked, default=UNLIMITED) if same else 0


def _trial(config: Any) -> Batch:
    """Three short rows."""
    ids = iter(range(sum(TRIED_LENGTHS)))
    lines = [[next(ids) % config.vocab_size for _ in range(length)] for length in TRIED_LENGTHS]
    rows = [Encoded(line, line, labelled=True, truncated=False) for line in lines]
    return collate(rows, pad_token_id=0, rows=range(len(rows)))


def _windows(config: Any) -> set[int]:
    """How many tokens layers see, where these are not all."""
    kinds = getattr(config, "layer_types", None)
    named = {
        getattr(config, name, None)
        for name, kind in WINDOWS.items()
        if kinds is None or kind in kinds
    }
    return {size for size in named if size}


def computes_in(body: nn.Module) -> torch.dtype:
    """The number format of the body's products here and now: autocast's, or that of its weights.

    Its last norm may well return more digits than were computed.
    """
    weight = next(value for value in body.parameters() if value.is_floating_point())
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def packed_outputs(body: nn.Module, config: Any, batch: Batch) -> SideBySide:
    """The last hidden states as the body would give them for the padded batch."""
    return SideBySide(_states(body, config, batch)[0])


def _states(body: nn.Module, config: Any, batch: Batch) -> tuple[Tensor, set[int]]:
    """(M, d): the last hidden states of all real tokens; and the windows asked for."""
    places, lengths, _, starts = batch.real
    sequences = _Sequences(lengths, starts if starts.device.type == "cuda" else None)
    with _attending(config, sequences):
        output = body(
            input_ids=batch.input_ids.flatten()[places][None],
            position_ids=batch.position_ids.flatten()[places][None],
            attention_mask=None,
            use_cache=False,
        )
    return output.last_hidden_state[0], sequences.windows


@contextmanager
def _attending(config: Any, sequences: _Sequences) -> Iterator[None]:
    """Within, the body's attention is `attend`, over these sequences."""
    before, told = config._attn_implementation, _now.set(sequences)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _now.reset(told)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence: (1, N, heads, d) from query (1, heads, N, d).

    Key and value may have fewer heads. With a `sliding_window` of W a token sees itself and the
    W − 1 before it.

    Raises:
        NotImplementedError: for capped scores, or a mask of the architecture's own.
    """
    if softcap is not None or attention_mask is not None:
        raise NotImplementedError("scores that are capped, or masked in another way")
    cut = _now.get()
    if sliding_window:
        cut.windows.add(sliding_window)
    grouped = query.shape[1] != key.shape[1]
    if cut.starts is not None and query.dtype in {torch.float16, torch.bfloat16} and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        longest = max(cut.lengths)
        q, k, v = (side[0].transpose(0, 1) for side in (query, key, value))
        together: Any = varlen_attn(
            q,
            k,
            v,
            cut.starts,
            cut.starts,
            longest,
            longest,
            scale=scaling,
            window_size=(sliding_window - 1 if sliding_window else -1, 0),
            enable_gqa=grouped,
        )
        return together[None], None
    parts = zip(*(side.split(cut.lengths, dim=2) for side in (query, key, value)), strict=True)
    found = []
    for q, k, v in parts:
        length = q.shape[2]
        window = None
        if sliding_window and sliding_window < length:
            seen = torch.ones(length, length, dtype=torch.bool, device=q.device)
            window = seen.tril() & seen.triu(1 - sliding_window)
        found.append(
            functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=window,
                is_causal=window is None,
                scale=scaling,
                dropout_p=dropout,
                enable_gqa=grouped,
            )
        )
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
