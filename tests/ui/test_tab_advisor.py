"""Advisor: answers in and out of the form, the card, the two roads, the picture, the recipe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import yaml

from distill_core import api, device
from ui import layout, tab_advisor
from ui.advising import advice_drawn, advice_fields, advice_figure, roads_drawn
from ui.advising import advice_handlers as handlers
from ui.advising.advice_answers import (
    NAMING,
    answered_by,
    flat_answers,
    form_values,
    label_text,
    step_marks,
    titles,
    yaml_text,
)

QUESTIONS = api.advisor_questions(here=False)
STEPS = list(dict.fromkeys(question["step"] for question in QUESTIONS))
NO_RUNS = "/nowhere/at/all"
FIELDS = [question["field"] for question in QUESTIONS]


def values(**changes: Any) -> list[Any]:
    """The form as it opens, with some fields changed; `__` stands for the dot."""
    form = dict(zip(FIELDS, form_values(QUESTIONS, {}), strict=True))
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    assert set(changed) <= set(form)
    return list({**form, **changed}.values())


def recommend(*form: Any, agreed: object = False) -> tuple[Any, ...]:
    """Card and what belongs to it; the steps' labels come last."""
    return handlers.recommend(QUESTIONS, NO_RUNS, agreed, *form)


def told(**changes: Any) -> dict[str, Any]:
    return api.advise(flat_answers(QUESTIONS, tuple(values(**changes))), runs_dir=NO_RUNS)


# --- answers ----------------------------------------------------------------------------------


def test_the_form_opens_with_the_defaults_in_units_that_people_use() -> None:
    form = dict(zip(FIELDS, form_values(QUESTIONS, {}), strict=True))
    defaults = {q["field"]: q["default"] for q in QUESTIONS}
    assert form["student.max_parameters"] == pytest.approx(0.21)
    assert form["teacher.parameters"] == pytest.approx(defaults["teacher.parameters"] / 1e6)
    assert form["student.latency_ms"] is None
    answers = flat_answers(QUESTIONS, tuple(form.values()))
    assert answers == pytest.approx(defaults)


def test_an_empty_field_is_unknown() -> None:
    answers = flat_answers(QUESTIONS, tuple(None for _ in FIELDS))
    assert set(answers.values()) == {"unknown"}
    some = [one for one in QUESTIONS if one["field"] in {"goal", "data.labelled_rows"}]
    assert flat_answers(some, (" ", float("nan"))) == {
        "goal": "unknown",
        "data.labelled_rows": "unknown",
    }


def test_a_draft_comes_back_as_it_was() -> None:
    draft = flat_answers(
        QUESTIONS, tuple(values(goal="style", data__labelled_rows=77, teacher__parameters=7000))
    )
    form = dict(zip(FIELDS, form_values(QUESTIONS, draft), strict=True))
    assert (form["goal"], form["data.labelled_rows"], form["teacher.parameters"]) == (
        "style",
        77,
        7000,
    )
    assert flat_answers(QUESTIONS, tuple(form.values())) == draft


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
    answers = flat_answers(QUESTIONS, tuple(values()))
    advice = api.advise(answers)
    text = yaml_text(advice["answers"])
    assert text.startswith("goal: smaller_faster\ntask: extraction\ndata: {labelled_rows: 500")
    document = yaml.safe_load(text)
    assert document["teacher"]["exists"] is True
    assert document["teacher"]["held_out_score"] == pytest.approx(told_score(), abs=1e-9)
    assert "latency_ms" not in document["student"]
    again = api.advise(document)
    assert {**again, "filled": []} == {**advice, "filled": []}


# --- the card ---------------------------------------------------------------------------------


def test_the_card_says_what_why_how_sure_and_what_else() -> None:
    _, card, confirm, use, outlook, reckoning, _, _, *labels = recommend(*values())
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
    assert "by the answers of the built-in example; change what differs" in card
    assert not any("✓" in label.label for label in labels), "nobody has answered anything"


