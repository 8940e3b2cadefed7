"""Advisor: answers in and out of the form, the card, the two roads, the picture, the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml

from distill_core import api
from ui import advice_drawn, advice_figure, layout, tab_advisor
from ui import advice_handlers as handlers
from ui.advice_answers import (
    COUNT_FIELDS,
    SCALES,
    TEACHER_FIELDS,
    flat_answers,
    form_values,
    label_text,
    titles,
    yaml_text,
)

QUESTIONS = api.advisor_questions(here=False)
FIELDS = [question["field"] for question in QUESTIONS]


def values(**changes: Any) -> list[Any]:
    """The form as it opens, with some fields changed; `__` stands for the dot."""
    form = dict(zip(FIELDS, form_values(QUESTIONS, {}), strict=True))
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    assert set(changed) <= set(form)
    return list({**form, **changed}.values())


def told(**changes: Any) -> dict[str, Any]:
    return api.advise(flat_answers(FIELDS, tuple(values(**changes))))


# --- answers ----------------------------------------------------------------------------------


def test_scales_are_those_of_the_questions() -> None:
    assert {q["field"]: q["scale"] for q in QUESTIONS if q["scale"] != 1} == SCALES
    assert set(COUNT_FIELDS) | set(TEACHER_FIELDS) <= set(FIELDS)


def test_the_form_opens_with_the_defaults_in_units_that_people_use() -> None:
    form = dict(zip(FIELDS, form_values(QUESTIONS, {}), strict=True))
    defaults = {q["field"]: q["default"] for q in QUESTIONS}
    assert form["student.max_parameters"] == pytest.approx(0.21)
    assert form["teacher.parameters"] == pytest.approx(defaults["teacher.parameters"] / 1e6)
    assert form["student.latency_ms"] is None
    answers = flat_answers(FIELDS, tuple(form.values()))
    assert answers == pytest.approx(defaults)


def test_an_empty_field_is_unknown() -> None:
    answers = flat_answers(FIELDS, tuple(None for _ in FIELDS))
    assert set(answers.values()) == {"unknown"}
    assert flat_answers(["goal", "data.labelled_rows"], (" ", float("nan"))) == {
        "goal": "unknown",
        "data.labelled_rows": "unknown",
    }


def test_a_draft_comes_back_as_it_was() -> None:
    draft = flat_answers(
        FIELDS, tuple(values(goal="style", data__labelled_rows=77, teacher__parameters=7000))
    )
    form = dict(zip(FIELDS, form_values(QUESTIONS, draft), strict=True))
    assert (form["goal"], form["data.labelled_rows"], form["teacher.parameters"]) == (
        "style",
        77,
        7000,
    )
    assert flat_answers(FIELDS, tuple(form.values())) == draft


@pytest.mark.parametrize("spoilt", ["nonsense", 5, [1], {"a": 1}, True])
def test_a_spoilt_draft_gives_values_that_the_fields_can_show(spoilt: object) -> None:
    form = form_values(QUESTIONS, dict.fromkeys(FIELDS, spoilt))
    for question, value in zip(QUESTIONS, form, strict=True):
        if question["kind"] == "number":
            assert value is None or isinstance(value, int | float)
        elif question["kind"] == "text":
            assert isinstance(value, str)
        else:
            known = {choice["value"] for choice in question["choices"]}
            assert value in known or question["custom"]
    assert handlers.restore(QUESTIONS, spoilt) == form_values(QUESTIONS, {}) or spoilt == {"a": 1}


def test_units_stand_in_the_label_once() -> None:
    labels = {q["field"]: label_text(q) for q in QUESTIONS}
    assert labels["student.device_memory_gib"] == "Memory it may use (GiB)"
    assert labels["data.labelled_rows"] == "Labelled rows"
    assert labels["constraints.budget_gpu_hours"].count("ours") == 1


def test_the_answers_as_yaml_mean_the_same_to_the_engine() -> None:
    answers = flat_answers(FIELDS, tuple(values()))
    document = yaml.safe_load(yaml_text(answers))
    assert document["teacher"]["exists"] is True
    assert "latency_ms" not in document["student"]
    assert api.advise(document) == api.advise(answers)


# --- the card ---------------------------------------------------------------------------------


def test_the_card_says_what_why_how_sure_and_what_else() -> None:
    _, card, confirm, use, outlook, reckoning = handlers.recommend(FIELDS, False, *values())
    assert ">Distill</h2>" in card
    assert "high confidence" in card
    assert "Few labels, many unlabelled rows." in card
    assert "20,000 rows that nobody has" in card
    assert 'href="https://arxiv.org/abs/1503.02531"' in card
    assert "Runner-up: fine-tune." in card
    assert "It would win with 5,000 clean labels instead of 500." in card
    assert "ublished, not promised" in outlook
    assert "80–96.8" in outlook
    assert "Apache-2.0" in outlook
    assert confirm["visible"] is False
    assert (use["interactive"], use["value"]) == (True, "Use this recipe")
    assert "R5.few_labels +4" in reckoning
    assert "ruled out" in reckoning
    assert "distill-studio advise answers.yaml" in reckoning


def test_what_is_not_known_is_asked_for() -> None:
    asked = advice_drawn.card(told(teacher__good_at_task="unknown"), titles(QUESTIONS))
    assert "low confidence" in asked
    assert "To be surer, answer:</b> Is it good at this task" in asked
    assert "To be surer" not in advice_drawn.card(told(), titles(QUESTIONS))


def test_an_impossible_answer_is_told_in_the_card_and_closes_the_button() -> None:
    card, _, use, *_ = handlers.recommend(FIELDS, False, *values(data__labelled_rows=-3))[1:]
    assert "data.labelled_rows" in card
    assert "at least 0" in card
    assert use["interactive"] is False


def test_what_a_user_types_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    parts = handlers.recommend(
        FIELDS, False, *values(teacher__license=evil, teacher__name=evil, data__source=evil)
    )
    for part in parts[1:]:
        assert "<img" not in str(part)
    told_of = told(teacher__license=evil)
    html = advice_drawn.card(
        {**told_of, "warnings": [{**told_of["warnings"][0], "sentence": evil}]}, {}
    )
    assert "<img" not in html


def test_nothing_to_train_says_what_to_do_instead() -> None:
    asked = values(data__labelled_rows=0, data__held_out_rows=0)
    _, card, _, use, outlook, _ = handlers.recommend(FIELDS, False, *asked)
    assert "Collect test rows first" in card
    assert "<ol>" in card
    assert use == gr.update(interactive=False, value="Nothing to train yet")
    assert "Nothing is trained" in outlook


# --- licence and recipe -----------------------------------------------------------------------


def test_a_licence_with_conditions_must_be_confirmed_before_the_recipe_is_used() -> None:
    llama = values(teacher__license="llama")
    _, _, confirm, use, outlook, _ = handlers.recommend(FIELDS, False, *llama)
    assert confirm["visible"] is True
    assert use["interactive"] is False
    assert "must begin with" in outlook
    assert handlers.confirmed(FIELDS, True, *llama)["interactive"] is True
    assert handlers.confirmed(FIELDS, "yes", *llama)["interactive"] is False
    recipe, tabs, said = handlers.use_recipe(FIELDS, False, *llama)
    assert recipe == tabs == gr.skip()
    assert "tick the box" in said
    assert handlers.use_recipe(FIELDS, True, *llama)[2] == ""


def test_using_the_recipe_hands_it_to_build_and_opens_build() -> None:
    recipe, tabs, said = handlers.use_recipe(FIELDS, False, *values())
    assert api.load_recipe(recipe) == api.load_recipe("pocket_student")
    assert tabs.selected == "build"
    assert said == ""


def test_without_a_recipe_nothing_is_handed_over() -> None:
    asked = values(data__labelled_rows=0, data__held_out_rows=0)
    recipe, _, said = handlers.use_recipe(FIELDS, True, *asked)
    assert recipe == gr.skip()
    assert "no recipe" in said
    assert "cannot be used" in handlers.use_recipe(FIELDS, True, *values(data__labelled_rows=-1))[2]


# --- fields that follow others ----------------------------------------------------------------


def test_without_a_teacher_its_questions_are_hidden() -> None:
    assert {update["visible"] for update in handlers.teacher_exists("no")} == {False}
    assert {update["visible"] for update in handlers.teacher_exists("unknown")} == {True}
    assert len(handlers.teacher_exists("yes")) == len(TEACHER_FIELDS)


MODELS = [
    {"name": "pocket-teacher", "parameters": 1_642_720, "license": "apache-2.0"},
    {"name": "smollm2-135m-instruct", "parameters": 134_515_008, "license": None},
]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "models", lambda: MODELS)


@pytest.mark.usefixtures("models")
def test_a_model_of_this_machine_fills_in_its_facts() -> None:
    size, licence, score = handlers.teacher_named("pocket-teacher")
    assert (size, licence) == (1.6427, "apache-2.0")
    assert score == pytest.approx(100 * told_score())
    assert handlers.teacher_named("smollm2-135m-instruct") == (134.515, "unknown", None)
    assert handlers.teacher_named("org/other") == (gr.skip(), gr.skip(), None)


def told_score() -> float:
    (question,) = [q for q in QUESTIONS if q["field"] == "teacher.held_out_score"]
    return float(question["default"])


def test_the_starter_fills_in_its_counts() -> None:
    own = [q for q in QUESTIONS if q["field"] in COUNT_FIELDS]
    assert handlers.source_named(own, "starter") == [500, "mixed", 20_000, 1_000]
    assert handlers.source_named(own, "rows.jsonl") == [gr.skip()] * 4


def test_the_machine_answers_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"device": "cuda", "dtype": "bf16", "device_memory_total_bytes": 24 * 2**30}
    monkeypatch.setattr(api, "machine", lambda: {"name": "GPU", **facts})
    fields = ["machine.device", "machine.memory_gib", "machine.fast_bf16"]
    assert handlers.restore_machine(fields, {}) == ["cuda", 24, "yes"]
    kept = {"machine.device": "cpu", "machine.memory_gib": "unknown"}
    assert handlers.restore_machine(fields, kept) == ["cpu", 24, "yes"]


# --- roads and picture ------------------------------------------------------------------------

FORECAST = {"time_s": [120.0, 240.0], "total_memory_bytes": 600 * 2**20, "fits": True}


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch, models: None) -> list[Any]:
    asked: list[Any] = []

    def estimate(recipe: Any) -> dict[str, Any]:
        asked.append(recipe)
        return FORECAST

    monkeypatch.setattr(api, "estimate", estimate)
    sized = {"parameters": 201_360, "size_ratio": 8.16}
    monkeypatch.setattr(api, "student_facts", lambda teacher, student: sized)
    return asked


def test_two_roads_are_told_with_the_users_numbers(tmp_path: Path, forecasts: list[Any]) -> None:
    html, _ = handlers.forecast(str(tmp_path), FIELDS, *values())
    assert len(forecasts) == 2
    assert html.count("2 min to 4 min") == 2
    assert "a student of 0.201 M parameters, 8.16 × smaller" in html
    assert "probabilities on 20,000 rows" in html
    assert "500 labels, some of them wrong" in html
    assert html.index("Distill") < html.index("advised") < html.index("Fine-tune")


def test_a_road_that_is_closed_says_why(tmp_path: Path, forecasts: list[Any]) -> None:
    html, _ = handlers.forecast(str(tmp_path), FIELDS, *values(teacher__exists="no"))
    assert "Ruled out because" in html
    assert "There is no teacher." in html


def test_no_forecast_asks_the_network(tmp_path: Path, forecasts: list[Any]) -> None:
    for changes in (
        {"teacher__name": "org/big", "data__source": "org/rows"},
        {"teacher__name": "org/big"},
        {"data__source": "org/rows"},
    ):
        html, _ = handlers.forecast(str(tmp_path), FIELDS, *values(**changes))
        assert "<td>–</td>" in html
    assert all(recipe.data.sources[0].kind == "starter" for recipe in forecasts)
    assert all(
        recipe.stages[0].kind == "fine_tune" or "/" not in recipe.stages[0].teacher
        for recipe in forecasts
    )


def test_a_forecast_that_fails_leaves_a_dash(
    tmp_path: Path, forecasts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise api.DistillError("no such model")

    monkeypatch.setattr(api, "estimate", fails)
    monkeypatch.setattr(api, "student_facts", fails)
    html, figure = handlers.forecast(str(tmp_path), FIELDS, *values())
    assert "a student of up to 0.21 M" in html
    assert figure["data"]


def test_too_much_memory_is_said() -> None:
    words = advice_drawn.forecast_words({**FORECAST, "fits": False})
    assert words == {"time": "2 min to 4 min", "memory": "600 MiB, more than there is"}


def test_the_picture_holds_studies_plan_and_own_runs() -> None:
    runs = [
        {"name": "mine", "summary": {"retention": 0.97, "size_ratio": 8.2}},
        {"name": "early", "summary": {}},
        {"name": "odd", "summary": {"retention": "high", "size_ratio": 0}},
    ]
    figure = advice_figure.figure(told(), runs, 8.16)
    studies, teacher, plan, mine = figure["data"]
    assert studies["text"] == ["DistilBERT", "MiniLM", "TinyBERT"]
    assert studies["y"] == pytest.approx([0.97, 0.995, 0.968])
    assert (teacher["x"], teacher["y"]) == ([1], [1])
    assert (plan["x"], plan["y"]) == ([8.16, 8.16], [0.80, 0.968])
    assert (mine["x"], mine["y"], mine["text"]) == ([8.2], [0.97], ["mine"])
    (band,) = figure["layout"]["shapes"]
    assert (band["x0"], band["x1"], band["y0"], band["y1"]) == (5, 10, 0.80, 0.95)


def test_where_nothing_is_published_the_plan_is_not_drawn() -> None:
    assert len(advice_figure.figure(told(), [], None)["data"]) == 2
    far = told(student__max_parameters=0.02)
    assert len(advice_figure.figure(far, [], 82.0)["data"]) == 2


# --- layout -----------------------------------------------------------------------------------


def test_every_question_has_a_labelled_field_with_help(tmp_path: Path) -> None:
    demo = layout.build(str(tmp_path))
    made = {
        block.elem_id: block
        for block in demo.blocks.values()
        if str(getattr(block, "elem_id", "") or "").startswith("ds-ask-")
    }
    for question in QUESTIONS:
        field = made[f"ds-ask-{question['field'].replace('.', '-')}"]
        assert field.label == label_text(question)
        assert field.info == question["help"]
    assert tab_advisor.INTRO.keys() >= {question["step"] for question in QUESTIONS}


def test_steps_open_by_number() -> None:
    assert handlers.open_step(3).selected == 3
