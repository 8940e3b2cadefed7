"""Which rows come together: similar lengths, so that little is padded.

In: the lengths of rows. Out: their places (0 … len-1), in groups. Knows no tensors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from distill_core.data.classes import EncodedText
from distill_core.data.tokenize import Encoded

PASS_TOKENS = {"cpu": 64}
"""What one pass more through both networks costs, in tokens of padding; `_ELSEWHERE` on others."""
_ELSEWHERE = 1024


def micro_batches(
    items: Sequence[Encoded | EncodedText],
    micro_batch_size: int,
    *,
    processes: int = 1,
    device: str = "cpu",
    packed: bool = False,
) -> list[list[int]]:
    """Split the rows of a step into places (0 … len-1); how, says `parts_of`."""
    lengths = [len(item.input_ids) for item in items]
    return parts_of(lengths, micro_batch_size, processes=processes, device=device, packed=packed)


def parts_of(
    lengths: Sequence[int],
    micro_batch_size: int,
    *,
    processes: int = 1,
    device: str = "cpu",
    packed: bool = False,
) -> list[list[int]]:
    """Split `lengths` into places (0 … len-1), similar ones together, longest first.

    Each part has at most as many tokens as `micro_batch_size` of the step's longest rows. Padding
    counts, unless nobody pads (`packed`); a new part also begins where going on would cost more
    padding than another pass. Longest first: what does not fit into memory fails at once. Ties keep
    their order. The number of parts is a multiple of `processes` where there are rows enough, so
    that none is idle.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    most = micro_batch_size * lengths[order[0]] if order else 0
    dear = PASS_TOKENS.get(device, _ELSEWHERE)
    parts: list[list[int]] = []
    tokens = padding = 0
    for place in order:
        width = lengths[place] if packed or not parts else lengths[parts[-1][0]]
        tokens, padding = tokens + width, padding + width - lengths[place]
        if parts and tokens <= most and padding <= dear:
            parts[-1].append(place)
        else:
            parts.append([place])
            tokens, padding = lengths[place], 0
    while len(parts) % processes and len(parts) < len(lengths):
        several = (part for part in parts if len(part) > 1)
        largest = max(several, key=lambda part: sum(lengths[place] for place in part))
        where = parts.index(largest)
        parts[where : where + 1] = _halved(largest, lengths)
    return parts


def computed_tokens(part: Sequence[int], lengths: Sequence[int], *, packed: bool) -> int:
    """Tokens that are computed for a part: with its padding, unless nobody pads."""
    padded = len(part) * lengths[part[0]]
    return sum(lengths[place] for place in part) if packed else padded


def _halved(part: list[int], lengths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Two parts of like many tokens, the first one with no fewer if it can be helped."""
    sums = list(accumulate(lengths[place] for place in part))
    middle = min(len(part) - 1, bisect_left(sums, sums[-1] / 2) + 1)
    return part[:middle], part[middle:]


def by_length(lengths: Sequence[int], *, tokens_at_once: int) -> list[list[int]]:
    """Group places (0 … len-1) into batches of at most `tokens_at_once` padded tokens each.

    Rows of like length come together, the shortest first; a row longer than that is alone.
    """
    groups: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if groups and (len(groups[-1]) + 1) * lengths[place] <= tokens_at_once:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups
