"""One stage of a run: from its models and rows to a saved student.

In: the run and the planned stage. Out: events, and a model folder. Resumes from the stage's last
checkpoint. Knows nothing of the other stages but where they left their models.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from distill_core import models, ranks
from distill_core.checkpoints import Checkpoints
from distill_core.comparing import casting, lineup
from distill_core.data.alignment import alignment_facts
from distill_core.data.sources import Prepared
from distill_core.data.tokenize import pad_token_id
from distill_core.events import Event, event, progress
from distill_core.losses.objective import Objective
from distill_core.models import model_facts
from distill_core.models.classifiers import fits
from distill_core.recipe import PREVIOUS, PretrainedStudent, Recipe, Student
from distill_core.recipe.plan import PlannedStage, student_origin
from distill_core.stages import asking, reading
from distill_core.stages.learner import make_learner
from distill_core.stages.stopping import Left, alone, heed, heeded, together
from distill_core.steps import loss_kernels
from distill_core.steps.rows_at_once import FILE as ROWS_AT_ONCE
from distill_core.steps.rows_at_once import RowsAtOnce
from distill_core.students.adapters import merged
from distill_core.students.build import chosen_on_rows, own_folder
from distill_core.trainer import TrainingStage, train

SHOTS_PER_STAGE = 10
"""How often a stage is scored and saved where the recipe does not say."""


@dataclass
class Run:
    """What all stages of one run share."""

    recipe: Recipe
    folder: Path
    data: Prepared
    stages: list[PlannedStage]
    device: torch.device
    mixed_precision: str
    classes: models.Labels | None = None
    """What all of its networks tell apart, in the order of their logits; None: they write text."""
    train: Callable[..., Iterator[Event]] = train
    """Trains a stage; whoever only measures puts something else here."""
    beside: Path | None = None
    """Where what teachers have said is kept; None: beside the run."""

    @property
    def kept(self) -> Path:
        """Where what teachers have said is kept, for all runs that ask the same."""
        return self.beside or self.folder.parent

    def path_of(self, name: str, before: PlannedStage | None) -> tuple[Path, str]:
        """Folder of a model by the recipe's name for it, and how the line-up calls it."""
        if name == PREVIOUS:
            assert before is not None, "checks refuse `previous` in the first stage"
            return self.folder / before.output, before.output
        return lineup.folder(self.folder, name), name

    def before(self, stage: PlannedStage) -> PlannedStage | None:
        """The stage that `previous` means: for a baseline, the one before its student's first."""
        number = student_origin(self.stages)[2] if stage.baseline else stage.index
        return self.stages[number - 1] if number else None


def run_stage(
    this: Run, stage: PlannedStage, should_stop: Callable[[], str | None]
) -> Generator[Event, None, bool]:
    """Train one stage and save its model; returns whether it was stopped."""
    folder = this.folder / "checkpoints" / f"stage_{stage.index}"
    checkpoints = Checkpoints(folder, keep=this.recipe.checkpoints.keep)
    try:
        return (yield from _run_stage(this, stage, checkpoints, should_stop))
    except Left as left:
        saved = checkpoints.steps()
        step = saved[-1] if saved else 0
        yield event("run_stopped", reason=left.reason, stage=stage.index, step=step)
        return True


