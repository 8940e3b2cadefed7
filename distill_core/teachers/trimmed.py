"""A teacher that has more tokens than its student.

In: a teacher, and its id of each of the student's tokens. Out: the same teacher, asked in the
student's ids and answering for the student's tokens alone. What it would give to the tokens that
the student lacks is measured, never hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_core.losses.logit_rows import TrimmedRows
from distill_core.students.trimmed_tokenizer import trimmed_tokenizer
from distill_core.students.vocabulary import kept_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.data.batches import Batch
    from distill_core.forward.network import View, Wanted
    from distill_core.generate import Continuation
    from distill_core.losses.logit_rows import LogitRows
    from distill_core.losses.sparse import SparseRows
    from distill_core.teachers.base import Teacher


class TrimmedTeacher:
    """Translates between a student's trimmed vocabulary and its teacher's whole one.

    The teacher's distribution is taken as it is *given that* the next token is one of the
    student's: logits are gathered before any softmax, so that every loss term compares two
    distributions over the same tokens. The student could give nothing to the others; how much the
    teacher gives them is `View.dropped_mass`.
    """

    def __init__(self, teacher: Any, ids: Tensor, *, classes: bool = False) -> None:
        """`classes`: the teacher's logits are of classes, not of tokens: nothing is left out."""
        self.teacher = teacher
        self.ids = ids
        self.classes = classes
        self.provides: frozenset[str] = teacher.provides

    @property
    def model(self) -> Any:
        """The teacher's network."""
        return self.teacher.model

    @property
    def device(self) -> torch.device:
        """Where batches must be to be asked about."""
        found: torch.device = self.teacher.device
        return found

    def look_into(self, wanted: Wanted) -> None:
        """From now on show these layers too."""
        self.teacher.look_into(wanted)

    def longest_packed(self) -> int:
        """Tokens of the longest row that it reads without padding; 0: it pads all."""
        found: int = self.teacher.longest_packed()
        return found

    def known(self, batch: Batch) -> Tensor | SparseRows | None:
        """What is known of `batch` in the teacher's own ids, without asking."""
        found: Tensor | SparseRows | None = self.teacher.known(self.reads(batch))
        return found

    @torch.no_grad()
    def view(self, batch: Batch) -> View:
        """Rows of logits over the student's tokens, and features."""
        view: View = self.teacher.view(self.reads(batch))
        assert view.sparse is None, "checks refuse a teacher of whom some tokens are known"
        if self.classes or view.rows is None:
            return view
        return view._replace(rows=TrimmedRows(view.rows, self.ids.to(self.device)))

    def rows(self, batch: Batch) -> LogitRows:
        """Logits at the supervised positions over the student's tokens; they know what is dropped.

        The mass on the teacher's other tokens is `TrimmedRows.dropped_mass`.
        """
        whole: LogitRows = self.teacher.rows(self.reads(batch))
        return whole if self.classes else TrimmedRows(whole, self.ids.to(self.device))

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """The same at once, (N, student's V)."""
        return self.rows(batch).all()

    def reads(self, batch: Batch) -> Batch:
        """What the teacher reads of a batch, in its own ids."""
        read = batch.for_teacher
        return read.with_ids(self.ids.to(read.input_ids.device)[read.input_ids])

    def answers(self, prompts: Sequence[list[int]], **how: Any) -> list[Continuation]:
        """The teacher's own continuation of prompts in its own ids."""
        found: list[Continuation] = self.teacher.answers(prompts, **how)
        return found


def whole(teacher: Any) -> Any:
    """The teacher as it is without its student: asked in its own ids, for all of its tokens."""
    return teacher.teacher if isinstance(teacher, TrimmedTeacher) else teacher


def for_student(
    teacher: Teacher | None,
    tokenizer: PreTrainedTokenizerBase,
    student: PreTrainedTokenizerBase,
    *,
    classes: bool = False,
) -> Teacher | None:
    """The teacher as it meets a student: trimmed where that has some of its tokens, else itself.

    Batches for it are read as `tokenizer_for` says. No teacher stays none; nor is there one of
    `classes` that cannot read the student's ids.
    """
    if teacher is None:
        return None
    ids = kept_ids(student, tokenizer)
    if ids is not None:
        return TrimmedTeacher(teacher, ids, classes=classes)
    return None if classes and student.get_vocab() != tokenizer.get_vocab() else teacher


def tokenizer_for(tokenizer: Any, student: PreTrainedTokenizerBase) -> Any:
    """How rows are read for `for_student`: the student's tokens in the teacher's conventions.

    These are its chat template, and what it puts around a text. None, without a teacher's
    tokenizer, stays None.

    Raises:
        ModelError: if the student lacks a token that the teacher puts around every text.
    """
    ids = kept_ids(student, tokenizer) if tokenizer is not None else None
    if ids is None:
        return tokenizer
    around = [int(ids[token]) for token in student("")["input_ids"]]
    if (
        student.chat_template == tokenizer.chat_template
        and student.eos_token == tokenizer.eos_token
        and around == tokenizer("")["input_ids"]
    ):
        return student
    return trimmed_tokenizer(tokenizer, ids.tolist())
