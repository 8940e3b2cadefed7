"""The one pass in which a teacher is asked about everything that a stage will want to know.

In: rows, held-out rows and prompts, and a teacher that is loaded if something is missing. Out: a
cache that has it all, and progress on the way. A pass that was cut short goes on where it ended;
what is on disk is checked before it is believed, and what cannot be read is asked again.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from distill_core import ranks
from distill_core.data.batches import Batch, by_length, collate
from distill_core.events import Event, event, progress
from distill_core.halving import in_halves
from distill_core.teachers.cache_index import as_keys, key_at
from distill_core.teachers.cached import CachedTeacher, Kept, row_counts, row_keys
from distill_core.teachers.heads import Reader
from distill_core.teachers.on_demand import OnDemandTeacher

TOKENS = 4096
"""Padded tokens in one forward pass."""

FLUSH_S = 20.0
"""Rows are written at least this often: so much work is lost at the most."""

_LOCK = ".filling.lock"
_WAIT_S = 1.0
_ROWS_AT_ONCE = 256
_CHECKED_AT_ONCE = 2000


@dataclass(frozen=True)
class Questions:
    """What held-out rows ask a teacher.

    `compared`: rows in which it is compared with the student; `own`: rows that it is scored on by
    itself, in its own ids; `prompts`, in its own ids, to answer in at most `max_new_tokens`.
    """

    compared: Sequence[Any] = ()
    own: Sequence[Any] = ()
    prompts: Sequence[list[int]] = ()
    max_new_tokens: int = 0


@dataclass
class Filled:
    """What a cache holds for a stage."""

    kind: str
    folder: str
    rows: int = 0
    tokens: int = 0
    bytes: int = 0
    """On disk, with heads, held-out rows, and what other runs have asked for."""
    asked: int = 0
    """Rows that the teacher was asked about now; all others were there."""


@dataclass(frozen=True)
class Reading:
    """Encoded rows, and how they become what the teacher reads of them."""

    items: Sequence[Any]
    pad_token_id: int
    read: Callable[[Batch], Batch] = lambda batch: batch.for_teacher

    def batch(self, places: Sequence[int]) -> Batch:
        """Some rows as the teacher reads them."""
        items = [self.items[place] for place in places]
        return self.read(collate(items, pad_token_id=self.pad_token_id, rows=places))

    def wanted(self) -> Asked:
        """Different rows, in an order that depends on nothing but the rows."""
        keys, lengths, positions = bytearray(), array("q"), array("q")
        for start in range(0, len(self.items), _ROWS_AT_ONCE):
            batch = self.batch(range(start, min(start + _ROWS_AT_ONCE, len(self.items))))
            keys += b"".join(row_keys(batch))
            lengths.extend(batch.attention_mask.sum(1).tolist())
            positions.extend(row_counts(batch))
        different, places = np.unique(as_keys(keys), return_index=True)
        order = np.asarray(lengths)[places].argsort(kind="stable")
        places = places[order]
        return Asked(
            different[order], places, np.asarray(lengths)[places], np.asarray(positions)[places]
        )


@dataclass(frozen=True)
class Asked:
    """Different rows (R,), short ones first: arrays, since there may be millions."""

    keys: np.ndarray
    places: np.ndarray
    """Where among the items."""
    lengths: np.ndarray
    """In tokens."""
    positions: np.ndarray
    """How many are asked about."""

    def __len__(self) -> int:
        return len(self.keys)


def fill(
    cached: CachedTeacher,
    teacher: OnDemandTeacher,
    *,
    rows: Reading,
    held_out: Questions,
) -> Generator[Event, None, Filled]:
    """Ask the teacher about all rows, held-out rows and held-out prompts that are not kept yet.

    It is loaded only if something is missing. Yields `progress`, and `warning` where memory runs
    out.

    Raises:
        DiskFullError: if there is no room; what was written is kept.
        ModelError: if the teacher cannot be taken apart, or the format cannot hold its numbers.
        OutOfMemory: if the teacher has no room for a single row.
    """
    done = Filled(cached.settings.kind, cached.training.store.mark)
    compared = replace(rows, items=held_out.compared)
    own = Reading(held_out.own, rows.pad_token_id)
    readings = ((cached.training, rows), (cached.scoring, compared), (cached.scoring, own))
    for kept, reading in readings:
        wanted = reading.wanted()
        asked = yield from _fill_one(cached, kept, reading, wanted, teacher)
        if reading is rows:
            done.rows, done.asked = len(wanted), asked
            done.tokens = int(wanted.positions.sum())
    yield from _prompts(cached, teacher, held_out)
    stores = {one.mark: one for one in (cached.training.store, cached.scoring.store)}
    done.bytes = sum(store.size_bytes for store in stores.values())
    return done


def _fill_one(
    cached: CachedTeacher, kept: Kept, reading: Reading, wanted: Asked, teacher: OnDemandTeacher
) -> Generator[Event, None, int]:
    """Ask about what is missing in one store; returns how many rows that were.

    Another run that fills the same store is waited for: what it asks need not be asked again.
    """
    missing, headless = yield from _lacking(cached, kept, wanted)
    if not (missing.any() or headless):
        return 0
    lock = FileLock(kept.store.folder / _LOCK, thread_local=False)
    try:
        waited = False
        while not ranks.agree(partial(_taken, lock)):
            waited = True
            words = "another run is asking this teacher"
            yield progress("caching teacher", words, done=0, total=len(wanted))
            time.sleep(_WAIT_S)
        if waited:
            kept.store.reopen()
            missing, headless = yield from _lacking(cached, kept, wanted)
        if missing.any() or headless:
            reader = Reader(teacher.model, vocab_size=cached.vocab_size)
            if headless:
                ranks.agree(partial(cached.keep_heads, reader.heads))
            yield from _ask(cached, kept, reader, reading, wanted, missing)
            ranks.gather([])  # all have written
            kept.store.reopen()
        return int(missing.sum())
    finally:
        lock.release()


def _taken(lock: FileLock) -> bool:
    """Take the lock unless somebody else has it."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _lacking(
    cached: CachedTeacher, kept: Kept, wanted: Asked
) -> Generator[Event, None, tuple[np.ndarray, bool]]:
    """Which rows are missing, and whether the heads are."""
    found = yield from _missing(kept, wanted)
    # processes that train together ask about the same rows, whatever each has found
    return ranks.agree(partial(_lacks, cached, found))