def test_what_says_i_dont_know_is_not_counted_and_ticks_follow_answers() -> None:
    _, card, _, _, _, _, _, _, *labels = recommend(*values(constraints__calls_per_month=5000))
    ticked = [f"{place} {step} ✓" for place, step in enumerate(STEPS, start=1)]
    assert [label.label for label in labels] == [*ticked[:-1], "6 Training"], "not read here"
    open_here = [field for field, value in zip(FIELDS, values(), strict=True) if value in BLANK]
    hidden = 1  # which small model, where none is published
    asked = len(FIELDS) - hidden
    assert f"Recommended, {asked - len(open_here) + hidden} of {asked} questions" in card


BLANK = (None, "", "unknown")


def test_the_form_can_start_empty_and_the_example_comes_back() -> None:
    empty = handlers.start_empty(QUESTIONS)
    by_field = dict(zip(FIELDS, empty, strict=True))
    machine = {field for field in FIELDS if field.startswith("machine.")}
    assert {field for field in FIELDS if by_field[field] == gr.skip()} == machine
    given = [None if value == gr.skip() else value for value in empty]
    assert set(flat_answers(QUESTIONS, tuple(given)).values()) == {"unknown"}
    assert f"Leaning, 0 of {len(FIELDS)} questions" in recommend(*given)[1]
    example = handlers.fill_example(QUESTIONS)
    assert example[0] == "smaller_faster"


def test_what_is_not_known_is_asked_for() -> None:
    asked = advice_drawn.card(told(teacher__good_at_task="unknown"), titles(QUESTIONS))
    assert "low confidence" in asked
    assert "To be surer, answer:</b> Is it good at this task" in asked
    assert "To be surer" not in advice_drawn.card(told(), titles(QUESTIONS))


def test_an_impossible_answer_is_told_in_the_card_and_closes_the_button() -> None:
    card, _, use, outlook, *_ = recommend(*values(data__labelled_rows=-3))[1:]
    assert "Labelled rows: Use a number of at least 0, or leave it empty." in card
    assert "It counts as open" in card
    assert "<h2" in card, "the rest is answered all the same"
    assert "What to expect" in outlook
    assert use["interactive"] is False


def test_a_field_says_itself_what_is_wrong_and_takes_it_back() -> None:
    by_field = {question["field"]: question for question in QUESTIONS}
    rows, score = by_field["data.labelled_rows"], by_field["teacher.held_out_score"]
    said = handlers.checked(rows, -5)["info"]
    assert said == "⚠ -5 cannot be. Use a number of at least 0, or leave it empty."
    assert handlers.checked(rows, 5)["info"] == rows["help"]
    assert "from 0 to 100" in handlers.checked(score, 140)["info"]
    assert handlers.checked(score, None)["info"] == score["help"]
    with gr.Blocks():
        (number,) = advice_fields.fields([rows])
    assert number.preprocess(-5) == -5, "refused, it would leave every panel as it was"


def test_what_a_user_types_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    parts = recommend(*values(teacher__license=evil, teacher__name=evil, data__source=evil))
    for part in parts[1:]:
        assert "<img" not in str(part)
    told_of = told(teacher__license=evil)
    html = advice_drawn.card(
        {**told_of, "warnings": [{**told_of["warnings"][0], "sentence": evil}]}, {}
    )
    assert "<img" not in html


def test_nothing_to_train_says_what_to_do_instead() -> None:
    asked = values(data__labelled_rows=0, data__held_out_rows=0)
    _, card, _, use, outlook, *_ = recommend(*asked)
    assert "Collect test rows first" in card
    assert "<ol>" in card
    assert use == gr.update(interactive=False, value="Nothing to train yet")
    assert "Nothing is trained" in outlook


# --- licence and recipe -----------------------------------------------------------------------


def test_a_licence_with_conditions_must_be_confirmed_before_the_recipe_is_used() -> None:
    llama = values(teacher__license="llama")
    _, _, confirm, use, outlook, *_ = recommend(*llama)
    assert confirm["visible"] is True
    assert use["interactive"] is False
    assert "must begin with" in outlook
    assert handlers.confirmed(QUESTIONS, NO_RUNS, True, *llama)["interactive"] is True
    assert handlers.confirmed(QUESTIONS, NO_RUNS, "yes", *llama)["interactive"] is False
    recipe, tabs, said = handlers.use_recipe(QUESTIONS, NO_RUNS, False, *llama)
    assert recipe == tabs == gr.skip()
    assert "tick the box" in said
    assert handlers.use_recipe(QUESTIONS, NO_RUNS, True, *llama)[2] == ""


