"""Divergences between teacher and student over the vocabulary.

In: logits (N, V) of the same N positions and a temperature. Out: one value per position, (N,),
fp32. No masks, no averages. Throughout, p = softmax(teacher / T) and q = softmax(student / T),
computed in fp32 whatever the logits' dtype; gradients reach the student only. Every divergence is
0 when p = q and above 0 otherwise, and is multiplied by T², so that a KL's gradient keeps its size
as T grows (Hinton, Vinyals and Dean 2015, section 2.1, arXiv 1503.02531).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def forward_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """T² · KL(teacher ‖ student) per position, (N,), from `logits[N, V]`; nats.

    T² · Σ p · (log p − log q), in [0, ∞). Dear where the teacher is sure and the student is not:
    the student learns to cover every mode.
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_p, log_q)


def reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """T² · KL(student ‖ teacher) per position, (N,), from `logits[N, V]`; nats.

    T² · Σ q · (log q − log p), in [0, ∞). Dear where the student puts weight that the teacher does
    not: the student seeks the teacher's likeliest modes and may leave others out (MiniLLM,
    arXiv 2306.08543).
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_q, log_p)


def jsd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """T² · generalised Jensen–Shannon divergence per position, (N,), from `logits[N, V]`; nats.

    With m = β · p + (1 − β) · q: T² · (β · KL(p ‖ m) + (1 − β) · KL(q ‖ m)), at most
    T² · (−β · log β − (1 − β) · log(1 − β)); symmetric at β = ½ alone (GKD, arXiv 2306.13649,
    equation 1). Towards the ends it fades as β times the forward KL and (1 − β) times the reverse
    KL, and would be 0 there; β = 0 and β = 1 therefore are those KLs themselves, undivided.
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    if beta == 0:
        return temperature**2 * _kl(log_p, log_q)
    if beta == 1:
        return temperature**2 * _kl(log_q, log_p)
    log_m = _log_mixture(log_p, log_q, share=beta)
    return temperature**2 * (beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m))


def skewed_forward_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    skew: float = 0.1,
    temperature: float = 1.0,
) -> Tensor:
    """T² · KL(teacher ‖ mixture) per position, (N,), from `logits[N, V]`; nats.

    T² · KL(p ‖ skew · p + (1 − skew) · q), in [0, −T² · log skew]; `forward_kl` at skew 0. The
    teacher's share in the mixture bounds what one token can cost (DistiLLM, arXiv 2402.03898).
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_p, _log_mixture(log_p, log_q, share=skew))


def skewed_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    skew: float = 0.1,
    temperature: float = 1.0,
) -> Tensor:
    """T² · KL(student ‖ mixture) per position, (N,), from `logits[N, V]`; nats.

    T² · KL(q ‖ skew · q + (1 − skew) · p), in [0, −T² · log skew]; `reverse_kl` at skew 0. The
    student's share in the mixture bounds what one token can cost (DistiLLM, arXiv 2402.03898).
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * _kl(log_q, _log_mixture(log_q, log_p, share=skew))


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """T² · total variation distance per position, (N,), from `logits[N, V]`; a probability.

    T² · ½ · Σ |p − q|, in [0, T²]: how much probability sits on other tokens. Its gradient falls
    as 1/T, not 1/T², so that here the factor makes it grow with T (sequence-level KD by
    f-divergences, arXiv 2307.15190).
    """
    log_p, log_q = _log_probabilities(student_logits, teacher_logits, temperature)
    return temperature**2 * 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


def _log_probabilities(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log p, without gradient, and log q, (N, V) each, fp32.

    Where one side has tokens that the other has not, both are cut to the ids that they share.
    """
    shared = min(student_logits.shape[-1], teacher_logits.shape[-1])
    teacher_logits, student_logits = teacher_logits[..., :shared], student_logits[..., :shared]
    log_p = functional.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    log_q = functional.log_softmax(student_logits.float() / temperature, dim=-1)
    return log_p, log_q


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a ‖ b) = Σ a · (log a − log b), (N,)."""
    return functional.kl_div(log_b, log_a, reduction="none", log_target=True).sum(-1)


def _log_mixture(log_a: Tensor, log_b: Tensor, *, share: float) -> Tensor:
    """Return log(share · a + (1 − share) · b), (N, V); b itself at share 0."""
    if share == 0:
        return log_b
    return torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))
