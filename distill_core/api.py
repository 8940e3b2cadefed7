"""The one door: every call that the app and the command line may make.

In: recipes, run ids, answers. Out: plain data (dictionaries, lists, text) ready for JSON, or a
`DistillError`. Heavy libraries are imported inside the calls that need them.

A RUN is an id, `latest`, or a path. `runs_dir` defaults to `$DISTILL_RUNS_DIR`, else `./runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill_core import runs as run_folders
from distill_core.errors import DistillError as DistillError  # callers need no second import
from distill_core.errors import Problem as Problem
from distill_core.errors import RecipeError
from distill_core.events import METRICS as METRICS
from distill_core.events import Event
from distill_core.recipe import Recipe
from distill_core.runs import run_control
from distill_core.scores import SCORES as SCORES
from distill_core.scores import TASK_METRICS as TASK_METRICS

# --- this machine, models, recipes ----------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Describe this machine.

    `{"device": "cpu|cuda|mps", "name": "CPU · 2 cores · AVX2", "dtype": "fp32|bf16",
    "fast_bf16": bool, "note": "fp32 student …", "cores": 2, "memory_total_bytes",
    "memory_free_bytes", "device_memory_total_bytes" | None, "device_memory_free_bytes" | None}`
    """
    from distill_core import device

    return device.facts()


def self_test(device: str = "auto") -> dict[str, Any]:
    """Measure on a device whether losses and gradients are right; takes seconds.

    `{"device", "name", "passed": bool, "seconds", "properties": [{"name", "words", "measures",
    "figure" | None, "limit", "passed": bool, "error"}]}`. Raises `RecipeError` where this machine
    has no such device.
    """
    from distill_core import self_test

    return self_test.self_test(device)


def models() -> list[dict[str, Any]]:
    """List the built-in models, then models found in this machine's cache.

    Each: `{"name": "pocket-teacher", "title", "parameters", "bytes", "layers", "hidden_size",
    "vocab_size", "license", "license_note", "max_seq_len", "offline": bool, "download_bytes",
    "tasks": what its architecture can do, "labels": the classes that its head knows, or []}`.
    """
    from distill_core.models import model_facts

    return model_facts.listed()


def model_facts(name: str) -> dict[str, Any]:
    """Read a model's facts from its configuration alone, no weights loaded.

    The keys of `models()`, and `"architecture"`, `"tied_embeddings"`, `"attention_heads"`,
    `"intermediate_size"`, `"has_chat_template"`. Raises `ModelError`, `HubUnreachable`.
    """
    from distill_core.models import model_facts

    return model_facts.facts(name)


def student_facts(
    teacher: str,
    student: dict[str, Any],
    data: dict[str, Any] | None = None,
    *,
    task: str = "causal_lm",
) -> dict[str, Any]:
    """Size a student before anything is built (`student` and `data` as in a recipe).

    `{"parameters", "bytes", "layers", "hidden_size", "vocab_size", "size_ratio":
    teacher/student, "layer_map": "layers 1–6 of 30; vocabulary 9,812 of 49,152" | ""}`. A trimmed
    vocabulary is counted on the data's rows. Raises `RecipeError`, `ModelError`.
    """
    from distill_core import ready_recipes
    from distill_core.estimate import student_size

    parsed = ready_recipes.parse_student(student)
    rows = ready_recipes.parse_data(data, task)
    return student_size.student_facts(teacher, parsed, rows, task=task)


def pair_report(
    teacher: str, student: dict[str, Any], *, task: str = "causal_lm"
) -> dict[str, Any]:
    """Tell whether two models can be compared, and how, no weights loaded (`student` as above).

    `{"verdict": "Same tokenizer, 128 padded rows: cut.", "comparable": bool | None: not known yet,
    "loss": "forward_kl | cross_tokenizer", "findings": [{"topic", "state": "good | note | warning |
    error", "text", "fix"}], "teacher": {"name", "architecture", "layers", "hidden_size", "context",
    "rows", "tokens", "bos", "eos", "pad", "turn_end", "template", "licence"}, "student": {…}}`.
    Raises `RecipeError`.
    """
    from distill_core import pair_doctor, ready_recipes

    return pair_doctor.pair_report(teacher, ready_recipes.parse_student(student), task=task)


def pair_reports(recipe: Recipe) -> list[dict[str, Any]]:
    """Do so for every distil stage of a recipe: `pair_report`'s keys and `"stage"`, its index."""
    from distill_core import pair_doctor

    return pair_doctor.pair_reports(recipe)


