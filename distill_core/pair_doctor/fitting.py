"""The losses that fit a pair, from those that were chosen.

In: whether a teacher and a student can be compared token by token, and a stage's terms as plain
data. Out: the same list with the terms exchanged that cannot serve the pair.
"""

from __future__ import annotations

from typing import Any, get_args

from distill_core.recipe import CrossTokenizerLoss, ForwardKLLoss, Loss

TERMS: dict[str, Any] = {
    term.model_fields["name"].default: term for term in get_args(get_args(Loss)[0])
}
"""Settings class of each term, by name."""

ACROSS: str = CrossTokenizerLoss.model_fields["name"].default
DIRECT: str = ForwardKLLoss.model_fields["name"].default


def fitting_losses(comparable: bool | None, losses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exchange what does not fit, keeping weights, temperature and order; the rest is left alone.

    Terms that compare token by token become one `cross_tokenizer` with their weights together (of
    schedules, the highest) where the tokenizers differ; where they do not, `cross_tokenizer`
    becomes `forward_kl`. Nothing is changed while the pair is not known (None).
    """
    if comparable is None:
        return losses
    unfit = [
        loss
        for loss in losses
        if (loss.get("name") == ACROSS if comparable else not _serves_any_pair(loss.get("name")))
    ]
    wanted = DIRECT if comparable else ACROSS
    if not unfit:
        return losses
    rest = [loss for loss in losses if loss not in unfit]
    if any(loss.get("name") == wanted for loss in rest):
        return rest
    weights = [
        loss.get("weight", TERMS[loss["name"]].model_fields["weight"].default) for loss in unfit
    ]
    highest = [_highest(weight) for weight in weights]
    chosen: dict[str, Any] = {"name": wanted}
    if len(weights) == 1:
        chosen["weight"] = weights[0]
    elif None not in highest:
        chosen["weight"] = round(sum(highest), 6)
    temperature = next((loss["temperature"] for loss in unfit if "temperature" in loss), None)
    if temperature is not None:
        chosen["temperature"] = temperature
    return [chosen, *rest]


def _highest(weight: Any) -> Any:
    """The highest that a weight gets, a number or the ends of a schedule; None: not a number."""
    ends: list[Any] = [weight]
    if isinstance(weight, dict):
        ends = [weight.get("start"), weight.get("end")]
    return max(ends) if all(isinstance(end, int | float) for end in ends) else None


def _serves_any_pair(name: Any) -> bool:
    """Whether a term of this name makes sense across tokenizers; unknown ones are left alone."""
    return bool(TERMS[name].across_tokenizers) if name in TERMS else True
