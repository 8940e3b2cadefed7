"""Cross-entropy on hard labels.

In: logits (N, V) and labels (N,). Out: nats per position, (N,), fp32. No masks, no averages.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(student_logits: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(student)[label] per position, (N,), from `logits[N, V]` and `targets[N]`; ≥ 0.

    In nats, at temperature 1, in fp32 whatever the logits' dtype.
    """
    return functional.cross_entropy(student_logits.float(), targets, reduction="none")