def fitting_losses(comparable: bool | None, losses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exchange the terms of a stage that cannot serve its pair (`comparable` of its report)."""
    from distill_core.pair_doctor import fitting

    return fitting.fitting_losses(comparable, losses)


def ready_recipes() -> list[dict[str, Any]]:
    """List the recipes that come with the studio: `{"name", "title", "description", "yaml"}`."""
    from distill_core import ready_recipes

    return ready_recipes.listed()


def load_recipe(source: str | Path | dict[str, Any], overrides: list[str] | None = None) -> Recipe:
    """Make a recipe of a ready recipe's name, a file, YAML text or a mapping.

    Raises `RecipeError` with all problems.
    """
    from distill_core import ready_recipes

    return ready_recipes.read(source, overrides)


def with_assistants(recipe: Recipe, count: int) -> Recipe:
    """Put `count` students of middle size, 0 to 4, between a recipe's teacher and its student.

    Their sizes fall by equal factors; assistants that the recipe has are replaced. Raises
    `RecipeError` where nothing lies between.
    """
    from distill_core import progressive

    return progressive.with_assistants(recipe, count)


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML."""
    from distill_core import recipe_yaml

    return recipe_yaml.dumps(recipe)


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe: every setting with type, default, description and range."""
    return Recipe.model_json_schema()


def check(recipe: Recipe) -> list[Problem]:
    """Find everything that is wrong or doubtful, across fields and pairs; loads no weights."""
    from distill_core import checks

    return checks.check(recipe)


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Forecast memory and time.

    `{"memory_bytes": {"context", "teacher", "student", "optimiser", "activations", "loss",
    "features"}, "memory_basis": "formula | measured by a dry step", "total_memory_bytes",
    "available_memory_bytes", "fits": bool, "savings": where it does not fit, [{"field", "value",
    "change": in words, "saves_bytes", "fits": bool}], the largest first, "time_s": [low, high],
    "training_s": of the optimiser's steps alone, "time_basis": "measured on an earlier run |
    measured by a dry step | formula", "steps",
    "download_bytes", "disk_bytes", "caches": [{"stage", "kind", "bytes_per_token", "tokens",
    "bytes", "at_most": bool}]: what is kept of teachers, where a stage keeps it}`
    """
    from distill_core import estimate
    from distill_core.estimate import dry_process
    from distill_core.estimate.past_speeds import past_speeds

    return estimate.estimate(
        recipe,
        history=past_speeds(run_folders.default_runs_dir()),
        dry=dry_process.remembered(recipe),
    )


def take_dry_step(recipe: Recipe) -> None:
    """Measure a few optimiser steps in a process of its own; `estimate` rests on them from then on.

    Takes some seconds to a minute, mostly for loading the models; writes nothing that stays, and
    downloads nothing. Remembered while this process lives and the recipe's models, data, losses and
    sizes stay the same. Raises `DistillError` where no step can be taken.
    """
    from distill_core.estimate import dry_process

    dry_process.dry_steps(recipe)


def preview(recipe: Recipe, *, index: int = 0) -> dict[str, Any]:
    """Show one training row as the model will see it, and the facts of the data.

    `{"facts": {"sources": [{"title", "rows", "columns": {"prompt": …}, "guessed": bool}],
    "rows", "labelled", "unlabelled", "held_out", "overlap", "duplicates"},
    "index", "rows", "origin": "rows.jsonl:12", "labelled": bool, "truncated": bool,
    "label": its class | None, "tokens": [{"text", "supervised": bool}], "supervised_tokens"}`; of
    text_classification the facts have `"classes"` and `"held_out_classes"` too: rows by class.
    Raises `DataError`, `ModelError`.
    """
    from distill_core import preview

    return preview.preview(recipe, index=index)


# --- runs -------------------------------------------------------------------------------------


def supervise(runs_dir: str | Path | None = None) -> None:
    """Start this process's supervisor thread for a runs folder, once: queue, watch, adopt."""
    from distill_core import supervisor

    supervisor.supervise(run_folders.default_runs_dir(runs_dir))


def supervise_apart(runs_dir: str | Path | None = None) -> None:
    """Let a process of its own supervise a runs folder until its queue is empty.

    Does nothing where the folder is supervised already; runs go on when the caller ends.
    """
    from distill_core import supervisor

    supervisor.ensure(run_folders.default_runs_dir(runs_dir))


def is_first_process() -> bool:
    """Whether this process is to tell what happens: alone, or the first of several.

    Where accelerate was asked for several processes and has started one, this one becomes them.
    """
    from distill_core import ranks

    ranks.start_all()
    return ranks.is_first()


def start(recipe: Recipe, *, runs_dir: str | Path | None = None) -> str:
    """Create a run, put it in the queue, return its id; raises `RecipeError` on errors.

    Whoever supervises the folder starts it: the app, this process after `supervise`, or a process
    of its own after `supervise_apart`.
    """
    _refuse_errors(recipe)
    return run_folders.create(recipe, run_folders.default_runs_dir(runs_dir)).name


def run_here(
    recipe: Recipe, *, runs_dir: str | Path | None = None, run: str | None = None
) -> Iterator[Event]:
    """Run in this process, yielding events as they are written (`run`: resume that one).

    Where a launcher has started several processes, each calls this; the first alone gets events.
    """
    from distill_core import worker

    _refuse_errors(recipe)
    folder = run_folders.default_runs_dir(runs_dir)
    resumed = run_folders.resolve(run, folder) if run else None
    return worker.run_here(recipe, folder, resume=resumed)


def runs(runs_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """List runs, newest first, from small files only.

    Each: `{"run", "name", "path", "created_time_s", "status": <show's status>, "summary":
    {"teacher", "student_parameters", "size_ratio", "metric": what models are judged by, "score",
    "teacher_score", "retention", …} | {}}`.
    """
    return run_folders.list_runs(run_folders.default_runs_dir(runs_dir))


def show(run: str, *, runs_dir: str | Path | None = None) -> dict[str, Any]:
    """Describe one run.

    `{"run", "name", "path", "status": {"state", "phase", "message", "stage", "stages", "step",
    "total_steps", "done", "total", "progress": 0–1, "eta_s" | None, "error" | None, "pid",
    "heartbeat_time", "queue_position" | None}, "recipe": {…}, "recipe_yaml", "evaluation": {…} |
    None, "harness": `harness`'s, of all that was scored | None, "environment": {…}}`.
    """
    return run_folders.show(_folder(run, runs_dir))


def read_events(
    run: str, offset: int = 0, *, runs_dir: str | Path | None = None
) -> tuple[list[Event], int]:
    """Read the events written since `offset` (bytes); returns them with the new offset."""
    from distill_core.runs import journal

    return journal.read(_folder(run, runs_dir), offset)


def read_series(
    run: str, offset: int = 0, *, max_points: int = 1000, runs_dir: str | Path | None = None
) -> tuple[dict[str, dict[str, list[float]]], int]:
    """Read curves since `offset`: `{"0/forward_kl": {"step": […], "value": […]}}`, new offset.

    Keys are `<stage>/<metric>`; at most `max_points` points a series. A caller that passes the
    returned offset gets only what is new. A resumed run goes back to its checkpoint: when a new
    series begins at a step that is not beyond the caller's last one, the caller's points from that
    step on are superseded (a read from offset 0 has dropped them already).
    """
    from distill_core.runs import series

    return series.read_series(_folder(run, runs_dir), offset, max_points=max_points)


def read_log(run: str, *, lines: int = 200, runs_dir: str | Path | None = None) -> str:
    """Return the last lines of the worker's log."""
    return run_folders.read_log(_folder(run, runs_dir), lines=lines)


def stop(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Ask a run to save and end; it can be resumed. Raises `RunError`."""
    run_control.stop(_folder(run, runs_dir))


def pause(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Ask a run to save and give its memory back until it is resumed. Raises `RunError`."""
    run_control.pause(_folder(run, runs_dir))


def resume(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Put a paused, stopped, failed or lost run back in the queue, from its last checkpoint."""
    run_control.resume(_folder(run, runs_dir))


def delete(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Delete a run's folder; refused with `RunError` while it is active."""
    run_control.delete(_folder(run, runs_dir))


def _folder(run: str, runs_dir: str | Path | None) -> Path:
    return run_folders.resolve(run, run_folders.default_runs_dir(runs_dir))


def _refuse_errors(recipe: Recipe) -> None:
    errors = [problem for problem in check(recipe) if problem.severity == "error"]
    if errors:
        raise RecipeError(errors)


# --- after training ---------------------------------------------------------------------------


def evaluate(
    run: str,
    *,
    data: str | None = None,
    rows: int | None = None,
    runs_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Score teacher, student and baselines on held-out rows or a file (shape: README)."""
    from distill_core import evaluate

    folder = _folder(run, runs_dir)
    return evaluate.evaluate_run(folder, run_folders.load_recipe(folder), data=data, rows=rows)


def harness(
    run: str,
    tasks: list[str],
    *,
    tasks_dir: str | Path | None = None,
    models: list[str] | None = None,
    limit: int | None = None,
    shots: int | None = None,
    chat_template: bool = False,
    batch_size: int = 8,
    bars: bool = False,
    runs_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score a run's models, or one model by name or folder, on tasks of lm-eval.

    `{"run", "harness": "lm-eval 0.4.13", "scored_time_s", "scores": [{"model": "teacher|student|…",
    "title", "fingerprint", "task", "version", "metric": "acc", "filter", "value", "stderr" | None,
    "higher_is_better" | None, "n_shot", "n_samples" | None: a group, "chat_template"}]}`. A run
    keeps all its scores in `harness.json`, for `show`. `models`: keys as in `compare`; all with
    weights if none. `tasks_dir`: task files of your own, whose names hide lm-eval's.
    Raises `DistillError` where lm-eval is missing, `DataError`, `HubUnreachable`, `RunError`.
    """
    from distill_core import harness

    request = harness.Request(
        tasks,
        tasks_dir=Path(tasks_dir) if tasks_dir else None,
        limit=limit,
        shots=shots,
        chat_template=chat_template,
        batch_size=batch_size,
        bars=bars,
        **({"tell": progress} if progress else {}),
    )
    if harness.names_a_model(run):
        return harness.score_model(run, request)
    return harness.score_run(_folder(run, runs_dir), request, members=models)


def comparable(run: str, *, runs_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """List whose weights can answer beside a run, students of other runs included.

    Each: `{"key": "teacher|student|untrained_student|fine_tuned_on_labels|run:<id>", "title",
    "role": "teacher|student|untrained|baseline|other", "parameters", "bytes"}`.
    """
    from distill_core import compare

    return compare.comparable(_folder(run, runs_dir))


def held_out_prompts(
    run: str, *, limit: int = 50, runs_dir: str | Path | None = None
) -> list[dict[str, Any]]:
    """Held-out prompts to try: `{"prompt", "response"}` each."""
    from distill_core import compare

    return compare.held_out_prompts(_folder(run, runs_dir), limit=limit)


def compare(
    run: str,
    prompt: str,
    *,
    models: list[str] | None = None,
    max_new_tokens: int = 64,
    sampling_temperature: float = 0.0,
    runs_dir: str | Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Let several models answer the same prompt, streaming.

    Yields `{"type": "loading", "model"}`, `{"type": "loaded", "model", "parameters", "bytes",
    "fingerprint"}`, then per token `{"type": "token", "model", "text", "index"}`, then per model
    `{"type": "answer", "model", "text", "tokens", "tokens_per_s", "latency_ms"}`, then per model
    other than the teacher `{"type": "tokens", "model", "mean_kl", "top1_agreement", "tokens":
    [{"text", "kl": nats, "agree": bool, "student_top": [{"text", "probability"}×5],
    "teacher_top": […]}]}`: both distributions after the same prefix, the student's own answer; no
    tokens and a `"note"` that says why where the two have different tokenizers. A trimmed student
    has `"dropped_mass"` too: the teacher's probability of tokens that it lacks.
    Models that tell classes apart give no `token`s: their `answer` is the class, with
    `"probability", "classes": [{"text", "probability"}], "rows_per_s"`, and their `tokens` are one,
    for the whole text.
    """
    from distill_core import compare

    return compare.compare(
        _folder(run, runs_dir),
        prompt,
        models=models,
        max_new_tokens=max_new_tokens,
        sampling_temperature=sampling_temperature,
    )


def export(
    run: str,
    *,
    format: str = "hf",
    out: str | Path | None = None,
    runs_dir: str | Path | None = None,
) -> Path:
    """Write the student as a Hugging Face folder with a model card; returns the folder.

    Without `out` it goes into the run: `export/hf`. Raises `RunError`, `DistillError`,
    `DiskFullError`.
    """
    from distill_core.export import export_run

    run_dir = run_folders.resolve(run, run_folders.default_runs_dir(runs_dir))
    return export_run(run_dir, format, out)


# --- advisor, learning ------------------------------------------------------------------------


def advisor_questions(*, here: bool = True) -> list[dict[str, Any]]:
    """The questions in order; with `here`, this machine's facts are filled in.

    Each: `{"field": "data.labelled_rows", "step", "title", "help", "kind":
    "choice|number|yes_no|text", "choices": [{"value", "label"}], "default": value | "unknown",
    "unit", "scale", "custom", "when": {field: values that make it worth asking}, "describes"}`.
    """
    from distill_core.advisor import questions

    return questions(machine() if here else None)


def advisor_asks(question: dict[str, Any], answers: dict[str, Any]) -> bool:
    """Whether a question is worth asking, given the answers so far by dotted name."""
    from distill_core.advisor import is_asked

    return is_asked(question, answers)


def advisor_default(question: dict[str, Any], answers: dict[str, Any], seen: dict[str, Any]) -> Any:
    """What to offer: what was `seen` (by dotted name), else the default while it still applies."""
    from distill_core.advisor import default_for

    return default_for(question, answers, seen)


def advise(
    answers: dict[str, Any],
    *,
    hub: bool = False,
    forecast: bool = False,
    runs_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Recommend; shape in `distill_core/advisor/rules.py`.

    Any answer may be missing or `unknown`; names may be dotted. What the machine, the rows and the
    models say by themselves is filled in: `"filled": [{"field", "value", "words"}]`, and what
    could not be read is in `"notes"`. `hub` allows to ask about models that are not here;
    `forecast` puts memory and time of the recipe on this machine into `"expected"`. Finished runs
    on the same rows count. Raises `RecipeError` with one problem per answer that is not allowed.
    """
    from distill_core.advisor import advisor_here

    return advisor_here.advise_here(
        answers, runs_dir=run_folders.default_runs_dir(runs_dir), hub=hub, forecast=forecast
    )


def probe_plan(
    answers: dict[str, Any], *, minutes: float = 10.0, hub: bool = False
) -> dict[str, Any]:
    """Say what a probe of these answers would do; starts nothing.

    `{"words", "minutes", "arms": [{"verdict", "title", "full_steps"}]}`. Raises `RecipeError` with
    a problem at each answer in its way.
    """
    from distill_core.advisor import probe_here

    return probe_here.plan_here(answers, minutes=minutes, hub=hub)


def start_probe(
    answers: dict[str, Any],
    *,
    minutes: float = 10.0,
    hub: bool = False,
    runs_dir: str | Path | None = None,
) -> str:
    """Measure the two best ways to train on the user's rows, in the queue; returns the run's id.

    An ordinary run: seen, paused and resumed as any. One of the same answers goes on; with more
    time, where only that was lacking. Raises `RecipeError` as `probe_plan` does.
    """
    from distill_core.advisor import probe_here

    folder = run_folders.default_runs_dir(runs_dir)
    return probe_here.start(answers, minutes=minutes, runs_dir=folder, hub=hub)


def probe(run: str, *, runs_dir: str | Path | None = None) -> dict[str, Any]:
    """What a probe has found so far: keys in `probe/report.py`, and the state of its run.

    Also `"run", "state", "phase", "message", "stage_title", "step", "total_steps", "error",
    "could_go_on"`: whether more time could tell more. Raises `RunError`.
    """
    from distill_core.advisor import probe_here

    return probe_here.tell(_folder(run, runs_dir))


def probe_of(
    answers: dict[str, Any], *, runs_dir: str | Path | None = None
) -> dict[str, Any] | None:
    """The newest probe of these answers, as `probe` tells it; None where there is none."""
    from distill_core.advisor import probe_here

    return probe_here.newest(answers, run_folders.default_runs_dir(runs_dir))


def observed_answers(answers: dict[str, Any], *, hub: bool = False) -> dict[str, Any]:
    """What the machine, the rows and the models answer by themselves.

    `{"filled": [{"field", "value", "words"}]: of what `answers` leave open, "notes": what could not
    be read}`. Raises `RecipeError` as `advise` does.
    """
    from distill_core.advisor import advisor_here

    return advisor_here.observed_answers(answers, hub=hub)


def temperature_example() -> dict[str, Any]:
    """Real logits of the starter teacher for one prompt, position by position.

    `{"prompt", "answer", "positions": [{"token": "…", "candidates": [{"text", "logit"}×12],
    "rest_logits": […]}]}`: `rest_logits` are all other logits, so that softmax is exact.
    """
    from distill_core import softening

    return softening.temperature_example()
