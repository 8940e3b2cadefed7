"""Which rows come together: similar lengths, so that little is padded.

In: the lengths of rows. Out: their places (0 … len-1), in groups. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

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
) -> list[list[int]]:
    """Split the rows of a step into places (0 … len-1); how, says `parts_of`."""
    lengths = [len(item.input_ids) for item in items]
    return parts_of(lengths, micro_batch_size, processes=processes, device=device)


def parts_of(
    lengths: Sequence[int], micro_batch_size: int, *, processes: int = 1, device: str = "cpu"
) -> list[list[int]]:
    """Split `lengths` into places (0 … len-1), similar ones together, longest first.

    Each part has at most as many tokens, padding included, as `micro_batch_size` of the step's
    longest rows; a new one also begins where going on would cost more padding than another pass.
    Longest first: what does not fit into memory fails at once. Ties keep their order. The number
    of parts is a multiple of `processes` where there are rows enough, so that none is idle.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    most = micro_batch_size * lengths[order[0]] if order else 0
    dear = PASS_TOKENS.get(device, _ELSEWHERE)
    parts: list[list[int]] = []
    padding = 0
    for place in order:
        longest = lengths[parts[-1][0]] if parts else 0
        padding += longest - lengths[place]
        if parts and (len(parts[-1]) + 1) * longest <= most and padding <= dear:
            parts[-1].append(place)
        else:
            parts.append([place])
            padding = 0
    while len(parts) % processes and len(parts) < len(lengths):
        largest = max((part for part in parts if len(part) > 1), key=len)
        where, half = parts.index(largest), (len(largest) + 1) // 2
        parts[where : where + 1] = [largest[:half], largest[half:]]
    return parts


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
