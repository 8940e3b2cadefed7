"""Student and teacher, asked about the same positions of the same batch.

In: the wrapped student, its teacher, a batch, the terms. Out: `SupervisedRows`: both sides' logits
and features, or what the student has made of them chunk by chunk inside its forward pass. Knows
nothing of steps, optimisers or metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from accelerate import Accelerator

from distill_core import ranks
from distill_core.data.batches import Batch
from distill_core.forward.network import Network, View
from distill_core.forward.packed import UNLIMITED
from distill_core.losses.base import SupervisedRows
from distill_core.losses.objective import Objective
from distill_core.teachers.base import Teacher


def supervised_rows(
    network: torch.nn.Module,
    teacher: Teacher | None,
    batch: Batch,
    objective: Objective,
    accelerator: Accelerator,
    *,
    totals: Mapping[str, int] | None = None,
    chunk_rows: int | None = 0,
) -> SupervisedRows:
    """Ask teacher and student for the same positions of the same batch.

    Unless `chunk_rows` is 0 the student compares itself with the teacher chunk by chunk, if it
    can; `totals` says what each row then counts.
    """
    theirs = teacher.view(batch) if teacher is not None and objective.compares else None
    comparison = objective.comparison(
        (theirs.sparse or theirs.rows) if theirs else None,
        batch.targets,
        batch.target_labelled,
        totals=totals or objective.token_counts(batch.counts()),
        chunk_rows=chunk_rows,
    )
    with accelerator.autocast():
        ours: View = network(batch, comparison)
    in_full = ours.compared is None
    return SupervisedRows(
        ours.logits if in_full else None,
        theirs.logits if theirs and theirs.rows is not None and in_full else None,
        batch.targets,
        batch.target_labelled,
        student=ours.features,
        teacher=theirs.features if theirs else None,
        layer_pairs=objective.matching.pairs,
        teacher_targets=batch.for_teacher.targets,
        spans=batch.spans,
        dropped_mass=theirs.dropped_mass if theirs else None,
        teacher_sparse=theirs.sparse if theirs else None,
        compared=ours.compared,
    )


def known_ahead(batches: list[Batch], teacher: Teacher | None, objective: Objective) -> list[Batch]:
    """A step's micro-batches; this process's own bring along what a teacher's cache has of them."""
    if teacher is not None and objective.compares:
        for batch in batches[ranks.number() :: ranks.count()]:
            batch.for_teacher.kept = teacher.known(batch)
    return batches


def nobody_pads(
    network: Network, teacher: Teacher | None, objective: Objective, accelerator: Accelerator
) -> bool:
    """Whether both sides read rows of any length side by side; the same in all processes.

    To be asked of the weights that a stage begins with: whoever resumes it finds the same.
    """
    with accelerator.autocast():
        longest = network.longest_packed()
    if teacher is not None and objective.compares:
        longest = min(longest, teacher.longest_packed())
    return ranks.agree(lambda: longest == UNLIMITED)


@torch.no_grad()
def seen_again(
    network: torch.nn.Module,
    teacher: Teacher | None,
    batches: Sequence[Batch],
    objective: Objective,
    accelerator: Accelerator,
    *,
    chunk_rows: int | None = 0,
) -> Iterator[tuple[Batch, SupervisedRows]]:
    """The rows of each batch without gradients, to find out what was wrong with a step."""
    for batch in (one.to(accelerator.device) for one in batches):
        yield (
            batch,
            supervised_rows(network, teacher, batch, objective, accelerator, chunk_rows=chunk_rows),
        )
