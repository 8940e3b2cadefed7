"""One stage: the training loop, a generator of events.

In: a student, perhaps a teacher, encoded rows, and settings. Out: events; the student's weights
change in place. Knows nothing of recipes' other stages, of run folders (but for `Checkpoints`) or
of who listens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from distill_core import ranks
from distill_core.checkpoints import Checkpoints, trained_together
from distill_core.data.batches import Batch, collate, micro_batches
from distill_core.data.classes import EncodedText
from distill_core.data.on_policy import OnPolicy
from distill_core.data.row_order import BatchOrder, batch_order
from distill_core.data.tokenize import Encoded
from distill_core.device import memory_bytes
from distill_core.errors import NonFiniteError
from distill_core.events import Event, event, rounded
from distill_core.forward.network import Network
from distill_core.losses.objective import MASSES, Objective
from distill_core.recipe import OptimSettings
from distill_core.steps.ahead import Ready, prepared_ahead
from distill_core.steps.both_sides import known_ahead, nobody_pads, seen_again, supervised_rows
from distill_core.steps.optimizer import adamw, move
from distill_core.steps.refusal import explain
from distill_core.steps.rows_at_once import RowsAtOnce, until_it_fits
from distill_core.steps.schedule import learning_rate_at, progress_at
from distill_core.teachers.base import Teacher

REFUSED_STEPS_ALLOWED = 5
"""So many steps in a row may be refused before the stage is given up."""


@dataclass
class TrainingStage:
    """All that one stage's training needs."""

    index: int
    student: torch.nn.Module
    objective: Objective
    rows: Sequence[Encoded | EncodedText]
    optim: OptimSettings
    total_steps: int
    seed: int
    vocab_size: int
    pad_token_id: int
    checkpoints: Checkpoints
    checkpoint_every: int
    evaluate_every: int
    teacher: Teacher | None = None
    on_policy: OnPolicy | None = None
    """How the student writes the batches of some steps itself; None: never."""
    evaluate: Callable[[int], Iterator[Event]] = field(default=lambda step: iter(()))
    looked: bool = False
    """Whether `evaluate` was called before the first step already."""
    origin: Callable[[int], str] = field(default=lambda row: f"row {row}")
    at_once: RowsAtOnce = field(default_factory=RowsAtOnce)
    """How many rows memory allows at once, as far as is known."""
    mixed_precision: str = "no"
    use_cpu: bool = True
    packed: bool = field(default=False, init=False)
    """Whether nobody pads the rows of this stage; found when its training begins."""