def _run_stage(
    this: Run,
    stage: PlannedStage,
    checkpoints: Checkpoints,
    should_stop: Callable[[], str | None],
) -> Generator[Event, None, bool]:
    """As `run_stage`; raises `Left` where it is stopped before its first step."""
    ask, ask_alone = together(should_stop), alone(should_stop)
    started = time.monotonic()
    before = this.before(stage)
    yield progress("loading", f"models for: {stage.title}")
    source, source_name = this.path_of(stage.source, before)
    tokenizer = models.load_tokenizer(source)
    seed = this.recipe.seed
    torch.manual_seed(seed)
    teaching = asking.teaching_of(this, stage)
    rounding = yield from heeded(asking.rounding_of(this, teaching, tokenizer), ask)
    teacher, cached = asking.teacher_of(this, stage, teaching, tokenizer)
    student_settings = _student_settings(stage.settings.student, this.folder, before)
    own = own_folder(student_settings, source)
    student_tokenizer = tokenizer if own == source else models.load_tokenizer(own)
    asked = cached or teacher
    learner_on = functools.partial(
        make_learner,
        this,
        stage,
        student_settings,
        source=source,
        parts_file=_parts_file(this, stage),
        tokenizer=student_tokenizer,
        teacher=asked,
        teacher_tokenizer=tokenizer,
    )
    begins = functools.partial(
        event,
        "stage_started",
        stage=stage.index,
        title=stage.title,
        kind=stage.kind,
        baseline=bool(stage.baseline),
        total_steps=stage.total_steps,
        teacher=teaching.facts(rounding) if teaching and teacher else None,
    )
    learner, looked = None, False
    if not chosen_on_rows(student_settings):
        learner = yield from heeded(learner_on(encoded=()), ask)
        yield begins(student=learner.facts, layer_map=learner.matching.words)
        if cached is None and not checkpoints.steps():
            # the first point of the curves need not wait for the rows
            looked = True
            if ranks.is_first():
                yield from heeded(learner.watcher.look(0), ask_alone)
    rows, answered = yield from heeded(
        asking.answered_rows(this, stage, teaching, teacher, tokenizer), ask
    )
    read = functools.partial(
        reading.rows_read,
        teacher=tokenizer,
        objective=Objective(stage.losses),
        max_seq_len=this.recipe.data.max_seq_len,
        classes=this.classes,
    )
    kept, encoded = yield from heeded(read(rows, student_tokenizer), ask)
    if learner is None:
        learner = yield from heeded(learner_on(encoded=encoded), ask)
        yield begins(student=learner.facts, layer_map=learner.matching.words)
        if learner.parts.tokens is not None:
            again = yield from heeded(read(kept, learner.tokenizer), ask)
            kept, encoded = reading.reread(kept, encoded, learner.parts.tokens, again)
    built = casting.Built(
        source=source_name,
        source_parameters=models.facts(str(source))["parameters"],
        student=student_settings,
        student_parameters=learner.parameters,
        parts=_parts_file(this, stage),
        seed=seed,
        seen=casting.tokens_seen(encoded, stage, seed=seed),
        labels=this.classes,
        teachers=teaching.members(teacher) if teaching else (),
        source_knows=this.classes is None or fits(this.classes, model_facts.config(str(source))),
    )
    ranks.agree(lambda: casting.enter(this.folder, this.stages, stage, built))
    if asked is not None:  # not before it has answered: who is looked into may compute otherwise
        asked.look_into(learner.matching.teacher)
    asks = learner.watcher.asks()
    cache = yield from heeded(
        asking.cache_filled(
            this, stage, teacher, learner.taught_by, encoded, asks, learner.tokenizer
        ),
        ask_alone,
    )
    heed(ask)
    kernels, trial = yield from loss_kernels.chosen(
        Objective(stage.losses),
        stage.settings.optim,
        device=this.device,
        dtype=torch.bfloat16 if this.mixed_precision == "bf16" else torch.float32,
        vocab_size=len(learner.tokenizer) if this.classes is None else None,
        sparse=asked is not None and "sparse" in asked.provides,
        folder=this.folder,
        stage=stage.index,
    )
    yield event(
        "rows_ready",
        stage=stage.index,
        rows=len(encoded),
        dropped_rows=len(rows) - len(kept),
        truncated_rows=sum(item.truncated for item in encoded),
        answers=answered.facts() if answered and answered.asked else None,
        cache=cache,
        alignment=alignment_facts(encoded) if this.classes is None else None,
        loss_kernels=trial.facts if trial else None,
    )
    shot = max(1, stage.total_steps // SHOTS_PER_STAGE)
    training = TrainingStage(
        index=stage.index,
        student=learner.network,
        teacher=learner.taught_by,
        on_policy=reading.on_policy_of(this.recipe, stage, kept, learner.tokenizer, tokenizer),
        objective=Objective(stage.losses, learner.matching, kernels=kernels),
        rows=encoded,
        optim=stage.settings.optim,
        total_steps=stage.total_steps,
        seed=seed,
        vocab_size=len(learner.tokenizer),
        pad_token_id=pad_token_id(learner.tokenizer),
        checkpoints=checkpoints,
        checkpoint_every=this.recipe.checkpoints.every_steps or shot,
        evaluate_every=this.recipe.evaluation.every_steps or shot,
        evaluate=learner.watcher.look,
        looked=looked,
        origin=lambda row: kept[row].origin,
        at_once=RowsAtOnce(this.folder / ROWS_AT_ONCE),
        mixed_precision=this.mixed_precision,
        use_cpu=this.device.type == "cpu",
    )
    steps_taken = False
    for happening in this.train(training, should_stop=should_stop):
        yield happening
        if happening["type"] == "run_stopped":
            return True
        steps_taken |= happening["type"] == "step"
        if not steps_taken:  # once they are, there is something to save
            heed(ask_alone)
    yield progress("saving", stage.output)
    target = this.folder / stage.output
    ranks.agree(lambda: models.save(merged(learner.network), learner.tokenizer, target))
    ranks.agree(training.checkpoints.clear)
    yield event(
        "stage_finished",
        stage=stage.index,
        steps=stage.total_steps,
        seconds=time.monotonic() - started,
        path=stage.output,
        metrics=learner.watcher.last,
    )
    return False


def _parts_file(this: Run, stage: PlannedStage) -> str:
    """Where the choice is kept; a baseline's student is that of the stage it starts from."""
    index = student_origin(this.stages)[2] if stage.baseline else stage.index
    return f"parts/stage_{index}.json"


def _student_settings(student: Student, folder: Path, before: PlannedStage | None) -> Student:
    """Turn `previous` as a student's weights into the folder of the stage before."""
    if isinstance(student, PretrainedStudent) and student.model == PREVIOUS:
        assert before is not None, "checks refuse `previous` in the first stage"
        return student.model_copy(update={"model": str(folder / before.output)})
    return student
