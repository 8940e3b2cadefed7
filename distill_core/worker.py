"""One run in one process: `python -m distill_core.worker RUN_DIR`.

In: a run's folder. Out: the same folder, with events, status and whatever the pipeline saves.
Stops politely when asked by a file or by SIGTERM. Of several processes that train together, all run
the pipeline, and the first one writes. Knows nothing of queues and of the app; the pipeline, and
torch with it, is imported only here, in the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psutil

from distill_core import environment, files, ranks, runs
from distill_core.errors import (
    DiskFullError,
    DistillError,
    RecipeError,
    RunError,
    is_out_of_memory,
)
from distill_core.events import Event, event
from distill_core.recipe import Recipe
from distill_core.runs import run_control
from distill_core.runs import status as run_status
from distill_core.runs.recorder import Recorder


class Pipeline(Protocol):
    """Runs the stages of a recipe, yielding events; see `pipeline.run`."""

    def __call__(
        self, recipe: Recipe, run_dir: Path, *, should_stop: Callable[[], str | None]
    ) -> Iterator[Event]:
        """Run, resuming from what lies in `run_dir`."""


REASONS = {run_control.STOP: "stopped", run_control.PAUSE: "paused"}


def main(arguments: list[str] | None = None, *, pipeline: Pipeline | None = None) -> int:
    """Run the run of the given folder; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m distill_core.worker RUN_DIR\n")
        return 2
    asked: list[str] = []
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: asked.append(run_control.STOP))
    run_dir = Path(arguments[0]).absolute()
    try:
        ranks.start_all()
        _join(run_dir)
        ranks.agree(lambda: claim(run_dir))
    except DistillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return work(run_dir, pipeline=pipeline, also_asked=lambda: asked[-1] if asked else None)


def claim(run_dir: Path) -> None:
    """Make this process the run's own; raises `RunError` when another one has it."""
    with run_control.changing(run_dir.parent):
        status = run_status.current(run_dir)
        free = status["state"] == "queued" or (
            status["state"] == "running" and status["pid"] in (None, os.getpid())
        )
        if not free:
            raise RunError(f"The run {run_dir.name} is {status['state']}; it cannot be started.")
        mine = run_status.this_process() | {"state": "running", "foreground": False}
        run_status.write(run_dir, status | mine)


def work(
    run_dir: Path,
    *,
    pipeline: Pipeline | None = None,
    also_asked: Callable[[], str | None] = lambda: None,
) -> int:
    """Run to the end, whatever happens; returns 0, or 1 when the run failed."""
    try:
        for _ in follow(run_dir, pipeline=pipeline, also_asked=also_asked):
            pass
    except Exception:
        return 1  # written down in the run's folder
    return 0


def run_here(recipe: Recipe, runs_dir: Path, *, resume: Path | None = None) -> Iterator[Event]:
    """Run in this process without a queue, in a new folder or going on in that of `resume`.

    Of several processes that train together, the first alone yields events.
    """
    ranks.join(recipe.device)
    yield from follow(ranks.agree(lambda: _taken(recipe, runs_dir, resume)))


def _taken(recipe: Recipe, runs_dir: Path, resume: Path | None) -> Path:
    """The folder of a run that is this process's own from now on."""
    if resume is None:
        return runs.create(recipe, runs_dir, state="running")
    with run_control.changing(resume.parent):
        mine = run_status.this_process() | {"state": "running", "foreground": True}
        run_control.take_over(resume, mine)
    return resume


def _join(run_dir: Path) -> None:
    """Meet the other processes of a run, if there are any."""
    device = "auto"
    with contextlib.suppress(DistillError, OSError):  # told by the first one, when it begins
        device = runs.load_recipe(run_dir).device
    ranks.join(device)


