"""What Build shows of a recipe: the pair drawn, problems at their fields, needs, field values.

In: the desk. Out: HTML and `gr.update`s. Changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from html import escape
from typing import Any

import gradio as gr

from distill_core import api
from ui import form, theme
from ui.building import desk as desks
from ui.building import draft, models_drawn, pair_drawn, pair_fit, summary
from ui.building.desk import Desk

INITS = {
    "scratch": "new weights, smaller",
    "layer_drop": "the teacher's own layers",
    "width_prune": "the teacher, narrower",
    "pretrained": "a published checkpoint",
}

_WARM = threading.Lock()


@functools.cache
def _load_libraries() -> None:
    recipe = api.load_recipe(desks.default_text())
    api.check(recipe)
    api.preview(recipe)


def warm() -> None:
    """Load the model libraries in one thread: several at once find them half imported."""
    with _WARM, contextlib.suppress(api.DistillError, OSError):
        _load_libraries()


def review(desk: Desk) -> tuple[list[api.Problem], dict[str, Any] | None]:
    """Check the recipe and forecast what it needs; None where it is not valid."""
    warm()
    try:
        recipe = api.load_recipe(desks.current(desk))
        problems = list(api.check(recipe))
    except api.DistillError as error:
        return problems_of(error), None
    blocked = any(problem.severity == "error" for problem in problems)
    try:
        return problems, api.estimate(recipe)
    except api.DistillError as error:  # of a recipe that is blocked it says nothing new
        return (problems if blocked else [*problems, *problems_of(error)]), None


def problems_of(error: Exception) -> list[api.Problem]:
    """Make problems of an error: its own, or one at the field that it names."""
    own = getattr(error, "problems", None)
    if own:
        return list(own)
    field = str(getattr(error, "field", ""))
    return [api.Problem(severity="error", field=field, message=str(error))]


def redraw(desk: Desk) -> Any:
    """Draw teacher and student to scale; quick, so that it follows while a slider is dragged."""
    warm()
    try:
        data = draft.read(desks.current(desk))
    except draft.BrokenYaml:
        return gr.skip()
    teacher, student = pair_facts(data)
    drawing = models_drawn.draw(teacher, student, tuned=not draft.pair(data).has_teacher)
    return drawing + pair_chips(data, teacher)


def show(desk: Desk) -> tuple[Any, str, Any, Any]:
    """Draw and judge the recipe: drawing, summary, YAML, Start."""
    return redraw(desk), *refresh(desk)


def refresh(desk: Desk) -> tuple[str, Any, Any]:
    """Judge the recipe: summary with the problems by field, YAML, Start."""
    text = desks.current(desk)
    problems, estimate = review(desk)
    try:
        data = draft.read(text)
    except draft.BrokenYaml:
        data = {}
    blocked = any(problem.severity == "error" for problem in problems)
    shown = summary.card(
        problems,
        estimate,
        says=in_a_sentence(data, estimate),
        file_name=f"{data.get('name') or 'recipe'}.yaml",
    )
    words = "Mend the problems first" if blocked else "Start"
    boxed = desks.fill_box(desk)
    yaml = gr.skip() if boxed is None else boxed
    return shown + placed(data, problems), yaml, gr.update(interactive=not blocked, value=words)


def placed(data: draft.Mapping, problems: list[api.Problem]) -> str:
    """Write the problems with the fields they belong to, for the script that puts them there."""
    slots = [
        {"slot": slot(data, problem.field), "severity": problem.severity, "text": told(problem)}
        for problem in problems
        if problem.field
    ]
    return f'<span hidden data-problems="{escape(json.dumps(slots))}"></span>'


def told(problem: api.Problem) -> str:
    """Say a problem and its cure in one line."""
    return f"{problem.message} {problem.fix}".strip()


def pair_facts(data: draft.Mapping) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Read the sizes of teacher and student; None where they are not known."""
    pair = draft.pair(data)
    name = str(draft.get(data, pair.teacher_path) or "")
    if not name:
        return None, None
    student = draft.get(data, pair.student_path)
    shape = dict(student) if isinstance(student, dict) else {"init": "pretrained"}
    rows, task = draft.get(data, "data"), draft.task(data)
    known = dict(rows) if isinstance(rows, dict) else None
    return _facts(lambda: api.model_facts(name)), _facts(
        lambda: api.student_facts(name, shape, known, task=task)
    )


def _facts(read: Any) -> dict[str, Any] | None:
    try:
        return dict(read())
    except (api.DistillError, OSError):
        return None


