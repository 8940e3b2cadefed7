"""A probe's result in the advice: found again by what it was about, and before all rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core import api, files, runs
from distill_core.advisor import measured
from distill_core.advisor.answers import parse
from distill_core.probe import probe_file
from distill_core.probe.probe_file import Arm, Probe
from distill_core.recipe import recipe_yaml

CLOSE: dict[str, Any] = {
    **{"goal": "smaller_faster", "task": "classification", "data.source": "starter"},
    **{"teacher.exists": "yes", "teacher.name": "pocket-teacher", "teacher.good_at_task": "yes"},
    **{"student.max_parameters": 2e5, "student.published_checkpoint": "no"},
}
WORDS = "measured: fine-tuning is better by 6.1 points [3.9, 8.2]"


def arm(verdict: str) -> Arm:
    stage = {"kind": "distill", "teacher": "pocket-teacher", "student": {"init": "scratch"}}
    data = {"sources": [{"kind": "starter"}]}
    recipe = recipe_yaml.parse({"name": "probe", "data": data, "stages": [stage]})
    return Arm(verdict=verdict, title="", doing="", recipe=recipe, stage_steps=[2000], origin=0)


def probed(
    runs_dir: Path,
    answers: dict[str, Any],
    *,
    winner: str | None = "fine_tune",
    verdicts: tuple[str, str] = ("distill", "fine_tune"),
    final: bool = True,
    same: bool = False,
) -> Path:
    """A probe of these answers that has ended."""
    arms = [arm(verdict) for verdict in verdicts]
    folder = runs.create(arms[0].recipe, runs_dir, state="finished")
    mark = measured.fingerprint(parse(api.advise(answers, runs_dir=runs_dir)["answers"]))
    probe_file.write(folder, Probe(arms=arms, fingerprint=mark, minutes=10))
    loser = next(one for one in verdicts if one != winner) if winner else None
    told = {"final": final, "winner": winner, "loser": loser, "same": same, "words": WORDS}
    told |= {"why": "", "seeds": 4, "of_seeds": 6, "used_s": 300.0, "minutes": 10}
    told |= {"arms": [{"verdict": verdict} for verdict in verdicts]}
    files.replace_json(folder / probe_file.RESULT, told)
    return folder


def test_what_was_measured_outranks_the_rules_and_both_are_shown(tmp_path: Path) -> None:
    assert api.advise(CLOSE, runs_dir=tmp_path)["verdict"] == "distill"
    folder = probed(tmp_path, CLOSE)
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert told["verdict"] == "fine_tune"
    assert told["measured"] == {
        **{"run": folder.name, "words": WORDS, "why": "", "winner": "fine_tune"},
        **{"loser": "distill", "seeds": 4, "used_s": 300.0},
        **{"rules_said": "distill", "rules_title": "Distill"},
    }
    assert told["reasons"][0]["strength"] == "M"
    assert folder.name in told["reasons"][0]["sentence"]
    assert "6.1 points [3.9, 8.2]" in told["reasons"][0]["sentence"]
    assert told["recipe"]["stages"][0]["kind"] == "fine_tune"


def test_however_many_votes_the_loser_has(tmp_path: Path) -> None:
    probed(
        tmp_path,
        CLOSE,
        winner="fine_tune_then_distill",
        verdicts=("distill", "fine_tune_then_distill"),
    )
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert told["verdict"] == "fine_tune_then_distill"
    score = {row["verdict"]: row["score"] for row in told["votes"]}
    assert score["distill"] > score["fine_tune_then_distill"], "one road: no rule votes for it"


def test_a_veto_stays_a_veto(tmp_path: Path) -> None:
    probed(
        tmp_path, CLOSE, winner="progressive_distill", verdicts=("distill", "progressive_distill")
    )
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert told["verdict"] == "distill"


def test_both_surely_equal_speaks_for_the_simpler_one(tmp_path: Path) -> None:
    probed(tmp_path, CLOSE, winner=None, same=True)
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert any("P.even" in row["votes"] for row in told["votes"])
    assert told["measured"]["winner"] is None


@pytest.mark.parametrize("more", [{"winner": None}, {"final": False}])
def test_what_is_undecided_moves_nothing(more: dict[str, Any], tmp_path: Path) -> None:
    before = api.advise(CLOSE, runs_dir=tmp_path)
    probed(tmp_path, CLOSE, **more)
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert told["votes"] == before["votes"]
    assert (told["measured"] is None) == ("final" in more)


def test_it_counts_for_the_same_question_alone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"p{n}", "response": "ab"[n % 2]}) + "\n" for n in range(900))
    )
    mine = CLOSE | {"data.source": str(rows)}
    probed(tmp_path / "runs", mine)

    def counts(**changes: Any) -> bool:
        given = mine | {name.replace("__", "."): value for name, value in changes.items()}
        return api.advise(given, runs_dir=tmp_path / "runs")["measured"] is not None

    assert counts()
    assert counts(constraints__calls_per_month=10), "what it does not depend on"
    assert not counts(student__max_parameters=9e5)
    assert not counts(task="extraction")
    assert not counts(teacher__name="smollm2-135m-instruct")
    assert not counts(data__source="starter")
    copied = tmp_path / "copy.jsonl"
    copied.write_bytes(rows.read_bytes())
    assert counts(data__source=str(copied)), "the same rows under another name"
    rows.write_text(rows.read_text() + '{"prompt": "new", "response": "a"}\n')
    assert not counts(), "other rows under the same name"


def test_a_damaged_probe_is_passed_over(tmp_path: Path) -> None:
    folder = probed(tmp_path, CLOSE)
    (folder / probe_file.PROBE).write_text("{")
    assert api.advise(CLOSE, runs_dir=tmp_path)["measured"] is None
