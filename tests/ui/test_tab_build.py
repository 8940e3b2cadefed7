"""Build: edits of the recipe, problems at their fields, what is shown, uploads, Start."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import threading
import types
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.context import LocalContext

from distill_core import api
from distill_core.errors import DataError
from ui import form, text
from ui.building import (
    data_view,
    draft,
    edits,
    loss_edits,
    measuring,
    models_drawn,
    pair_edits,
    relaid,
    review,
    row_drawn,
    student_parts,
    summary,
    task_edits,
)
from ui.building import desk as desks

SCHEMA = api.recipe_schema()
TEACHER = {"parameters": 1_600_000, "bytes": 6_400_000, "layers": 5, "hidden_size": 160}
STUDENT = {"parameters": 160_000, "bytes": 640_000, "layers": 2, "hidden_size": 80}


@pytest.fixture
def desk() -> desks.Desk:
    made = desks.new()
    desks.lay(made, desks.default_text())
    return made


@pytest.fixture
def sized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, check and forecast without reading a model or a row."""
    facts = {**TEACHER, "title": "Pocket teacher", "license": "apache-2.0", "offline": True}
    facts |= {"tasks": ["causal_lm"], "labels": []}
    monkeypatch.setattr(api, "models", lambda: [{**facts, "name": "pocket-teacher"}])
    monkeypatch.setattr(api, "model_facts", lambda name: facts)
    monkeypatch.setattr(api, "student_facts", lambda teacher, student, data=None, task="": STUDENT)
    monkeypatch.setattr(api, "check", lambda recipe: [])
    monkeypatch.setattr(api, "estimate", lambda recipe: FORECAST)
    monkeypatch.setattr(api, "preview", lambda recipe, *, index=0: PREVIEW)


FORECAST = {
    "memory_bytes": {"teacher": 2**20, "student": 2**20, "context": 2**29},
    "total_memory_bytes": 2**29 + 2**21,
    "available_memory_bytes": 2**33,
    "fits": True,
    "time_s": [120.0, 300.0],
    "time_basis": "formula",
    "time_parts": ["the teacher's answers", "1,200 steps", "baseline 1,200 steps", "scoring"],
    "steps": 1200,
    "download_bytes": 0,
    "disk_bytes": 2**22,
}
PREVIEW = {
    "facts": {
        "sources": [
            {"title": "a<b", "rows": 2, "columns": {"prompt": "question"}, "guessed": True}
        ],
        "rows": 2,
        "labelled": 1,
        "unlabelled": 1,
        "held_out": 3,
        "overlap": 1,
        "duplicates": 0,
    },
    "index": 1,
    "rows": 2,
    "origin": "rows.jsonl:12",
    "labelled": False,
    "truncated": True,
    "tokens": [
        {"text": "<user>", "supervised": False},
        {"text": "\n<b>on</b>", "supervised": True},
    ],
    "supervised_tokens": 1,
}


def setting(group: str, key: str) -> form.Setting:
    node = form.find(SCHEMA, group) if group else SCHEMA
    return next(item for item in form.settings(SCHEMA, node, group) if item.key == key)


def now(desk: desks.Desk) -> dict[str, Any]:
    return draft.read(desks.current(desk))


def at_fields(card: str) -> list[dict[str, str]]:
    found = re.search(r'data-problems="([^"]*)"', card)
    assert found
    return json.loads(unescape(found.group(1)))


# --- edits ------------------------------------------------------------------------------------


def test_an_edit_that_changes_nothing_keeps_the_comments(desk: desks.Desk) -> None:
    edits.edit_name("pocket-student", "", desk)
    assert desks.current(desk) == desks.default_text()
    assert "#" in desks.current(desk)


def test_an_edit_is_written_into_the_yaml(desk: desks.Desk) -> None:
    text = edits.edit(setting("", "seed"), 7, "", desk)
    assert text == desks.current(desk)
    assert api.load_recipe(text).seed == 7


def test_a_wrong_value_is_kept_and_named_at_its_field(desk: desks.Desk) -> None:
    edits.edit(setting("data", "max_seq_len"), 3, "", desk)
    assert now(desk)["data"]["max_seq_len"] == 3
    problems, forecast = review.review(desk)
    assert [problem.field for problem in problems] == ["data.max_seq_len"]
    assert forecast is None


def test_an_emptied_optional_setting_is_taken_out(desk: desks.Desk) -> None:
    rows = setting("evaluation", "every_steps")
    edits.edit(rows, "50", "", desk)
    assert now(desk)["evaluation"]["every_steps"] == 50
    edits.edit(rows, "", "", desk)
    assert "every_steps" not in now(desk)["evaluation"]


