"""What happens in the Advisor tab: answers become a card, forecasts, and a recipe in Build.

In: values of the form's fields. Out: HTML, figures and updates. Every value is checked by the api;
knows no layout and no rule.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from distill_core import api
from ui import advice_drawn, advice_figure, reckoning_drawn, text, theme
from ui.advice_answers import (
    TEACHER_FIELDS,
    UNKNOWN,
    flat_answers,
    form_values,
    titles,
    yaml_text,
)
from ui.state import list_runs


def open_step(place: int) -> gr.Tabs:
    """Go to a step."""
    return gr.Tabs(selected=place)


def restore(questions: list[dict[str, Any]], draft: object) -> list[Any]:
    """Fill the form: what the browser kept, else the starter's answers."""
    return form_values(questions, draft if isinstance(draft, dict) else {})


def restore_machine(fields: list[str], draft: object) -> list[Any]:
    """Fill in what this machine answers by itself, unless the user has said otherwise."""
    try:
        here = {item["field"]: item for item in api.advisor_questions()}
    except (api.DistillError, OSError):
        return [gr.skip() for _ in fields]
    kept = draft if isinstance(draft, dict) else {}
    known = {field: value for field, value in kept.items() if value != UNKNOWN}
    return form_values([here[field] for field in fields], known)


def recommend(fields: list[str], agreed: object, *values: object) -> tuple[Any, ...]:
    """The draft to keep, the card, licence box, button, outlook and the whole reckoning."""
    answers = flat_answers(fields, values)
    try:
        told = api.advise(answers)
    except (api.DistillError, OSError) as error:
        off = gr.update(interactive=False)
        return answers, advice_drawn.problem(str(error)), gr.update(visible=False), off, "", ""
    asked = api.advisor_questions(here=False)
    return (
        answers,
        advice_drawn.card(told, titles(asked)),
        gr.update(visible=must_confirm(told)),
        _button(told, agreed),
        advice_drawn.outlook(told),
        reckoning_drawn.reckoning(told, yaml_text(answers)),
    )


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


def confirmed(fields: list[str], agreed: object, *values: object) -> dict[str, Any]:
    """Open the button once the licence is confirmed."""
    try:
        return _button(api.advise(flat_answers(fields, values)), agreed)
    except (api.DistillError, OSError):
        return gr.update(interactive=False)


def forecast(runs_dir: str, fields: list[str], *values: object) -> tuple[str, Any]:
    """The two roads with times on this machine, and the picture."""
    answers = flat_answers(fields, values)
    try:
        told = api.advise(answers)
    except (api.DistillError, OSError):
        return "", gr.skip()
    sizes = {road: _student(entry, answers) for road, entry in told["roads"].items()}
    forecasts = {
        road: {"student": sizes[road][0], **advice_drawn.forecast_words(_estimate(entry))}
        for road, entry in told["roads"].items()
    }
    ratio = sizes["teacher"][1] or sizes["labels"][1]
    picture = advice_figure.figure(told, list_runs(runs_dir), ratio)
    return advice_drawn.roads(told, forecasts, answers), picture


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


def _student(entry: dict[str, Any], answers: dict[str, Any]) -> tuple[str, float | None]:
    """What a road trains, in words, and how many times smaller than the teacher it is."""
    limit, teacher = answers.get("student.max_parameters"), answers.get("teacher.parameters")
    sizes = [value for value in (limit, teacher) if isinstance(value, int | float)]
    guess = f"a student of up to {text.count_text(limit)}" if limit in sizes else "a student"
    ratio = teacher / limit if len(sizes) == 2 and limit else None
    stage = entry["recipe"]["stages"][-1]
    name = entry["recipe"]["stages"][0].get("teacher") or stage.get("model")
    student = stage.get("student")
    if not student or entry["to_fill"] or not _all_here(entry["recipe"]):
        return guess, ratio
    try:
        facts = api.student_facts(name, student)
    except (api.DistillError, OSError):
        return guess, ratio
    size, ratio = text.count_text(facts["parameters"]), facts["size_ratio"]
    return f"a student of {size} parameters, {text.factor_text(ratio)} smaller", ratio


def use_recipe(fields: list[str], agreed: object, *values: object) -> tuple[Any, Any, str]:
    """Hand the recipe to Build and open it; says why where that is not possible."""
    try:
        told = api.advise(flat_answers(fields, values))
    except (api.DistillError, OSError) as error:
        return gr.skip(), gr.skip(), theme.alert("An answer cannot be used", str(error), "warn")
    if not told["recipe"]:
        message = "This advice trains nothing. Follow the steps in the card."
        return gr.skip(), gr.skip(), theme.alert("There is no recipe", message, "warn")
    if must_confirm(told) and agreed is not True:
        message = "Read the licence, then tick the box above."
        return gr.skip(), gr.skip(), theme.alert("The licence is not confirmed", message, "warn")
    return told["recipe_yaml"], gr.Tabs(selected="build"), ""


def teacher_exists(answer: object) -> list[dict[str, Any]]:
    """Hide what only a teacher could answer."""
    shown = answer != "no"
    return [gr.update(visible=shown) for _ in TEACHER_FIELDS]


def teacher_named(name: object) -> tuple[Any, Any, Any]:
    """Fill in size, licence and score of a model that is on this machine."""
    facts = next((model for model in api.models() if model["name"] == name), None)
    if facts is None:
        return gr.skip(), gr.skip(), None
    questions = {item["field"]: item for item in api.advisor_questions(here=False)}
    built_in = questions["teacher.name"]["default"] == name
    score = form_values([questions["teacher.held_out_score"]], {})[0] if built_in else None
    return round(facts["parameters"] / 1e6, 4), facts["license"] or "unknown", score


def source_named(questions: list[dict[str, Any]], name: object) -> list[Any]:
    """Fill in the starter's counts when its rows are chosen."""
    if name != "starter":
        return [gr.skip() for _ in questions]
    return form_values(questions, {})
