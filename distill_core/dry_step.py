"""A few optimiser steps on a few rows, to measure what a run needs: `python -m … FOLDER`.

In: a folder with `recipe.json`. Out: `measured.json` beside it: for each stage the peak of memory
at two sizes of a micro-batch, and the seconds of a step. The stages are those of a run, with its
models, losses, teacher and device; the rows are the longest ones and a draw of the others. Where a
student writes its own answers, it writes a batch of them too. Nothing but the folder is written,
and the models that are trained are this process's own copies.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
import torch

from distill_core import device, files, models, peak
from distill_core.data.grouping import computed_tokens, parts_of
from distill_core.data.on_policy import ANSWERS_AT_ONCE
from distill_core.data.sources import Prepared, prepare
from distill_core.data.tokenize import Encoded
from distill_core.dry_rows import few_rows, timed_rows
from distill_core.errors import DistillError, ModelError, OutOfMemory, is_out_of_memory
from distill_core.events import Event, event
from distill_core.pipeline import classes_of
from distill_core.recipe import DistillStage, Recipe
from distill_core.recipe.plan import PlannedStage, named_models, plan
from distill_core.stages.stage import Run, run_stage
from distill_core.steps.rows_at_once import RowsAtOnce
from distill_core.trainer import TrainingStage, train

RECIPE, MEASURED = "recipe.json", "measured.json"

STEPS_TIMED, SECONDS_TIMED = 6, 3.0
"""Timing ends after so many steps, or once they took so long together."""

OWN_ANSWERS_TIMED = 5
"""How often a batch is written, if there is time: it takes as long as its longest answer."""


def main(arguments: list[str] | None = None) -> int:
    """Measure the recipe in a folder; what goes wrong is written there too."""
    (folder,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    with suppress(OSError):  # where memory ends, Linux ends this process and not the app
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        told = measured(Recipe.model_validate_json((folder / RECIPE).read_text("utf-8")), folder)
    except DistillError as error:
        ran_out = isinstance(error, OutOfMemory)
        place = getattr(error, "field", "")
        told = {"error": str(error), "field": place, "out_of_memory": ran_out}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = {"error": "Memory ran out before the first step.", "out_of_memory": True}
    files.replace_json(folder / MEASURED, told)
    return 0


def measured(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Take the steps of every stage (keys of each: `_Meter.found`).

    Raises:
        DistillError: as a run would.
        OutOfMemory: if one row is too much.
    """
    target = device.pick_device(recipe.device)
    dtype = device.pick_dtype(recipe.precision, target)
    _all_here(recipe)
    data = prepare(recipe.data, seed=recipe.seed, task=recipe.task)
    labelled = sum(row.labelled for row in data.train)
    stages = [
        stage
        for stage in plan(recipe, labelled=labelled, unlabelled=len(data.train) - labelled)
        if not stage.baseline
    ]
    rows = few_rows(data.train, stages, seed=recipe.seed)
    looks = recipe.evaluation.model_copy(
        update={"rows": 1, "samples": 1, "final_rows": 1, "max_new_tokens": 1, "baselines": []}
    )
    meter = _Meter(target, last=len(stages) - 1)
    this = Run(
        recipe.model_copy(update={"evaluation": looks}),
        folder / "runs" / "dry",
        Prepared(rows, data.held_out[:1], data.facts),
        [_short(stage, len(rows)) for stage in stages],
        target,
        "bf16" if dtype == torch.bfloat16 else "no",
        classes_of(recipe, data),
        train=meter.train,
    )
    this.folder.mkdir(parents=True)
    for stage in this.stages:
        peak.forget_peak(target)
        for _ in run_stage(this, stage, lambda: None):
            pass
    return {"device": target.type, "stages": meter.found}


def _all_here(recipe: Recipe) -> None:
    """Nothing is downloaded for a forecast; raises `ModelError`."""
    for name, place in named_models(recipe).items():
        if models.local_folder(name, field=place) is None:
            raise ModelError(
                f"{name} is not on this disk yet, so that no step can be taken with it.\n"
                "Start the run, which downloads it first; or take the formula's forecast.",
                field=place,
            )