def train(
    stage: TrainingStage, *, should_stop: Callable[[], str | None] = lambda: None
) -> Iterator[Event]:
    """Train `stage.student` in place, from its last checkpoint if it has one.

    Yields `step`, `evaluation`, `sample`, `checkpoint` and `warning` events; the last one is
    `run_stopped` if `should_stop` said "stop" or "pause" and the state has been saved. Of several
    processes that train together each calls this; the first one evaluates, is asked and writes.

    Raises:
        NonFiniteError: after several steps in a row whose loss or gradient was not finite.
        OutOfMemory: if not even one row at once fits into memory.
        DiskFullError, RunError: when a checkpoint cannot be written, or read.
    """
    matching = stage.objective.matching
    unused = not stage.objective.reads_logits  # features alone leave the head without a gradient
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=unused)]
    # accelerate remembers the first number format of a process, which may train twice
    AcceleratorState._reset_state(reset_partial_state=ranks.count() == 1)
    accelerator = Accelerator(
        mixed_precision=stage.mixed_precision, cpu=stage.use_cpu, kwargs_handlers=handlers
    )
    if not ranks.is_first():  # dropout of its own
        torch.manual_seed(stage.seed + ranks.number())
    projectors = matching.projectors.to(accelerator.device)
    network = Network(
        stage.student,
        vocab_size=stage.vocab_size,
        wanted=matching.student,
        projectors=projectors,
        reads_logits=stage.objective.reads_logits,
    )
    optimizer = adamw(network, stage.optim)
    wrapped, prepared_optimizer = accelerator.prepare(network, optimizer)
    stage.packed = nobody_pads(network, stage.teacher, stage.objective, accelerator)
    saved = {
        "model": trained_together(stage.student, projectors),
        "optimizer": optimizer,
        "device": accelerator.device,
    }
    step = stage.checkpoints.load_latest(**saved)
    order = batch_order(
        len(stage.rows),
        global_batch_size=stage.optim.global_batch_size,
        steps=stage.total_steps,
        seed=stage.seed,
    )
    if step == 0 and not stage.looked and ranks.is_first():
        yield from stage.evaluate(0)
    refused = 0
    prepare = partial(_ready, stage, order, accelerator.device)
    with closing(prepared_ahead(prepare, range(step, stage.total_steps))) as ahead:
        while step < stage.total_steps:
            wrapped.train()
            started = time.perf_counter()
            ready = next(ahead)
            rate = learning_rate_at(step, total_steps=stage.total_steps, optim=stage.optim)
            for group in optimizer.param_groups:
                group["lr"] = rate
            own: dict[str, float] = {}
            if stage.on_policy is not None and stage.on_policy.writes(step):
                with accelerator.autocast():
                    written = stage.on_policy.write(
                        stage.student,
                        step=step,
                        rows=ready.rows,
                        given=[item for item in ready.given if isinstance(item, Encoded)],
                        process=ranks.number(),
                        processes=ranks.count(),
                        gather=ranks.gather,
                    )
                ready = replace(ready, given=written.rows)
                own = {"own_answer_tokens": written.mean_tokens}
            objective = stage.objective.at(progress_at(step, total_steps=stage.total_steps))
            result = yield from until_it_fits(
                partial(_one_step, stage, objective, accelerator, wrapped, prepared_optimizer),
                ready.split,
                stage.at_once,
                optim=stage.optim,
                device=accelerator.device,
                stage=stage.index,
                step=step + 1,
            )
            step += 1
            if result.problem is None:
                refused = 0
                seconds = time.perf_counter() - started
                metrics = result.metrics | own
                metrics |= {
                    "learning_rate": rate,
                    "tokens_per_s": result.tokens / seconds,
                    "memory_bytes": memory_bytes(accelerator.device),
                }
                yield event("step", stage=stage.index, step=step, metrics=rounded(metrics))
            else:
                refused += 1
                yield event("warning", stage=stage.index, step=step, message=result.problem)
                if refused >= REFUSED_STEPS_ALLOWED:
                    raise NonFiniteError(
                        f"{refused} steps in a row were refused, the last because: "
                        f"{result.problem} "
                        "Lower the learning rate or raise the temperature, then resume."
                    )
            wish = ranks.agree(should_stop)
            last = step == stage.total_steps
            if wish or (step % stage.checkpoint_every == 0 and not last and refused == 0):
                path = stage.checkpoints.save(step, **saved)
                yield event("checkpoint", stage=stage.index, step=step, path=path.name)
            if wish:
                reason = "paused" if wish == "pause" else "stopped"
                yield event("run_stopped", reason=reason, stage=stage.index, step=step)
                return
            if (step % stage.evaluate_every == 0 or last) and ranks.is_first():
                yield from stage.evaluate(step)


@dataclass
class _StepResult:
    metrics: dict[str, float]
    tokens: int
    problem: str | None = None


def _ready(stage: TrainingStage, order: BatchOrder, device: torch.device, step: int) -> Ready:
    """A step's rows, and its micro-batches unless the student writes them in its turn."""
    given = [stage.rows[row] for row in order[step]]
    ready = Ready(order[step], given, partial(_batches, stage), device)
    is_written = stage.on_policy is not None and stage.on_policy.writes(step)
    return ready if is_written else ready.made(stage.at_once.of(stage.optim))