def _lacks(cached: CachedTeacher, missing: np.ndarray) -> tuple[np.ndarray, bool]:
    return missing, not cached.has_heads


def _missing(kept: Kept, wanted: Asked) -> Generator[Event, None, np.ndarray]:
    """Bool (R,): which rows are not there or cannot be read as they were written."""
    missing = ~kept.store.known(wanted.keys)
    there = np.flatnonzero(~missing)
    for number, place in enumerate(there):
        if number % _CHECKED_AT_ONCE == 0:
            words = "checking what the teacher has said"
            yield progress("caching teacher", words, done=number, total=len(there))
        missing[place] = not kept.store.is_whole(key_at(wanted.keys, int(place)))
    return missing


def _ask(
    cached: CachedTeacher,
    kept: Kept,
    reader: Reader,
    reading: Reading,
    wanted: Asked,
    missing: np.ndarray,
) -> Generator[Event, None, None]:
    """Ask about the missing rows, in the same batches whatever is there already.

    Of several processes each takes every n-th batch, and writes files of its own. Where memory
    runs out the batches become smaller, and a warning says so.
    """
    if kept is cached.training:
        width, vocab_size = reader.heads.width, cached.vocab_size
        size = cached.settings.bytes_per_token(width=width, vocab_size=vocab_size)
        kept.store.require_room(size * int(wanted.positions[missing].sum()))
    flushed, too_many = time.monotonic(), list[int]()
    lengths: list[int] = wanted.lengths.tolist()

    def ask(group: list[int]) -> tuple[list[bytes], list[Any]]:
        batch = reading.batch(wanted.places[group].tolist()).to(cached.device)
        asked, counts = row_keys(batch), row_counts(batch)
        found = kept.kind.kept(reader.rows(batch), reader.heads, keys=asked, counts=counts)
        return asked, list(found)

    groups = by_length(lengths, tokens_at_once=TOKENS)
    mine = [group for group in groups[ranks.number() :: ranks.count()] if missing[group].any()]
    yield progress("caching teacher", _words(kept), done=0, total=len(wanted))
    try:
        for group, (asked, found) in in_halves(
            mine,
            ask,
            lengths=lengths,
            device=cached.device,
            doing="asking the teacher",
            ran_out=too_many.append,
        ):
            if too_many:
                yield _fewer(too_many[0], group)
                too_many.clear()
            for place, key, arrays in zip(group, asked, found, strict=True):
                if missing[place]:
                    kept.store.add(key, arrays)
            if time.monotonic() - flushed > FLUSH_S:
                kept.store.flush()
                flushed = time.monotonic()
            # places are in the order of the lengths, as the groups are
            yield progress("caching teacher", _words(kept), done=group[-1] + 1, total=len(wanted))
    finally:
        kept.store.flush()  # a pass that is ended goes on from here
    yield progress("caching teacher", _words(kept), done=len(wanted), total=len(wanted))


def _fewer(tried: int, group: Sequence[int]) -> Event:
    """Memory that ran out, in words."""
    return event(
        "warning",
        message=f"Memory ran out when the teacher was asked about {tried:,} rows at once. It goes "
        f"on with fewer, {len(group):,} here: slower, to the same answers.",
    )


def _words(kept: Kept) -> str:
    what = {
        "hidden": "hidden states",
        "top_k": "likeliest tokens",
        "sampled": "drawn tokens",
    }[kept.kind.name]
    return f"the teacher's {what}, once for all steps"


def _prompts(
    cached: CachedTeacher, teacher: OnDemandTeacher, held_out: Questions
) -> Generator[Event, None, None]:
    """Let the teacher answer; only the first of several processes scores held-out rows."""
    longest = held_out.max_new_tokens
    new = [one for one in held_out.prompts if not cached.said.knows(one, longest)]
    if new and ranks.is_first():
        words = "the teacher answers held-out prompts"
        yield progress("caching teacher", words, done=0, total=len(new))
        cached.said.keep(new, teacher.answers(new, max_new_tokens=longest), longest)
        yield progress("caching teacher", words, done=len(new), total=len(new))
