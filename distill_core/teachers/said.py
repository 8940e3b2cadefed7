"""What a teacher has answered to held-out prompts, kept with the rest of what is known of it.

In: prompts as token ids. Out: the teacher's likeliest continuations, from one small file with a
checksum. Asks nobody.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from distill_core import files
from distill_core.errors import CacheError
from distill_core.generate import Continuation


class Said:
    """The teacher's likeliest answers to held-out prompts, in a small file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = self._read()

    def knows(self, prompt: list[int], max_new_tokens: int) -> bool:
        """Whether an answer is kept."""
        return _asked(prompt, max_new_tokens) in self._known

    def read(self, prompt: list[int], max_new_tokens: int) -> Continuation:
        """The answer to a prompt; raises `CacheError` if there is none."""
        found = self._known.get(_asked(prompt, max_new_tokens))
        if found is None:
            raise CacheError(
                "The teacher was never asked about a held-out prompt.\nResume the run, which asks; "
                "or leave teacher_cache empty."
            )
        return Continuation(list(found[0]), found[1])

    def keep(
        self, prompts: Sequence[list[int]], answers: Sequence[Continuation], max_new_tokens: int
    ) -> None:
        """Write answers beside those that are there, another run's of this moment included."""
        for prompt, answer in zip(prompts, answers, strict=True):
            self._known[_asked(prompt, max_new_tokens)] = [answer.ids, answer.stop]
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            self._known = self._read() | self._known
            files.replace_json(self.path, self._known | {"sum": _text_sum(self._known)})

    def _read(self) -> dict[str, Any]:
        """What the file holds; nothing where it is damaged."""
        known = files.read_json(self.path)
        return known if known.pop("sum", None) == _text_sum(known) else {}


def _asked(prompt: list[int], max_new_tokens: int) -> str:
    return hashlib.sha256(json.dumps([prompt, max_new_tokens]).encode()).hexdigest()[:32]


def _text_sum(known: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(known, sort_keys=True).encode())
