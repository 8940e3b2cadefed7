"""What is looked at while a stage is trained: held-out scores, and fixed prompts answered.

In: the network in training, perhaps its teacher, held-out rows. Out: `evaluation` and `sample`
events. Changes nothing of the training, not even its random state.
"""

from __future__ import annotations

from collections.abc import Generator

import torch

from distill_core.events import Event, event, progress
from distill_core.scoring import (
    ANSWER_METRICS,
    HeldOut,
    answer_prompts,
    row_scores,
    score_tokens,
    teacher_bits_per_byte,
    teacher_texts,
)
from distill_core.scoring.tokens import TokenScores
from distill_core.teachers.base import Teacher
from distill_core.teachers.cache_pass import Questions
from distill_core.teachers.trimmed import whole

UNTRAINED = "scoring the untrained student"
"""What a stage does before its first step."""


class Watcher:
    """Scores the same held-out rows, and shows the answers to the first of them, at each look."""

    def __init__(
        self,
        stage: int,
        network: torch.nn.Module,
        teacher: Teacher | None,
        held_out: HeldOut,
        *,
        samples: int,
        teacher_held_out: HeldOut | None = None,
    ) -> None:
        """`teacher_held_out`: the same rows as a teacher with a tokenizer of its own reads them."""
        self.stage = stage
        self.network = network
        self.teacher = teacher
        self.held_out = held_out
        self.teacher_held_out = teacher_held_out or held_out
        self.asked = [row for row in held_out.rows if row.response is not None][:samples]
        self.last: dict[str, float] = {}
        self._teacher_texts: list[str] = []
        self._teacher_bits: float | None = None

    def asks(self) -> Questions:
        """What the teacher is asked."""
        theirs, comparable = self.teacher_held_out, self.held_out.comparable
        return Questions(
            compared=self.held_out.encoded if comparable else [],
            own=[] if comparable else theirs.encoded,
            prompts=theirs.prompts,
            max_new_tokens=theirs.max_new_tokens,
        )

    def look(self, step: int) -> Generator[Event, None, None]:
        """Yield one `evaluation` event, then one `sample` event for each fixed prompt.

        Before the first step `progress` comes before them.
        """
        if not self.held_out.rows:
            return
        if step == 0:  # it may take long, and no step has told yet that the run is at work
            yield progress("evaluating", f"{UNTRAINED}: probabilities")
        scores = score_tokens(self.network, self.held_out, teacher=self.teacher)
        metrics = scores.as_metrics()
        if not self.held_out.comparable and self.teacher is not None:
            metrics |= self._bits_per_byte(scores, self.teacher)
        if step == 0:
            yield progress("evaluating", f"{UNTRAINED}: answers")
        texts = answer_prompts(self.network, self.held_out).texts
        metrics |= self._answer_metrics("held_out", texts)
        if texts and self.teacher is not None:
            if not self._teacher_texts:  # the same every time: asked once a stage
                if step == 0:
                    yield progress("evaluating", f"{UNTRAINED}: answers of its teacher")
                self._teacher_texts = teacher_texts(self.teacher, self.teacher_held_out)
            metrics |= self._answer_metrics("held_out_teacher", self._teacher_texts)
        self.last = {name: float(f"{value:.9g}") for name, value in metrics.items()}
        yield event(
            "evaluation",
            stage=self.stage,
            step=step,
            metrics=self.last,
            rows=len(self.held_out.rows),
            final=False,
        )
        for place, row in enumerate(self.asked):
            yield event(
                "sample",
                stage=self.stage,
                step=step,
                prompt=row.prompt_text,
                teacher=self._teacher_texts[place] if self._teacher_texts else None,
                student=texts[place],
                reference=self.held_out.references[place],
                match=texts[place] == self.held_out.references[place],
            )

    def _bits_per_byte(self, scores: TokenScores, teacher: Teacher) -> dict[str, float]:
        """What two tokenizers can be compared by, in the place of a KL token by token."""
        if self._teacher_bits is None:
            self._teacher_bits = teacher_bits_per_byte(whole(teacher), self.teacher_held_out)
        return {
            "held_out_bits_per_byte": scores.bits_per_byte,
            "held_out_teacher_bits_per_byte": self._teacher_bits,
        }

    def _answer_metrics(self, who: str, texts: list[str]) -> dict[str, float]:
        """Exact match, and the task's own metric where that is another one."""
        if not texts:
            return {}
        found = {}
        for name in {"exact_match": None, self.held_out.metric: None}:
            if name in ANSWER_METRICS:
                values = row_scores(name, texts, self.held_out.references)
                found[f"{who}_{name}"] = sum(values) / len(values)
        return found
