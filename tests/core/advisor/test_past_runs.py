"""Past runs on the same rows: which count, who won, and how they enter the advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill_core import api, files, runs
from distill_core.advisor import advise, past_runs
from distill_core.advisor.answers import parse
from distill_core.advisor.extents import Extent
from distill_core.advisor.past_runs import EVEN, LABELS, TEACHER, Past, PastRun, sum_up
from distill_core.recipe import recipe_yaml
from distill_core.runs import status

DISTILL = {"kind": "distill", "teacher": "pocket-teacher", "student": {"init": "scratch"}}
TUNE = {"kind": "fine_tune", "model": "pocket-teacher"}


def finished(
    runs_dir: Path,
    name: str,
    *,
    stages: list[dict[str, Any]] | None = None,
    source: dict[str, Any] | None = None,
    score: float = 0.9,
    against: tuple[float, float, float] | None = None,
    state: str = "finished",
    parameters: int = 200_000,
    metric: str = "exact_match",
    steps: int = 2000,
    limits: tuple[int | None, int | None] = (None, None),
) -> Path:
    """A run's folder with its evaluation; `against` fine-tuning: difference, and its interval."""
    starter = [
        {"kind": "starter", "split": split} | ({"limit": limit} if limit else {})
        for split, limit in zip(("labelled", "unlabelled"), limits, strict=True)
    ]
    data = {"sources": [source] if source else starter}
    trained = [{**stage, "optim": {"max_steps": steps}} for stage in stages or [DISTILL]]
    recipe = recipe_yaml.parse({"name": name, "data": data, "stages": trained})
    folder = runs.create(recipe, runs_dir, state="queued")
    status.write(folder, status.read(folder) | {"state": state})
    student = {"parameters": parameters, metric: score}
    student[f"{metric}_ci95"] = [score - 0.02, score + 0.02]
    told: dict[str, Any] = {
        "models": {"teacher": {"parameters": 1_600_000}, "student": student},
        "metric": {"name": metric},
        "retention": score,
        "size_ratio": 1_600_000 / parameters,
        "speedup": 3.0,
        "comparisons": [],
    }
    if against is not None:
        told["comparisons"].append(
            {
                "against": "fine_tuned_on_labels",
                "difference": against[0],
                "difference_ci95": list(against[1:]),
            }
        )
    files.replace_json(folder / "evaluation.json", told)
    return folder


STARTER = parse({"data.source": "starter"})


# --- which runs count -------------------------------------------------------------------------


def test_runs_on_the_same_rows_count_and_no_others(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"p{n}", "response": "a"}) + "\n" for n in range(50))
    )
    finished(tmp_path / "runs", "starter-run")
    finished(tmp_path / "runs", "file-run", source={"kind": "file", "path": str(rows)})
    finished(tmp_path / "runs", "hub-run", source={"kind": "hub", "id": "org/rows"})
    finished(tmp_path / "runs", "stopped-run", state="stopped")

    def found(source: str) -> list[str]:
        past = past_runs.past_runs(parse({"data.source": source}), tmp_path / "runs")
        return [run.name for run in past.runs]

    assert found("starter") == ["starter-run"]
    assert found(str(rows)) == ["file-run"]
    assert found(f"{tmp_path}/runs/../rows.jsonl") == ["file-run"], "the same file by another path"
    assert found("org/rows") == ["hub-run"]
    assert found("other.jsonl") == []
    assert past_runs.past_runs(parse({}), tmp_path / "runs") == past_runs.NO_PAST


def test_a_damaged_run_is_passed_over(tmp_path: Path) -> None:
    broken = finished(tmp_path, "broken")
    (broken / "recipe.yaml").write_text("stages: what", encoding="utf-8")
    unscored = finished(tmp_path, "unscored")
    (unscored / "evaluation.json").write_text("{", encoding="utf-8")
    finished(tmp_path, "good")
    assert [run.name for run in past_runs.past_runs(STARTER, tmp_path).runs] == ["good"]


def test_a_run_says_what_it_measured(tmp_path: Path) -> None:
    finished(tmp_path, "trial", against=(0.3, 0.25, 0.35))
    (run,) = past_runs.past_runs(STARTER, tmp_path).runs
    assert (run.road, run.metric, run.score, run.retention) == (TEACHER, "exact_match", 0.9, 0.9)
    assert run.labelled_rows is not None
    assert run.labelled_rows > 400, "the starter's labels but for those held out"


# --- which are like the plan ------------------------------------------------------------------

