"""`advise --probe` in this process: it is followed to its end, paused by Ctrl-C, told when bad."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core import api, cli
from distill_core.cli import cli_advise
from distill_core.errors import Problem, RecipeError
from tests.core.test_cli import ADVICE

ARMS = [
    {"doing": "distilling", "scores": [0.6, 0.62, 0.61]},
    {"doing": "fine-tuning", "scores": [0.5, 0.52, 0.51]},
]
LOOK = {"seeds": 3, "difference": 0.1, "low": 0.06, "high": 0.14, "confidence": 0.9875}


def now(state: str, seeds: int, **more: Any) -> dict[str, Any]:
    facts = {"state": state, "seeds": seeds, "metric": "exact_match", "arms": ARMS, "notes": []}
    facts |= {"looks": [LOOK] if seeds > 2 else [], "phase": "training", "message": ""}
    facts |= {"stage_title": f"Distill, seed {seeds + 1}", "total_steps": 200, "final": False}
    return facts | more


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command on a probe whose states a test gives, one a look."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli_advise, "LOOK_S", 0.0)
    (tmp_path / "a.yaml").write_text("data: {source: starter}\n")
    monkeypatch.setattr(api, "advise", lambda answers, **_: dict(ADVICE))
    monkeypatch.setattr(api, "probe_plan", lambda answers, **_: {"words": ["Compares both."]})
    monkeypatch.setattr(api, "start_probe", lambda answers, **_: "probe-1")
    monkeypatch.setattr(api, "supervise_apart", lambda runs_dir: None)

    def run(states: Iterator[dict[str, Any]], *more: str) -> tuple[int, str, str]:
        last: list[dict[str, Any]] = []

        def look(run: str, **_: Any) -> dict[str, Any]:
            last[:] = [next(states, last[-1] if last else {})]
            return last[0]

        monkeypatch.setattr(api, "probe", look)
        code = cli.main(["advise", "a.yaml", "--probe", *more])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def whole() -> Iterator[dict[str, Any]]:
    """From the queue to the end."""
    yield now("queued", 0)
    yield now("running", 0)
    yield now("running", 1)
    yield now("running", 1)
    words = {"words": "measured: distilling is better by 10.0 points [6.0, 14.0]", "why": "Clear."}
    yield now("finished", 3, final=True, **words)


def test_it_tells_each_thing_once_and_then_the_advice(
    told: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, err = told(whole())
    assert code == 0
    for line in (
        "Compares both.",
        "Probe probe-1; Ctrl-C pauses it.",
        "Waiting for its turn.",
        "training: Distill, seed 1, 200 steps",
        "seed 1: distilling 60.0 %, fine-tuning 50.0 %",
        "after 3 seeds: difference 10.0 % [6.0 %, 14.0 %]",
        "measured: distilling is better by 10.0 points [6.0, 14.0]. Clear.",
    ):
        assert err.count(line + "\n") == 1, line
    assert "Confidence: high." in out


def test_json_is_one_document_with_the_probe_in_it(
    told: Callable[..., tuple[int, str, str]],
) -> None:
    code, out, _ = told(whole(), "--json", "--minutes", "3")
    document = json.loads(out)
    assert code == 0
    assert document["probe"]["seeds"] == 3
    assert document["title"] == ADVICE["title"]


def test_ctrl_c_pauses_it_and_says_how_to_go_on(
    told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[str] = []
    monkeypatch.setattr(api, "pause", lambda run, **_: paused.append(run))

    def states() -> Iterator[dict[str, Any]]:
        yield now("running", 0)
        signal.raise_signal(signal.SIGINT)
        yield now("stopping", 0)
        yield now("paused", 0)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, out, err = told(states())
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, paused, out) == (130, ["probe-1"], "")
    assert "Saving, then pausing." in err
    assert "Go on with the same command, or with: distill-studio resume probe-1" in err


def test_a_failed_probe_says_why(
    told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = {"error": {"message": "The disk is full."}, "message": ""}
    monkeypatch.setattr(api, "show", lambda run, **_: {"status": status})
    code, _, err = told(iter([now("failed", 0)]))
    assert code == 1
    assert "The disk is full." in err


def test_bad_input_is_told_at_its_answer(
    told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(severity="error", field="data.source", message="None.", fix="Name a file.")

    def refuse(answers: Any, **_: Any) -> None:
        raise RecipeError([problem])

    monkeypatch.setattr(api, "probe_plan", refuse)
    code, out, err = told(iter([]), "--json")
    assert code == 1
    assert json.loads(out)["error"]["problems"][0]["field"] == "data.source"
    assert "data.source: None. Name a file." in err
