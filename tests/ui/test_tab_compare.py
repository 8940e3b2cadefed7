"""Compare: streaming panes, tokens and their distributions, scores, the blind vote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from distill_core import api
from ui.comparing import answers_drawn, blind_vote, choices, compare_handlers, scores_drawn

TOP = [{"text": "a", "probability": 0.9}, {"text": "<b>", "probability": 0.1}]
OTHER = [{"text": "<b>", "probability": 0.6}, {"text": "a", "probability": 0.4}]
TOKENS = [
    {"text": "a", "kl": 0.01, "agree": True, "student_top": TOP, "teacher_top": TOP},
    {"text": "<b>", "kl": 1.0, "agree": False, "student_top": OTHER, "teacher_top": TOP},
]
MODELS = [
    {"key": "teacher", "title": "Big & old", "role": "teacher", "parameters": 1000, "bytes": 4000},
    {"key": "student", "title": "student", "role": "student", "parameters": 100, "bytes": 400},
    {"key": "run:x", "title": "student of x", "role": "other", "parameters": 9, "bytes": 36},
]
EVALUATION = {
    "data": {"name": "held out", "rows": 1000, "overlap_with_training": 0},
    "models": {
        "untrained_student": {"parameters": 100, "exact_match": 0.0},
        "student": {
            "parameters": 100,
            "exact_match": 0.965,
            "exact_match_ci95": [0.952, 0.975],
            "tokens_per_s": 500.0,
            "kl_to_teacher": 0.02,
        },
        "teacher": {
            "parameters": 1000,
            "exact_match": 0.99,
            "exact_match_ci95": [0.98, 0.995],
            "tokens_per_s": 100.0,
        },
        "fine_tuned_on_labels": {"parameters": 100, "exact_match": 0.25, "tokens_per_s": 500.0},
    },
    "retention": 0.975,
    "retention_ci95": [0.96, 0.985],
    "verdict": "beats",
    "verdict_against": "fine_tuned_on_labels",
    "paired_test_p": 0.00001,
}


def run(state: str = "finished", evaluation: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "run": "run-1",
        "name": "mine",
        "status": {"state": state, "stage": 0},
        "evaluation": evaluation,
    }


def events() -> Iterator[dict[str, Any]]:
    for key, words in (("teacher", "aa"), ("student", "a<b>")):
        yield {"type": "loading", "model": key}
        yield {"type": "loaded", "model": key, "fingerprint": f"f-{key}", "bytes": 4, "x": 1}
        yield {"type": "token", "model": key, "text": words, "index": 0}
        rate = 100.0 if key == "teacher" else 500.0
        yield {
            "type": "answer",
            "model": key,
            "text": words,
            "tokens_per_s": rate,
            "latency_ms": 12.0,
        }
    yield {
        "type": "tokens",
        "model": "student",
        "mean_kl": 0.5,
        "top1_agreement": 0.5,
        "tokens": TOKENS,
    }


@pytest.fixture
def one_run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A finished run with two models; `asked` holds what was asked of it."""
    asked: dict[str, Any] = {"shown": run(evaluation=EVALUATION)}

    def compare(name: str, prompt: str, **settings: Any) -> Iterator[dict[str, Any]]:
        asked.update(run=name, prompt=prompt, **settings)
        return events()

    prompts = [{"prompt": "one", "response": "<1>"}, {"prompt": "two", "response": None}]
    monkeypatch.setattr(api, "show", lambda name, *, runs_dir: asked["shown"])
    monkeypatch.setattr(api, "comparable", lambda name, *, runs_dir: MODELS)
    monkeypatch.setattr(api, "held_out_prompts", lambda name, *, runs_dir: prompts)
    monkeypatch.setattr(api, "compare", compare)
    return asked


def ask(models: list[str], prompt: str = "hello") -> list[tuple[Any, Any, Any]]:
    return list(compare_handlers.ask(prompt, models, 0.5, 32, "run-1", "runs"))


