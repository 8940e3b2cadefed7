"""Commands that start, watch and steer runs.

In: arguments. Out: what `cli.py` says. Plain functions; `cli.py` puts them into the command line.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from distill_core import api
from distill_core.cli.command_line import (
    STOPPED,
    Json,
    Overrides,
    RecipeArgument,
    RunArgument,
    RunsDir,
    handling,
    say,
    say_json,
    say_scores,
    stdout_kept_clean,
    tell,
)
from distill_core.errors import DistillError

ENDED = ("finished", "stopped", "paused", "failed", "lost")


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Run a recipe here, with a progress bar.

    Ctrl-C saves and stops (exit code 130); a second Ctrl-C stops at once. Either way
    `distill-studio resume` goes on from the last checkpoint. Under `accelerate launch` or torchrun
    several processes train together.
    """
    tells = api.is_first_process()
    loaded = api.load_recipe(recipe, overrides)
    _show_to_the_end(api.run_here(loaded, runs_dir=runs_dir), tells, runs_dir, as_json)


def _show_to_the_end(
    events: Iterator[Any], tells: bool, runs_dir: Path | None, as_json: bool
) -> None:
    """Show a run that goes on here, then its scores; ends with the exit code that it deserves."""
    from distill_core.cli import terminal

    if not tells:
        return _work_along(events)
    with stdout_kept_clean(), terminal.RunDisplay() as display:
        name, end = _follow_here(events, display, runs_dir)
    if name is None:
        raise typer.Exit(STOPPED)
    shown = api.show(name, runs_dir=runs_dir)
    if as_json:
        say_json(shown)
    elif end == "run_finished":
        say_scores(shown)
    if end == "run_failed":
        tell((shown["status"]["error"] or {}).get("message") or shown["status"]["message"])
        raise typer.Exit(1)
    if end != "run_finished":
        tell(f"Stopped. Go on with: distill-studio resume {name}")
        raise typer.Exit(STOPPED)


def _work_along(events: Iterator[Any]) -> None:
    """Take part in a run that another process shows; it is that one which is stopped."""
    try:
        with stdout_kept_clean(), handling(lambda number, frame: None):
            for _ in events:
                pass
    except Exception:
        raise typer.Exit(1) from None  # written down in the run's log


def _follow_here(
    events: Iterator[Any], display: Any, runs_dir: Path | None
) -> tuple[str | None, str]:
    """Show a run's events to the end; returns its id and the type of its last event."""
    name: str | None = None
    end = "run_stopped"

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)  # the second time: at once
        if name is None:
            raise KeyboardInterrupt
        display.tell("Saving, then stopping. Press Ctrl-C again to stop at once.")
        with contextlib.suppress(DistillError):
            api.stop(name, runs_dir=runs_dir)

    with handling(interrupted), contextlib.suppress(KeyboardInterrupt):
        try:
            for event in events:
                name = name or event.get("run")
                end = event["type"]
                display.take(event)
        except Exception:
            if end != "run_failed":  # else it is written down, and told below
                raise
    return name, end


def start(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Run a recipe in the background.

    Prints the run's id as its last line and returns.

    Runs wait for each other, one at a time per device. An app that is open on the same runs folder
    shows and supervises them; without one, a small process does, until the queue is empty.
    """
    with stdout_kept_clean():
        name = api.start(api.load_recipe(recipe, overrides), runs_dir=runs_dir)
        api.supervise_apart(runs_dir)
    say_json(api.show(name, runs_dir=runs_dir)) if as_json else say(name)


def list_runs(runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """List all runs, newest first."""
    found = api.runs(runs_dir)
    if as_json:
        return say_json(found)
    if not found:
        return tell("No runs yet. Start one with: distill-studio run pocket_student")
    from distill_core.cli import terminal

    terminal.console().print(terminal.runs_table(found))


def show(run: RunArgument, runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """Describe one run: state, progress, scores."""
    shown = api.show(run, runs_dir=runs_dir)
    if as_json:
        return say_json(shown)
    from distill_core.cli import terminal

    for line in terminal.run_sentences(shown):
        say(line)
    say_scores(shown)


def events(
    run: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Print every step, score and sample of a run."""
    from distill_core.cli import terminal

    name = api.show(run, runs_dir=runs_dir)["path"]
    offset, count = 0, 0
    while True:
        ended = not follow or api.show(name)["status"]["state"] in ENDED
        new, offset = api.read_events(name, offset)
        for event in new:
            if as_json:
                say(("[" if not count else ",") + json.dumps(event, ensure_ascii=False))
            else:
                say(terminal.event_line(event))
            count += 1
        if ended:
            break
        time.sleep(0.3)
    if as_json:
        say("]" if count else "[]")


def stop(run: RunArgument, runs_dir: RunsDir = None) -> None:
    """Ask a run to save and end; it can be resumed."""
    api.stop(run, runs_dir=runs_dir)
    tell("It saves, then stops. Go on later with: distill-studio resume")


def pause(run: RunArgument, runs_dir: RunsDir = None) -> None:
    """Ask a run to save and give its memory back."""
    api.pause(run, runs_dir=runs_dir)
    tell("It saves, then gives its memory back. Go on with: distill-studio resume")


def resume(
    run: RunArgument,
    here: Annotated[
        bool, typer.Option("--here", help="Go on in this process, as `run` does.")
    ] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Go on with a run from its last checkpoint."""
    if here:
        tells = api.is_first_process()
        loaded = api.load_recipe(api.show(run, runs_dir=runs_dir)["path"] + "/recipe.yaml")
        events = api.run_here(loaded, runs_dir=runs_dir, run=run)
        return _show_to_the_end(events, tells, runs_dir, as_json=False)
    api.resume(run, runs_dir=runs_dir)
    shown = api.show(run, runs_dir=runs_dir)
    api.supervise_apart(Path(shown["path"]).parent)
    say(shown["run"])


def delete(run: RunArgument, runs_dir: RunsDir = None) -> None:
    """Delete a run with everything in its folder.

    Refused while the run is queued or active.
    """
    api.delete(run, runs_dir=runs_dir)
