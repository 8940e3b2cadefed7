"""What a teacher cache keeps at each position: hidden states, likeliest tokens, or drawn ones.

In: rows (N, d) before a teacher's head, and the head. Out: arrays for the disk, one set for each
row of the data; and back again, a tensor or `SparseRows`. Knows nothing of files or batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from distill_core.errors import ModelError
from distill_core.losses.sparse import SparseRows
from distill_core.recipe import HiddenCache, SampledCache, TeacherCache
from distill_core.teachers.heads import Heads

Arrays = Mapping[str, np.ndarray]
"""What is kept of one row of the data, by name."""

LOGITS_AT_ONCE = 512
"""Positions whose logits are in memory together."""

_LOWEST = -60000.0
"""A log-probability that fp16 still holds, for tokens of none."""


class Kind(Protocol):
    """One way to keep what a teacher says."""

    name: ClassVar[str]

    def kept(
        self, rows: Tensor, heads: Heads, *, keys: Sequence[bytes], counts: Sequence[int]
    ) -> list[Arrays]:
        """Arrays of each of R rows of the data, from `rows[N, d]`; N = Σ `counts`.

        `keys` name the rows of the data, so that what is drawn depends on the row alone.
        """
        ...

    def joined(self, found: Sequence[Arrays]) -> Tensor | SparseRows:
        """What was kept of some rows of the data, one after the other."""
        ...


@dataclass(frozen=True)
class Hidden:
    """Rows (N, d) themselves, in fp16, bf16 or fp32."""

    name: ClassVar[str] = "hidden"
    precision: str

    def kept(
        self, rows: Tensor, heads: Heads, *, keys: Sequence[bytes], counts: Sequence[int]
    ) -> list[Arrays]:
        """Raises `ModelError` where a number is too large for the format."""
        stored = rows.detach().to(_DTYPES[self.precision]).cpu()
        if not bool(stored.isfinite().all()) and bool(rows.isfinite().all()):
            raise ModelError(
                f"The teacher's hidden states reach {float(rows.abs().max()):.3g}, which "
                f"{self.precision} cannot hold.\nSet teacher_cache.precision to bf16 or fp32.",
                field="teacher_cache.precision",
            )
        # NumPy has no bf16: its bits are kept as whole numbers
        whole = stored.view(torch.int16) if self.precision == "bf16" else stored
        return [{"hidden": part} for part in _split(whole.numpy(), counts)]

    def joined(self, found: Sequence[Arrays]) -> Tensor:
        """Rows (N, d) in the format in which they were kept."""
        whole = torch.from_numpy(np.concatenate([one["hidden"] for one in found]))
        return whole.view(torch.bfloat16) if self.precision == "bf16" else whole


@dataclass(frozen=True)
class TopK:
    """The k likeliest tokens with their log-probabilities, and that of all others together."""

    name: ClassVar[str] = "top_k"
    k: int
    temperature: float
    vocab_size: int

    def kept(
        self, rows: Tensor, heads: Heads, *, keys: Sequence[bytes], counts: Sequence[int]
    ) -> list[Arrays]:
        """Log-probabilities in fp16; the tail's in fp32, −∞ where there is no other token."""
        parts: dict[str, list[np.ndarray]] = {"ids": [], "log_p": [], "log_tail": []}
        for part in rows.split(LOGITS_AT_ONCE):
            log_p = _log_p(heads.rows(part).all(), self.temperature)
            top = log_p.topk(min(self.k, log_p.shape[1]), dim=-1)
            # summed up, not taken from 1: the tail of a sure teacher is tiny, and counts
            tail = log_p.scatter(1, top.indices, -torch.inf).logsumexp(-1)
            parts["ids"].append(_ids(top.indices, self.vocab_size))
            parts["log_p"].append(_fp16(top.values))
            parts["log_tail"].append(tail.cpu().numpy())
        whole = {name: np.concatenate(some) for name, some in parts.items()}
        return _each({name: _split(array, counts) for name, array in whole.items()})

    def joined(self, found: Sequence[Arrays]) -> SparseRows:
        """Tokens (N, k); what fp16 has rounded is brought back to a sum of 1, tail included."""
        ids, log_p, tail = (_together(found, name) for name in ("ids", "log_p", "log_tail"))
        log_p = log_p.float()
        total = torch.cat([log_p, tail[:, None]], 1).logsumexp(-1)
        log_p, tail = log_p - total[:, None], tail - total
        whole = bool((tail == -torch.inf).all())
        return SparseRows(
            ids.long(),
            log_p,
            log_p.exp(),
            None if whole else tail,
            self.temperature,
            self.vocab_size,
        )