# --- asking -----------------------------------------------------------------------------------


def test_answers_stream_and_end_with_the_most_telling_token(one_run: dict[str, Any]) -> None:
    frames = ask(["teacher", "student"])
    assert "waiting" in frames[0][0]
    assert any("loading its weights" in frame[0] for frame in frames)
    panes, answers, card = frames[-1]
    assert [answer["text"] for answer in answers] == ["aa", "a<b>"]
    assert "weights f-student" in panes
    assert "500 tokens/s · 12 ms · 5 × faster" in panes
    assert "Big &amp; old" in panes
    assert "<b>" not in re.sub(r"</?b>(?!</)", "", card.replace("<h3>", "")).replace("<b>", "", 0)
    assert "Token 2: where they differ" in card
    assert one_run["models"] == ["teacher", "student"]
    assert (one_run["max_new_tokens"], one_run["sampling_temperature"]) == (32, 0.5)


def test_only_known_models_are_asked(one_run: dict[str, Any]) -> None:
    ask(["student", "../../etc"])
    assert one_run["models"] == ["student"]
    assert "Choose at least one model" in ask([])[-1][0]


def test_a_refusal_is_shown_and_nothing_else(
    one_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, prompt: str, **settings: Any) -> Iterator[dict[str, Any]]:
        raise api.DistillError("The prompt is <empty>.")
        yield {}

    monkeypatch.setattr(api, "compare", refuse)
    panes, answers, _ = ask(["teacher"], "")[-1]
    assert "The prompt is &lt;empty&gt;." in panes
    assert answers == []


def test_tokens_are_buttons_that_say_what_their_shade_says(one_run: dict[str, Any]) -> None:
    panes = ask(["teacher", "student"])[-1][0]
    buttons = re.findall(r"<button.*?</button>", panes)
    assert len(buttons) == 2
    assert 'data-model="student" data-index="1"' in buttons[1]
    assert 'aria-label="&lt;b&gt;: KL 1.00 nats, the teacher prefers a"' in buttons[1]
    assert "ds-differs" in buttons[1]
    assert "ds-differs" not in buttons[0]
    shades = [int(re.search(r"--shade:(\d+)%", button).group(1)) for button in buttons]  # type: ignore[union-attr]
    assert shades[0] < shades[1] <= 45


def test_choosing_a_token_shows_both_distributions(one_run: dict[str, Any]) -> None:
    answers = ask(["teacher", "student"])[-1][1]
    event = gr.EventData(None, {"model": "student", "index": 0})
    card = compare_handlers.show_token(answers, event)
    assert "Token 1: where they agree" in card
    assert card.count("<caption") == 2
    assert "90.0 %" in card


@pytest.mark.parametrize(
    ("model", "index"), [("student", 99), ("nobody", 0), (None, "x"), ("student", -1)]
)
def test_choosing_what_is_not_there_shows_the_hint(
    one_run: dict[str, Any], model: object, index: object
) -> None:
    answers = ask(["teacher", "student"])[-1][1]
    assert "choose a token" in compare_handlers.pick_token(answers, model, index)


@pytest.mark.parametrize(
    ("student", "words"),
    [
        (TOP, "Both are as sure of “a”."),
        (OTHER, "The teacher prefers “a” (90 %), the student “<b>” (60 %)."),
        ([{"text": "a", "probability": 0.5}], "Both prefer “a”; the student is less sure."),
    ],
)
def test_the_reading_in_one_sentence(student: list[dict[str, Any]], words: str) -> None:
    token = {"teacher_top": TOP, "student_top": student}
    assert answers_drawn.reading(token) == words


def test_invisible_tokens_have_a_sign() -> None:
    assert answers_drawn.visible("\n") == "⏎"
    assert answers_drawn.visible("") == "∅"


# --- the run in view --------------------------------------------------------------------------


