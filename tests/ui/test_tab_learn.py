"""Learn: the explorable's data, its refusals, and pieces with sources that lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from distill_core import api
from ui import tab_learn
from ui import text as texts
from ui.learning import lessons, two_ways

TABS = tuple(texts.TAB_LABELS)

EXAMPLE = {
    "prompt": "on <b>",
    "answer": "{}",
    "positions": [
        {
            "token": "{",
            "candidates": [{"text": "{", "logit": 9.87654}, {"text": "[", "logit": 1.0}],
            "rest_logits": [-1.23456, -2.0],
        }
    ],
}


@pytest.fixture(autouse=True)
def _forget() -> None:
    tab_learn._example.cache_clear()


def select(index: int) -> gr.SelectData:
    return gr.SelectData(None, {"index": index, "value": texts.TAB_LABELS[TABS[index]]})


def test_logits_are_read_once_and_only_when_learn_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def example() -> dict[str, Any]:
        calls.append(1)
        return EXAMPLE

    monkeypatch.setattr(api, "temperature_example", example)
    away = tab_learn.open_explorable(False, select(TABS.index("build")))
    assert away == (gr.skip(), gr.skip(), False)
    assert calls == []
    value, failed, opened = tab_learn.open_explorable(False, select(TABS.index("learn")))
    position = json.loads(value)["positions"][0]
    assert position["candidates"][0] == {"text": "{", "logit": 9.877}
    assert position["rest_logits"] == [-1.235, -2.0]  # all of them: the softmax must be exact
    assert (failed, opened) == ("", True)
    tab_learn.open_explorable(False, select(TABS.index("learn")))
    assert len(calls) == 1


def test_a_teacher_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[str, Any]:
        raise api.DistillError("No weights in <assets>.")

    monkeypatch.setattr(api, "temperature_example", refuse)
    value, failed = tab_learn.example_or_reason()
    assert value == ""
    assert "No weights in &lt;assets&gt;." in failed


@pytest.mark.parametrize("lesson", lessons.LESSONS, ids=lambda lesson: lesson.title)
def test_every_piece_has_a_source_and_leads_to_a_tab(lesson: lessons.Lesson) -> None:
    assert lesson.sources
    assert lesson.tab in TABS
    assert lesson.button
    html = tab_learn.lesson_html(lesson)
    assert "Published, not promised" in html
    for link in re.findall(r"<a [^>]*>", html):
        assert 'rel="noopener noreferrer"' in link
        assert 'href="https://' in link


def test_published_figures_have_sources() -> None:
    html = tab_learn.published_table()
    assert "Published, not promised" in html
    for what, *_, source in lessons.PUBLISHED:
        assert what in html
        assert tab_learn.source_html(source) in html


def test_buttons_open_tabs() -> None:
    assert tab_learn.open_tab("build").selected == "build"


def test_the_explorable_never_asks_the_server() -> None:
    script = Path("assets/learn.js").read_text("utf-8")
    assert not re.search(r"\b(fetch|XMLHttpRequest|server|trigger)\s*[.(]", script)
    assert "innerHTML" not in script  # prompts and tokens go in as text


def test_the_self_test_tells_what_holds_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "name": "shift",
        "words": "Only <labels> count.",
        "measures": "largest difference",
        "figure": 1.3e-7,
        "limit": 1e-5,
        "passed": True,
        "error": "",
    }
    wrong = item | {"passed": False, "figure": None, "error": "no such kernel"}
    found = {"name": "CPU", "passed": False, "seconds": 0.5, "properties": [item, wrong]}
    monkeypatch.setattr(api, "self_test", lambda: found)
    html = tab_learn.self_test()
    assert "1 of 2 properties hold" in html
    assert "✓&nbsp;holds" in html
    assert "✗&nbsp;fails" in html
    assert "no such kernel" in html
    assert "&lt;labels&gt;" in html
    assert "1e-07" in html


def test_a_self_test_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise api.DistillError("no memory left")

    monkeypatch.setattr(api, "self_test", fail)
    assert "no memory left" in tab_learn.self_test()


# --- distilling against fine-tuning -----------------------------------------------------------


def test_the_comparison_has_a_line_for_every_topic() -> None:
    topics = {line.topic for line in two_ways.LINES}
    assert topics >= {
        *("Purpose", "Architecture", "Training", "Data", "Compute", "Use cases", "Outcomes"),
        *("Fine-tune, then distil", "Distil, then fine-tune"),
    }


@pytest.mark.parametrize("line", two_ways.LINES, ids=lambda line: line.topic)
def test_every_line_has_a_source_and_leads_to_where_it_can_be_tried(line: two_ways.Line) -> None:
    assert line.tab in TABS
    assert line.sources
    recipe, tabs = tab_learn.try_line(line)
    assert tabs.selected == line.tab
    if line.tab == "build":
        assert api.check(api.load_recipe(recipe)) is not None
        assert api.load_recipe(recipe) == api.load_recipe(line.recipe)
    else:
        assert recipe == gr.skip()
    html = tab_learn.line_html(line)
    assert "Distilling" in html
    assert "Fine-tuning" in html


def test_no_two_lines_lead_to_the_same_place() -> None:
    places = [(line.tab, line.recipe, line.button) for line in two_ways.LINES]
    assert len(set(places)) == len(places)