PLANS = {
    TEACHER: Extent(rows=20_500, steps=2000, parameters=187_840),
    LABELS: Extent(rows=500, steps=2000, parameters=187_840),
}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"steps": 1000}, ""),
        ({"steps": 151}, "a short trial, not counted: 151 steps against 2,000"),
        ({"limits": (200, 256)}, "a short trial, not counted: 436 rows against 20,500"),
        ({"parameters": 900_000}, "another size, not counted: a student 4.8 × larger"),
        ({"parameters": 50_000}, "another size, not counted: a student 3.8 × smaller"),
    ],
)
def test_a_run_counts_where_rows_steps_and_size_are_like_the_plan(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    finished(tmp_path, "trial", against=(-0.05, -0.08, -0.02), **changes)
    past = past_runs.past_runs(STARTER, tmp_path, PLANS)
    assert past.runs[0].not_counted == why
    assert past.winner == (None if why else LABELS)


def test_each_road_has_its_own_rows(tmp_path: Path) -> None:
    finished(tmp_path, "tuned", stages=[TUNE], source={"kind": "starter", "split": "labelled"})
    assert past_runs.past_runs(STARTER, tmp_path, PLANS).runs[0].not_counted == ""


def test_a_short_trial_changes_nothing_but_is_shown(tmp_path: Path) -> None:
    before = api.advise(CLOSE, runs_dir=tmp_path)
    finished(tmp_path, "trial", steps=151, limits=(200, 256), against=(-0.5, -0.6, -0.4))
    after = api.advise(CLOSE, runs_dir=tmp_path)
    assert "151 steps against 2,000" in after.pop("past_runs")[0]["not_counted"]
    before.pop("past_runs")
    assert after == before


# --- who won ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("against", "winner", "words"),
    [
        (
            (0.061, 0.039, 0.082),
            TEACHER,
            "distilling was better than fine-tuning by 6.1 % [3.9 %, ",
        ),
        ((-0.05, -0.08, -0.02), LABELS, "fine-tuning was better than distilling by 5.0 % [2.0 %, "),
        ((0.001, -0.01, 0.012), EVEN, "-1.0 % to 1.2 %"),
        ((0.02, -0.05, 0.09), None, ""),
    ],
)
def test_a_run_with_the_baseline_decides_by_its_paired_interval(
    against: tuple[float, float, float], winner: str | None, words: str, tmp_path: Path
) -> None:
    finished(tmp_path, "trial", against=against)
    past = past_runs.past_runs(STARTER, tmp_path)
    assert past.winner == winner
    assert words in past.words
    assert ("In trial " in past.words) == (winner is not None)


def test_less_is_better_where_bits_are_counted(tmp_path: Path) -> None:
    finished(tmp_path, "bits", against=(-0.3, -0.4, -0.2), metric="bits_per_byte")
    assert past_runs.past_runs(STARTER, tmp_path).winner == TEACHER


def test_two_runs_are_compared_where_their_intervals_lie_apart(tmp_path: Path) -> None:
    finished(tmp_path, "taught", score=0.92)
    finished(tmp_path, "tuned", stages=[TUNE], score=0.80)
    past = past_runs.past_runs(STARTER, tmp_path)
    assert past.winner == TEACHER
    assert past.words == "Distilling was better than fine-tuning: taught 92.0 %, tuned 80.0 %."


@pytest.mark.parametrize("changes", [{"score": 0.9}, {"parameters": 900_000}])
def test_runs_that_overlap_or_differ_in_size_decide_nothing(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    finished(tmp_path, "taught", score=0.92)
    finished(tmp_path, "tuned", stages=[TUNE], **{"score": 0.7, **changes})
    assert past_runs.past_runs(STARTER, tmp_path).winner is None


# --- what follows -----------------------------------------------------------------------------

CLOSE: dict[str, Any] = {
    **{"goal": "smaller_faster", "task": "classification", "data.labelled_rows": 500},
    **{"data.label_quality": "clean", "data.unlabelled_rows": 20_000, "data.held_out_rows": 600},
    **{"teacher.exists": "yes", "teacher.access": "weights", "teacher.good_at_task": "yes"},
    **{"teacher.parameters": 1.6e6, "student.max_parameters": 2e5, "data.source": "starter"},
}


def test_what_was_measured_turns_the_verdict_and_is_named_first(tmp_path: Path) -> None:
    assert api.advise(CLOSE, runs_dir=tmp_path)["verdict"] == "distill"
    finished(tmp_path, "trial", against=(-0.05, -0.08, -0.02))
    told = api.advise(CLOSE, runs_dir=tmp_path)
    assert told["verdict"] == "fine_tune"
    assert told["reasons"][0]["rule"] == "P.labels_won"
    assert told["reasons"][0]["strength"] == "M"
    assert "In trial fine-tuning was better" in told["reasons"][0]["sentence"]
    assert [run["name"] for run in told["past_runs"]] == ["trial"]
    before = next(row for row in told["votes"] if row["verdict"] == "fine_tune")
    assert before["votes"]["P.labels_won"] == 6


def test_a_winner_among_other_numbers_of_labels_does_not_count() -> None:
    won = Past(winner=TEACHER, words="In trial it won.", labelled_rows=500)

    def holds(labels: int, past: Past) -> bool:
        told = advise({**CLOSE, "data.labelled_rows": labels}, past=past)
        return any(row["votes"].keys() & {"P.teacher_won", "P.labels_won"} for row in told["votes"])

    assert [holds(labels, won) for labels in (100, 500, 1000, 1001)] == [True, True, True, False]
    lost = Past(winner=LABELS, words="In trial it lost.", labelled_rows=500)
    assert [holds(labels, lost) for labels in (249, 250, 5000)] == [False, True, True]


def past_run(**changes: Any) -> PastRun:
    facts: dict[str, Any] = {
        **{"run": "r", "name": "trial", "road": TEACHER, "metric": "exact_match", "score": 0.9},
        **{"interval": (0.88, 0.92), "retention": 0.93, "size_ratio": 8.0, "speedup": 4.0},
        **{"seconds": 60.0, "student_parameters": 200_000, "labelled_rows": 500},
    }
    return PastRun(**{**facts, **changes})


def test_measured_quality_and_speed_stand_before_what_was_published() -> None:
    past = sum_up([past_run(), past_run(name="second", retention=0.95, speedup=5.0)])
    kept = advise(CLOSE, past=past)["expected"]["retention"]
    assert (kept["low"], kept["high"]) == pytest.approx((93, 95))
    assert kept["what"] == "measured in 2 of your runs: trial, second"
    assert kept["strength"] == "M"
    assert kept["published"]["high"] == 96.8
    assert advise(CLOSE, past=past)["expected"]["speed"]["low"] == 4.0


def test_runs_of_another_size_or_road_say_nothing_of_this_one() -> None:
    for other in (past_run(size_ratio=80.0), past_run(road=LABELS)):
        kept = advise(CLOSE, past=Past((other,)))["expected"]["retention"]
        assert kept["strength"] == "C"