def test_using_the_recipe_hands_it_to_build_and_opens_build() -> None:
    recipe, tabs, said = handlers.use_recipe(QUESTIONS, NO_RUNS, False, *values())
    assert api.load_recipe(recipe) == api.load_recipe("pocket_student")
    assert tabs.selected == "build"
    assert said == ""


def test_without_a_recipe_nothing_is_handed_over() -> None:
    asked = values(data__labelled_rows=0, data__held_out_rows=0)
    recipe, _, said = handlers.use_recipe(QUESTIONS, NO_RUNS, True, *asked)
    assert recipe == gr.skip()
    assert "no recipe" in said
    assert (
        "cannot be used"
        in handlers.use_recipe(QUESTIONS, NO_RUNS, True, *values(data__labelled_rows=-1))[2]
    )


# --- fields that follow others ----------------------------------------------------------------


WITH_CONDITION = [question["field"] for question in QUESTIONS if question["when"]]


def visible(**changes: Any) -> dict[str, bool]:
    *fields, note = handlers.shown(QUESTIONS, *values(**changes))
    found = {field: update["visible"] for field, update in zip(WITH_CONDITION, fields, strict=True)}
    return {**found, "no teacher": note["visible"]}


def test_questions_that_do_not_matter_are_hidden() -> None:
    assert visible()["teacher.name"]
    assert not visible()["no teacher"]
    without = visible(teacher__exists="no")
    assert {name for name, seen in without.items() if not seen} >= {
        *("teacher.name", "teacher.access", "teacher.license", "teacher.held_out_score"),
    }
    assert without["no teacher"]
    assert visible(teacher__exists="unknown")["teacher.name"]
    assert not visible(student__published_checkpoint="no")["student.name"]
    assert visible(student__published_checkpoint="yes")["student.name"]
    assert not visible(machine__device="cuda")["machine.fast_bf16"]


def filled(named: str, **changes: Any) -> tuple[dict[str, Any], str]:
    """Updates by field after something was named, and the note."""
    *updates, note = handlers.fill(QUESTIONS, named, *values(**changes))
    fields = [question["field"] for question in answered_by(QUESTIONS, named)]
    return dict(zip(fields, updates, strict=True)), note