def test_without_a_run_the_tab_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *, runs_dir: str) -> dict[str, Any]:
        raise api.DistillError("no run")

    monkeypatch.setattr(api, "show", missing)
    seen, empty, content, *rest = compare_handlers.follow_run("", "unknown", "", "runs")
    assert seen == ""
    assert (empty["visible"], content["visible"]) == (True, False)
    assert "Build" in compare_handlers.NO_RUN[1]
    assert all(update == gr.skip() for update in rest)


def test_the_tab_follows_the_run_and_is_quiet_when_nothing_changed(
    one_run: dict[str, Any],
) -> None:
    found = compare_handlers.follow_run("run-1", "unknown", "", "runs")
    seen, empty, content, head, models, rival, prompts, prompt, scores, button, picker = found
    assert (empty["visible"], content["visible"]) == (False, True)
    assert "finished" in head
    assert models["value"] == ["teacher", "student"]  # other runs only when chosen
    assert ("◇ student of x · 9", "run:x") in models["choices"]
    assert (rival["value"], len(rival["choices"])) == ("teacher", 2)
    assert (len(prompts), prompt) == (2, "one")
    assert "On 1,000 held-out rows" in scores
    assert button["value"] == "Score again"
    assert compare_handlers.follow_run("run-1", seen, "", "runs") == (gr.skip(),) * 11
    assert picker["value"] == "run-1"
    assert models["info"] == choices.OTHERS_TOO
    one_run["shown"] = run("running")
    changed = compare_handlers.follow_run("run-1", seen, "typed", "runs")
    assert changed[7] == gr.skip()  # a prompt that somebody typed stays
    assert "Not scored yet" in changed[8]


def test_the_mark_differs_whenever_the_tab_would(one_run: dict[str, Any]) -> None:
    one_run["shown"] = run("running")
    seen, *_ = compare_handlers.follow_run("run-1", "unknown", "", "runs")
    assert compare_handlers.signature("run-1", "runs") == seen
    one_run["shown"] = run("finished")
    assert compare_handlers.signature("run-1", "runs") != seen


