"""The losses once more, in float64 NumPy, for the self-test to compare with.

In: settings of a term, logits (N, V) and labels (N,) as arrays. Out: values (N,). Written from the
papers' formulas; shares no line with `losses/`, and knows no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def values(term: Any, student: Array, teacher: Array, labels: NDArray[np.int64]) -> Array:
    """Value of a term at each row, (N,), from `student[N, V]` and `teacher[N, V]` logits."""
    if term.name == "cross_entropy":
        return -log_softmax(student)[np.arange(len(labels)), labels]
    t = term.temperature
    log_p, log_q = log_softmax(teacher / t), log_softmax(student / t)
    return t**2 * DIVERGENCES[term.name](log_p, log_q, term)


def slopes(term: Any, student: Array, teacher: Array, labels: NDArray[np.int64]) -> Array:
    """Derivative of each row's value by that row's student logits, (N, V), by differences."""
    step, found = 1e-5, np.zeros_like(student)
    for place in range(student.shape[1]):
        shift = np.zeros(student.shape[1])
        shift[place] = step
        above = values(term, student + shift, teacher, labels)
        below = values(term, student - shift, teacher, labels)
        found[:, place] = (above - below) / (2 * step)
    return found


def log_softmax(logits: Array) -> Array:
    """Logarithms of the probabilities, each row's sum being 1."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _kl(log_a: Array, log_b: Array) -> Array:
    found: Array = (np.exp(log_a) * (log_a - log_b)).sum(axis=1)
    return found


def _mixed(log_a: Array, log_b: Array, share: float) -> Array:
    return np.log(share * np.exp(log_a) + (1 - share) * np.exp(log_b))


def _jsd(log_p: Array, log_q: Array, term: Any) -> Array:
    if term.beta in (0, 1):
        return _kl(log_q, log_p) if term.beta else _kl(log_p, log_q)
    log_m = _mixed(log_p, log_q, term.beta)
    return term.beta * _kl(log_p, log_m) + (1 - term.beta) * _kl(log_q, log_m)


DIVERGENCES: dict[str, Callable[[Array, Array, Any], Array]] = {
    "forward_kl": lambda p, q, term: _kl(p, q),
    "reverse_kl": lambda p, q, term: _kl(q, p),
    "jsd": _jsd,
    "skewed_forward_kl": lambda p, q, term: _kl(p, _mixed(p, q, term.skew)),
    "skewed_reverse_kl": lambda p, q, term: _kl(q, _mixed(q, p, term.skew)),
    "total_variation": lambda p, q, term: np.abs(np.exp(p) - np.exp(q)).sum(axis=1) / 2,
}
"""From log-probabilities of teacher and student, (N, V) each, to values (N,)."""
