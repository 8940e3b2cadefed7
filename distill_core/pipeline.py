"""The stages of a recipe in order: a generator of events.

In: a recipe and the run's folder. Out: events; models, checkpoints and the line-up on disk. What is
finished on disk is not done again, so a run that was cut off goes on where it ended. Knows nothing
of processes, queues or who reads the events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

import torch

from distill_core import device, evaluate, files, models, ranks
from distill_core.data.classes import settle_classes
from distill_core.data.sources import Prepared, prepare
from distill_core.events import Event, event, progress
from distill_core.models import Labels, model_facts
from distill_core.recipe import PREVIOUS, Recipe
from distill_core.recipe.plan import model_that_orders_classes, named_models, plan
from distill_core.stages.stage import Run, run_stage
from distill_core.stages.stopping import Ask, Left, heed, heeded, together


def run(
    recipe: Recipe,
    run_dir: Path,
    *,
    should_stop: Callable[[], str | None] = lambda: None,
    beside: Path | None = None,
    narrow: Callable[[Prepared], Prepared] = lambda data: data,
    only: Collection[str] | None = None,
) -> Iterator[Event]:
    """Train all stages and baselines, then score; resumes from what is on disk.

    Yields events (see `events.py`), the last one `run_finished` or `run_stopped`. Where several
    processes train together, each of them calls this; the first one writes the files and scores.
    A run that is stopped goes on, in another call, to what it would have come to.

    Args:
        recipe: what to do.
        run_dir: where everything goes.
        should_stop: asked at each step and, outside training, between two events; says `stop` or
            `pause`.
        beside: where the teacher's answers and caches are shared; beside `run_dir` when left out.
        narrow: leaves out rows that are not wanted.
        only: keys of the line-up that are scored at the end; all when left out.

    Raises:
        DistillError: what the user can mend: data, models, disk, numbers that are not finite.
    """
    ranks.join(recipe.device)
    reached = {"stage": 0, "step": 0}
    try:
        yield from _run(
            recipe,
            run_dir,
            should_stop=should_stop,
            beside=beside,
            narrow=narrow,
            only=only,
            reached=reached,
        )
    except Left as left:
        yield event("run_stopped", reason=left.reason, **reached)


def _run(
    recipe: Recipe,
    run_dir: Path,
    *,
    should_stop: Ask,
    beside: Path | None,
    narrow: Callable[[Prepared], Prepared],
    only: Collection[str] | None,
    reached: dict[str, int],
) -> Iterator[Event]:
    """As `run`; raises `Left` where it is stopped between stages: `reached` says where."""
    started, ask = time.monotonic(), together(should_stop)
    yield progress("preparing", "reading the data")
    heed(ask)
    data = narrow(ranks.in_turn(lambda: prepare(recipe.data, seed=recipe.seed, task=recipe.task)))
    labelled = sum(row.labelled for row in data.train)
    stages = plan(recipe, labelled=labelled, unlabelled=len(data.train) - labelled)
    yield event(
        "run_started",
        recipe=recipe.model_dump(mode="json"),
        stages=[stage.facts() for stage in stages],
        data=data.facts,
    )
    heed(ask)
    yield from _download(recipe, ask)
    target = device.pick_device(recipe.device)
    dtype = device.pick_dtype(recipe.precision, target)
    precision = "bf16" if dtype == torch.bfloat16 else "no"
    classes = classes_of(recipe, data)
    this = Run(recipe, run_dir, data, stages, target, precision, classes, beside=beside)
    for stage in stages:
        done = run_dir / stage.output / "config.json"
        if ranks.agree(done.is_file):
            reached |= {"stage": stage.index, "step": stage.total_steps}
            continue
        stopped = yield from run_stage(this, stage, should_stop)
        if stopped:
            return
        reached |= {"stage": stage.index, "step": stage.total_steps}
        heed(ask)
    if not ranks.is_first():
        yield event("run_finished", seconds=time.monotonic() - started, evaluation={})
        return
    scores = evaluate.evaluate_members(
        run_dir,
        data.held_out[: recipe.evaluation.final_rows],
        data_facts={
            "name": data.facts.get("held_out_title", "held-out rows"),
            "rows": min(len(data.held_out), recipe.evaluation.final_rows),
            "overlap_with_training": 0,
            "overlap_removed": data.facts["overlap"],
        },
        recipe=recipe,
        device=target,
        only=only,
    )
    evaluation = yield from heeded(scores, should_stop)  # the others have gone
    files.replace_json(run_dir / "evaluation.json", evaluation)
    yield event("run_finished", seconds=time.monotonic() - started, evaluation=evaluation)


def classes_of(recipe: Recipe, data: Prepared) -> Labels | None:
    """The classes that all networks of the run tell apart; None where they write text."""
    if recipe.task != "text_classification":
        return None
    name = model_that_orders_classes(recipe)
    head = None if name == PREVIOUS else model_facts.config(name)
    return settle_classes(recipe.data, data.facts["classes"], data.facts["held_out_classes"], head)


def _download(recipe: Recipe, ask: Ask) -> Iterator[Event]:
    """Bring every named model to this disk before anything is trained."""
    for name, field in named_models(recipe).items():
        if models.local_folder(name, field=field) is None:
            yield progress("downloading", name)
        ranks.in_turn(partial(models.resolve, name, field=field))
        heed(ask)
