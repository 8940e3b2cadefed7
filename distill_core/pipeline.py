"""The stages of a recipe in order: a generator of events.

In: a recipe and the run's folder. Out: events; models, checkpoints and the line-up on disk. What is
finished on disk is not done again, so a run that was cut off goes on where it ended. Knows nothing
of processes, queues or who reads the events.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill_core import device, evaluate, files, lineup, models
from distill_core.checkpoints import Checkpoints
from distill_core.data.formats import Row
from distill_core.data.sources import Prepared, prepare
from distill_core.data.tokenize import encode, pad_token_id, stop_token_ids
from distill_core.errors import DataError
from distill_core.events import Event, event, progress
from distill_core.losses.objective import Objective
from distill_core.plan import PlannedStage, plan, student_origin
from distill_core.recipe import PREVIOUS, DistillStage, PretrainedStudent, Recipe, Student
from distill_core.scoring import HeldOut, answer_texts, score_answers, score_tokens
from distill_core.students.adapters import merged, with_adapter
from distill_core.students.build import build_student
from distill_core.teachers.answers import FOLDER as ANSWERS_FOLDER
from distill_core.teachers.answers import answer_rows
from distill_core.teachers.local import LocalTeacher
from distill_core.trainer import TrainingStage, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOTS_PER_STAGE = 10
"""How often a stage is scored and saved where the recipe does not say."""


@dataclass
class _Run:
    """What all stages of one run share."""

    recipe: Recipe
    folder: Path
    data: Prepared
    stages: list[PlannedStage]
    device: torch.device
    mixed_precision: str

    def path_of(self, name: str, before: PlannedStage | None) -> tuple[Path, str]:
        """Folder of a model by the recipe's name for it, and how the line-up calls it."""
        if name == PREVIOUS:
            assert before is not None, "checks refuse `previous` in the first stage"
            return self.folder / before.output, before.output
        return lineup.folder(self.folder, name), name


def run(
    recipe: Recipe,
    run_dir: Path,
    *,
    should_stop: Callable[[], str | None] = lambda: None,
) -> Iterator[Event]:
    """Train all stages and baselines, then score; resumes from what is on disk.

    Yields events (see `events.py`), the last one `run_finished` or `run_stopped`.

    Raises:
        DistillError: what the user can mend: data, models, disk, numbers that are not finite.
    """
    started = time.monotonic()
    yield progress("preparing", "reading the data")
    data = prepare(recipe.data, seed=recipe.seed)
    labelled = sum(row.labelled for row in data.train)
    stages = plan(recipe, labelled=labelled, unlabelled=len(data.train) - labelled)
    yield event(
        "run_started",
        recipe=recipe.model_dump(mode="json"),
        stages=[stage.facts() for stage in stages],
        data=data.facts,
    )
    yield from _download(recipe)
    target = device.pick_device(recipe.device)
    dtype = device.pick_dtype(recipe.precision, target)
    precision = "bf16" if dtype == torch.bfloat16 else "no"
    this = _Run(recipe, run_dir, data, stages, target, precision)
    for number, stage in enumerate(stages):
        if (run_dir / stage.output / "config.json").is_file():
            continue
        before = _before(stages, number)
        stopped = yield from _run_stage(this, stage, before, should_stop)
        if stopped:
            return
    evaluation = yield from evaluate.evaluate_members(
        run_dir,
        data.held_out[: recipe.evaluation.final_rows],
        data_facts={
            "name": data.facts.get("held_out_title", "held-out rows"),
            "rows": min(len(data.held_out), recipe.evaluation.final_rows),
            "overlap_with_training": 0,
            "overlap_removed": data.facts["overlap"],
        },
        max_seq_len=recipe.data.max_seq_len,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        device=target,
    )
    files.replace_json(run_dir / "evaluation.json", evaluation)
    yield event("run_finished", seconds=time.monotonic() - started, evaluation=evaluation)


def _before(stages: list[PlannedStage], number: int) -> PlannedStage | None:
    """The stage that `previous` means: for a baseline, the one before its student's first."""
    if stages[number].baseline:
        origin = student_origin(stages)[2]
        return stages[origin - 1] if origin else None
    return stages[number - 1] if number else None


def _download(recipe: Recipe) -> Iterator[Event]:
    """Bring every named model to this disk before anything is trained."""
    named: dict[str, str] = {}
    for index, stage in enumerate(recipe.stages):
        key, name = (
            ("teacher", stage.teacher)
            if isinstance(stage, DistillStage)
            else ("model", stage.model)
        )
        named.setdefault(name, f"stages.{index}.{key}")
        if isinstance(stage.student, PretrainedStudent) and stage.student.model:
            named.setdefault(stage.student.model, f"stages.{index}.student.model")
    for name, field in named.items():
        if name != PREVIOUS and models.local_folder(name, field=field) is None:
            yield progress("downloading", name)
            models.resolve(name, field=field)


