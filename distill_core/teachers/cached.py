"""A teacher that is not in memory: what it has said once, found again by what it was asked.

In: a `Batch`. Out: the same as from the teacher itself, to the precision of what is kept. A row is
looked up by the hash of its token ids and of the positions asked about, in a folder named by the
hash of all else that an answer depends on: the order of rows, the step, the epoch, the seed and the
student do not matter. What is not there is an error, never a guess. `cache_pass.py` fills it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill_core import files
from distill_core.data.batches import mover
from distill_core.data.class_batches import ClassBatch
from distill_core.errors import CacheError, ModelError
from distill_core.forward.network import View
from distill_core.forward.packed import UNLIMITED
from distill_core.generate import Continuation
from distill_core.losses.sparse import SparseRows
from distill_core.recipe import HiddenCache, TeacherCache
from distill_core.teachers.cache_kinds import Kind, kind_of
from distill_core.teachers.cache_store import RowStore
from distill_core.teachers.heads import HeadParts, Heads
from distill_core.teachers.said import Said

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.data.batches import Batch
    from distill_core.forward.network import Wanted
    from distill_core.losses.logit_rows import LogitRows

FOLDER = "teacher_cache"
LAYOUT = 1
"""Of what is kept; rows in another layout are not read."""

PROVIDES: Mapping[str, frozenset[str]] = {
    "hidden": frozenset({"dense", "text"}),
    "top_k": frozenset({"sparse", "text"}),
    "sampled": frozenset({"sparse", "text"}),
}
"""What a cache of each kind can be asked for (`LossTerm.needs`)."""

_HEADS, _SAID = "heads.safetensors", "said.json"


def row_keys(batch: Batch) -> list[bytes]:
    """The key of each row of a batch (B,), 16 bytes: its ids, and where it is asked about.

    Padding, its side and the other rows do not matter.
    """
    batch = batch.unmoved
    ids = batch.input_ids.cpu().numpy().astype("<i4")
    real = batch.attention_mask.cpu().numpy().astype(bool)
    if isinstance(batch, ClassBatch):
        types = batch.token_type_ids
        more = np.zeros_like(ids) if types is None else types.cpu().numpy().astype("<i4")
    else:
        more = batch.supervised.cpu().numpy().astype("<i4")
    keys = []
    for line, mask in enumerate(real):
        digest = hashlib.blake2b(ids[line][mask].tobytes(), digest_size=16)
        digest.update(b"|" + more[line][mask].tobytes())
        keys.append(digest.digest())
    return keys


def row_counts(batch: Batch) -> list[int]:
    """How many positions of each row (B,) are asked about."""
    counts: list[int] = batch.unmoved.supervised.sum(1).tolist()
    return counts


def identity(
    settings: TeacherCache,
    teacher: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    temperature: float | None,
    classes: Sequence[str] | None,
) -> dict[str, Any]:
    """All that a kept answer depends on beside the row: its hash names the folder.

    `teacher` says which weights in which number format (`loading.identity`). Hidden states serve
    every `temperature`; some of the tokens are taken at one.
    """
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    made: dict[str, Any] = {
        "layout": LAYOUT,
        "teacher": dict(teacher),
        "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
        "vocab_size": len(tokenizer),
        "template": tokenizer.chat_template,
        "classes": list(classes) if classes is not None else None,
        "settings": settings.model_dump(),
    }
    return made if isinstance(settings, HiddenCache) else made | {"temperature": temperature}


@dataclass
class Kept:
    """What is kept of a teacher in one kind: rows on disk, and how to read them."""

    store: RowStore
    kind: Kind

    def of(self, batch: Batch) -> Tensor | SparseRows:
        """What is kept of the positions of a batch; raises `CacheError` where a row is not."""
        return self.kind.joined(self.store.read(row_keys(batch)))


class CachedTeacher:
    """Answers from what is kept: `training` for losses, `scoring` for held-out rows.

    Args:
        settings: What is kept of the rows to learn from.
        root: Where folders of caches are.
        teacher: Which weights, in which number format (`loading.identity`).
        tokenizer: The teacher's.
        temperature: Of the terms, where only some tokens are kept.
        classes: Which the teacher tells apart; None: it writes text.
        device: Where batches are.
    """

    def __init__(
        self,
        settings: TeacherCache,
        *,
        root: Path,
        teacher: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        temperature: float | None,
        classes: Sequence[str] | None,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.vocab_size = len(tokenizer)
        self.provides = PROVIDES[settings.kind]

        def kept(one: TeacherCache) -> Kept:
            named = identity(one, teacher, tokenizer, temperature=temperature, classes=classes)
            kind = kind_of(one, temperature=temperature or 1.0, vocab_size=self.vocab_size)
            return Kept(RowStore(root, named), kind)

        self.training = kept(settings)
        whole = isinstance(settings, HiddenCache)
        # held-out rows are few: they are scored by the whole distribution, whatever is learnt from,
        # in a format that holds every number
        self.scoring = self.training if whole else kept(HiddenCache(precision="fp32"))
        self.said = Said(self.scoring.store.folder / _SAID)
        self._heads: Heads | None = None

    @property
    def heads(self) -> Heads:
        """From rows of hidden states to logits; raises `CacheError` if they are not kept."""
        if not self.has_heads:
            raise CacheError(
                f"The teacher cache {self.scoring.store.folder.name} has no head that could be "
                "read.\nResume the run: it is kept again."
            )
        assert self._heads is not None, "they have been read"
        return self._heads

    @property
    def has_heads(self) -> bool:
        """Whether the heads are kept; they are read the first time."""
        if self._heads is None:
            found = self._read_heads()
            self._heads = None if found is None else found.to(self.device)
        return self._heads is not None

    def keep_heads(self, heads: Heads) -> None:
        """Write the heads, with a checksum."""
        tensors = {}
        for place, head in enumerate(heads.parts):
            tensors[f"{place}.weight"] = head.weight
            if head.bias is not None:
                tensors[f"{place}.bias"] = head.bias
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        facts = {
            "identity": self.scoring.store.mark,
            "members": json.dumps([[head.scale, head.cap] for head in heads.parts]),
            "weights": json.dumps(list(heads.weights)),
            "sum": str(_checksum(tensors)),
        }
        self.scoring.store.require_room(heads.size_bytes)
        path = self.scoring.store.folder / _HEADS
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_text(path, save(tensors, metadata=facts))

    def _read_heads(self) -> Heads | None:
        try:
            with safe_open(self.scoring.store.folder / _HEADS, "pt") as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        if facts["identity"] != self.scoring.store.mark or facts["sum"] != str(_checksum(tensors)):
            return None
        members = [
            HeadParts(tensors[f"{place}.weight"], tensors.get(f"{place}.bias"), scale, cap)
            for place, (scale, cap) in enumerate(json.loads(facts["members"]))
        ]
        return Heads(members, json.loads(facts["weights"]))

    # --- as a teacher -----------------------------------------------------------------------------

    def reads(self, batch: Batch) -> Batch:
        """What the teacher reads of a batch."""
        return batch.for_teacher

    def look_into(self, wanted: Wanted) -> None:
        """Nothing of its inside is kept."""
        if wanted:
            raise ModelError(
                "A teacher cache keeps no hidden states of the layers and no attention.\nLeave "
                "teacher_cache empty, or leave out the terms that look inside.",
                field="teacher_cache",
            )

    def longest_packed(self) -> int:
        """Any: nothing is read."""
        return UNLIMITED

    def known(self, batch: Batch) -> Tensor | SparseRows:
        """What is kept of `batch`; raises `CacheError` where a row is not."""
        return self.training.of(batch.for_teacher)

    def view(self, batch: Batch) -> View:
        """Rows of logits of `batch`, or what is known of them; the head works when it is asked."""
        kept = batch.for_teacher.kept
        found = self.known(batch) if kept is None else kept
        move = mover(self.device)
        if isinstance(found, SparseRows):
            return View(None, sparse=found.moved(move))
        return View(self.heads.rows(move(found)))

    def rows(self, batch: Batch) -> LogitRows:
        """Logits at the supervised positions of a held-out `batch`, made as they are asked for."""
        found = self.scoring.of(batch.for_teacher)
        assert isinstance(found, Tensor), "held-out rows are kept as hidden states"
        return self.heads.rows(found.to(self.device))

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """The same at once, (N, V)."""
        return self.rows(batch).all()

    def answers(
        self,
        prompts: Sequence[list[int]],
        *,
        max_new_tokens: int,
        sampling_temperature: float = 0.0,
        seed: int = 0,
        streams: Sequence[Any] | None = None,
    ) -> list[Continuation]:
        """What the teacher answered; raises `CacheError` where it was never asked."""
        assert sampling_temperature == 0, "only the likeliest answers are kept"
        return [self.said.read(prompt, max_new_tokens) for prompt in prompts]


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        whole = tensors[name].contiguous().view(torch.uint8).numpy()
        total = zlib.crc32(whole.data, zlib.crc32(name.encode(), total))
    return total
