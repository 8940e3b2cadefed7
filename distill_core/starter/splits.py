"""The starter's rows: splits that cannot overlap, and the wrong labels that annotators leave.

In: the name of a split. Out: its rows, always the same. A hash of a prompt's words decides which
split it may appear in, so no prompt can ever be in two. Knows no tokens and loads no torch.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

from distill_core.starter.generator import Command, generate, to_json
from distill_core.starter.spoken import Dice
from distill_core.starter.vocabulary import DEVICES, ROOMS

__all__ = [
    "SPLITS",
    "WRONG_LABEL_SHARE",
    "Split",
    "action",
    "bucket",
    "correct_rows",
    "rows",
    "spoken_words",
    "teacher_stream",
    "wrong_label_indices",
]

WRONG_LABEL_SHARE: Final = 0.15
_BUCKETS: Final = 100
_NOT_A_WORD: Final = re.compile(r"[^a-z0-9:%]+")


class Split(NamedTuple):
    """One part of the starter's data: its size, what it is for, and the hash buckets it owns."""

    size: int
    description: str
    buckets: range
    labelled: bool = True


SPLITS: Final[dict[str, Split]] = {
    "labelled": Split(500, "commands with answers, 15 % of them wrong", range(0, 5)),
    "unlabelled": Split(20_000, "commands without answers", range(5, 50), labelled=False),
    "development": Split(300, "for choosing settings", range(50, 53)),
    "held_out": Split(1_000, "for the final score, never trained on", range(53, 60)),
}
_TEACHER_BUCKETS: Final = range(60, _BUCKETS)


def spoken_words(prompt: str) -> str:
    """Return a prompt's words without case or punctuation: what makes two prompts the same."""
    return " ".join(_NOT_A_WORD.sub(" ", prompt.lower()).split())


def bucket(prompt: str) -> int:
    """Return the hash bucket, 0–99, of a prompt's words."""
    digest = hashlib.blake2b(spoken_words(prompt).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _BUCKETS


def _pairs(seed: str, buckets: range) -> Iterator[tuple[str, str]]:
    return (pair for pair in generate(Dice(seed)) if bucket(pair[0]) in buckets)


def teacher_stream(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (prompt, response) without end, from buckets that belong to no split."""
    return _pairs(f"teacher {seed}", _TEACHER_BUCKETS)


def _distinct(pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for prompt, response in pairs:
        key = spoken_words(prompt)
        if key not in seen:
            seen.add(key)
            yield prompt, response


@cache
def _split_pairs(name: str) -> tuple[tuple[str, str], ...]:
    split = SPLITS[name]
    return tuple(islice(_distinct(_pairs(name, split.buckets)), split.size))


@cache
def wrong_label_indices() -> frozenset[int]:
    """Return which rows of `labelled` carry a wrong answer."""
    size = SPLITS["labelled"].size
    order = sorted(range(size), key=lambda i: hashlib.blake2b(f"wrong {i}".encode()).digest())
    return frozenset(order[: round(WRONG_LABEL_SHARE * size)])


def _mislabel(response: str, dice: Dice) -> str:
    """Return a valid answer that differs as a hasty annotator's would: one slot, or one half."""
    parsed = json.loads(response)
    commands: list[Command] = parsed if isinstance(parsed, list) else [parsed]
    if len(commands) > 1 and dice.chance(0.4):
        return to_json(commands[:1])
    command = dice.pick(commands)
    slot = dice.pick(tuple(command))
    if slot == "do":
        actions = DEVICES[str(command["what"])].actions
        command.pop("to", None)
        command["do"] = dice.pick([do for do in actions if do not in ("set", command["do"])])
    elif slot == "what":
        command["what"] = dice.pick([what for what in DEVICES if what != command["what"]])
    elif slot == "room":
        command["room"] = dice.pick([room for room in ROOMS if room != command["room"]])
    elif slot == "at":
        hour, minute = str(command["at"]).split(":")
        command["at"] = f"{(int(hour) + 12) % 24:02d}:{minute}"
    elif slot == "to":
        command["to"] = (int(command["to"]) + dice.pick((5, 10, 20, 50))) % 100
    else:  # a time or an amount overheard
        del command[slot]
    return to_json(commands)


def correct_rows(split: str) -> list[dict[str, str]]:
    """Return the rows of a split with correct answers, as {"prompt", "response"}.

    For tests and for measuring: nothing that trains may look at them.
    """
    return [{"prompt": prompt, "response": response} for prompt, response in _split_pairs(split)]


def rows(split: str) -> list[dict[str, str]]:
    """Return the rows of a split: {"prompt", "response"}, or {"prompt"} alone when unlabelled.

    Raises:
        ValueError: there is no split of that name.
    """
    if split not in SPLITS:
        raise ValueError(f"The starter has no split {split!r}. Use one of: {', '.join(SPLITS)}.")
    found = correct_rows(split)
    if not SPLITS[split].labelled:
        return [{"prompt": row["prompt"]} for row in found]
    if split == "labelled":
        dice = Dice("annotators")
        for index in sorted(wrong_label_indices()):
            found[index]["response"] = _mislabel(found[index]["response"], dice)
    return found


def action(response: str | None) -> str | None:
    """What an answer tells to do: `on`, `open`, …, or `several`; None where there is no answer."""
    if response is None:
        return None
    parsed = json.loads(response)
    return "several" if isinstance(parsed, list) else str(parsed["do"])
