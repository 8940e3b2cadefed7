"""What a stage's teacher is asked before training begins: its text, and what is kept of it.

In: a run, a planned stage and its teachers. Out: who teaches, the rows it has answered, and a cache
that knows everything training will ask, with the teacher out of memory again. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch

from distill_core import models, ranks
from distill_core.data.formats import Row
from distill_core.data.row_order import batch_order
from distill_core.data.spooled import Chosen
from distill_core.data.tokenize import pad_token_id
from distill_core.errors import DataError, ModelError
from distill_core.events import Event, progress
from distill_core.losses.objective import Objective
from distill_core.recipe import DistillStage
from distill_core.recipe.plan import PlannedStage
from distill_core.stages.reading import check_teachers_of, encode_rows
from distill_core.stages.teaching import Teaching
from distill_core.teachers.answers import FOLDER as ANSWERS_FOLDER
from distill_core.teachers.answers import Answered, answer_rows
from distill_core.teachers.cache_pass import Questions, Reading, fill
from distill_core.teachers.cached import FOLDER as CACHE_FOLDER
from distill_core.teachers.cached import CachedTeacher
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.on_demand import OnDemandTeacher
from distill_core.teachers.rounding import FOLDER as ROUNDING_FOLDER
from distill_core.teachers.rounding import FORMATS, ROWS, Rounding, measured
from distill_core.teachers.trimmed import whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distill_core.stages.stage import Run

Asked = LocalTeacher | OnDemandTeacher
"""A teacher that can be asked now."""


def teaching_of(this: Run, stage: PlannedStage) -> Teaching | None:
    """Who teaches a stage; None where nobody does.

    Raises:
        ModelError: if a teacher does not tell the run's classes apart.
    """
    if not isinstance(stage.settings, DistillStage):
        return None
    before = this.before(stage)
    teaching = Teaching.of(
        stage,
        path_of=lambda name: this.path_of(name, before),
        run_precision=this.recipe.precision,
        device=this.device,
        labels=this.classes,
    )
    if this.classes is not None:
        folders = [part.folder for part in teaching.parts]
        check_teachers_of(stage, folders, this.classes, named=bool(this.recipe.data.classes))
    return teaching


def rounding_of(
    this: Run, teaching: Teaching | None, tokenizer: PreTrainedTokenizerBase
) -> Generator[Event, None, Rounding | None]:
    """What the number format of a stage's teacher changes; None where nothing is rounded.

    It is measured on held-out rows, so there is nothing to tell where none of them has an answer.
    """
    if teaching is None or teaching.precision not in FORMATS:
        return None
    yield progress("loading", f"the teacher in fp32, to see what {teaching.precision} changes")
    try:
        _, items = encode_rows(
            this.data.held_out[:ROWS],
            tokenizer,
            teacher=tokenizer,
            objective=Objective([]),
            max_seq_len=this.recipe.data.max_seq_len,
            classes=this.classes,
        )
    except DataError:
        return None
    devices = [this.device] if this.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # measured or known, the run goes on alike
        return ranks.agree(
            lambda: measured(
                lambda precision, device: replace(teaching, precision=precision).load(
                    tokenizer, device=device
                ),
                precision=teaching.precision,
                device=this.device,
                fingerprint=teaching.fingerprint,
                parameters=teaching.parameters,
                items=items,
                pad_token_id=pad_token_id(tokenizer),
                folder=this.kept / ROUNDING_FOLDER,
            )
        )


def teacher_of(
    this: Run,
    stage: PlannedStage,
    teaching: Teaching | None,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[Asked | None, CachedTeacher | None]:
    """The teacher, in memory where it is asked at every step, and what is kept of it else."""
    if teaching is None or not Objective(stage.losses).needs_teacher:
        return None, None
    root = this.kept / CACHE_FOLDER
    cached = teaching.cached(stage, tokenizer, root=root, device=this.device)
    if cached is None:
        return teaching.load(tokenizer, device=this.device), None
    return teaching.on_demand(tokenizer, cached=cached), cached


def cache_filled(
    this: Run,
    stage: PlannedStage,
    teacher: Asked | None,
    taught_by: Any,
    encoded: Sequence[Any],
    held_out: Questions,
    tokenizer: PreTrainedTokenizerBase,
) -> Generator[Event, None, dict[str, Any] | None]:
    """Ask the teacher what is not kept yet, and put it out of memory; returns facts of the cache.

    `taught_by`: the teacher as it meets the student, who reads with `tokenizer`. Rows that no step
    takes are left out.

    Raises:
        ModelError: if only some tokens are kept and the student does not have all of them.
    """
    cached = whole(taught_by)
    if not isinstance(cached, CachedTeacher):
        return None
    assert isinstance(teacher, OnDemandTeacher), "a cache comes with a teacher that can go"
    if "sparse" in cached.provides and len(tokenizer) < cached.vocab_size:
        raise ModelError(
            f"The teacher has {cached.vocab_size:,} tokens and the student {len(tokenizer):,}: a "
            f"cache of kind {cached.settings.kind} may keep tokens that the student lacks.\nSet "
            "its kind to hidden, or leave teacher_cache empty.",
            field=f"stages.{stage.index}.teacher_cache",
        )
    order = batch_order(
        len(encoded),
        global_batch_size=stage.settings.optim.global_batch_size,
        steps=stage.total_steps,
        seed=this.recipe.seed,
    )
    rows = Chosen(encoded, order.visited())
    reading = Reading(rows, pad_token_id(tokenizer), taught_by.reads)
    filled = yield from fill(cached, teacher, rows=reading, held_out=held_out)
    teacher.unload()
    return asdict(filled)


def answered_rows(
    this: Run,
    stage: PlannedStage,
    teaching: Teaching | None,
    teacher: Asked | None,
    tokenizer: PreTrainedTokenizerBase,
) -> Generator[Event, None, tuple[Sequence[Row], Answered | None]]:
    """The rows of a stage, answered by its teacher where it has one."""
    if stage.text_of is not None:
        answered = yield from _teachers_text(this, this.stages[stage.text_of])
        return answered.as_labels(), answered
    rows = this.data.train
    if not stage.uses_unlabelled:
        rows = Chosen(rows, (place for place, row in enumerate(rows) if row.labelled))
    if teaching is None or teacher is None or this.classes is not None:
        return rows, None  # teachers of classes score all rows as training goes
    answered = yield from answer_rows(
        rows,
        teacher=teacher,
        tokenizer=tokenizer,
        fingerprint=teaching.fingerprint,
        settings=stage.settings.teacher_answers,  # type: ignore[union-attr]
        max_seq_len=this.recipe.data.max_seq_len,
        seed=this.recipe.seed,
        folder=this.kept / ANSWERS_FOLDER,
    )
    return answered.as_labels() if stage.learns_from_text else answered.rows, answered


def _teachers_text(this: Run, taught: PlannedStage) -> Generator[Event, None, Answered]:
    """All rows as the teacher of a distil stage answers them; it is not kept in memory."""
    assert isinstance(taught.settings, DistillStage)
    teaching = teaching_of(this, taught)
    assert teaching is not None, "a distil stage has teachers"
    tokenizer = models.load_tokenizer(teaching.parts[0].folder)
    return (
        yield from answer_rows(
            this.data.train,
            teacher=teaching.load(tokenizer, device=this.device),
            tokenizer=tokenizer,
            fingerprint=teaching.fingerprint,
            settings=taught.settings.teacher_answers.model_copy(update={"rows": "all"}),
            max_seq_len=this.recipe.data.max_seq_len,
            seed=this.recipe.seed,
            folder=this.kept / ANSWERS_FOLDER,
        )
    )
