"""The advisor: its questions, its advice, and probes that measure it.

In: answers by dotted name. Out: plain data. Knows no rule itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_core import runs as run_folders
from distill_core.api.describing import machine
from distill_core.api.running import folder_of
from distill_core.errors import Problem, RecipeError


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


def advisor_problems(answers: dict[str, Any]) -> list[Problem]:
    """One problem per answer that is not allowed; none where all can be used."""
    from distill_core.advisor.answers import parse

    try:
        parse(answers)
    except RecipeError as error:
        return list(error.problems)
    return []


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

    return probe_here.tell(folder_of(run, runs_dir))


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