@dataclass(frozen=True)
class Sampled:
    """Tokens drawn from the teacher, each with how often and its log-probability."""

    name: ClassVar[str] = "sampled"
    samples: int
    temperature: float
    vocab_size: int

    def kept(
        self, rows: Tensor, heads: Heads, *, keys: Sequence[bytes], counts: Sequence[int]
    ) -> list[Arrays]:
        """Draw each position's tokens, one from each of S equal parts of the distribution.

        A token of probability p is drawn S · p times on average, which makes its share unbiased;
        taking every part once spreads the draws more evenly than S free ones (stratified sampling).
        """
        drawn = torch.from_numpy(
            np.concatenate([self._numbers(key, n) for key, n in zip(keys, counts, strict=True)])
        )
        parts: dict[str, list[np.ndarray]] = {"ids": [], "times": [], "log_p": [], "different": []}
        for part, u in zip(rows.split(LOGITS_AT_ONCE), drawn.split(LOGITS_AT_ONCE), strict=True):
            log_p = _log_p(heads.rows(part).all(), self.temperature)
            shares = log_p.double().exp().cumsum(-1)
            # the first token whose sum of shares is above the number: never one of share 0
            scaled = u.to(shares.device) * shares[:, -1:]
            ids = torch.searchsorted(shares, scaled, right=True).clamp(max=self.vocab_size - 1)
            place = torch.arange(len(ids), device=ids.device)[:, None] * self.vocab_size
            pairs, times = (ids + place).flatten().unique(return_counts=True)
            line, token = pairs // self.vocab_size, pairs % self.vocab_size
            parts["ids"].append(_ids(token, self.vocab_size))
            parts["times"].append(times.cpu().numpy().astype(np.uint16))
            parts["log_p"].append(_fp16(log_p[line, token]))
            parts["different"].append(
                line.bincount(minlength=len(ids)).cpu().numpy().astype(np.uint16)
            )
        whole = {name: np.concatenate(some) for name, some in parts.items()}
        different = _split(whole.pop("different"), counts)
        entries = [int(some.sum(dtype=np.int64)) for some in different]
        split = {name: _split(array, entries) for name, array in whole.items()}
        return _each(split | {"different": different})

    def _numbers(self, key: bytes, positions: int) -> np.ndarray:
        """(positions, S) numbers in 0–1, one in each of S equal parts, ascending."""
        stream = np.random.default_rng(int.from_bytes(key, "little"))
        return (np.arange(self.samples) + stream.random((positions, self.samples))) / self.samples

    def joined(self, found: Sequence[Arrays]) -> SparseRows:
        """Tokens (N, K), K the most different ones of a position; empty places have share 0."""
        different = _together(found, "different").long()
        ids, times, log_p = (_together(found, name) for name in ("ids", "times", "log_p"))
        width = int(different.max()) if len(different) else 1
        filled = torch.arange(width) < different[:, None]

        def table(values: Tensor, dtype: torch.dtype) -> Tensor:
            made = torch.zeros(len(different), width, dtype=dtype)
            return made.masked_scatter(filled, values.to(dtype))

        shares = table(times, torch.float32) / self.samples
        return SparseRows(
            table(ids, torch.int64),
            table(log_p, torch.float32),
            shares,
            None,
            self.temperature,
            self.vocab_size,
        )


def kind_of(settings: TeacherCache, *, temperature: float, vocab_size: int) -> Any:
    """The `Kind` that a recipe asks for; hidden states serve every temperature."""
    if isinstance(settings, HiddenCache):
        return Hidden(settings.precision)
    if isinstance(settings, SampledCache):
        return Sampled(settings.samples, temperature, vocab_size)
    return TopK(settings.k, temperature, vocab_size)


_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def _log_p(logits: Tensor, temperature: float) -> Tensor:
    return (logits.float() / temperature).log_softmax(-1)


def _fp16(values: Tensor) -> np.ndarray:
    stored: np.ndarray = values.clamp(min=_LOWEST).half().cpu().numpy()
    return stored


def _ids(ids: Tensor, vocab_size: int) -> np.ndarray:
    """Token ids in two bytes where they fit."""
    return ids.cpu().numpy().astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def _split(whole: np.ndarray, counts: Sequence[int]) -> list[np.ndarray]:
    return np.split(whole, np.cumsum(counts)[:-1])


def _each(columns: Mapping[str, Sequence[np.ndarray]]) -> list[Arrays]:
    """A list by name becomes a list of arrays by name."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _together(found: Sequence[Arrays], name: str) -> Tensor:
    """One array of all rows; whole numbers in a form that torch computes with."""
    whole = np.concatenate([one[name] for one in found])
    return torch.from_numpy(whole.astype(np.int64) if whole.dtype.kind == "u" else whole)
