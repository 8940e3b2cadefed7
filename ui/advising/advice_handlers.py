"""What happens in the Advisor tab: answers become a card, forecasts, and a recipe in Build.

In: values of the form's fields. Out: HTML, figures and updates. Every value is checked by the api;
knows no layout and no rule.
"""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from distill_core import api
from ui import theme
from ui.advising import advice_drawn, advice_figure, reckoning_drawn, roads_drawn
from ui.advising.advice_answers import (
    UNKNOWN,
    after_naming,
    answered_by,
    count_answered,
    empty_values,
    flat_answers,
    form_value,
    form_values,
    is_example,
    step_marks,
    titles,
    usable,
    yaml_text,
)

Questions = list[dict[str, Any]]


def open_step(place: int) -> gr.Tabs:
    """Go to a step."""
    return gr.Tabs(selected=place)


def restore(questions: Questions, draft: object) -> list[Any]:
    """Fill the form: what the browser kept, else the starter's answers."""
    return form_values(questions, draft if isinstance(draft, dict) else {})


def start_empty(questions: Questions) -> list[Any]:
    """Empty the form, but for what this machine answers by itself."""
    return [
        gr.skip() if question["field"].startswith("machine.") else value
        for question, value in zip(questions, empty_values(questions), strict=True)
    ]


def fill_example(questions: Questions) -> list[Any]:
    """Fill in the built-in example's answers, but for what this machine answers by itself."""
    return [
        gr.skip() if question["field"].startswith("machine.") else value
        for question, value in zip(questions, form_values(questions, {}), strict=True)
    ]


def restore_machine(fields: list[str], draft: object) -> list[Any]:
    """Fill in what this machine answers by itself, unless the user has said otherwise."""
    try:
        here = {item["field"]: item for item in api.advisor_questions()}
    except (api.DistillError, OSError):
        return [gr.skip() for _ in fields]
    kept = draft if isinstance(draft, dict) else {}
    known = {field: value for field, value in kept.items() if value != UNKNOWN}
    return [
        gr.update(value=form_value(here[field], known.get(field)), info=here[field]["help"])
        for field in fields
    ]


# --- the card ---------------------------------------------------------------------------------


