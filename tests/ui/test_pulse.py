"""The pulse: it tells what is new, once, and nothing of what it was not asked."""

from __future__ import annotations

import gradio as gr
import pytest

from distill_core import api
from ui.pulse import Pulse


@pytest.fixture
def pulse() -> Pulse:
    with gr.Blocks():
        made = Pulse(("train",))
        made.spot("header", lambda run: f"<b>{run}</b>")
        made.spot("log", lambda run: "a log")
        made.signal("train", lambda run: f"state of {run}")
    return made


def test_only_what_can_be_seen_is_drawn(pulse: Pulse) -> None:
    told = pulse.beat({"run": "one", "spots": {"header": ""}, "signals": {}})
    assert [*told["spots"]] == ["header"]
    assert told["spots"]["header"]["html"] == "<b>one</b>"
    assert told["signals"] == {}


def test_what_was_told_is_not_told_again(pulse: Pulse) -> None:
    first = pulse.beat({"run": "one", "spots": {"header": ""}, "signals": {"train": ""}})
    marks = {name: spot["mark"] for name, spot in first["spots"].items()}
    again = {"run": "one", "spots": marks, "signals": first["signals"]}
    assert pulse.beat(again) == {"spots": {}, "signals": {}}
    other = pulse.beat({**again, "run": "two"})
    assert other["spots"]["header"]["html"] == "<b>two</b>"
    assert other["signals"]["train"] != first["signals"]["train"]


@pytest.mark.parametrize("wrong", [OSError("gone"), api.DistillError("damaged")])
def test_what_cannot_be_read_now_is_left_as_it_is(pulse: Pulse, wrong: Exception) -> None:
    def fails(run: str) -> str:
        raise wrong

    with gr.Blocks():
        pulse.spot("header", fails)
    told = pulse.beat({"run": "", "spots": {"header": "", "log": ""}, "signals": {}})
    assert [*told["spots"]] == ["log"]


@pytest.mark.parametrize(
    "asked",
    [None, "run", {}, {"spots": ["header"]}, {"run": 7, "spots": {"../etc": "", "nothing": 1}}],
)
def test_a_question_in_another_form_is_answered_with_nothing(pulse: Pulse, asked: object) -> None:
    assert pulse.beat(asked) == {"spots": {}, "signals": {}}