def test_a_file_is_counted_and_what_it_does_not_say_is_forgotten(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "response": "a"} for n in range(70)] + [{"prompt": "q"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, note = filled("data.source", data__source=str(path), student__device_memory_gib=3)
    assert found["data.labelled_rows"]["value"] == 70
    assert found["data.labelled_rows"]["info"].endswith("Read from rows.jsonl.")
    assert found["data.unlabelled_rows"]["value"] == 1
    assert found["data.held_out_rows"]["value"] is None, "the starter's 1,000 are not its rows'"
    assert found["data.label_quality"]["value"] == "unknown"
    assert found["teacher.held_out_score"]["value"] is None, "measured on other rows"
    assert found["teacher.good_at_task"]["value"] == "unknown"
    assert found["student.max_parameters"]["value"] is None, "the starter's"
    assert found["student.device_memory_gib"] == gr.skip(), "the user's own"
    assert note == ""
    back, _ = filled("data.source", data__source="starter", data__labelled_rows=70)
    assert back["data.labelled_rows"]["value"] == 500
    assert back["data.held_out_rows"]["value"] == 1000


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"colour": "<red>"}\n')
    found, note = filled("data.source", data__source=str(path))
    assert found["data.labelled_rows"]["value"] is None
    assert "no column has a name that says prompt" in note
    assert "<red>" not in note


def test_test_rows_are_counted_beside_the_others(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("test", 9)):
        rows = [json.dumps({"prompt": f"{name}{n}", "response": "a"}) for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    files = {
        "data__source": str(tmp_path / "train.jsonl"),
        "data__held_out_source": str(tmp_path / "test.jsonl"),
    }
    found, _ = filled("data.held_out_source", **files)
    assert found["data.held_out_rows"]["value"] == 9


def test_a_teacher_of_this_machine_fills_in_its_facts() -> None:
    found, note = filled("teacher.name", teacher__name="smollm2-135m-instruct")
    assert found["teacher.parameters"]["value"] == 134.515008
    assert found["teacher.parameters"]["info"].endswith("Read from smollm2-135m-instruct.")
    assert found["teacher.license"]["value"] == "apache-2.0"
    assert found["teacher.access"]["value"] == "weights"
    assert found["teacher.held_out_score"]["value"] is None
    assert note == ""
    back, _ = filled("teacher.name", teacher__name="pocket-teacher", teacher__parameters=7)
    assert back["teacher.held_out_score"]["value"] == pytest.approx(100 * told_score())


def test_a_small_model_says_its_size_and_tokenizer() -> None:
    chosen = {"student__name": "pocket-teacher", "student__published_checkpoint": "yes"}
    found, _ = filled("student.name", teacher__name="pocket-teacher", **chosen)
    assert found["student.max_parameters"]["value"] == pytest.approx(1.64272)
    assert found["teacher.same_tokenizer"]["value"] == "yes"


def test_whatever_is_named_the_fields_that_follow_are_in_the_form() -> None:
    for named in NAMING:
        assert answered_by(QUESTIONS, named)


def told_score() -> float:
    (question,) = [q for q in QUESTIONS if q["field"] == "teacher.held_out_score"]
    return float(question["default"])


def test_a_step_is_ticked_when_nothing_that_is_asked_there_is_open() -> None:
    def marks(**changes: Any) -> dict[str, bool]:
        return step_marks(QUESTIONS, flat_answers(QUESTIONS, tuple(values(**changes))))

    machine = {"machine__device": "cpu", "machine__memory_gib": 8, "machine__fast_bf16": "no"}
    assert set(marks(**machine).values()) == {True}
    assert not marks()["Training"]
    assert not marks(teacher__good_at_task="unknown")["Teacher"]
    assert marks(teacher__held_out_score=None)["Teacher"], "not everybody has measured it"
    closed = {"teacher__exists": "no", "teacher__good_at_task": "unknown"}
    assert marks(**closed)["Teacher"], "not asked without a teacher"
    labels = handlers.step_labels(QUESTIONS, flat_answers(QUESTIONS, tuple(values(goal="unknown"))))
    assert (labels[0].label, labels[1].label) == ("1 Goal", "2 Teacher ✓")


def test_the_machine_answers_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"device": "cuda", "dtype": "bf16", "device_memory_total_bytes": 24 * 2**30}
    monkeypatch.setattr(device, "facts", lambda: {"name": "GPU", **facts})
    fields = ["machine.device", "machine.memory_gib", "machine.fast_bf16"]

    def shown(kept: dict[str, str]) -> list[Any]:
        return [update["value"] for update in handlers.restore_machine(fields, kept)]

    assert shown({}) == ["cuda", 24, "yes"]
    assert shown({"machine.device": "cpu", "machine.memory_gib": "unknown"}) == ["cpu", 24, "yes"]
    assert "this machine" in handlers.restore_machine(fields, {})[0]["info"]


# --- roads and picture ------------------------------------------------------------------------

ROADS = ("teacher", "labels")
FORECAST = {"time_s": [120.0, 240.0], "total_memory_bytes": 600 * 2**20, "fits": True}


MODELS = [
    {"name": "pocket-teacher", "parameters": 1_642_720, "license": "apache-2.0"},
    {"name": "smollm2-135m-instruct", "parameters": 134_515_008, "license": None},
]


@pytest.fixture
def forecasts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def estimate(recipe: Any) -> dict[str, Any]:
        asked.append(recipe)
        return FORECAST

    monkeypatch.setattr(api, "models", lambda: MODELS)
    monkeypatch.setattr(api, "estimate", estimate)
    return asked


def test_two_roads_are_told_with_the_users_numbers(tmp_path: Path, forecasts: list[Any]) -> None:
    html, _ = handlers.forecast(QUESTIONS, str(tmp_path), *values())
    assert len(forecasts) == 2
    assert html.count("2–4 min here") == 2
    assert html.count("a student of 0.188 M parameters, 8.75 × smaller") == 2
    assert "probabilities on 20,000 rows" in html
    assert "500 labels, some of them wrong" in html
    assert html.index("Distill") < html.index("✓</span> advised") < html.index("Fine-tune")
    teacher, student, alone = re.findall(r"--side:(\d+)px", html)
    drawn, real = (int(teacher) / int(student)) ** 2, 8.75
    assert drawn == pytest.approx(real, rel=0.1), "areas go with parameters"
    assert student == alone, "the same student is drawn as large on both roads"
    assert "width:2.5%" in html, "500 of 20,000 rows"
    assert "margin-left:80.0%;width:16.8%" in html, "80 to 96.8 % kept"
    assert "the compute of fine-tuning" in html


def test_a_road_that_is_closed_says_why(tmp_path: Path, forecasts: list[Any]) -> None:
    html, _ = handlers.forecast(QUESTIONS, str(tmp_path), *values(teacher__exists="no"))
    assert "ruled out: There is no teacher" in html
    assert "advised" in html[html.index("With labels alone: ") :]


def test_no_forecast_asks_the_network(tmp_path: Path, forecasts: list[Any]) -> None:
    for changes in (
        {"teacher__name": "org/big", "data__source": "org/rows"},
        {"teacher__name": "org/big"},
        {"data__source": "org/rows"},
    ):
        html, _ = handlers.forecast(QUESTIONS, str(tmp_path), *values(**changes))
        assert "4 min here" not in html[: html.index("With labels alone")]
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
    html, outlook = handlers.forecast(QUESTIONS, str(tmp_path), *values())
    assert "by arithmetic" in html
    assert "What to expect" in outlook


def test_no_panel_shows_what_belonged_to_other_answers() -> None:
    parts = recommend(*values(data__label_quality="clean", data__labelled_rows=50_000))
    outlook, html = parts[4], parts[6]
    assert "some of them wrong" not in html
    assert "50,000 labels" in html
    assert html.count("working out time and memory …") == 2
    assert outlook.count("working it out …") == 2
    assert "MiB" not in outlook, "no forecast of other answers"


def test_one_size_stands_in_all_panels(tmp_path: Path, forecasts: list[Any]) -> None:
    _, _, _, _, outlook, _, html, picture, *_ = recommend(*values())
    assert "8.75 × smaller" in outlook
    assert "B second-hand" in recommend(*values())[1], "the letters are explained where they stand"
    assert "for a student of 0.188 M parameters" in outlook
    assert "8.75 × smaller" in html
    assert "yours: 8.75 ×" in str(picture)
    assert "7.82" not in f"{outlook}{html}"


def test_without_a_teacher_nothing_is_compared_with_one() -> None:
    _, _, _, _, outlook, _, html, picture, *_ = recommend(*values(teacher__exists="no"))
    labels = html[html.index("With labels alone: ") :]
    assert "smaller" not in labels
    assert "faster" not in f"{labels}{outlook}"
    assert "teacher" not in [trace.get("text", [""])[0] for trace in picture["data"]]
    assert not visible(teacher__exists="no")["teacher.serves_several_students"]


def test_where_size_does_not_matter_it_does_not_lead() -> None:
    _, _, _, _, outlook, _, html, *_ = recommend(*values(goal="better_at_task"))
    assert "smaller" not in html
    assert outlook.index("Time") < outlook.index("Speed")


def test_too_much_memory_is_said() -> None:
    html = roads_drawn.roads(told(), {road: {**FORECAST, "fits": False} for road in ROADS})
    assert "600 MiB of memory, more than there is" in html


def test_what_is_not_known_is_drawn_as_unknown_and_what_is_typed_is_escaped() -> None:
    advice = told(
        teacher__name=None,
        teacher__parameters=None,
        data__source=None,
        data__unlabelled_rows=None,
        student__max_parameters=None,
    )
    html = roads_drawn.roads(advice, dict.fromkeys(ROADS))
    assert "a student." in html
    assert "ds-square-teacher ds-unknown" in html
    assert "probabilities on unlabelled rows" in html
    assert "quality: no evidence" in html
    labelled = told(data__unlabelled_rows=0)
    html = roads_drawn.roads(labelled, dict.fromkeys(ROADS))
    assert "probabilities on the labelled rows" in html


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"low": 80, "high": 96.8, "unit": "%"}, "80–96.8 %"),
        ({"low": 2, "high": 2, "unit": "×"}, "2 ×"),
        ({"low": 60, "high": 7200, "unit": "s"}, "1 min – 2 h"),
        ({"low": 86400 * 9, "high": 86400 * 2000, "unit": "s"}, "9–2,000 days"),
        ({"low": 2**30, "high": 2**31, "unit": "bytes"}, "1 GiB to 2 GiB"),
    ],
)
def test_ranges_are_written_in_their_unit(entry: dict[str, Any], words: str) -> None:
    assert roads_drawn.span_text(entry) == words


