"""What happens in the Advisor's probe card: it says what it would do, starts, is followed, paused.

In: the form's answers, minutes, the probe in view. Out: HTML and updates. Every value is checked by
the api; knows no layout.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from distill_core import api
from ui import text
from ui.advising import probe_drawn
from ui.advising.advice_answers import flat_answers
from ui.advising.advice_handlers import must_confirm
from ui.state import list_runs, safe_run_id

Questions = list[dict[str, Any]]

MINUTES = 10
NOTHING: dict[str, str] = {"run": "", "drawn": "", "ended": ""}
"""The probe in view of one page: its run, what was last drawn, and the run that has ended."""


def show(questions: Questions, runs_dir: str, minutes: object, *values: object) -> list[Any]:
    """What belongs to the answers: a probe that was started, else what one would do.

    Returns the view, the card, both buttons and the field of minutes.
    """
    answers = flat_answers(questions, values)
    try:
        found = api.probe_of(answers, runs_dir=runs_dir)
    except (api.DistillError, OSError):
        found = None
    if found is not None:
        return _started(found)
    try:
        plan = api.probe_plan(answers, minutes=_minutes(minutes))
    except (api.DistillError, OSError) as error:
        return _idle(probe_drawn.in_the_way(_in_words(error, questions)), ready=False)
    return _idle(probe_drawn.before(plan), ready=True)


def measure(
    questions: Questions, runs_dir: str, agreed: object, minutes: object, *values: object
) -> list[Any]:
    """Start a probe of the answers, or go on with it."""
    answers = flat_answers(questions, values)
    try:
        if must_confirm(api.advise(answers, runs_dir=runs_dir)) and agreed is not True:
            message = "Read the teacher's licence, then tick the box above."
            return _idle(probe_drawn.in_the_way(message), ready=True)
        run = api.start_probe(answers, minutes=_minutes(minutes), runs_dir=runs_dir)
        return _started(api.probe(run, runs_dir=runs_dir))
    except (api.DistillError, OSError) as error:
        return _idle(probe_drawn.in_the_way(_in_words(error, questions)), ready=True)


def pause(runs_dir: str, view: object) -> list[Any]:
    """Ask the probe in view to save and give its memory back."""
    run = _run_of(view)
    try:
        if run:
            api.pause(run, runs_dir=runs_dir)
            return _started(api.probe(run, runs_dir=runs_dir))
    except (api.DistillError, OSError):
        pass  # it has ended meanwhile: the next beat shows it
    return [gr.skip()] * 5


def mark(runs_dir: str, _: str) -> str:
    """How far all runs are, as text: when it changes the probe in view may have gone on."""
    keys = ("state", "stage", "step", "phase")
    return repr(
        [(run["run"], *(run["status"].get(key) for key in keys)) for run in list_runs(runs_dir)]
    )


def follow(runs_dir: str, view: object) -> list[Any]:
    """What has changed of the probe in view; nothing where nothing has."""
    run = _run_of(view)
    if not run or ended(view):
        return [gr.skip()] * 5
    try:
        updates = _started(api.probe(run, runs_dir=runs_dir))
    except (api.DistillError, OSError):
        return [dict(NOTHING), probe_drawn.in_the_way("The probe was deleted."), *[gr.skip()] * 3]
    drawn = view.get("drawn") if isinstance(view, dict) else ""
    return updates if updates[0]["drawn"] != drawn else [gr.skip()] * 5


def ended(view: object) -> str:
    """The run of the probe in view once it has ended: the advice is given anew then."""
    return str(view.get("ended") or "") if isinstance(view, dict) else ""


# --- pieces -----------------------------------------------------------------------------------


def _run_of(view: object) -> str:
    run = view.get("run") if isinstance(view, dict) else ""
    name = safe_run_id(run)
    return "" if not run or name == "latest" else name


def _minutes(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _idle(html: str, *, ready: bool) -> list[Any]:
    return [
        dict(NOTHING),
        html,
        gr.update(value="Measure it", interactive=ready, visible=True),
        gr.update(visible=False),
        gr.update(visible=True),
    ]


def _started(found: dict[str, Any]) -> list[Any]:
    """The card and its buttons: pause while it works, go on where there is more to find out."""
    state, html = found["state"], probe_drawn.card(found)
    works = state in probe_drawn.ACTIVE
    goes_on = state in text.RESUMABLE_STATES or found["could_go_on"]
    over = found["run"] if state == "finished" and found["final"] else ""
    return [
        {"run": found["run"], "drawn": f"{state}{hash(html)}", "ended": over},
        html,
        gr.update(value="Go on measuring", interactive=goes_on, visible=goes_on),
        gr.update(visible=works, interactive=state != "stopping"),
        gr.update(visible=goes_on),
    ]


def _in_words(error: Exception, questions: Questions) -> str:
    """Problems with the questions' own titles in the place of the answers' names."""
    problems = getattr(error, "problems", None)
    if not problems:
        return str(error)
    titles = {question["field"]: question["title"].rstrip("?") for question in questions}
    lines = []
    for one in problems:
        where = titles.get(one.field, "Minutes" if one.field == "minutes" else "")
        lines.append(f"{where + ': ' if where else ''}{one.message} {one.fix}".strip())
    return "\n".join(" ".join(line.split()) for line in lines)
