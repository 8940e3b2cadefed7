"""The command that asks lm-eval, the field's harness.

In: arguments. Out: what `cli.py` says. Plain functions; `cli.py` puts them into the command line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from distill_core import api
from distill_core.cli.command_line import (
    Json,
    RunsDir,
    say_json,
    say_scores,
    stdout_kept_clean,
    tell,
)


def harness(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run, or the name or folder of one model.")
    ],
    tasks: Annotated[
        str, typer.Argument(metavar="TASKS", help="Names of tasks, groups or tags: arc_easy,mine.")
    ],
    tasks_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Task files of your own (YAML); they may run Python, as lm-eval's do. Paths in "
            "them start here.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="teacher, student, …; may be repeated; all if none."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="First rows of each task only.")] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before each question; as the task has it.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Ask in the model's chat template.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences at a time.")] = 8,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Score the models of a run on tasks of lm-eval.

    Needs pip install 'distill-studio[lm-eval]'. The run keeps the scores; the app and `show` show
    them.
    """
    with stdout_kept_clean():
        found = api.harness(
            run,
            [name.strip() for name in tasks.split(",") if name.strip()],
            tasks_dir=tasks_dir,
            models=model or None,
            limit=limit,
            shots=shots,
            chat_template=chat_template,
            batch_size=batch_size,
            bars=sys.stderr.isatty() and not as_json,
            runs_dir=runs_dir,
            progress=tell,
        )
    say_json(found) if as_json else say_scores({"harness": found})
