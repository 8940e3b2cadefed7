"""The table of lm-eval's scores: columns, and what may stand in one line."""

from __future__ import annotations

import re
from typing import Any

import pytest

from distill_core import api
from ui.comparing import compare_handlers, harness_drawn


def row(model: str, **more: Any) -> dict[str, Any]:
    shared = {"task": "arc<b>", "metric": "acc", "filter": "none", "value": 0.5, "stderr": 0.064}
    counts = {"n_shot": 0, "n_samples": 64, "version": 1.0, "chat_template": False}
    facts = {"model": model, "title": model, "higher_is_better": True, "fingerprint": "f"}
    return shared | counts | facts | more


def drawn(*rows: dict[str, Any]) -> str:
    return harness_drawn.table({"harness": "lm-eval 0.4", "scores": list(rows)})


def cells(html: str) -> list[list[str]]:
    lines = re.findall(r"<tr>(.*?)</tr>", html.partition("<tbody>")[2])
    plain = [re.findall(r"<td>(.*?)</td>", line) for line in lines]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in line] for line in plain]


@pytest.mark.parametrize("harness", [None, {}, {"scores": []}])
def test_nothing_is_shown_where_nothing_was_scored(harness: dict[str, Any] | None) -> None:
    assert harness_drawn.table(harness) == ""


def test_models_stand_side_by_side_teacher_first() -> None:
    html = drawn(row("student", value=0.4), row("teacher", stderr=None))
    assert html.index("teacher</span>") < html.index("student</span>")
    assert cells(html) == [["0.500", "0.400 ±0.064"]]
    assert "arc&lt;b&gt; · acc" in html
    assert "64 rows, 0-shot" in html
    assert "more is better" in html


@pytest.mark.parametrize(
    "other", [{"n_samples": 5}, {"n_shot": 5}, {"chat_template": True}, {"filter": "strict"}]
)
def test_what_was_asked_otherwise_stands_in_a_line_of_its_own(other: dict[str, Any]) -> None:
    html = drawn(row("teacher"), row("student", value=0.1, **other))
    assert cells(html) == [["0.500 ±0.064", "–"], ["–", "0.100 ±0.064"]]


def test_a_group_and_a_metric_of_which_less_is_better() -> None:
    html = drawn(row("student", n_samples=None, n_shot=None, higher_is_better=False))
    assert "mean of its tasks" in html
    assert "less is better" in html


def test_compare_shows_it_below_the_scores_and_notices_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {"run": "r", "name": "r", "status": {"state": "finished", "stage": 0}}
    shown |= {"evaluation": None, "harness": None}
    scored = {"harness": "lm-eval 0.4", "scored_time_s": 7.0, "scores": [row("student")]}
    assert "Tasks of lm-eval" not in compare_handlers.scores(shown)
    html = compare_handlers.scores(shown | {"harness": scored})
    assert html.index("Not scored yet") < html.index("Tasks of lm-eval 0.4")
    monkeypatch.setattr(api, "show", lambda name, *, runs_dir: shown)
    before = compare_handlers.signature("r", "runs")
    shown["harness"] = scored
    assert compare_handlers.signature("r", "runs") != before
    monkeypatch.setattr(api, "evaluate", lambda name, *, runs_dir: {"models": {}})
    assert "Tasks of lm-eval 0.4" in compare_handlers.evaluate_now("r", "runs"), "scored again"