def pair_chips(data: draft.Mapping, teacher: dict[str, Any] | None) -> str:
    """Say what the two share, and what the teacher's licence is."""
    chips = []
    if teacher and teacher.get("license"):
        chips.append(theme.chip(f"licence: {teacher['license']}"))
    if teacher and not teacher.get("offline", True):
        chips.append(theme.chip("will be downloaded", "warn", "⇩"))
    report = pair_fit.report_of(data)
    if report is None:
        return f'<div class="ds-chips">{"".join(chips)}</div>'
    return pair_drawn.draw(report, chips)


def in_a_sentence(data: draft.Mapping, estimate: dict[str, Any] | None) -> str:
    """Say the recipe in one line: Distill · 1,200 steps × 64 rows."""
    stages = draft.kinds(data)
    named = draft.method(data) or f"{len(stages)} stage{'' if len(stages) == 1 else 's'}"
    steps = (estimate or {}).get("steps")
    rows = draft.get(data, "stages.0.optim.global_batch_size", 32)
    if not steps:
        return named
    return f"{named} · {steps:,} steps × {rows} rows"


def slot(data: draft.Mapping, field: str) -> str:
    """Name the element under which a problem of `field` is shown."""
    pair = draft.pair(data)
    if field == pair.teacher_path:
        return "ds-field-teacher"
    if field == pair.student_path or field.startswith(f"{pair.student_path}."):
        parts = field[len(pair.student_path) + 1 :].split(".")
        settings = [part for part in parts if not part.isdigit()]  # not the items of a list
        return f"ds-field-student-{'-'.join(settings) or 'init'}"
    parts = field.split(".")
    if len(parts) > 3 and parts[0] == "stages" and parts[2] == "losses":
        name = draft.get(data, ".".join(parts[:4]) + ".name")
        parts[3] = str(name or parts[3])
    return form.field_id(".".join(parts))


def fill(desk: Desk) -> tuple[Any, ...]:
    """Set the fields that are always there, in the order in which `tab_build` lists them."""
    warm()
    text = desks.current(desk)
    try:
        data = draft.read(text)
    except draft.BrokenYaml:
        return (gr.skip(),) * 10
    pair = draft.pair(data)
    name = str(draft.get(data, pair.teacher_path) or "")
    student = draft.get(data, pair.student_path, {"init": "pretrained"})
    init = draft.get(student, "init", "pretrained")
    facts = _facts(lambda: api.model_facts(name)) if name else None
    known = model_choices(draft.task(data))
    models = [*known, *([(name, name)] if name and name not in dict(known).values() else [])]
    picked = next((ready for ready in api.ready_recipes() if ready["yaml"] == text), {})
    return (
        gr.update(value=picked.get("name")),
        _about(str(picked.get("description") or "")),
        gr.update(value=str(data.get("name", ""))),
        gr.update(
            choices=models,
            value=name,
            label="Teacher" if pair.has_teacher else "Model",
        ),
        gr.update(choices=init_choices(pair), value=init if init in INITS else None),
        _size_update(draft.get(student, "layers"), facts, "layers", shown=init != "pretrained"),
        _size_update(
            draft.get(student, "hidden_size"),
            facts,
            "hidden_size",
            shown=init in {"scratch", "width_prune"},
        ),
        gr.update(
            choices=[*([("the model itself", "")] if not pair.has_teacher else []), *models],
            value=draft.get(student, "model") or "",
            visible=init == "pretrained",
        ),
        gr.update(value=draft.task(data)),
        _method_update(draft.method(data)),
    )


def _about(words: str) -> str:
    """What a ready recipe is for, as its first comment says it."""
    return f'<p class="ds-muted">{escape(words[:1].upper() + words[1:])}</p>' if words else ""


def init_choices(pair: draft.Pair) -> list[tuple[str, str]]:
    """What a student may start from, in words."""
    words = INITS
    if not pair.has_teacher:
        words = {key: label.replace("teacher", "model") for key, label in INITS.items()}
    return [(label, key) for key, label in words.items()]


def _method_update(named: str | None) -> Any:
    """Mark the method; stages that none names have a choice of their own while they are there."""
    others = [] if named else [draft.SEVERAL_STAGES]
    return gr.update(choices=[*draft.METHODS, *others], value=named or draft.SEVERAL_STAGES)


def _size_update(value: Any, facts: dict[str, Any] | None, key: str, shown: bool) -> Any:
    step = 1 if key == "layers" else 8
    there = int((facts or {}).get(key) or (12 if key == "layers" else 768))
    empty = there if value is None else step  # nothing chosen: all that the teacher has
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else empty
    most = max(number, there, step + 1)
    return gr.update(value=number, minimum=min(step, number), maximum=most, visible=shown)


def model_choices(task: str) -> list[tuple[str, str]]:
    """Models that can be picked by name for a task."""
    try:
        return [
            (str(model.get("title") or model["name"]), model["name"])
            for model in api.models()
            if task in model["tasks"]
        ]
    except api.DistillError:
        return []