# --- why not the other, own runs --------------------------------------------------------------


def test_why_not_the_other_says_what_speaks_for_and_against_it_and_what_turns() -> None:
    card = advice_drawn.card(told(), titles(QUESTIONS))
    why = card[card.index("<details") : card.index("</details>")]
    assert "Why not fine-tune?" in why
    assert why.index("Against it") < why.index("Few labels, many unlabelled rows.")
    assert why.index("For it") < why.index("Enough labels for first gains.")
    assert "It would win with 5,000 clean labels instead of 500." in why
    assert "57.0 % ✓" in why
    closed = advice_drawn.card(told(teacher__exists="no"), titles(QUESTIONS))
    assert "There is no teacher." in closed[closed.index("<details") :]


OWN = {
    **{"run": "r", "name": "my <trial>", "road": "teacher", "metric": "exact_match", "score": 0.9},
    **{"retention": 0.93, "size_ratio": 8.0, "speedup": 4.0, "seconds": 60, "winner": None},
    **{"words": "", "not_counted": ""},
}


def test_own_runs_are_named_in_the_card_and_stand_before_studies() -> None:
    advice = told()
    assert "Your runs on these rows" not in advice_drawn.card(advice, {})
    card = advice_drawn.card({**advice, "past_runs": [OWN] * 5}, {})
    assert "<b>my &lt;trial&gt;</b>: distilled, 93.0 % of the teacher&#x27;s score kept" in card
    assert "and 2 more in Runs" in card
    short = OWN | {"not_counted": "a short trial, not counted: 9 steps against 2,000"}
    card = advice_drawn.card({**advice, "past_runs": [short, OWN]}, {})
    assert "trial&gt;</b>: a short trial, not counted: 9 steps against 2,000" in card
    assert card.index("distilled, 93.0 %") < card.index("a short trial")
    published = advice["expected"]["retention"]
    own = {"low": 93, "high": 93, "unit": "%", "what": "measured in your run: trial"}
    own |= {"source": "Your own runs", "url": "", "strength": "M", "published": published}
    expected = {**advice["expected"], "retention": own}
    outlook = advice_drawn.outlook({**advice, "expected": expected})
    assert "93 % of the teacher&#x27;s score" in outlook
    assert "Published: 80–96.8 %" in outlook
    assert 'title="measured in your own runs"' in outlook


def test_the_picture_holds_studies_plan_and_own_runs() -> None:
    mine = OWN | {"name": "mine", "retention": 0.97, "size_ratio": 8.2}
    odd = OWN | {"retention": "high", "size_ratio": 0}
    trial = mine | {"not_counted": "a short trial"}
    figure = advice_figure.figure({**told(), "past_runs": [mine, odd, trial]})
    studies, teacher, plan, own = figure["data"]
    assert studies["text"] == ["DistilBERT", "MiniLM", "TinyBERT"]
    assert studies["y"] == pytest.approx([0.97, 0.995, 0.968])
    assert (teacher["x"], teacher["y"]) == ([1], [1])
    assert (plan["x"], plan["y"]) == (pytest.approx([8.745, 8.745], abs=0.001), [0.80, 0.968])
    assert (own["x"], own["y"], own["text"]) == ([8.2], [0.97], ["mine"])
    (band,) = figure["layout"]["shapes"]
    assert (band["x0"], band["x1"], band["y0"], band["y1"]) == (5, 10, 0.80, 0.95)


def test_where_nothing_is_published_the_plan_is_not_drawn() -> None:
    far = told(student__max_parameters=0.02)
    assert len(advice_figure.figure(far)["data"]) == 2


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
