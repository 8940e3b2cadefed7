"""How a recipe's task reads rows, in training and while it is watched.

In: rows, the tokenizers of student and teacher, the classes where texts are told apart. Out:
encoded rows, with the teacher's side where it reads them otherwise, and who looks at the network on
held-out rows. The one place where a stage asks which task it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_core.data.alignment import reader, reads_alike
from distill_core.data.classes import encode_text
from distill_core.data.formats import Row
from distill_core.data.on_policy import OnPolicy
from distill_core.data.spooled import Chosen, Spooled
from distill_core.data.tokenize import encode_prompt, stop_token_ids
from distill_core.errors import DataError, ModelError
from distill_core.events import Event, progress, result_of
from distill_core.losses.objective import Objective
from distill_core.models import Labels, model_facts
from distill_core.models.classifiers import check_teacher
from distill_core.recipe import PREVIOUS, DistillStage, Recipe
from distill_core.recipe.plan import PlannedStage, teacher_field
from distill_core.scoring import HeldOut, choose_metric
from distill_core.scoring.classes import HeldOutTexts
from distill_core.stages.class_watcher import ClassWatcher
from distill_core.stages.watcher import Watcher
from distill_core.teachers.base import Teacher
from distill_core.teachers.trimmed import tokenizer_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS_BETWEEN_WORDS = 1000
"""So many rows are read before it is told how far that is."""


def encode_rows(
    rows: Sequence[Row],
    student: PreTrainedTokenizerBase,
    *,
    teacher: PreTrainedTokenizerBase,
    objective: Objective,
    max_seq_len: int,
    classes: Labels | None = None,
) -> tuple[Sequence[Row], Sequence[Any]]:
    """Rows that have something to learn, in the student's tokens and, where asked, the teacher's.

    A teacher whose student has only some of its tokens reads them in these (`teachers.trimmed`).

    Raises:
        DataError: if no row is left.
        ModelError: if the terms cannot compare such a pair.
    """
    events = rows_read(
        rows,
        student,
        teacher=teacher,
        objective=objective,
        max_seq_len=max_seq_len,
        classes=classes,
    )
    return result_of(events)


def rows_read(
    rows: Sequence[Row],
    student: PreTrainedTokenizerBase,
    *,
    teacher: PreTrainedTokenizerBase,
    objective: Objective,
    max_seq_len: int,
    classes: Labels | None = None,
) -> Generator[Event, None, tuple[Sequence[Row], Sequence[Any]]]:
    """As `encode_rows`, with `progress` on the way."""
    teacher = tokenizer_for(teacher, student)
    read = (
        reader(student, teacher, by_text=objective.by_text, by_id=objective.by_id)
        if classes is None
        else _reader_of_texts(student, teacher, objective, classes)
    )
    places, encoded = array("q"), Spooled[Any]()
    for place, row in enumerate(rows):
        if place % ROWS_BETWEEN_WORDS == 0:
            yield progress("preparing", "tokenizing", done=place, total=len(rows))
        item = read(row, max_seq_len)
        if item is not None and item.supervised_tokens:
            places.append(place)
            encoded.append(item)
    if not encoded:
        raise DataError(
            f"No row has a supervised token left within max_seq_len = {max_seq_len}. "
            "Raise it, or give rows with answers.",
            field="data.max_seq_len",
        )
    return Chosen(rows, places), encoded


def reread(
    rows: Sequence[Row],
    encoded: Sequence[Any],
    tokens: Sequence[int],
    again: tuple[Sequence[Row], Sequence[Any]],
) -> tuple[Sequence[Row], Sequence[Any]]:
    """`again`: `rows`, `encoded` by a whole tokenizer, as one reads them that has only `tokens`.

    A row in which others occur, since it was not there when they were chosen, is cut into pieces
    that are left; all others must be cut as they were.

    Raises:
        ModelError: if one is not: the student would be shown other pieces than its teacher was.
    """
    new_ids = {old: new for new, old in enumerate(tokens)}
    before = zip(rows, encoded, strict=True)
    for row, item in zip(*again, strict=True):
        # some rows may have been left out, the others are in the same order
        as_whole = next(whole for other, whole in before if other == row)
        expected = [new_ids.get(token) for token in as_whole.input_ids]
        if None not in expected and item.input_ids != expected:
            raise ModelError(
                f"The trimmed tokenizer cuts {row.origin} otherwise than the whole one.\n"
                "Keep the whole vocabulary: leave vocab_trim out.",
                field="vocab_trim",
            )
    return again


def _reader_of_texts(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
    objective: Objective,
    classes: Labels,
) -> Callable[[Row, int], Any]:
    """How texts are read whose classes are told apart: both models get the same ids."""
    if objective.by_text:
        raise ModelError(
            "cross_tokenizer compares pieces of written text, and these models tell classes apart."
            "\nUse forward_kl, which compares their classes."
        )
    if objective.needs_teacher and student.get_vocab() != teacher.get_vocab():
        raise ModelError(
            "Teacher and student have different tokenizers, and both have to read the same ids.\n"
            "Choose a student of the same family, or a smaller copy of the teacher."
        )
    return lambda row, max_seq_len: encode_text(row, student, max_seq_len, classes)


def on_policy_of(
    recipe: Recipe,
    stage: PlannedStage,
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase,
) -> OnPolicy | None:
    """How the student writes its own answers in a stage; None where it does not.

    Raises:
        DataError: none of the rows asks anything.
        ModelError: the teacher would read the student's ids as other text.
    """
    settings = stage.settings
    if not isinstance(settings, DistillStage) or not settings.on_policy_fraction:
        return None
    field = f"stages.{stage.index}.on_policy_fraction"
    teacher_tokenizer = tokenizer_for(teacher_tokenizer, tokenizer)
    if Objective(stage.losses).by_text or not reads_alike(tokenizer, teacher_tokenizer):
        raise ModelError(
            "The teacher can judge what the student writes only where both read the same ids.\n"
            "Set on_policy_fraction to 0; or choose a student of the same family, and a loss other "
            "than cross_tokenizer.",
            field=field,
        )
    longest = settings.student_answers.max_new_tokens
    room = max(1, recipe.data.max_seq_len - longest)  # a longer prompt loses its head
    prompts = Spooled(
        encode_prompt(row, tokenizer, max_tokens=room) if row.text is None else None for row in rows
    )
    if not any(prompts):
        raise DataError(
            "The rows are plain texts, which ask nothing that the student could answer.\n"
            "Set on_policy_fraction to 0, or give rows with prompts.",
            field=field,
        )
    return OnPolicy(
        prompts,
        fraction=settings.on_policy_fraction,
        sampling_temperature=settings.student_answers.sampling_temperature,
        max_new_tokens=longest,
        stop_ids=frozenset(stop_token_ids(tokenizer)),
        vocab_size=len(tokenizer),
        seed=recipe.seed,
    )


def watcher_of(
    recipe: Recipe,
    classes: Labels | None,
    *,
    stage: int,
    network: torch.nn.Module,
    teacher: Teacher | None,
    held_out: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    teacher_tokenizer: PreTrainedTokenizerBase,
) -> Watcher | ClassWatcher:
    """Who scores the network on the first held-out rows while it is trained.

    A teacher reads them with its own tokenizer and chat template, `teacher_tokenizer`; compared
    with the network it is by the tokens that this has.
    """
    settings, longest = recipe.evaluation, recipe.data.max_seq_len
    rows = held_out[: max(settings.rows, settings.samples)]
    if classes is not None:
        texts, theirs = (
            HeldOutTexts.make(rows, own, max_seq_len=longest, classes=classes)
            for own in (tokenizer, teacher_tokenizer)
        )
        samples = settings.samples
        return ClassWatcher(
            stage, network, teacher, texts, samples=samples, teacher_held_out=theirs
        )

    def read_by(
        own: PreTrainedTokenizerBase, taught_by: PreTrainedTokenizerBase | None = None
    ) -> HeldOut:
        return HeldOut.make(
            rows,
            own,
            max_seq_len=longest,
            max_new_tokens=settings.max_new_tokens,
            metric=choose_metric(settings.metric, held_out)[0],
            teacher_tokenizer=taught_by,
        )

    compared = tokenizer_for(teacher_tokenizer, tokenizer) if teacher else None
    asked = read_by(tokenizer, compared)
    reads_apart = teacher is not None and not reads_alike(tokenizer, teacher_tokenizer)
    return Watcher(
        stage,
        network,
        teacher,
        asked,
        samples=settings.samples,
        teacher_held_out=read_by(teacher_tokenizer) if reads_apart else None,
    )


def check_teachers_of(
    stage: PlannedStage, folders: Sequence[Path], classes: Labels, *, named: bool
) -> None:
    """Make sure that the logits of a stage's teachers mean the classes; raises `ModelError`."""
    settings = stage.settings
    assert isinstance(settings, DistillStage), "only a distil stage has teachers"
    for place, (name, folder) in enumerate(zip(stage.sources, folders, strict=True)):
        if name != PREVIOUS:
            check_teacher(
                classes,
                model_facts.config(str(folder)),
                named=named,
                name=name,
                field=teacher_field(stage.index, settings, place),
            )
