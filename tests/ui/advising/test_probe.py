"""The Advisor's probe card: what is said before, meanwhile and after, and what the buttons do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_core import api
from distill_core.runs import status
from ui.advising import advice_drawn, probe_drawn, probe_handlers
from ui.advising.advice_answers import form_values

QUESTIONS = api.advisor_questions(here=False)
FIELDS = [question["field"] for question in QUESTIONS]


def values(**changes: Any) -> list[Any]:
    """The form as it opens, the starter's; `__` stands for the dot."""
    form = dict(zip(FIELDS, form_values(QUESTIONS, {}), strict=True))
    return list({**form, **{k.replace("__", "."): v for k, v in changes.items()}}.values())


def found(**changes: Any) -> dict[str, Any]:
    """A probe after three seeds."""

    def arm(verdict: str, title: str, doing: str, scores: list[float]) -> dict[str, Any]:
        curve = {"step": [0, 50, 100, 150, 200], "value": [0.0, 0.2, 0.4, 0.5, scores[0]]}
        ahead = {"steps": 2000, "value": 0.9, "low": 0.8, "high": 0.95, "why": ""}
        return {
            **{"verdict": verdict, "title": title, "doing": doing, "full_steps": 2000},
            **{"score": sum(scores) / 3, "scores": scores, "curves": [curve], "ahead": ahead},
        }

    told: dict[str, Any] = {
        **{"run": "20260101-000000-probe", "state": "finished", "phase": "", "message": ""},
        **{"stage_title": "Distill, seed 3", "step": 20, "total_steps": 200, "error": None},
        **{"final": True, "minutes": 10.0, "used_s": 372.0, "steps": 200, "rows": 600},
        **{"metric": "exact_match", "seeds": 3, "of_seeds": 6, "winner": "distill"},
        **{"loser": "fine_tune", "same": False, "difference": 0.061, "low": 0.039},
        **{"high": 0.082, "confidence": 0.9875, "looks": [], "notes": ["<i>one note</i>"]},
        **{"words": "measured: distilling is better by 6.1 points [3.9, 8.2]"},
        **{"why": "The interval keeps clear of zero after 3 seeds.", "untrained_score": 0.01},
        **{"could_go_on": False, "too_early": False},
        "arms": [
            arm("distill", "Distill", "distilling", [0.61, 0.62, 0.6]),
            arm("fine_tune", "Fine-tune", "fine-tuning", [0.55, 0.54, 0.56]),
        ],
    }
    return told | changes


# --- what is drawn ----------------------------------------------------------------------------


def test_a_result_has_its_interval_seeds_scores_curves_and_forecast() -> None:
    html = probe_drawn.card(found())
    for said in (
        "Measured: distilling is better by 6.1 points [3.9, 8.2]",
        "3 seeds. The interval keeps clear of zero",
        "exact match on 600 held-out rows, after 200 steps each",
        "55.0 %",
        "Student before training",
        "full run of 2,000 steps: about 90.0 % [80.0 %, 95.0 %]",
        "difference 6.1 points, interval 3.9 to 8.2",
    ):
        assert said in html, said
    assert html.count("<polyline") == 2
    assert "<i>" not in html, "texts are escaped"


def test_arms_are_told_apart_without_colour() -> None:
    html = probe_drawn.card(found())
    assert "◆" in html
    assert "●" in html
    assert 'stroke-dasharray="5 4"' in html


def test_a_probe_at_work_says_what_it_does_and_what_is_seen_so_far() -> None:
    html = probe_drawn.card(
        found(state="running", phase="training", final=False, seeds=1, low=None, winner=None)
    )
    assert "Distill, seed 3, step 20 of 200 · 6.2 of 10 minutes" in html
    assert 'role="progressbar"' in html
    assert "1 of at most 6 seeds" in html
    assert "Measured" not in html.replace("Measure instead", "")


def test_nothing_is_drawn_of_what_is_not_there_yet() -> None:
    arms = [arm | {"scores": [], "score": None, "curves": []} for arm in found()["arms"]]
    html = probe_drawn.card(
        found(state="queued", final=False, seeds=0, low=None, metric=None, arms=arms, notes=[])
    )
    assert "No seed is finished yet." in html
    assert "<svg" not in html


def test_a_failed_probe_says_why() -> None:
    html = probe_drawn.card(found(state="failed", error={"message": "The disk is full."}))
    assert "The disk is full." in html


