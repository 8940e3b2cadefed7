"""The command line: `distill-studio`, one command per call of the api.

In: arguments. Out: results on stdout (with --json exactly one JSON document), everything else on
stderr; exit code 0 done, 1 the user can mend it, 2 wrong usage, 130 stopped. Heavy libraries are
imported by the calls that need them, so that --help answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from distill_core import api
from distill_core.cli import cli_advise, cli_harness, cli_machine, cli_recipes, cli_runs
from distill_core.cli.command_line import (
    Commands,
    Json,
    RunArgument,
    RunsDir,
    say,
    say_json,
    say_scores,
    stdout_kept_clean,
)
from distill_core.errors import DistillError

app = typer.Typer(
    name="distill-studio",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil, fine-tune and compare language models. Start with: distill-studio init, then "
    "distill-studio run recipe.yaml, then distill-studio compare latest --prompt '…'.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        say(importlib.metadata.version("distill-studio"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


# --- recipes ------------------------------------------------------------------------------------


app.command()(cli_recipes.init)
app.command()(cli_recipes.check)
app.command()(cli_recipes.estimate)

# --- runs ---------------------------------------------------------------------------------------

app.command()(cli_runs.run)
app.command()(cli_runs.start)
app.command(name="runs")(cli_runs.list_runs)
app.command()(cli_runs.show)
app.command()(cli_runs.events)
app.command()(cli_runs.stop)
app.command()(cli_runs.pause)
app.command()(cli_runs.resume)
app.command()(cli_runs.delete)

# --- after training -----------------------------------------------------------------------------


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Score on these rows, not the held-out ones."),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Score only the first rows.")] = None,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Score teacher, student and baselines.

    On the held-out rows of the run, or on a file of yours; with 95 % intervals.
    """
    with stdout_kept_clean():
        found = api.evaluate(run, data=str(data) if data else None, rows=rows, runs_dir=runs_dir)
    if as_json:
        return say_json(found)
    say_scores({"evaluation": found})


app.command()(cli_harness.harness)


@app.command()
def compare(
    run: RunArgument,
    prompt: Annotated[list[str], typer.Option("--prompt", help="May be repeated.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="teacher, student, … or run:<id>; all of the run's if none."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 64,
    sampling_temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the likeliest token; higher is more varied.")
    ] = 0.0,
    runs_dir: RunsDir = None,
    as_json: Json = False,
) -> None:
    """Let all models answer the same prompts.

    Teacher, student, untrained student and baseline, or those that --model names.

    With --json: an array with, per prompt, `prompt` and `answers`, one per model.
    """
    document = []
    for text in prompt:
        answers: dict[str, dict[str, Any]] = {}
        with stdout_kept_clean():
            for event in api.compare(
                run,
                text,
                models=model or None,
                max_new_tokens=max_new_tokens,
                sampling_temperature=sampling_temperature,
                runs_dir=runs_dir,
            ):
                if event["type"] in ("answer", "loaded", "tokens"):
                    facts = {key: event[key] for key in event if key not in ("type", "tokens")}
                    answers.setdefault(event["model"], {}).update(facts)
        document.append({"prompt": text, "answers": list(answers.values())})
        if not as_json:
            say(text)
            for answer in answers.values():
                sure = answer.get("probability")
                likely = f" ({sure:.1%})" if sure is not None else ""
                say(f"  {answer['model']:<22} {answer.get('text', '')}{likely}")
    if as_json:
        say_json(document)


class Format(StrEnum):
    """What a student can be written as."""

    hf = "hf"
    gguf = "gguf"


@app.command()
def export(
    run: RunArgument,
    format: Annotated[
        Format, typer.Option("--format", help="hf: a Hugging Face folder.")
    ] = Format.hf,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A new folder.")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Write the student for other programs to load.

    A folder in the Hugging Face format, with a model card; an existing one is left alone.
    """
    if format is Format.gguf:
        raise DistillError("Export to GGUF is not available yet. Use --format hf.")
    with stdout_kept_clean():
        folder = api.export(run, format=format.value, out=out, runs_dir=runs_dir)
    say(str(folder))


# --- advisor, app -------------------------------------------------------------------------------


app.command()(cli_advise.advise)
app.command(name="self-test")(cli_machine.self_test)


@app.command()
def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --auth.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; the next free one from 7860 on.")] = None,
    auth: Annotated[
        str | None, typer.Option(metavar="USER:PASSWORD", help="Who may open the app.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    runs_dir: RunsDir = None,
) -> None:
    """Open the app in the browser, as app.py does."""
    from ui import layout

    try:
        layout.launch(
            host=host,
            port=port,
            auth=auth,
            runs_dir=str(runs_dir) if runs_dir else None,
            inbrowser=browser,
        )
    except ValueError as error:
        raise DistillError(str(error)) from None


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=given, prog_name="distill-studio", obj={"json": "--json" in given})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