def test_a_run_beside_it_changes_the_choices_and_leaves_what_is_ticked(
    one_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, *_ = compare_handlers.follow_run("run-1", "unknown", "", "runs")
    later = {**run(), "run": "run-2", "name": "other", "created_time_s": None}
    monkeypatch.setattr(choices, "list_runs", lambda _: [later])
    found = compare_handlers.follow_run("run-1", seen, "", "runs")
    assert found[0] != seen
    assert "value" not in found[4], "what is ticked stays"
    assert "choices" in found[4]
    assert [key for _, key in found[10]["choices"]] == ["run-2"]
    running = {**later, "status": {"state": "running"}}
    monkeypatch.setattr(choices, "list_runs", lambda _: [running])
    assert compare_handlers.follow_run("run-1", seen, "", "runs")[0] == gr.skip()


def test_held_out_prompts_come_in_turn_with_their_label(one_run: dict[str, Any]) -> None:
    prompts = [{"prompt": "one", "response": "<1>"}, {"prompt": "two", "response": None}]
    assert compare_handlers.another_prompt(prompts, 0) == ("two", 1, "")
    prompt, at, label = compare_handlers.another_prompt(prompts, 1)
    assert (prompt, at) == ("one", 0)
    assert "&lt;1&gt;" in label
    assert compare_handlers.another_prompt([], 0)[0] == gr.skip()


# --- scores -----------------------------------------------------------------------------------


def test_scores_stand_with_their_intervals_and_ratios() -> None:
    html = scores_drawn.table(EVALUATION)
    order = [html.index(name) for name in ("teacher</span>", "student</span>", "fine-tuned on")]
    assert order == sorted(order)
    assert "<b>96.5 %</b>" in html
    assert "95.2–97.5" in html
    assert "<b>97.5 %</b>" in html  # quality kept
    assert "96.0–98.5" in html
    assert "10 × smaller" in html
    assert "5 × faster" in html
    assert "25.3 %" in html  # the baseline's quality kept: .25 / .99
    assert "latency" not in html  # nobody measured it
    assert "the same student fine-tuned on the labels (paired test, p &lt; .001)" in html


@pytest.mark.parametrize("word", list(scores_drawn.VERDICTS))
def test_every_verdict_is_said(word: str) -> None:
    said = {**EVALUATION, "verdict": word, "paired_test_p": 0.04}
    assert "p = 0.040" in scores_drawn.verdict(said)
    assert scores_drawn.VERDICTS[word][1] in scores_drawn.verdict(said)


def test_shared_rows_and_missing_scores_are_not_hidden() -> None:
    html = scores_drawn.table(
        {"data": {"rows": 5, "overlap_with_training": 2}, "models": {"student": {}}}
    )
    assert "2 rows shared with training" in html
    assert "exact match" not in html


def test_a_slower_larger_student_is_said_to_be_so() -> None:
    ratio = scores_drawn._ratio(
        {"tokens_per_s": 50.0}, {"tokens_per_s": 100.0}, "tokens_per_s", "faster"
    )
    assert ratio == "2 × slower"


def test_scoring_now_shows_scores_or_why_not(
    one_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "evaluate", lambda name, *, runs_dir: EVALUATION)
    assert "On 1,000" in compare_handlers.evaluate_now("run-1", "runs")

    def refuse(name: str, *, runs_dir: str) -> dict[str, Any]:
        raise api.DistillError("No student yet.")

    monkeypatch.setattr(api, "evaluate", refuse)
    assert "No student yet." in compare_handlers.evaluate_now("run-1", "runs")


# --- blind vote -------------------------------------------------------------------------------


def vote_frames(rival: str = "teacher") -> list[tuple[Any, ...]]:
    prompts = [{"prompt": "one <i>", "response": ""}]
    return list(blind_vote.blind(prompts, rival, 32, "run-1", "runs"))


def test_nothing_tells_who_is_who_before_the_vote(one_run: dict[str, Any]) -> None:
    frames = vote_frames()
    for frame in frames:
        assert "student" not in str(frame[1])
        assert "Big" not in str(frame[1])
        assert "tokens/s" not in str(frame[1])
    assert "one &lt;i&gt;" in frames[0][0]
    assert [update["interactive"] for update in frames[-2][3:]] == [False] * 3
    assert [update["interactive"] for update in frames[-1][3:]] == [True] * 3


def test_a_vote_reveals_and_counts_once(one_run: dict[str, Any]) -> None:
    ballot = vote_frames()[-1][2]
    choice = "AB"[[answer["key"] for answer in ballot["answers"]].index("student")]
    panes, votes, emptied, told, *_ = blind_vote.cast(choice, ballot, {})
    assert "Big &amp; old" in panes
    assert votes == {"run-1 teacher": {"student": 1, "rival": 0, "tie": 0}}
    assert "After 1 vote: <b>student 1</b> · Big &amp; old 0" in told
    again = blind_vote.cast(choice, emptied, votes)
    assert again[1] == gr.skip()
    tied = blind_vote.cast(blind_vote.TIE, ballot, votes)
    assert tied[1]["run-1 teacher"] == {"student": 1, "rival": 0, "tie": 1}


def test_a_tally_that_the_browser_garbled_starts_anew() -> None:
    votes = blind_vote.counted({"r x": {"student": "many", "rival": 2}}, "r", "x", "tie")
    assert votes == {"r x": {"student": 0, "rival": 2, "tie": 1}}
    assert blind_vote.counted("?", "r", "x", "rival") == {
        "r x": {"student": 0, "rival": 1, "tie": 0}
    }


def test_a_vote_needs_a_student_and_a_rival(one_run: dict[str, Any]) -> None:
    assert "No vote yet" in vote_frames("nobody")[-1][1]