def follow(
    run_dir: Path,
    *,
    pipeline: Pipeline | None = None,
    also_asked: Callable[[], str | None] = lambda: None,
) -> Iterator[Event]:
    """Run in this process, yielding each event once it is written; the run must be claimed.

    The first event carries `run`. A failure is recorded, yielded as `run_failed`, then raised. A
    process that is not the first of several works along, and neither writes nor yields.
    """

    def should_stop() -> str | None:
        return also_asked() or run_control.asked(run_dir)

    if not ranks.is_first():
        _work_along(run_dir, pipeline or _pipeline_of(run_dir))
        return
    try:
        recorder = Recorder(run_dir)
    except DiskFullError as error:
        failed = _failed(str(error), "", "disk_full") | {"run": run_dir.name}
        fate = {"state": "failed", "message": failed["message"], "error": failed}
        run_status.write_somehow(run_dir, run_status.read(run_dir) | fate)
        yield failed
        raise
    with recorder:
        told = ended = False
        try:
            recipe = runs.load_recipe(run_dir)
            # a pipeline that stands in for the real one may do without torch
            environment.write(run_dir, {} if pipeline else environment.computed_on(recipe))
            run = pipeline or _pipeline_of(run_dir)
            for happening in run(recipe, run_dir, should_stop=should_stop):
                item = happening
                if not told:
                    item, told = item | {"run": run_dir.name}, True
                recorder.record(item)
                ended = item["type"] in ("run_finished", "run_stopped")
                yield item
            if not ended:
                raise RuntimeError("the pipeline ended without saying how")
        except (GeneratorExit, KeyboardInterrupt):
            if not ended:
                recorder.record_failure(_stopped(recorder, should_stop()))
            raise
        except Exception as error:
            failed = describe_failure(error, run_dir)
            if not told:
                failed["run"] = run_dir.name
            _write_traceback(run_dir)
            recorder.record_failure(failed)
            yield failed
            raise


def _work_along(run_dir: Path, pipeline: Pipeline) -> None:
    """Do this process's share of a run; a failure is added to the run's log, then raised."""
    try:
        for _ in pipeline(runs.load_recipe(run_dir), run_dir, should_stop=lambda: None):
            pass
    except Exception:
        _write_traceback(run_dir)
        raise


def describe_failure(error: Exception, run_dir: Path) -> Event:
    """Make a `run_failed` event: a message of at most two lines, and the recipe field if known."""
    field = str(getattr(error, "field", ""))
    if isinstance(error, DiskFullError):
        return _failed(str(error), "", "disk_full")
    if files.is_disk_full(error):
        return _failed(str(files.disk_full(run_dir)), "", "disk_full")
    if isinstance(error, RecipeError):
        return _failed(str(error.problems[0]), error.problems[0].field, "recipe")
    if isinstance(error, DistillError):
        return _failed(str(error), field, _snake(type(error).__name__))
    if is_out_of_memory(error):
        free = psutil.virtual_memory().available / 1e9
        return _failed(
            f"Memory ran out ({free:.1f} GB of main memory are free now).\n"
            "Lower micro_batch_size or max_seq_len, train a LoRA adapter, or take a smaller model.",
            "stages.0.optim.micro_batch_size",
            "out_of_memory",
        )
    first_line = (str(error).strip().splitlines() or ["no message"])[0][:300]
    return _failed(
        f"Training broke off with {type(error).__name__}: {first_line}\n"
        "The whole report is in the run's worker.log.",
        "",
        "internal",
    )


def _write_traceback(run_dir: Path) -> None:
    """Append the error that is being handled to the run's log."""
    with contextlib.suppress(OSError), open(run_dir / "worker.log", "a", encoding="utf-8") as log:
        log.write(traceback.format_exc())


def _failed(message: str, field: str, kind: str) -> Event:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    short = "\n".join(lines[:1] + ([" ".join(lines[1:])] if lines[1:] else []))
    return event("run_failed", message=short, field=field, kind=kind)


def _stopped(recorder: Recorder, asked: str | None) -> Event:
    status = recorder.status
    reason = REASONS.get(asked or run_control.STOP, "stopped")
    return event("run_stopped", reason=reason, stage=status["stage"], step=status["step"])


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def _pipeline_of(run_dir: Path) -> Pipeline:
    """A recipe's stages, or a probe's arms where the run is one."""
    from distill_core.probe import probe_file

    if not probe_file.is_probe(run_dir):
        return _real_pipeline()
    from distill_core.probe import measuring

    return measuring.run


def _real_pipeline() -> Pipeline:
    from distill_core import pipeline

    return pipeline.run


if __name__ == "__main__":
    sys.exit(main())