def recommend(
    questions: Questions, runs_dir: str, agreed: object, *values: object
) -> tuple[Any, ...]:
    """The draft, card, licence box, button, outlook, reckoning, roads, picture, steps' labels.

    An answer that cannot be used is told, and taken as open; there is no recipe until it is mended.
    """
    answers = flat_answers(questions, values)
    rest, wrong = usable(questions, answers)
    labels = step_labels(questions, rest)
    try:
        told = api.advise(rest, runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        off, box = gr.update(interactive=False), gr.update(visible=False)
        card = advice_drawn.problem(str(error))
        return (answers, card, box, off, "", "", "", gr.skip(), *labels)
    named = titles(questions)
    return (
        answers,
        _wrong(wrong, named) + advice_drawn.card(told, named, _answered(questions, rest)),
        gr.update(visible=must_confirm(told)),
        gr.update(interactive=False) if wrong else _button(told, agreed),
        advice_drawn.outlook(told, waiting=True),
        reckoning_drawn.reckoning(told, yaml_text(told["answers"]), named),
        *at_once(told),
        *labels,
    )


def _wrong(wrong: dict[str, str], named: dict[str, str]) -> str:
    """Answers that cannot be used, each by its question."""
    told = " ".join(f"{named[field]}: {how}" for field, how in wrong.items())
    return advice_drawn.problem(f"{told} It counts as open until then.") if told else ""


def checked(question: dict[str, Any], value: object) -> dict[str, Any]:
    """What a field that the user writes in says below its title: its help, or what is wrong."""
    _, wrong = usable([question], flat_answers([question], (value,)))
    how = wrong.get(question["field"])
    if how:
        return gr.update(info=f"⚠ {value} cannot be. {how}", elem_classes=["ds-wrong"])
    return gr.update(info=question["help"], elem_classes=[])


def step_labels(questions: Questions, answers: dict[str, Any]) -> list[gr.Tab]:
    """Number, name, and a tick where nothing is open: never colour alone.

    No step is ticked as long as nobody has answered anything.
    """
    marks, given = step_marks(questions, answers), not is_example(questions, answers)
    return [
        gr.Tab(label=f"{place} {step}{' ✓' if done and given else ''}")
        for place, (step, done) in enumerate(marks.items(), start=1)
    ]


def _answered(questions: Questions, answers: dict[str, Any]) -> str:
    """Whose answers these are, or how many there are."""
    if is_example(questions, answers):
        return advice_drawn.EXAMPLE
    count, asked = count_answered(questions, answers)
    return f"{count} of {asked} questions answered"


def must_confirm(told: dict[str, Any]) -> bool:
    """Whether the teacher's licence asks something of the student that is about to be made."""
    licence = told["license"]
    learns = bool(told["recipe"]) and told["roads"]["teacher"]["verdict"] == told["verdict"]
    return bool(licence) and licence["outputs"] != "free" and learns


def _button(told: dict[str, Any], agreed: object) -> dict[str, Any]:
    ready = bool(told["recipe"]) and (agreed is True or not must_confirm(told))
    return gr.update(
        interactive=ready,
        value="Use this recipe" if told["recipe"] else "Nothing to train yet",
    )


def confirmed(
    questions: Questions, runs_dir: str, agreed: object, *values: object
) -> dict[str, Any]:
    """Open the button once the licence is confirmed."""
    try:
        told = api.advise(flat_answers(questions, values), runs_dir=runs_dir)
    except (api.DistillError, OSError):
        return gr.update(interactive=False)
    return _button(told, agreed)


def use_recipe(
    questions: Questions, runs_dir: str, agreed: object, *values: object
) -> tuple[Any, Any, str]:
    """Hand the recipe to Build and open it; says why where that is not possible."""
    try:
        told = api.advise(flat_answers(questions, values), runs_dir=runs_dir)
    except (api.DistillError, OSError) as error:
        return gr.skip(), gr.skip(), theme.alert("An answer cannot be used", str(error), "warn")
    if not told["recipe"]:
        message = "This advice trains nothing. Follow the steps in the card."
        return gr.skip(), gr.skip(), theme.alert("There is no recipe", message, "warn")
    if must_confirm(told) and agreed is not True:
        message = "Read the licence, then tick the box above."
        return gr.skip(), gr.skip(), theme.alert("The licence is not confirmed", message, "warn")
    return told["recipe_yaml"], gr.Tabs(selected="build"), ""


# --- roads and picture ------------------------------------------------------------------------


def at_once(told: dict[str, Any]) -> tuple[str, Any]:
    """The two roads while their times are worked out, and the picture."""
    waiting = dict.fromkeys(told["roads"], roads_drawn.WAITING)
    return roads_drawn.roads(told, waiting), advice_figure.figure(told)


def forecast(questions: Questions, runs_dir: str, *values: object) -> tuple[str, str]:
    """The two roads with times on this machine, and the outlook with those times."""
    answers, _ = usable(questions, flat_answers(questions, values))
    try:
        told = api.advise(answers, runs_dir=runs_dir, forecast=True)
    except (api.DistillError, OSError):
        return "", ""
    estimates = {road: _estimate(entry) for road, entry in told["roads"].items()}
    return roads_drawn.roads(told, estimates), advice_drawn.outlook(told)


def _estimate(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Forecast a recipe that names models of this machine; None where it cannot be known."""
    if entry["to_fill"] or not entry["recipe"] or not _all_here(entry["recipe"]):
        return None
    try:
        return api.estimate(api.load_recipe(entry["recipe"]))
    except (api.DistillError, OSError):
        return None


def _all_here(recipe: dict[str, Any]) -> bool:
    """Whether all models and rows are on this machine: a forecast asks no network."""
    known = {model["name"] for model in api.models()} | {"previous"}
    names = [stage.get("teacher") or stage.get("model") for stage in recipe["stages"]]
    bases = [stage.get("student", {}).get("model") for stage in recipe["stages"]]
    sources = [source["kind"] for source in recipe["data"]["sources"]]
    return {name for name in [*names, *bases] if name} <= known and "hub" not in sources


# --- fields that follow others ----------------------------------------------------------------


def shown(questions: Questions, *values: object) -> list[dict[str, Any]]:
    """Hide questions that are not worth asking, and say so where a step has none left."""
    answers = flat_answers(questions, values)
    fields = [
        gr.update(visible=api.advisor_asks(question, answers))
        for question in questions
        if question["when"]
    ]
    return [*fields, gr.update(visible=answers.get("teacher.exists") == "no")]


def fill(questions: Questions, named: str, *values: object) -> list[Any]:
    """Fill in what a name answers: counts of rows, facts of a model; and say what could not be."""
    answers = flat_answers(questions, values)
    asked = answered_by(questions, named)
    open_now = {**answers, **{question["field"]: UNKNOWN for question in asked}}
    try:
        found = api.observed_answers(open_now, hub=True)
    except (api.DistillError, OSError) as error:
        found = {"filled": [], "notes": [str(error)]}
    seen = {one["field"]: one["value"] for one in found["filled"]}
    words = {one["field"]: one["words"] for one in found["filled"]}
    updates: list[Any] = []
    for question in asked:
        value = after_naming(question, named, answers, seen)
        if value is None:
            updates.append(gr.skip())
            continue
        note = f" {words[question['field']]}" if question["field"] in words else ""
        updates.append(
            gr.update(value=form_value(question, value), info=f"{question['help']}{note}")
        )
    return [*updates, _notes(found["notes"])]


def _notes(notes: list[str]) -> str:
    return "".join(
        f'<p class="ds-note ds-alert ds-warn" role="status"><span aria-hidden="true">⚠</span> '
        f"<span>{escape(note)}</span></p>"
        for note in notes
    )
