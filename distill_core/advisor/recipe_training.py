"""How a recipe's stages are trained: loss terms, learning rates, adapters.

In: the method that the rules advise, and what the student starts from. Out: pieces of stages as a
recipe holds them. Knows no answers.
"""

from __future__ import annotations

from typing import Any

from distill_core.advisor.evidence import RecipeStart

Method = dict[str, dict[str, Any]]


def losses(
    method: Method, start: RecipeStart, student: dict[str, Any], *, across: bool
) -> list[dict[str, Any]]:
    """Terms with their weights; `across`: teacher and student have different tokenizers."""
    share = float(value(method, "cross_entropy_weight", 0.1))
    temperature = float(value(method, "temperature", 1.0))
    soft = "cross_tokenizer" if across else "forward_kl"
    terms: list[dict[str, Any]] = [
        {"name": soft, "weight": round(1 - share, 3), "temperature": temperature}
    ]
    if "features" in method and student["init"] == "layer_drop":
        terms.append({"name": "hidden_states", "weight": start.hidden_states_weight})
    if share:
        terms.append({"name": "cross_entropy", "weight": share})
    return terms


def optim(start: RecipeStart, student: dict[str, Any]) -> dict[str, Any]:
    """Learning rate and passes, by what the student starts from."""
    kinds = {"pretrained": "full", "scratch": "new"}
    kind: Any = kinds.get(student["init"], "shaped")
    return {"learning_rate": start.learning_rates[kind], "epochs": start.epochs}


def lora(start: RecipeStart, settings: dict[str, Any], rank: int) -> dict[str, Any]:
    """An adapter, and the optimiser `settings` with the rate that adapters take."""
    return {
        "adapter": {"kind": "lora", "rank": rank, "alpha": 2 * rank},
        "optim": settings | {"learning_rate": start.learning_rates["lora"]},
    }


def value(method: Method, setting: str, default: Any = None) -> Any:
    """What the rules advise for a setting."""
    return method.get(setting, {}).get("value", default)
