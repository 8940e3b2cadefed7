"""What all commands share: arguments, ways to print, errors as messages, signals.

In: what a command raises. Out: one or two lines on stderr and an exit code: 0 done, 1 the user can
mend it, 2 wrong usage, 130 stopped. Knows no single command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from distill_core.errors import DistillError

STOPPED = 130


class Commands(TyperGroup):
    """Turns what a command raises into a message of one or two lines and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            tell("Stopped.")
            raise typer.Exit(STOPPED) from None
        except DistillError as error:
            if ctx.obj and ctx.obj.get("json"):
                say_error(error)
            tell(str(error))
            raise typer.Exit(1) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has gone
            raise typer.Exit(0) from None
        except (
            NotImplementedError,
            OSError,
            RuntimeError,
            ValueError,
            TypeError,
            KeyError,
        ) as error:
            if os.environ.get("DISTILL_DEBUG"):
                raise
            tell(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            tell("This was not expected; DISTILL_DEBUG=1 shows where it happened.")
            raise typer.Exit(1) from None


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, or the name of a ready recipe such as pocket_student.",
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id, the beginning of one, `latest`, or the path of its folder."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Change one setting, such as stages.0.optim.max_steps=200; may be repeated.",
    ),
]
RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir",
        metavar="DIR",
        envvar="DISTILL_RUNS_DIR",
        help="The folder that holds the runs; ./runs when left out.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")
]


def tell(text: str) -> None:
    """Write to stderr."""
    typer.echo(text, err=True)


def say(text: str) -> None:
    """Write a result to stdout."""
    typer.echo(text)


def say_json(data: Any) -> None:
    """Write the one JSON document."""
    say(json.dumps(data, indent=2, ensure_ascii=False, default=str))


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send what libraries print meanwhile to stderr, and let them draw no bars of their own."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    with contextlib.redirect_stdout(sys.stderr):
        yield


def say_scores(shown: dict[str, Any]) -> None:
    """Print the scores of a run that has been evaluated, and those of lm-eval's tasks."""
    evaluation, harness = shown.get("evaluation"), shown.get("harness")
    if not (evaluation or harness):
        return
    from distill_core.cli import scores_shown, terminal

    if evaluation:
        terminal.console().print(scores_shown.evaluation_table(evaluation))
        for line in scores_shown.evaluation_sentences(evaluation):
            say(line)
    if harness:
        terminal.console().print(scores_shown.harness_table(harness))


def say_error(error: DistillError) -> None:
    """Print an error as the one JSON document."""
    problems = getattr(error, "problems", None)
    document: dict[str, Any] = {"message": str(error), "field": getattr(error, "field", "")}
    if problems:
        document["problems"] = [problem.model_dump() for problem in problems]
    say_json({"error": document})


@contextlib.contextmanager
def handling(handler: Any) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `handler` meanwhile."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # only the main thread may
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
