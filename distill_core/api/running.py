"""Runs: started, followed, paused and deleted.

In: a recipe, or a run. Out: its id, events, curves and state. Knows nothing of what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill_core import runs as run_folders
from distill_core.api.preparing import check
from distill_core.errors import RecipeError
from distill_core.events import Event
from distill_core.recipe import Recipe
from distill_core.runs import run_control


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
    return run_folders.show(folder_of(run, runs_dir))


def read_events(
    run: str, offset: int = 0, *, steps: bool = True, runs_dir: str | Path | None = None
) -> tuple[list[Event], int]:
    """Read the events written since `offset` (bytes); returns them with the new offset.

    Without `steps` those of that type are left out: their curves come from `read_series`.
    """
    from distill_core.runs import journal

    return journal.read(folder_of(run, runs_dir), offset, steps=steps)


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

    return series.read_series(folder_of(run, runs_dir), offset, max_points=max_points)


def read_log(run: str, *, lines: int = 200, runs_dir: str | Path | None = None) -> str:
    """Return the last lines of the worker's log."""
    return run_folders.read_log(folder_of(run, runs_dir), lines=lines)


def stop(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Ask a run to save and end; it can be resumed. Raises `RunError`."""
    run_control.stop(folder_of(run, runs_dir))


def pause(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Ask a run to save and give its memory back until it is resumed. Raises `RunError`."""
    run_control.pause(folder_of(run, runs_dir))


def resume(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Put a paused, stopped, failed or lost run back in the queue, from its last checkpoint."""
    run_control.resume(folder_of(run, runs_dir))


def delete(run: str, *, runs_dir: str | Path | None = None) -> None:
    """Delete a run's folder; refused with `RunError` while it is active."""
    run_control.delete(folder_of(run, runs_dir))


def folder_of(run: str, runs_dir: str | Path | None) -> Path:
    """The folder of a run: an id, `latest`, or a path."""
    return run_folders.resolve(run, run_folders.default_runs_dir(runs_dir))


def _refuse_errors(recipe: Recipe) -> None:
    errors = [problem for problem in check(recipe) if problem.severity == "error"]
    if errors:
        raise RecipeError(errors)