def test_edits_of_two_fields_at_once_are_both_kept(desk: desks.Desk) -> None:
    wanted = {f"key{number}": number for number in range(24)}
    barrier = threading.Barrier(len(wanted))

    def write(key: str, value: int) -> None:
        barrier.wait()
        edits.edit(form.Setting(f"evaluation.{key}", key, "", "number"), value, "stale", desk)

    threads = [threading.Thread(target=write, args=item) for item in wanted.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wanted.items() <= now(desk)["evaluation"].items()


def test_an_empty_desk_goes_on_from_the_browsers_recipe() -> None:
    stored = desks.default_text().replace("pocket-student", "from-browser")
    text = edits.edit(setting("", "seed"), 7, stored, desks.new())
    assert api.load_recipe(text).name == "from-browser"


def test_yaml_that_cannot_be_read_is_never_overwritten(
    desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(gr, "Warning", warned.append)
    text, version = edits.edit_yaml("a: [1", "", desk, 4)
    assert text == "a: [1"
    assert version == gr.skip()
    assert edits.edit(setting("", "seed"), 7, "", desk) == gr.skip()
    assert desks.current(desk) == "a: [1"
    assert "Mend it there first" in warned[0]
    problems, _ = review.review(desk)
    assert "not valid YAML" in problems[0].message


def test_what_is_typed_in_the_yaml_box_is_left_alone(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gr, "Warning", lambda words: None)
    assert review.show(desk)[2] == desks.default_text()
    edits.edit_yaml("name: [x", "", desk, 4)
    # a drop-down that is walked through tells of an edit while the cure is being typed
    assert task_edits.edit_task("causal_lm", "", desk, 4) == (gr.skip(), gr.skip())
    assert edits.edit_name("other", "", desk) == gr.skip()
    assert review.show(desk)[2] == gr.skip(), "the broken text would replace the cure"
    cured = desks.default_text().replace("pocket-student", "cured")
    assert edits.edit_yaml(cured, "name: [x", desk, 4) == (cured, 5)
    assert review.show(desk)[2] == gr.skip()
    assert "name: renamed" in edits.edit_name("renamed", "", desk)
    assert review.show(desk)[2] == desks.current(desk), "what the form changed is shown"


def test_an_edit_that_changes_nothing_lays_nothing_out_again(desk: desks.Desk) -> None:
    kept = (gr.skip(), gr.skip())
    assert task_edits.edit_task("causal_lm", "", desk, 4) == kept
    assert pair_edits.edit_teacher("pocket-teacher", "", desk, 4) == kept
    assert edits.edit_method("Distill", "", desk, 4) == kept


def test_a_field_that_has_lost_its_place_changes_nothing(desk: desks.Desk) -> None:
    for path in ("a.jsonl", "b.jsonl"):
        edits.add_source("file", "", desk, 0)
        last = len(now(desk)["data"]["sources"]) - 1
        edits.edit(form.Setting(f"data.sources.{last}.path", "", "", "text"), path, "", desk)
    second_last = form.Setting(f"data.sources.{last - 1}.path", "", "", "text")
    frame = draft.frame(now(desk), second_last.path)
    edits.remove_source(0, "", desk, 0, frame=frame)
    before = desks.current(desk)
    edits.remove_source(0, "", desk, 0, frame=frame)  # the same button, pressed twice
    edits.edit(second_last, "a.jsonl", "", desk, frame=frame)
    edits.edit(form.Setting("data.sources.9.path", "", "", "text"), "a.jsonl", "", desk)
    assert desks.current(desk) == before


def test_listeners_of_a_replaced_layout_still_answer() -> None:
    part = types.SimpleNamespace(render_iteration=3)
    mine = types.SimpleNamespace(rendered_in=part, render_iteration=2)
    other = types.SimpleNamespace(rendered_in=None, render_iteration=None)
    config = types.SimpleNamespace(fns={1: mine, 2: other})
    with gradio_sees(config, part):
        relaid.keep_listeners()
        assert mine.rendered_in is None, "it is not sent with the new layout"
        assert mine.render_iteration == 3, "Gradio deletes those of an older one"
        mine.replaced_s -= 2 * relaid.KEPT_S
        relaid.keep_listeners()
    assert config.fns == {2: other}


@contextlib.contextmanager
def gradio_sees(config: Any, part: Any) -> Iterator[None]:
    """Stand inside the layout of a part."""
    set_config = LocalContext.blocks_config.set(config)
    set_part = LocalContext.renderable.set(part)
    yield
    LocalContext.blocks_config.reset(set_config)
    LocalContext.renderable.reset(set_part)


def test_yaml_and_form_are_one_recipe(desk: desks.Desk, sized: None) -> None:
    text = desks.current(desk).replace("layers: 3", "layers: 4")
    assert edits.edit_yaml(text, "", desk, 4) == (text, 5)
    layers = review.fill(desk)[5]
    assert layers["value"] == 4
    pair_edits.edit_student("layers", 3.0, "", desk)
    assert "layers: 3," in review.refresh(desk)[1]


@pytest.mark.parametrize(
    "apply",
    [
        lambda desk: pair_edits.edit_init("layer_drop", "", desk, 0),
        lambda desk: edits.edit_held_out("share", "", desk, 0),
        lambda desk: edits.edit_method("Fine-tune", "", desk, 0),
        lambda desk: loss_edits.toggle_loss(0, "forward_kl", False, "", desk, 0),
    ],
)
def test_going_away_and_back_loses_nothing(
    desk: desks.Desk, apply: Callable[[desks.Desk], Any]
) -> None:
    pair_edits.edit_student("layers", 3, "", desk)
    before = now(desk)
    apply(desk)
    api.load_recipe(desks.current(desk))  # what stands between is a valid recipe, too
    assert now(desk) != before
    pair_edits.edit_init("scratch", "", desk, 0)
    edits.edit_held_out("starter", "", desk, 0)
    edits.edit_method("Distill", "", desk, 0)
    loss_edits.toggle_loss(0, "forward_kl", True, "", desk, 0)
    after = now(desk)
    key = functools.partial(sorted, key=lambda loss: loss["name"])
    assert key(after["stages"][0].pop("losses")) == key(before["stages"][0].pop("losses"))
    assert after == before


def test_a_variant_is_chosen_changed_and_left_with_its_settings(desk: desks.Desk) -> None:
    stages = form.variants(SCHEMA, form.find(SCHEMA, "stages")["items"])
    groups = form.settings(SCHEMA, stages["distill"], "stages.0")
    cache = next(item for item in groups if item.key == "teacher_cache")

    def choose(tag: str) -> Any:
        edits.choose_variant(cache, tag, "", desk, 0)
        return api.load_recipe(desks.current(desk)).stages[0].teacher_cache

    assert choose("top_k").k == 64
    k = form.settings(SCHEMA, form.variants(SCHEMA, cache.node)["top_k"], cache.path)[0]
    assert (k.label, k.kind) == ("Tokens kept", "integer")
    edits.edit(k, 8, "", desk)
    assert choose("sampled").samples == 50
    assert choose("") is None
    assert "teacher_cache" not in now(desk)["stages"][0]
    assert choose("top_k").k == 8, "what it was set to is kept aside"


def test_an_optional_group_is_switched_on_with_its_tag(desk: desks.Desk) -> None:
    stages = form.variants(SCHEMA, form.find(SCHEMA, "stages")["items"])
    groups = form.settings(SCHEMA, stages["distill"], "stages.0")
    adapter = next(item for item in groups if item.key == "adapter")
    edits.toggle_group(adapter, form.tag(SCHEMA, adapter.node), True, "", desk, 0)
    assert api.load_recipe(desks.current(desk)).stages[0].adapter.rank == 16
    edits.toggle_group(adapter, {}, False, "", desk, 0)
    assert api.load_recipe(desks.current(desk)).stages[0].adapter is None


def test_the_teacher_is_changed_where_the_stages_name_it(desk: desks.Desk) -> None:
    edits.edit_method("Fine-tune → distill", "", desk, 0)
    pair_edits.edit_teacher(" org/name ", "", desk, 0)
    assert now(desk)["stages"][0]["model"] == "org/name"
    assert now(desk)["stages"][1]["teacher"] == "previous"


def loss_setting(name: str, key: str) -> form.Setting:
    node = form.find(SCHEMA, "stages")["items"]
    losses = form.variants(SCHEMA, node)["distill"]["properties"]["losses"]["items"]
    found = form.settings(SCHEMA, form.variants(SCHEMA, losses)[name], f"stages.0.losses.{name}")
    return next(item for item in found if item.key == key)


def test_a_loss_is_edited_by_its_name(desk: desks.Desk) -> None:
    loss_edits.edit_loss(0, "forward_kl", loss_setting("forward_kl", "temperature"), -1, "", desk)
    problems, _ = review.review(desk)
    assert review.slot(now(desk), problems[0].field) == (
        "ds-field-stages-0-losses-forward_kl-temperature"
    )


def test_a_weight_follows_a_schedule_and_stays_again(desk: desks.Desk) -> None:
    weight = loss_setting("forward_kl", "weight")
    loss_edits.edit_loss(0, "forward_kl", weight, 0.7, "", desk)
    loss_edits.toggle_schedule(0, "forward_kl", weight, True, "", desk, 0)
    loss = next(x for x in now(desk)["stages"][0]["losses"] if x["name"] == "forward_kl")
    assert loss["weight"] == {"start": 0.7, "end": 0.7}
    parts = {item.key: item for item in form.settings(SCHEMA, weight.node, weight.path)}
    assert list(parts) == ["start", "end", "schedule", "fraction"]
    loss_edits.edit_loss(0, "forward_kl", parts["end"], 0.1, "", desk)
    loss_edits.edit_loss(0, "forward_kl", parts["schedule"], "cosine", "", desk)
    made = api.load_recipe(desks.current(desk)).stages[0].losses
    moved = next(loss for loss in made if loss.name == "forward_kl")
    assert moved.weight.model_dump() == {
        "start": 0.7,
        "end": 0.1,
        "schedule": "cosine",
        "fraction": 1.0,
    }
    loss_edits.edit_loss(0, "forward_kl", parts["end"], -1, "", desk)
    problems, _ = review.review(desk)
    assert review.slot(now(desk), problems[0].field) == form.field_id(parts["end"].path)
    loss_edits.toggle_schedule(0, "forward_kl", weight, False, "", desk, 0)
    loss = next(x for x in now(desk)["stages"][0]["losses"] if x["name"] == "forward_kl")
    assert loss["weight"] == 0.7


def test_sources_are_added_and_removed(desk: desks.Desk) -> None:
    edits.add_source("hub", "", desk, 0)
    assert now(desk)["data"]["sources"][2]["kind"] == "hub"
    edits.remove_source(0, "", desk, 0)
    assert [source["kind"] for source in now(desk)["data"]["sources"]] == ["starter", "hub"]


# --- other tabs and reloads -------------------------------------------------------------------


def test_a_recipe_from_another_tab_is_taken_over_and_an_echo_is_not(desk: desks.Desk) -> None:
    first = desks.current(desk)
    edits.edit(setting("", "seed"), 7, first, desk)
    edits.edit(setting("", "seed"), 8, first, desk)
    seven = desks.current(desk).replace("seed: 8", "seed: 7")
    for echo in (desks.current(desk), seven):  # the older one late
        assert edits.adopt(echo, desk, 1) == gr.skip()
    assert now(desk)["seed"] == 8
    advised = first.replace("pocket-student", "advised")
    assert edits.adopt(advised, desk, 1) == 2
    assert now(desk)["name"] == "advised"


def test_the_same_advice_can_be_taken_again_after_editing_it(desk: desks.Desk) -> None:
    advised = desks.current(desk).replace("pocket-student", "advised")
    edits.adopt(advised, desk, 1)
    edits.edit(setting("", "seed"), 7, "", desk)
    edits.adopt(desks.current(desk), desk, 2)  # the echo
    assert edits.adopt(advised, desk, 2) == 3
    assert desks.current(desk) == advised


def test_opening_the_page_lays_out_the_stored_or_the_default_recipe() -> None:
    made, text, version = edits.open_desk("", desks.new(), 0)
    assert (text, version) == (desks.default_text(), 1)
    assert desks.current(made) == text
    assert edits.open_desk("name: mine", desks.new(), 0)[1] == "name: mine"


def test_a_ready_recipe_replaces_the_draft(desk: desks.Desk) -> None:
    edits.edit_name("mine", "", desk)
    first = api.ready_recipes()[0]
    assert edits.pick_recipe(first["name"], "", desk, 1) == (first["yaml"], 2)


# --- uploads ----------------------------------------------------------------------------------


def test_uploads_are_kept_beside_the_runs(tmp_path: Path, desk: desks.Desk) -> None:
    sent = tmp_path / "sent" / "my rows (1).CSV"
    sent.parent.mkdir()
    sent.write_text("question,answer\na,b\n")
    runs = tmp_path / "runs"
    edits.add_uploads([str(sent)], str(runs), "", desk, 0)
    path = Path(now(desk)["data"]["sources"][-1]["path"])
    sent.unlink()
    assert path.read_text() == "question,answer\na,b\n"
    assert path.parent == tmp_path / "runs-uploads"
    assert path.name.startswith("my-rows-1-")
    assert path.suffix == ".csv"


def test_the_same_upload_is_kept_once_and_another_content_beside_it(tmp_path: Path) -> None:
    sent = tmp_path / "rows.txt"
    names = set()
    for content in ("a", "a", "b"):
        sent.write_text(content)
        names.add(desks.keep_upload(str(sent), str(tmp_path / "runs")))
    assert len(names) == 2
    assert not list((tmp_path / "runs-uploads").glob("*.partial"))


# --- what is shown ----------------------------------------------------------------------------


def test_a_ready_recipe_can_be_started(desk: desks.Desk, sized: None) -> None:
    card, text, start = review.refresh(desk)
    assert "Same tokenizer" in review.redraw(desk)
    assert "no problems" in card
    assert "2–5 min</b>: the teacher&#x27;s answers, 1,200 steps, baseline 1,200 steps" in card
    assert "1,200 steps × 32 rows" in card
    assert "distill-studio run pocket-student.yaml" in card
    assert at_fields(card) == []
    assert text == desks.current(desk)
    assert start["interactive"] is True


def test_problems_block_start_and_stand_at_their_fields(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        api.Problem(severity="warning", field="seed", message="Odd <seed>."),
        api.Problem(severity="error", field="stages.0.student.layers", message="Too many."),
        api.Problem(severity="error", field="stages.0.teacher", message="No such.", fix="Pick."),
    ]
    monkeypatch.setattr(api, "check", lambda recipe: found)
    card, _, start = review.refresh(desk)
    assert start["interactive"] is False
    assert "2 problems" in card
    assert card.index("Too many.") < card.index("Odd &lt;seed&gt;.")
    assert [(one["slot"], one["text"]) for one in at_fields(card)] == [
        ("ds-field-seed", "Odd <seed>."),
        ("ds-field-student-layers", "Too many."),
        ("ds-field-teacher", "No such. Pick."),
    ]


@pytest.mark.parametrize(
    ("field", "slot"),
    [
        ("stages.1.student", "ds-field-student-init"),
        ("stages.1.student.hidden_size", "ds-field-student-hidden_size"),
        ("stages.1.student.keep_layers.2", "ds-field-student-keep_layers"),
        ("stages.1.student.vocab_trim", "ds-field-student-vocab_trim"),
        ("stages.1.student.vocab_trim.extra_tokens", "ds-field-student-vocab_trim-extra_tokens"),
        ("stages.0.model", "ds-field-teacher"),
        ("stages.1.losses.1.weight", "ds-field-stages-1-losses-cross_entropy-weight"),
        ("stages.1.losses.9.weight", "ds-field-stages-1-losses-9-weight"),
        ("data.sources.0.path", "ds-field-data-sources-0-path"),
    ],
)
def test_slots_follow_the_stages(desk: desks.Desk, field: str, slot: str) -> None:
    edits.edit_method("Fine-tune → distill", "", desk, 0)
    assert review.slot(now(desk), field) == slot


def test_fields_show_the_recipe(desk: desks.Desk, sized: None) -> None:
    ready, about, name, teacher, init, layers, width, model, task, method = review.fill(desk)
    assert "Nothing to download" in about
    assert ready["value"] == api.ready_recipes()[0]["name"]
    assert name["value"] == "pocket-student"
    assert (teacher["value"], teacher["label"]) == ("pocket-teacher", "Teacher")
    assert init["value"] == "scratch"
    assert (layers["value"], layers["maximum"], layers["visible"]) == (3, 5, True)
    assert (width["value"], width["maximum"]) == (64, 160)
    assert model["visible"] is False
    assert task["value"] == "causal_lm"
    assert method["value"] == "Distill"


def test_a_narrower_student_opens_with_a_width_that_fits(desk: desks.Desk) -> None:
    pair_edits.edit_init("width_prune", "", desk, 0)
    assert now(desk)["stages"][0]["student"] == {"init": "width_prune", "hidden_size": 120}
    _, _, _, _, init, layers, width, *_ = review.fill(desk)
    assert init["value"] == "width_prune"
    assert (layers["value"], layers["visible"]) == (5, True)  # empty: all of the teacher's
    assert (width["value"], width["maximum"], width["visible"]) == (120, 160, True)
    assert "120 of 160 dimensions" in review.redraw(desk)
    problems, _ = review.review(desk)
    assert not [problem for problem in problems if problem.severity == "error"]


def test_a_vocabulary_is_trimmed_by_a_tick(desk: desks.Desk) -> None:
    pair_edits.edit_init("layer_drop", "", desk, 0)
    path = "stages.0.student"
    before = now(desk)["stages"][0]["student"]
    _, version = pair_edits.toggle_student_group("vocab_trim", True, "", desk, 4)
    assert version == 5, "the form is laid out again"
    assert now(desk)["stages"][0]["student"] == {**before, "vocab_trim": {}}
    group = next(
        item
        for item in form.settings(SCHEMA, student_parts.variants()["layer_drop"], path)
        if item.key == "vocab_trim"
    )
    (extra,) = form.settings(SCHEMA, group.node, group.path)
    pair_edits.edit_student_setting(extra, "vocab_trim.extra_tokens", 500.0, "", desk)
    assert now(desk)["stages"][0]["student"]["vocab_trim"] == {"extra_tokens": 500}
    pair_edits.toggle_student_group("vocab_trim", False, "", desk, 5)
    assert now(desk)["stages"][0]["student"] == before
    pair_edits.toggle_student_group("vocab_trim", True, "", desk, 6)
    assert now(desk)["stages"][0]["student"]["vocab_trim"] == {"extra_tokens": 500}, "kept"


def test_a_student_that_is_not_named_yet_can_be_trimmed(desk: desks.Desk) -> None:
    text = edits.changed(desk, "", lambda data: draft.drop(data, draft.pair(data).student_path))
    assert text is not None
    pair_edits.toggle_student_group("vocab_trim", True, "", desk, 0)
    trimmed = {"init": "pretrained", "vocab_trim": {}}
    assert now(desk)["stages"][0]["student"] == trimmed


def test_layers_are_listed_with_commas(desk: desks.Desk) -> None:
    pair_edits.edit_init("layer_drop", "", desk, 0)
    path = "stages.0.student"
    node = student_parts.variants()["layer_drop"]
    found = form.settings(api.recipe_schema(), node, path)
    listed = next(setting for setting in found if setting.key == "keep_layers")
    pair_edits.edit_student_setting(listed, listed.key, "1, 3", "", desk)
    assert now(desk)["stages"][0]["student"]["keep_layers"] == [1, 3]
    assert "layers 1, 3 of 5" in review.redraw(desk)
    pair_edits.edit_student_setting(listed, listed.key, "", "", desk)
    assert "keep_layers" not in now(desk)["stages"][0]["student"]


def test_another_task_puts_aside_what_only_the_first_one_reads(
    desk: desks.Desk, sized: None
) -> None:
    for path, value in (("columns", {"prompt": "q", "response": "a"}), ("system_prompt", "Hi.")):
        desks.change(desk, "", lambda data, p=path, v=value: draft.put(data, f"data.{p}", v))
    before = now(desk)
    task_edits.edit_task("text_classification", "", desk, 0)
    data = now(desk)
    assert data["task"] == "text_classification"
    assert "columns" not in data["data"]
    assert "system_prompt" not in data["data"]
    assert draft.method(data) == "Fine-tune → distill"  # the teacher has no head for classes yet
    assert data["stages"][0]["model"] == "pocket-teacher"
    desks.change(desk, "", lambda data: draft.put(data, "data.classes", "on, off"))
    task_edits.edit_task("causal_lm", "", desk, 0)
    back = now(desk)
    assert back["data"] == before["data"]
    assert "classes" not in back["data"]
    task_edits.edit_task("text_classification", "", desk, 0)
    assert now(desk)["data"]["classes"] == "on, off"
    task_edits.edit_task("nonsense", "", desk, 0)
    assert now(desk)["task"] == "text_classification"


def test_a_teacher_that_tells_classes_apart_is_distilled_at_once(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "model_facts", lambda name: {"labels": ["a", "b"]})
    task_edits.edit_task("text_classification", "", desk, 0)
    assert draft.method(now(desk)) == "Distill"


@pytest.mark.parametrize("task", list(draft.TASKS))
def test_only_settings_that_the_task_reads_are_shown(task: str) -> None:
    data = {"task": task}
    writes = task == "causal_lm"
    for path in ("data.columns.prompt", "data.system_prompt", "stages.1.teacher_answers"):
        assert draft.is_read(data, path) is writes
    for path in ("data.classes", "data.columns.label"):
        assert draft.is_read(data, path) is not writes
    assert draft.is_read(data, "data.columns.text")
    assert draft.is_read(data, "data.max_seq_len")


def test_odd_values_do_not_break_the_fields(desk: desks.Desk, sized: None) -> None:
    desks.lay(desk, "stages: [{kind: distill, teacher: [1], student: {init: 3, layers: many}}]")
    assert len(review.fill(desk)) == 10
    desks.lay(desk, "stages: nonsense")
    assert len(review.fill(desk)) == 10
    assert review.refresh(desk)[2]["interactive"] is False


def test_a_draft_of_a_few_letters_does_not_break_the_view(desk: desks.Desk, sized: None) -> None:
    desks.lay(desk, "a: [1")
    assert review.redraw(desk) == gr.skip()
    assert "1 problem" in review.refresh(desk)[0]
    assert review.fill(desk) == (gr.skip(),) * 10


# --- pictures ---------------------------------------------------------------------------------


def test_areas_are_proportional_to_parameters() -> None:
    html = models_drawn.draw({**TEACHER, "title": "T<"}, STUDENT)
    sizes = [
        float(width) * float(height)
        for width, height in re.findall(r"width:([\d.]+)rem;height:([\d.]+)rem", html)
    ]
    assert sizes[0] / sizes[1] == pytest.approx(10, rel=0.02)
    assert "<b>10 × smaller</b>" in html
    assert "T&lt;" in html
    assert "T<" not in html


def test_a_larger_student_and_unknown_models_are_said() -> None:
    assert "10 × larger than its teacher" in models_drawn.draw(STUDENT, TEACHER)
    assert "the same size" in models_drawn.draw(TEACHER, TEACHER)
    assert "ds-model-unknown" in models_drawn.draw(None, STUDENT)


def test_columns_are_offered_and_prompts_alone_name_no_answer() -> None:
    facts = {
        "sources": [
            {"title": "a", "rows": 2, "unanswered": 2, "columns": {"prompt": "q", "response": "r"}},
            {"title": "b", "rows": 2, "unanswered": 1, "columns": {"text": "t", "label": "l"}},
        ]
    }
    facts["sources"][0]["names"] = ["q", 'r"s']
    facts["sources"][1]["names"] = ["q", "t"]
    chips = row_drawn.chips(facts)
    assert "a: 2 · prompt ← q<" in chips
    assert "b: 2 · text ← t, label ← l<" in chips
    assert (
        '<datalist id="ds-column-names"><option value="q"><option value="r&quot;s">'
        '<option value="t"></datalist>' in chips
    )


def test_columns_are_offered_where_none_could_be_guessed(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise DataError("rows.jsonl: no column …", field="data.columns.prompt", columns=["u"])

    monkeypatch.setattr(api, "preview", refuse)
    chips, html, _ = data_view.show_row(desk, 0)
    assert '<option value="u">' in chips
    assert "no column" in html


def test_a_row_marks_what_is_learnt_and_escapes(desk: desks.Desk, sized: None) -> None:
    chips, html, at = data_view.show_row(desk, 0, step=1)
    assert at == 1
    assert "a&lt;b: 2 · prompt ← question (guessed)" in chips
    assert "1 row shared with held-out" in chips
    assert "Row 2 of 2" in html
    assert '<span class="ds-token">&lt;user&gt;</span>' in html
    assert '<span class="ds-token ds-supervised">⏎\n&lt;b&gt;on&lt;/b&gt;</span>' in html
    assert "1 of 2 tokens · rows.jsonl:12" in html
    assert "the teacher writes one" in html
    assert "Cut at the longest row" in html


def test_a_row_that_cannot_be_shown_says_why(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(recipe: object, *, index: int = 0) -> dict[str, Any]:
        raise api.DistillError("rows.jsonl:3 is not JSON.\nMend that line.")

    monkeypatch.setattr(api, "preview", refuse)
    _, html, _ = data_view.show_row(desk, 0)
    assert "rows.jsonl:3 is not JSON.<br>Mend that line." in html


def test_the_row_is_read_again_only_when_data_or_tokenizer_change(
    desk: desks.Desk, sized: None
) -> None:
    waiting, (*_, key) = data_view.follow_data(desk, 0, "")
    assert "Reading the rows" in waiting[1]
    edits.edit(setting("", "seed"), 7, "", desk)
    assert list(data_view.follow_data(desk, 0, key)) == [(gr.skip(),) * 4]
    edits.remove_source(0, "", desk, 0)
    *_, (*_, fewer) = data_view.follow_data(desk, 0, key)
    assert fewer != key
    pair_edits.edit_init("pretrained", "", desk, 0)
    pair_edits.edit_student_model("pocket-teacher", "", desk, 0)
    assert list(data_view.follow_data(desk, 0, fewer))[-1][3] != fewer


def test_a_new_source_is_shown_from_its_first_row(
    desk: desks.Desk, sized: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    facts = {**PREVIEW["facts"], "sources": [{"rows": 500}, {"rows": 40}], "rows": 540}

    def show(recipe: Any, *, index: int = 0) -> Any:
        asked.append(index)
        return {**PREVIEW, "facts": facts}

    key = data_view.data_key(desk)
    monkeypatch.setattr(api, "preview", show)
    edits.add_source("starter", "", desk, 0)
    list(data_view.follow_data(desk, 3, key))
    assert asked[-1] == 500
    data_view.go_to_row(desk, 7)
    assert asked[-1] == 6


def test_long_rows_are_cut_for_the_page() -> None:
    tokens = [{"text": "x", "supervised": False}] * (row_drawn.MOST_TOKENS + 5)
    assert "… and 5 more" in row_drawn.row({**PREVIEW, "tokens": tokens})


def test_a_row_of_a_class_names_it_and_the_data_counts_them() -> None:
    facts = {"sources": [], "classes": {"<bad>": 12, "good": 30}}
    preview = {**PREVIEW, "facts": facts, "label": "<bad>", "labelled": True}
    drawn = row_drawn.row(preview)
    assert "class of this row" in drawn
    assert "&lt;bad&gt;" in drawn
    assert "= learnt" not in drawn
    assert "2 classes: &lt;bad&gt; 12 · good 30" in row_drawn.chips(facts)
    blank = row_drawn.row({**preview, "label": None, "labelled": False})
    assert "not in the data" in blank
    assert "Only the teacher" in blank


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (120, 300, "2–5 min"),
        (100, 110, "about 2 min"),
        (20, 50, "20 s – 50 s"),
        (50, 50, "about 50 s"),
        (3600, 9000, "1 h – 2 h 30 min"),
        (None, None, "not known"),
    ],
)
def test_times_are_ranges(low: float | None, high: float | None, words: str) -> None:
    assert text.time_range(low, high) == words


def test_memory_that_does_not_fit_is_said() -> None:
    html = summary.memory({**FORECAST, "fits": False, "available_memory_bytes": 2**20})
    assert "does not fit" in html


def test_what_would_help_is_said_with_what_it_saves() -> None:
    change = {"field": "stages.0.adapter", "change": "a <LoRA> adapter", "fits": True}
    forecast = {**FORECAST, "fits": False, "savings": [{**change, "saves_bytes": 300 * 2**20}]}
    html = summary.memory({**forecast, "memory_basis": "measured by a dry step"})
    for words in ("a &lt;LoRA&gt; adapter", "300 MiB", "then it fits", "stages.0.adapter"):
        assert words in html
    assert "measured by a dry step" in html
    assert "What would help" not in summary.memory(FORECAST)


def test_the_bar_is_shown_of_a_recipe_that_needs_too_much(
    sized: None, desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = api.Problem(severity="error", field="stages.0.student", message="9 GB are needed.")
    monkeypatch.setattr(api, "check", lambda recipe: [full])
    problems, forecast = review.review(desk)
    assert problems == [full]
    assert forecast == FORECAST


def test_a_dry_step_makes_the_forecast_anew(
    sized: None, desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(api, "take_dry_step", taken.append)
    monkeypatch.setattr(measuring, "list_runs", lambda runs_dir: [])
    waiting, done = measuring.measure(desk, "runs")
    assert "Taking a few steps" in waiting[0]
    assert (waiting[1]["interactive"], done[1]["interactive"]) == (False, True)
    assert taken == [api.load_recipe(desks.current(desk))]
    assert done[0] == ""
    assert "Memory" in done[2]


def test_a_dry_step_beside_another_run_says_that_it_was_slow(
    sized: None, desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "take_dry_step", lambda recipe: None)
    training = [{"status": {"state": "running"}}]
    monkeypatch.setattr(measuring, "list_runs", lambda runs_dir: training)
    *_, (told, _, card, *_) = measuring.measure(desk, "runs")
    assert "another run was training" in told
    assert "Memory" in card


def test_stages_that_no_method_names_are_a_choice_while_they_are_there(
    desk: desks.Desk, sized: None
) -> None:
    assert draft.SEVERAL_STAGES not in review.fill(desk)[9]["choices"]
    twice = now(desk)["stages"] * 2
    edits.edit(form.Setting("stages", "", "", "text"), twice, "", desk)
    assert review.fill(desk)[9]["value"] == draft.SEVERAL_STAGES
    assert draft.SEVERAL_STAGES in review.fill(desk)[9]["choices"]
    kept = (gr.skip(), gr.skip())
    assert edits.edit_method(draft.SEVERAL_STAGES, "", desk, 0) == kept


def test_a_dry_step_that_cannot_be_taken_says_why(
    sized: None, desk: desks.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(recipe: Any) -> None:
        raise api.DistillError("The rows are <not> here.")

    monkeypatch.setattr(api, "take_dry_step", refuse)
    *_, (told, *rest) = measuring.measure(desk, "no-runs")
    assert "The rows are &lt;not&gt; here." in told
    assert len(rest) == 4


# --- start ------------------------------------------------------------------------------------


def test_start_opens_train_with_the_new_run(
    desk: desks.Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}

    def begin(recipe: Any, *, runs_dir: str) -> str:
        given.update(name=recipe.name, runs_dir=runs_dir)
        return "the-run"

    monkeypatch.setattr(api, "start", begin)
    run, tabs, told = edits.start(desk, str(tmp_path))
    assert (run, told) == ("the-run", "")
    assert tabs.selected == "train"
    assert given == {"name": "pocket-student", "runs_dir": str(tmp_path)}


def test_start_says_what_stands_in_the_way(desk: desks.Desk, tmp_path: Path) -> None:
    edits.edit(setting("", "seed"), -1, "", desk)
    run, tabs, told = edits.start(desk, str(tmp_path))
    assert (run, tabs) == (gr.skip(), gr.skip())
    assert "has not started" in told
    assert not list(tmp_path.iterdir())
