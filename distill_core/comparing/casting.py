"""Who takes part in a run: writes each stage's models into the line-up as it begins.

In: the planned stages, and what one stage has built. Out: the run's line-up, with the tokens that
each network will have seen. Loads no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill_core.comparing import lineup
from distill_core.data.row_order import batch_order
from distill_core.models import Labels
from distill_core.recipe import DistillStage, PretrainedStudent, Student
from distill_core.recipe.plan import PlannedStage, cast

if TYPE_CHECKING:
    from distill_core.data.classes import EncodedText
    from distill_core.data.tokenize import Encoded


@dataclass(frozen=True)
class Built:
    """What a stage starts with."""

    source: str
    """Its teacher, or the model to tune, as the line-up names it."""
    source_parameters: int
    student: Student
    """With `previous` turned into a folder."""
    student_parameters: int
    parts: str
    seed: int
    seen: lineup.Seen
    labels: Labels | None = None
    """The classes that all of them tell apart."""
    teachers: Sequence[lineup.Member] = ()
    """The stage's teacher as it is in memory, and each of several."""
    source_knows: bool = True
    """Whether the source can be scored as it is: a classifier needs a head for these classes."""


def tokens_seen(
    rows: Sequence[Encoded | EncodedText], stage: PlannedStage, *, seed: int
) -> lineup.Seen:
    """Count the tokens of the rows that a stage's steps take, some of them several times.

    An on-policy step counts as the rows whose answers the student writes anew.
    """
    optim = stage.settings.optim
    order = batch_order(
        len(rows), global_batch_size=optim.global_batch_size, steps=stage.total_steps, seed=seed
    )
    times = np.zeros(len(rows), dtype=np.int64)
    for step in range(stage.total_steps):
        np.add.at(times, order[step], 1)
    tokens = supervised = 0
    for count, row in zip(times.tolist(), rows, strict=True):
        if count:
            tokens += count * len(row.input_ids)
            supervised += count * row.supervised_tokens
    return lineup.Seen(steps=stage.total_steps, tokens=tokens, supervised_tokens=supervised)


def enter(run_dir: Path, stages: Sequence[PlannedStage], stage: PlannedStage, built: Built) -> None:
    """Put a stage's models into the line-up, so that they can be compared later."""
    members = {found.key: found for found in lineup.read(run_dir)}

    def put(key: str, source: str, parameters: int, title: str = "", **more: object) -> None:
        before = members.get(key)
        members[key] = lineup.Member(
            key=key,
            title=title or lineup.TITLES[key],
            source=source,
            parameters=parameters,
            bytes=parameters * 4,
            labels=built.labels,
            seen=before.seen if before else {},
            **more,  # type: ignore[arg-type]
        )

    def trained(key: str) -> None:
        members[key].seen[stage.index] = built.seen  # again, not twice, when it is resumed

    parts = cast(stages)
    if stage.baseline:
        put(stage.baseline, stage.output, built.student_parameters)
        trained(stage.baseline)
    else:
        if stage.index == parts.teacher_of:
            members |= {one.key: one for one in built.teachers}
        if stage.index in parts.assistants:
            number = parts.assistants.index(stage.index) + 1
            title = lineup.TITLES[lineup.ASSISTANT] + (f" {number}" if number > 1 else "")
            put(lineup.assistant_key(number), stage.output, built.student_parameters, title)
            trained(lineup.assistant_key(number))
        trims = built.student.vocab_trim is not None
        shrinks = trims or not isinstance(built.student, PretrainedStudent)
        untaught = not any(isinstance(one.settings, DistillStage) for one in stages)
        if stage.index == parts.origin and shrinks and untaught and built.source_knows:
            put(lineup.ORIGINAL, built.source, built.source_parameters)
        if stage.index >= parts.origin:
            put(lineup.STUDENT, "student", built.student_parameters)
            trained(lineup.STUDENT)
        if stage.index == parts.origin:
            put(
                lineup.UNTRAINED,
                built.source,
                built.student_parameters,
                "" if built.student.init == "scratch" else "student before training",
                build=built.student,
                seed=built.seed,
                parts=built.parts,
            )
    lineup.write(run_dir, list(members.values()))