def test_the_advice_shows_what_was_measured_and_what_the_rules_say() -> None:
    measured = {"words": "measured: distilling is better", "winner": "distill", "seeds": 3}
    measured |= {"run": "probe-1", "rules_title": "Fine-tune"}
    html = advice_drawn._measured({"measured": measured})
    assert "Measured: distilling is better" in html
    assert "The published rules alone say: <b>Fine-tune</b>" in html
    assert advice_drawn._measured({"measured": None}) == ""


# --- what the buttons do ------------------------------------------------------------------------


def show(runs_dir: Path, *form: Any, minutes: Any = 10) -> list[Any]:
    return probe_handlers.show(QUESTIONS, str(runs_dir), minutes, *form)


def measure(runs_dir: Path, *form: Any, minutes: Any = 10, agreed: object = False) -> list[Any]:
    return probe_handlers.measure(QUESTIONS, str(runs_dir), agreed, minutes, *form)


def test_before_it_is_started_it_says_what_it_would_do(tmp_path: Path) -> None:
    view, html, start, pause, _ = show(tmp_path, *values(), minutes=7)
    assert view == probe_handlers.NOTHING
    assert "distilling and fine-tuning" in html
    assert "7 minutes" in html
    assert (start["value"], start["interactive"], pause["visible"]) == ("Measure it", True, False)
    assert api.runs(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "minutes", "said"),
    [
        ({"data__source": ""}, 10, "Name a file, or `starter`."),
        ({"data__source": "gone.jsonl"}, 10, "There is no file gone.jsonl"),
        ({}, 0, "Minutes: 0 minutes is no time for a probe."),
        ({}, None, "is no time for a probe"),
    ],
)
def test_what_stands_in_the_way_is_told_at_its_question(
    changes: dict[str, Any], minutes: Any, said: str, tmp_path: Path
) -> None:
    _, html, start, *_ = show(tmp_path, *values(**changes), minutes=minutes)
    assert said in html
    assert start["interactive"] is False
    _, html, *_ = measure(tmp_path, *values(**changes), minutes=minutes)
    assert said in html
    assert api.runs(tmp_path) == []


def test_measuring_starts_a_run_that_can_be_paused_and_goes_on(tmp_path: Path) -> None:
    view, html, start, pause, _ = measure(tmp_path, *values())
    assert "queued" in html
    assert (start["visible"], pause["visible"]) == (False, True)
    (run,) = api.runs(tmp_path)
    assert view["run"] == run["run"]
    view, html, start, pause, _ = probe_handlers.pause(str(tmp_path), view)
    assert "paused" in html
    assert (start["value"], start["visible"]) == ("Go on measuring", True)
    assert pause["visible"] is False
    measure(tmp_path, *values())
    assert [run["status"]["state"] for run in api.runs(tmp_path)] == ["queued"]


def test_a_reloaded_page_finds_it(tmp_path: Path) -> None:
    started, *_ = measure(tmp_path, *values())
    view, html, *_ = show(tmp_path, *values())
    assert view["run"] == started["run"]
    assert "queued" in html


def test_only_what_has_changed_is_drawn_again(tmp_path: Path) -> None:
    view, *_ = measure(tmp_path, *values())
    mark = probe_handlers.mark(str(tmp_path), "")
    assert probe_handlers.mark(str(tmp_path), "") == mark
    assert probe_handlers.follow(str(tmp_path), view)[0] != view  # a skip
    folder = tmp_path / view["run"]
    status.write(folder, status.read(folder) | {"state": "stopped"})
    assert probe_handlers.mark(str(tmp_path), "") != mark
    again, html, *_ = probe_handlers.follow(str(tmp_path), view)
    assert "stopped" in html
    assert again["drawn"] != view["drawn"]


@pytest.mark.parametrize("view", [None, {}, {"run": "../../etc"}, {"run": 7}, "x"])
def test_a_view_that_names_no_run_is_left_alone(view: object, tmp_path: Path) -> None:
    assert len(probe_handlers.follow(str(tmp_path), view)) == 5
    assert probe_handlers.ended(view) == ""


def test_a_licence_that_asks_something_is_confirmed_first(tmp_path: Path) -> None:
    form = values(teacher__license="llama")
    _, html, *_ = measure(tmp_path, *form)
    assert "Read the teacher&#x27;s licence" in html
    assert api.runs(tmp_path) == []
    measure(tmp_path, *form, agreed=True)
    assert len(api.runs(tmp_path)) == 1
