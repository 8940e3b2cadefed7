"""Commands about recipes: write one, check it, forecast what it needs.

In: arguments. Out: what `cli` says. Plain functions; `cli` puts them into the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from distill_core import api
from distill_core.cli.command_line import (
    Json,
    Overrides,
    RecipeArgument,
    say,
    say_json,
    stdout_kept_clean,
    tell,
)
from distill_core.errors import DistillError, RecipeError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path(
        "recipe.yaml"
    ),
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="A ready recipe or a file to begin with.")
    ] = None,
    progressive: Annotated[
        int | None,
        typer.Option(
            "--progressive",
            min=0,
            metavar="N",
            help="Put N assistants between teacher and student, smaller by equal factors.",
        ),
    ] = None,
) -> None:
    """Write a starter recipe, ready to run.

    The ready recipes: distil, fine-tune, both in either order, progressive and more; `check` and
    `run` take their names too.
    """
    text = _begun(recipe, progressive)
    try:
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise DistillError(
            f"{file} exists already and is left as it is. Name another file."
        ) from None
    except OSError as error:
        raise DistillError(f"Cannot write {file}: {error.strerror}.") from None
    tell(f"Wrote {file}. Next: distill-studio check {file}, then distill-studio run {file}")


def _begun(recipe: str | None, assistants: int | None) -> str:
    """The text of a ready recipe as it stands, or as YAML made anew when it is changed."""
    ready = {item["name"]: item["yaml"] for item in api.ready_recipes()}
    name = (recipe or next(iter(ready))).replace("-", "_")
    if assistants is None and name in ready:
        return str(ready[name])
    loaded = api.load_recipe(recipe or name)
    return api.dump_recipe(
        loaded if assistants is None else api.with_assistants(loaded, assistants)
    )


def check(recipe: RecipeArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Tell everything that is wrong with a recipe.

    Nothing is loaded, trained or written.

    Exits with 1 if any problem is an error. With --json: an array of severity, field, message, fix.
    """
    pairs: list[dict[str, Any]] = []
    try:
        with stdout_kept_clean():
            read = api.load_recipe(recipe, overrides)
            problems, pairs = api.check(read), api.pair_reports(read)
    except RecipeError as error:
        if not as_json:
            raise
        problems = error.problems
    if as_json:
        say_json([problem.model_dump() for problem in problems])
    else:
        lines = [f"pair of stage {pair['stage'] + 1}: {pair['verdict']}" for pair in pairs]
        lines += [f"{problem.severity}: {problem}" for problem in problems]
        say("\n".join(lines if problems else [*lines, "No problems. Ready to run."]))
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(1)


def estimate(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    dry_step: Annotated[
        bool,
        typer.Option(
            "--dry-step",
            help="Take a few optimiser steps first, in a process of their own, and measure them.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Forecast memory, by part, and time.

    By a formula; with --dry-step by what a few steps on this machine have needed, of which nothing
    stays.
    """
    with stdout_kept_clean():
        read = api.load_recipe(recipe, overrides)
        if dry_step:
            api.take_dry_step(read)
        forecast = api.estimate(read)
    if as_json:
        return say_json(forecast)
    from distill_core.cli import terminal

    terminal.console().print(terminal.estimate_table(forecast))
    low, high = (terminal.duration(seconds) for seconds in forecast["time_s"])
    fits = "fits" if forecast["fits"] else "does not fit"
    for line in terminal.cache_sentences(forecast) + _savings(forecast):
        say(line)
    say(
        f"{forecast['steps']} steps, {low} to {high} ({forecast['time_basis']}); {fits} in memory "
        f"({forecast['memory_basis']})."
    )


def _savings(forecast: dict[str, Any]) -> list[str]:
    """What to change where a run does not fit, a change a line."""
    from distill_core.cli import terminal

    return [
        f"to change: {one['change']} ({one['field']}) saves {terminal.size(one['saves_bytes'])}"
        f"{': then it fits' if one['fits'] else ''}."
        for one in forecast["savings"]
    ]