def _batches(
    stage: TrainingStage,
    rows: Sequence[int],
    encoded: Sequence[Encoded | EncodedText],
    device: torch.device,
    at_once: int,
) -> list[Batch]:
    """All micro-batches of one optimiser step, of every process, in the same order everywhere."""
    groups = micro_batches(
        encoded, at_once, processes=ranks.count(), device=device.type, packed=stage.packed
    )
    batches = [
        collate(
            [encoded[place] for place in group],
            pad_token_id=stage.pad_token_id,
            rows=[rows[place] for place in group],
        )
        for group in groups
    ]
    return known_ahead(batches, stage.teacher, stage.objective)


def _one_step(
    stage: TrainingStage,
    objective: Objective,
    accelerator: Accelerator,
    wrapped: torch.nn.Module,
    optimizer: Any,
    batches: list[Batch],
) -> _StepResult:
    """Forward and backward over all micro-batches, then one step of the optimiser."""
    totals: dict[str, int] = {}
    for batch in batches:  # every process counts the whole step: no communication is needed
        for name, count in objective.token_counts(batch.counts()).items():
            totals[name] = totals.get(name, 0) + count
    processes, chunk_rows = ranks.count(), stage.optim.loss_chunk_rows
    mine = batches[ranks.number() :: processes]
    turns = math.ceil(len(batches) / processes)
    sums: dict[str, torch.Tensor] = {}
    optimizer.zero_grad(set_to_none=True)
    for turn in range(turns):
        # a process that has run out of rows goes along with an empty share
        spare = turn >= len(mine)
        batch = (mine[turn] if not spare else batches[0]).to(accelerator.device)
        waits = turn < turns - 1
        with accelerator.no_sync(wrapped) if waits else nullcontext():
            rows = supervised_rows(
                wrapped,
                stage.teacher,
                batch,
                objective,
                accelerator,
                totals=totals,
                chunk_rows=chunk_rows,
            )
            loss, parts = objective(rows, totals=totals)
            # processes are averaged by DDP, the loss is a sum over them
            accelerator.backward(loss * (0.0 if spare else float(processes)))
        for name, value in parts.items():  # the same names in all processes
            share = torch.zeros_like(value) if spare else value
            sums[name] = sums.get(name, torch.zeros_like(value)) + share
        del rows, loss, parts  # logits of this turn, while the next one makes its own
    norm = accelerator.clip_grad_norm_(wrapped.parameters(), stage.optim.grad_clip_norm)
    sums = accelerator.reduce(sums, reduction="sum") if processes > 1 else sums
    # the one time in a step that a device is waited for
    told = dict(zip([*sums, "norm"], torch.stack([*sums.values(), norm]).tolist(), strict=True))
    metrics: dict[str, float] = {"loss": 0.0}
    for settings in objective.losses:
        if totals[settings.name] == 0:
            continue  # no row of this step has what the term needs
        mean = told[settings.name] / totals[settings.name]
        metrics[settings.name] = mean
        metrics[f"weighted_{settings.name}"] = objective.weights[settings.name] * mean
        metrics["loss"] += objective.weights[settings.name] * mean
    metrics |= objective.scheduled()
    supervised = sum(batch.counts()["supervised"] for batch in batches)
    for name in (mass for mass in MASSES if mass in told):
        metrics[name] = told[name] / max(1, supervised)
    metrics["grad_norm"] = told["norm"]
    tokens = sum(batch.real_tokens for batch in batches)
    if not all(math.isfinite(value) for value in metrics.values()):
        optimizer.zero_grad(set_to_none=True)
        # processes may have unequal numbers of batches, and the wrapped model waits for all of them
        network = accelerator.unwrap_model(wrapped)
        seen = seen_again(
            network, stage.teacher, mine, objective, accelerator, chunk_rows=chunk_rows
        )
        return _StepResult(metrics, tokens, explain(objective, seen, origin=stage.origin))
    move(optimizer, field=f"stages.{stage.index}.student")
    return _StepResult(metrics, tokens)
