"""Several classifiers read one text, side by side.

In: loaded models and a text. Out: each one's class with the probability of every class, and how far
it is from the teacher's (shape: `api.compare`, one "token" for the whole text). Knows no runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill_core import device as machine
from distill_core.comparing import lineup
from distill_core.data.class_batches import collate_texts
from distill_core.data.classes import TextRow, encode_text
from distill_core.data.sources import prepare
from distill_core.data.tokenize import pad_token_id
from distill_core.errors import RunError
from distill_core.forward.class_logits import ClassLogits
from distill_core.losses.divergences import forward_kl
from distill_core.models.classifiers import head_labels
from distill_core.recipe import Recipe

TOP = 5


@dataclass
class _Opinion:
    """What one model says of the text."""

    classes: tuple[str, ...]
    logits: torch.Tensor
    """(1, V), on the CPU."""

    def top(self) -> list[dict[str, Any]]:
        best = self.logits[0].softmax(-1).topk(min(TOP, len(self.classes)))
        return [
            {"text": self.classes[int(place)], "probability": float(probability)}
            for probability, place in zip(best.values, best.indices, strict=True)
        ]


def read_together(
    models: Sequence[tuple[str, lineup.Loaded]], text: str, recipe: Recipe
) -> Iterator[dict[str, Any]]:
    """Yield an `answer` of each model, then `tokens` of each but the teacher.

    Where the recipe's rows are pairs, the second text follows after an empty line.
    """
    first, _, second = text.partition("\n\n") if _paired(recipe) else (text, "", "")
    row = TextRow(messages=None, text=first, origin="prompt", text_pair=second or None)
    opinions: dict[str, _Opinion] = {}
    for key, loaded in models:
        opinions[key], seconds = _ask(loaded, row, recipe.data.max_seq_len)
        top = opinions[key].top()
        yield {
            "type": "answer",
            "model": key,
            "text": top[0]["text"],
            "probability": top[0]["probability"],
            "classes": top,
            "rows_per_s": 1 / seconds,
            "latency_ms": 1000 * seconds,
        }
    teacher = opinions.get(lineup.TEACHER)
    for key, opinion in opinions.items():
        if teacher is not None and key != lineup.TEACHER:
            yield {"type": "tokens", "model": key, "unit": "class", **_apart(opinion, teacher)}


def _apart(opinion: _Opinion, teacher: _Opinion) -> dict[str, Any]:
    """How far a model's probabilities are from the teacher's."""
    if opinion.classes != teacher.classes:
        note = "other classes than the teacher's: their probabilities cannot be compared"
        return {"mean_kl": None, "top1_agreement": None, "tokens": [], "note": note}
    divergence = float(forward_kl(opinion.logits, teacher.logits))
    agree = bool(opinion.logits.argmax() == teacher.logits.argmax())
    ours, theirs = opinion.top(), teacher.top()
    token = {"text": ours[0]["text"], "kl": divergence, "agree": agree}
    token |= {"student_top": ours, "teacher_top": theirs}
    return {"mean_kl": divergence, "top1_agreement": float(agree), "tokens": [token]}


@torch.no_grad()
def _ask(loaded: lineup.Loaded, row: TextRow, max_seq_len: int) -> tuple[_Opinion, float]:
    """One model's opinion, and the seconds that it took after a first, untimed reading."""
    tokenizer, model = loaded.tokenizer, loaded.model
    place = next(model.parameters()).device
    network = ClassLogits(model).eval()
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        item = encode_text(row, tokenizer, max_seq_len, ())
        batch = collate_texts([item], pad_token_id=pad_token_id(tokenizer), rows=[0]).to(place)
        logits = network(batch)
        machine.synchronize(place)
        seconds = time.perf_counter() - started
    return _Opinion(head_labels(model.config), logits.float().cpu()), seconds


def check_task(key: str, loaded: lineup.Loaded, recipe: Recipe) -> None:
    """A model of another run may do something else; raises `RunError`."""
    tells_apart = loaded.member.labels is not None
    if tells_apart != (recipe.task == "text_classification"):
        does, should = ("tells classes apart", "write") if tells_apart else ("writes", "classify")
        raise RunError(
            f"{key} {does}, and the models of this run {should}: they cannot be compared.\n"
            "Leave it out, or compare it in a run of its own kind."
        )


def _paired(recipe: Recipe) -> bool:
    """Whether a row of the run's data has a second text."""
    if recipe.data.columns.text_pair:
        return True
    rows = prepare(recipe.data, seed=recipe.seed, task=recipe.task).held_out
    return any(isinstance(row, TextRow) and row.text_pair is not None for row in rows[:1])