def _short(stage: PlannedStage, rows: int) -> PlannedStage:
    """As many steps as it takes to see every row; the teacher answers none of them."""
    size = stage.settings.optim.global_batch_size
    settings = stage.settings
    if isinstance(settings, DistillStage):
        asked = settings.teacher_answers.model_copy(update={"rows": "unlabelled", "best_of": 1})
        settings = settings.model_copy(update={"teacher_answers": asked})
    return replace(stage, settings=settings, total_steps=-(-rows // size) + 1, rows=rows)


# --- in the place of the training -----------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A step's memory: `tokens` computed in its largest micro-batch, and the peak."""

    tokens: int
    peak_bytes: int

    def as_dict(self) -> dict[str, int]:
        """Plain data."""
        return {"tokens": self.tokens, "peak_bytes": self.peak_bytes}


@dataclass
class _Meter:
    """Takes steps where a run would train, and notes what they needed."""

    device: torch.device
    last: int
    found: list[dict[str, Any]] = field(default_factory=list)
    """By stage: the points, how many rows fit at once, the most while loading, what was held when
    all was loaded, tokens per second of a step, and seconds until the first one; where the student
    writes its own answers, the seconds of a batch of them, and the mean tokens of such a row."""
    _since: float = field(default_factory=lambda: psutil.Process().create_time())

    def train(
        self, stage: TrainingStage, *, should_stop: Callable[[], str | None]
    ) -> Iterator[Event]:
        """Measure one stage; the last one ends as if stopped, so that nothing of it is saved."""
        started_s = time.time() - self._since
        loading = peak.peak_bytes(self.device)
        gc.collect()
        held = peak.held_bytes(self.device)
        optim = stage.optim
        most = min(optim.micro_batch_size, optim.global_batch_size)
        count = min(optim.global_batch_size, 2 * most)
        rows = sorted(stage.rows, key=lambda row: -len(row.input_ids))
        small = max(1, most // 2)
        fewer = rows[:count] if most > 1 else rows[-count:]
        steps = [(fewer, small), (rows[:count], most)]
        points, allowed = [], most
        for chosen, wanted in steps:
            size = got = min(wanted, allowed)
            while got:
                peak.forget_peak(self.device)
                got, _ = self._step(stage, chosen, size, least=2)
                if got == size:
                    break
                size = allowed = got  # memory has run out: what fits is measured
            lengths, packed = [len(row.input_ids) for row in chosen], stage.packed
            parts = parts_of(lengths, size, device=self.device.type, packed=packed)
            tokens = max(computed_tokens(part, lengths, packed=packed) for part in parts)
            points.append(Point(tokens, peak.peak_bytes(self.device)))
        timed = stage.rows[-timed_rows(optim.global_batch_size, most) :]
        _, speeds = self._step(stage, timed, allowed, least=3, most=STEPS_TIMED)
        self.found.append(
            {
                "stage": stage.index,
                "points": [point.as_dict() for point in points],
                "micro_batch_size": allowed,
                "loading_bytes": loading,
                "held_bytes": held,
                "tokens_per_s": statistics.median(speeds[1:]),
                "start_s": started_s,
                **self._own_answers(stage, len(timed)),
            }
        )
        self._since = time.time()
        if stage.index == self.last:
            yield event("run_stopped", reason="stopped", stage=stage.index, step=0)

    def _step(
        self, stage: TrainingStage, rows: Sequence[Any], size: int, *, least: int, most: int = 0
    ) -> tuple[int, list[float]]:
        """Take steps over all `rows`; returns how many of them fit at once, and tokens/s."""
        settings = {"global_batch_size": len(rows), "micro_batch_size": size}
        at_once = RowsAtOnce()
        short = replace(
            stage,
            rows=rows,
            optim=stage.optim.model_copy(update=settings),
            total_steps=max(least, most),
            at_once=at_once,
            on_policy=None,
            checkpoint_every=10 * max(least, most),
            evaluate=lambda step: iter(()),
        )
        speeds: list[float] = []
        started = time.perf_counter()
        for happening in train(short):
            if happening["type"] != "step":
                continue
            speeds.append(happening["metrics"]["tokens_per_s"])
            if len(speeds) >= least and time.perf_counter() - started > SECONDS_TIMED:
                break
        stage.packed = short.packed
        if not speeds:
            raise OutOfMemory("No step could be taken.", field="data.max_seq_len")
        gc.collect()
        return at_once.of(short.optim), speeds

    def _own_answers(self, stage: TrainingStage, count: int) -> dict[str, float]:
        """Let the student write as many answers as come together, of the last `count` rows.

        Returns the seconds of a whole batch, and the mean tokens of its rows; nothing where the
        student never writes.
        """
        if stage.on_policy is None:
            return {}
        batch = stage.optim.global_batch_size
        last = range(len(stage.rows) - count, len(stage.rows))
        places = list(islice(cycle(last), min(batch, ANSWERS_AT_ONCE)))
        given = [stage.rows[place] for place in places]
        seconds: list[float] = []
        while len(seconds) < OWN_ANSWERS_TIMED and sum(seconds) < SECONDS_TIMED:
            device.synchronize(self.device)
            started = time.perf_counter()
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=stage.mixed_precision == "bf16"
            ):
                written = stage.on_policy.write(
                    stage.student,
                    step=len(seconds),
                    rows=places,
                    given=[row for row in given if isinstance(row, Encoded)],
                )
            device.synchronize(self.device)
            seconds.append(time.perf_counter() - started)
        return {
            "own_answers_s": statistics.median(seconds[1:] or seconds) * batch / len(places),
            "own_row_tokens": statistics.mean(len(row.input_ids) for row in written.rows),
        }


if __name__ == "__main__":
    sys.exit(main())
