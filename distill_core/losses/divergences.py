"""Divergences between teacher and student over the vocabulary.

In: logits (N, V) of the same N positions and a temperature. Out: nats per position, (N,), fp32.
No masks, no averages.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def forward_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """T² · KL(teacher ‖ student) per position, (N,), from `logits[N, V]`; 0 when equal, else > 0.

    With p = softmax(teacher / T) and q = softmax(student / T): T² · Σ p · (log p − log q), in nats.
    The factor T² keeps the gradient's size as T grows (Hinton, Vinyals and Dean 2015, section 2.1,
    arXiv 1503.02531). Computed in fp32 whatever the logits' dtype. Gradients reach the student
    only.
    """
    student = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return divergence * temperature**2
