"""Real logits to learn about temperature from.

In: the starter teacher. Out: for one held-out command, the logits before each token of the
teacher's own answer (shape: `api.temperature_example`), so that a page can soften them by itself.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from distill_core import models
from distill_core.data.batches import collate
from distill_core.data.formats import Row
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, encode_prompt, stop_token_ids
from distill_core.forward.supervised import SupervisedLogits
from distill_core.teachers.local import LocalTeacher

CANDIDATES = 12
ROWS_LOOKED_AT = 150


@functools.lru_cache(maxsize=1)
def temperature_example() -> dict[str, Any]:
    """The answer in which the teacher doubts most, of the first held-out rows."""
    from distill_core import starter

    folder = models.resolve("pocket-teacher")
    tokenizer = models.load_tokenizer(folder)
    stop_ids = stop_token_ids(tokenizer)
    model = models.load_model(folder, dtype=torch.float32, device="cpu")
    teacher = LocalTeacher(model, vocab_size=len(tokenizer), stop_ids=stop_ids)
    rows = starter.rows("held_out")[:ROWS_LOOKED_AT]
    prompts = [encode_prompt(_asked(row["prompt"]), tokenizer) for row in rows]
    answers = [answer.ids for answer in teacher.answers(prompts, max_new_tokens=48)]
    items = [
        Encoded(prompt + answer, [IGNORE_INDEX] * len(prompt) + answer, False, False)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    batch = collate(items, pad_token_id=0, rows=range(len(items)))
    with torch.no_grad():
        logits = SupervisedLogits(model, vocab_size=len(tokenizer)).eval()(batch)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    row_of = batch.supervised.nonzero()[:, 0]
    chosen = int(row_of[entropy.argmax()])
    inside = row_of == chosen
    return {
        "prompt": rows[chosen]["prompt"],
        "answer": tokenizer.decode(answers[chosen]),
        "most_doubtful": int(entropy[inside].argmax()),
        "positions": [
            _position(tokenizer, token, row, stop_ids)
            for token, row in zip(answers[chosen], logits[inside], strict=True)
        ],
    }


def _asked(prompt: str) -> Row:
    return Row(messages=({"role": "user", "content": prompt},), text=None, origin="starter")


def _position(
    tokenizer: Any, token: int, logits: torch.Tensor, stop_ids: set[int]
) -> dict[str, Any]:
    order = logits.argsort(descending=True)
    best, rest = order[:CANDIDATES], order[CANDIDATES:]
    return {
        "token": tokenizer.decode([token]),
        "candidates": [
            {
                "text": "⏎ end" if int(index) in stop_ids else tokenizer.decode([int(index)]),
                "logit": round(float(logits[index]), 4),
            }
            for index in best
        ],
        "rest_logits": [round(float(logits[index]), 4) for index in rest],
    }