# --- one stage ----------------------------------------------------------------------------------


def _run_stage(
    this: _Run,
    stage: PlannedStage,
    before: PlannedStage | None,
    should_stop: Callable[[], str | None],
) -> Generator[Event, None, bool]:
    """Train one stage and save its model; returns whether it was stopped."""
    started = time.monotonic()
    yield progress("loading", f"models for: {stage.title}")
    source, source_name = this.path_of(stage.source, before)
    tokenizer = models.load_tokenizer(source)
    seed = this.recipe.seed
    torch.manual_seed(seed)
    teacher = _teacher(this, stage, source, tokenizer)
    rows = this.data.train if stage.uses_unlabelled else [r for r in this.data.train if r.labelled]
    if teacher is not None:
        rows = yield from answer_rows(
            rows,
            teacher=teacher,
            tokenizer=tokenizer,
            fingerprint=models.fingerprint(source),
            settings=stage.settings.teacher_answers,  # type: ignore[union-attr]
            max_seq_len=this.recipe.data.max_seq_len,
            seed=seed,
            folder=this.folder.parent / ANSWERS_FOLDER,
        )
    student_settings = _student_settings(stage.settings.student, this.folder, before)
    student = build_student(student_settings, source=source, seed=seed)
    parameters = student.num_parameters()
    _enter(this, stage, source_name, parameters, teacher)
    network = with_adapter(student, stage.settings.adapter, seed=seed)
    held_out = HeldOut.make(
        this.data.held_out[: max(this.recipe.evaluation.rows, this.recipe.evaluation.samples)],
        tokenizer,
        max_seq_len=this.recipe.data.max_seq_len,
        max_new_tokens=this.recipe.evaluation.max_new_tokens,
    )
    yield progress("preparing", "tokenizing")
    kept, encoded = _encode(rows, tokenizer, this.recipe)
    watcher = _Watcher(this, stage, network, teacher, held_out)
    shot = max(1, stage.total_steps // SHOTS_PER_STAGE)
    yield event(
        "stage_started",
        stage=stage.index,
        title=stage.title,
        kind=stage.kind,
        baseline=stage.baseline,
        total_steps=stage.total_steps,
        rows=len(encoded),
        dropped_rows=len(rows) - len(kept),
        truncated_rows=sum(item.truncated for item in encoded),
        student={"parameters": parameters, "trained": _trained(network)},
        teacher={"name": source_name, "parameters": teacher.model.num_parameters()}
        if teacher
        else None,
    )
    training = TrainingStage(
        index=stage.index,
        student=network,
        teacher=teacher,
        objective=Objective(stage.losses),
        rows=encoded,
        optim=stage.settings.optim,
        total_steps=stage.total_steps,
        seed=seed,
        vocab_size=len(tokenizer),
        pad_token_id=pad_token_id(tokenizer),
        checkpoints=Checkpoints(
            this.folder / "checkpoints" / f"stage_{stage.index}",
            keep=this.recipe.checkpoints.keep,
        ),
        checkpoint_every=this.recipe.checkpoints.every_steps or shot,
        evaluate_every=this.recipe.evaluation.every_steps or shot,
        evaluate=watcher.look,
        origin=lambda row: kept[row].origin,
        mixed_precision=this.mixed_precision,
        use_cpu=this.device.type == "cpu",
    )
    for happening in train(training, should_stop=should_stop):
        yield happening
        if happening["type"] == "run_stopped":
            return True
    yield progress("saving", stage.output)
    _save(merged(network), tokenizer, this.folder / stage.output)
    training.checkpoints.clear()
    yield event(
        "stage_finished",
        stage=stage.index,
        steps=stage.total_steps,
        seconds=time.monotonic() - started,
        path=stage.output,
        metrics=watcher.last,
    )
    return False


def _teacher(
    this: _Run, stage: PlannedStage, source: Path, tokenizer: PreTrainedTokenizerBase
) -> LocalTeacher | None:
    if not Objective(stage.losses).needs_teacher:
        return None
    model = models.load_model(source, dtype=torch.float32, device=this.device)
    return LocalTeacher(model, vocab_size=len(tokenizer), stop_ids=stop_token_ids(tokenizer))


def _student_settings(student: Student, folder: Path, before: PlannedStage | None) -> Student:
    """Turn `previous` as a student's weights into the folder of the stage before."""
    if isinstance(student, PretrainedStudent) and student.model == PREVIOUS:
        assert before is not None, "checks refuse `previous` in the first stage"
        return PretrainedStudent(model=str(folder / before.output))
    return student


def _encode(
    rows: list[Row], tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> tuple[list[Row], list[Any]]:
    """Rows that have something to learn, and their tokens."""
    pairs = [(row, encode(row, tokenizer, recipe.data.max_seq_len)) for row in rows]
    pairs = [(row, item) for row, item in pairs if item.supervised_tokens]
    if not pairs:
        raise DataError(
            f"No row has a supervised token left within max_seq_len = {recipe.data.max_seq_len}. "
            "Raise it, or give rows with answers.",
            field="data.max_seq_len",
        )
    return [row for row, _ in pairs], [item for _, item in pairs]


def _trained(network: torch.nn.Module) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Write the model beside its place, then rename: a folder there is a whole model."""
    partial = target.with_name(f".partial_{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with files.disk_full_told(target.parent):
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            partial.rename(target)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if files.is_disk_full(error):
            raise files.disk_full(target.parent) from error
        raise


def _enter(
    this: _Run,
    stage: PlannedStage,
    source_name: str,
    parameters: int,
    teacher: LocalTeacher | None,
) -> None:
    """Tell the line-up who takes part, so that they can be compared later."""
    members = {found.key: found for found in lineup.read(this.folder)}

    def put(key: str, source: str, count: int, **build: Any) -> None:
        members[key] = lineup.Member(
            key=key,
            title=lineup.TITLES[key],
            source=source,
            parameters=count,
            bytes=count * 4,
            **build,
        )

    if stage.baseline:
        put(lineup.BASELINE, stage.output, parameters)
    else:
        shrinks = not isinstance(stage.settings.student, PretrainedStudent)
        if lineup.TEACHER not in members and (teacher is not None or shrinks):
            big = (
                teacher.model.num_parameters()
                if teacher
                else models.facts(stage.source)["parameters"]
            )
            put(lineup.TEACHER, source_name, big)
        put(lineup.STUDENT, "student", parameters)
        student, _, origin = student_origin(this.stages)
        if stage.index == origin:
            before = _before(this.stages, stage.index)
            put(
                lineup.UNTRAINED,
                source_name,
                parameters,
                build=_student_settings(student, this.folder, before),
                seed=this.recipe.seed,
            )
    lineup.write(this.folder, list(members.values()))


def _parameters(this: _Run, name: str, teacher: LocalTeacher | None) -> int:
    if teacher is not None:
        return int(teacher.model.num_parameters())
    inside = this.folder / name
    return int(models.facts(str(inside) if inside.is_dir() else name)["parameters"])


# --- while training goes on -----------------------------------------------------------------------


class _Watcher:
    """Scores held-out rows and answers the fixed prompts while a stage is trained."""

    def __init__(
        self,
        this: _Run,
        stage: PlannedStage,
        network: torch.nn.Module,
        teacher: LocalTeacher | None,
        held_out: HeldOut,
    ) -> None:
        self.stage = stage
        self.network = network.to(this.device)
        self.teacher = teacher
        self.held_out = held_out.first(this.recipe.evaluation.rows)
        self.samples = held_out.first(this.recipe.evaluation.samples)
        self.last: dict[str, float] = {}
        self._teacher_exact: float | None = None
        self._teacher_texts: list[str] = []

    def look(self, step: int) -> Iterator[Event]:
        """Yield one `evaluation` event, then one `sample` event for each fixed prompt."""
        if not self.held_out.rows:
            return
        metrics = score_tokens(self.network, self.held_out, teacher=self.teacher).as_metrics()
        exact, texts = score_answers(self.network, self.held_out)
        if exact:
            metrics["held_out_exact_match"] = sum(exact) / len(exact)
        if exact and self.teacher is not None:
            metrics["held_out_teacher_exact_match"] = self._ask_teacher()
        self.last = metrics
        yield event(
            "evaluation",
            stage=self.stage.index,
            step=step,
            metrics={name: float(f"{value:.9g}") for name, value in metrics.items()},
            rows=len(self.held_out.rows),
            final=False,
        )
        prompts = self.samples.prompts
        extra = (
            answer_texts(self.network, prompts[len(texts) :], self.samples)
            if (len(prompts) > len(texts))
            else []
        )
        answers = (texts + extra)[: len(prompts)]
        asked = [row for row in self.samples.rows if row.response is not None]
        for place, answer in enumerate(answers):
            yield event(
                "sample",
                stage=self.stage.index,
                step=step,
                prompt=asked[place].prompt_text,
                teacher=self._teacher_texts[place] if place < len(self._teacher_texts) else None,
                student=answer,
                reference=self.samples.references[place],
                match=answer == self.samples.references[place],
            )

    def _ask_teacher(self) -> float:
        """The teacher's own exact match on the same rows, asked once a stage."""
        if self._teacher_exact is None:
            assert self.teacher is not None
            exact, self._teacher_texts = score_answers(self.teacher.model, self.held_out)
            self._teacher_exact = sum(exact) / len(exact)
        return self._teacher_exact
