"""The command that gives advice, and measures it where that is wanted.

In: arguments. Out: what `cli` says. A plain function; `cli` puts it into the command line.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from distill_core import api
from distill_core.cli import interview
from distill_core.cli.command_line import (
    STOPPED,
    Json,
    RunsDir,
    handling,
    say,
    say_json,
    stdout_kept_clean,
    tell,
)
from distill_core.errors import DistillError

LOOK_S = 0.3


def advise(
    answers: Annotated[
        Path | None,
        typer.Argument(metavar="[ANSWERS.yaml]", help="Answers as YAML; asked for if left out."),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Measure the two best ways on your rows, then advise."),
    ] = False,
    minutes: Annotated[
        float, typer.Option("--minutes", help="How long a probe may work, pauses not counted.")
    ] = 10.0,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Distil or fine-tune? Get advice with reasons.

    Asks the questions one by one where no file of answers is given. What the machine, the rows and
    the models say by themselves is filled in, and finished runs on the same rows count.

    With --probe both candidates are trained for a short while, seed after seed, as a run in the
    background; what it finds outranks the published rules. Ctrl-C pauses it (exit code 130); the
    same command goes on.
    """
    given = interview.read_answers(answers) if answers else interview.ask_answers()
    found = _measure(given, minutes, runs_dir) if probe else None
    advice = api.advise(given, hub=True, forecast=True, runs_dir=runs_dir)
    if as_json:
        return say_json(advice | ({"probe": found} if found else {}))
    from distill_core.cli import advice_shown

    for line in advice_shown.advice_sentences(advice):
        say(line)


def _measure(given: dict[str, Any], minutes: float, runs_dir: Path | None) -> dict[str, Any]:
    """Start or go on with a probe, and follow it to its end."""
    with stdout_kept_clean():
        for line in api.probe_plan(given, minutes=minutes, hub=True)["words"]:
            tell(line)
        run = api.start_probe(given, minutes=minutes, hub=True, runs_dir=runs_dir)
        api.supervise_apart(runs_dir)
    tell(f"Probe {run}; Ctrl-C pauses it.")
    state = _follow(run, runs_dir)
    found = api.probe(run, runs_dir=runs_dir)
    if state == "finished":
        return found
    if state in ("failed", "lost"):
        shown = api.show(run, runs_dir=runs_dir)["status"]
        tell((shown["error"] or {}).get("message") or shown["message"])
        raise typer.Exit(1)
    tell(f"Paused. Go on with the same command, or with: distill-studio resume {run}")
    raise typer.Exit(STOPPED)


def _follow(run: str, runs_dir: Path | None) -> str:
    """Tell what happens, a line for each way and seed, until the probe has ended; its state."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)  # the second time: at once
        tell("Saving, then pausing. Press Ctrl-C again to leave at once.")
        with contextlib.suppress(DistillError):
            api.pause(run, runs_dir=runs_dir)

    told: list[str] = []
    with handling(interrupted):
        while True:
            now = api.probe(run, runs_dir=runs_dir)
            for line in _lines(now):
                if line not in told:
                    told.append(line)
                    tell(line)
            if now["state"] not in ("queued", "running", "stopping"):
                return str(now["state"])
            time.sleep(LOOK_S)


def _lines(now: dict[str, Any]) -> list[str]:
    """What there is to say of a probe now; what was said before is not said again."""
    lines = []
    if now["state"] == "queued":
        lines.append("Waiting for its turn.")
    for place in range(now["seeds"]):
        scores = (
            f"{arm['doing'].rstrip(',')} {_shown(arm['scores'][place], now['metric'])}"
            for arm in now["arms"]
        )
        lines.append(f"seed {place + 1}: {', '.join(scores)}")
    lines += [
        f"after {one['seeds']} seeds: difference {_shown(one['difference'], now['metric'])} "
        f"[{_shown(one['low'], now['metric'])}, {_shown(one['high'], now['metric'])}]"
        for one in now["looks"]
    ]
    if now["state"] == "running" and now["phase"] == "training" and now["stage_title"]:
        lines.append(f"training: {now['stage_title']}, {now['total_steps']} steps")
    elif now["state"] == "running" and now["message"] and now["phase"] == "caching teacher":
        lines.append(f"{now['message']}")
    if now["final"] and now["state"] == "finished":
        lines += [f"{now['words']}. {now['why']}", *now["notes"]]
    return lines


def _shown(value: float, metric: str) -> str:
    """Shares in percent, everything else in its own unit."""
    score = api.SCORES[metric]
    return f"{100 * value:.1f} %" if score.unit == "0–1" else f"{value:.3f} {score.unit}"
