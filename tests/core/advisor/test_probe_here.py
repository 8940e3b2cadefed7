"""From answers to a probe: what is compared, what stands in the way, starting and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_core import api, files, runs
from distill_core.errors import RecipeError, RunError
from distill_core.probe import probe_file
from distill_core.probe.probe_file import Pace
from distill_core.runs import status

STARTER: dict[str, Any] = {
    **{"goal": "smaller_faster", "task": "extraction", "data.source": "starter"},
    **{"teacher.name": "pocket-teacher", "teacher.good_at_task": "yes"},
    **{"student.max_parameters": 210_000, "student.published_checkpoint": "no"},
}


def fields(answers: dict[str, Any], minutes: float = 10) -> list[str]:
    """Where the problems are."""
    with pytest.raises(RecipeError) as caught:
        api.probe_plan(answers, minutes=minutes)
    return [problem.field for problem in caught.value.problems]


# --- what it would do ---------------------------------------------------------------------------


def test_it_compares_the_best_of_each_road_and_says_how() -> None:
    plan = api.probe_plan(STARTER, minutes=7)
    assert [arm["verdict"] for arm in plan["arms"]] == ["distill", "fine_tune"]
    words = " ".join(plan["words"])
    for said in ("distilling and fine-tuning", "the starter's rows", "7 minutes", "3 to 6"):
        assert said in words


def test_both_arms_train_the_same_student_at_the_same_rate(tmp_path: Path) -> None:
    run = api.start_probe(STARTER, runs_dir=tmp_path)
    first, second = (arm.recipe for arm in probe_file.read(tmp_path / run).arms)
    assert first.stages[0].student == second.stages[0].student
    assert first.stages[0].optim == second.stages[0].optim
    assert first.data == second.data
    assert first.evaluation.baselines == []


def test_without_a_teacher_the_student_before_training_is_the_rival(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "p{n}", "response": "a"}}\n' for n in range(900)))
    alone = {"teacher.exists": "no", "data.source": str(rows), "student.name": "pocket-teacher"}
    plan = api.probe_plan(alone | {"task": "extraction"})
    assert {arm["verdict"] for arm in plan["arms"]} <= {"fine_tune", "lora_fine_tune"}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"data.source": "unknown"}, "data.source"),
        ({"data.source": "nowhere.jsonl"}, "data.source"),
        ({"teacher.access": "text"}, "teacher.access"),
        ({"teacher.name": "no-such-model"}, "teacher.name"),
    ],
)
def test_bad_input_is_told_at_its_answer(changes: dict[str, Any], where: str) -> None:
    assert where in fields(STARTER | changes)


@pytest.mark.parametrize("minutes", [0, -3, 100_000])
def test_minutes_have_limits(minutes: float) -> None:
    assert fields(STARTER, minutes) == ["minutes"]


# --- starting and going on ----------------------------------------------------------------------


def test_it_is_an_ordinary_run_in_the_queue(tmp_path: Path) -> None:
    run = api.start_probe(STARTER, minutes=3, runs_dir=tmp_path)
    (listed,) = api.runs(tmp_path)
    assert (listed["run"], listed["status"]["state"]) == (run, "queued")
    assert listed["name"] == "probe-distill-vs-fine-tune"
    found = api.probe(run, runs_dir=tmp_path)
    assert (found["state"], found["seeds"], found["minutes"]) == ("queued", 0, 3)
    assert [arm["curves"] for arm in found["arms"]] == [[], []]


def test_the_same_answers_go_on_with_the_same_probe(tmp_path: Path) -> None:
    run = api.start_probe(STARTER, runs_dir=tmp_path)
    assert api.start_probe(STARTER, runs_dir=tmp_path) == run, "it waits already"
    api.pause(run, runs_dir=tmp_path)
    assert api.start_probe(STARTER, runs_dir=tmp_path) == run
    assert status.read(tmp_path / run)["state"] == "queued"
    assert api.probe_of(STARTER, runs_dir=tmp_path)["run"] == run  # type: ignore[index]
    assert api.probe_of(STARTER | {"task": "chat"}, runs_dir=tmp_path) is None


def ended(run_dir: Path, **told: Any) -> None:
    """Make it one that has ended so."""
    facts = {"final": True, "winner": None, "same": False, "seeds": 3, "of_seeds": 6}
    facts |= {"too_early": False, "notes": [], "metric": "exact_match", "arms": []}
    files.replace_json(run_dir / probe_file.RESULT, facts | told)
    pace = Pace(steps=100, final_rows=9, watched_rows=9, most_rows=9, used_s=600)
    probe_file.write_pace(run_dir, pace)
    (run_dir / "arms" / "distill-seed-0").mkdir(parents=True)
    status.write(run_dir, status.read(run_dir) | {"state": "finished"})


def test_one_that_only_lacked_time_is_given_more(tmp_path: Path) -> None:
    run = api.start_probe(STARTER, minutes=10, runs_dir=tmp_path)
    ended(tmp_path / run)
    assert api.start_probe(STARTER, minutes=5, runs_dir=tmp_path) == run
    assert status.read(tmp_path / run)["state"] == "queued"
    assert probe_file.read(tmp_path / run).minutes == 15
    assert probe_file.read_pace(tmp_path / run).steps == 100, "the same budget for every seed"
    assert (tmp_path / run / "arms" / "distill-seed-0").is_dir()
    assert api.advise(STARTER, runs_dir=tmp_path)["measured"] is None, "not ended any more"


def test_one_that_saw_too_early_begins_anew_with_longer_arms(tmp_path: Path) -> None:
    run = api.start_probe(STARTER, minutes=10, runs_dir=tmp_path)
    ended(tmp_path / run, too_early=True)
    api.start_probe(STARTER, minutes=5, runs_dir=tmp_path)
    pace = probe_file.read_pace(tmp_path / run)
    assert (pace.steps, pace.used_s) == (None, 600)
    assert not (tmp_path / run / "arms").exists()


@pytest.mark.parametrize("told", [{"winner": "distill"}, {"same": True}, {"seeds": 6}])
def test_one_with_nothing_left_to_find_out_is_left_alone(
    told: dict[str, Any], tmp_path: Path
) -> None:
    run = api.start_probe(STARTER, runs_dir=tmp_path)
    ended(tmp_path / run, **told)
    assert api.start_probe(STARTER, runs_dir=tmp_path) == run
    assert status.read(tmp_path / run)["state"] == "finished"


def test_an_ordinary_run_is_no_probe(tmp_path: Path) -> None:
    folder = runs.create(api.load_recipe("pocket_student"), tmp_path)
    with pytest.raises(RunError, match="not a probe"):
        api.probe(folder.name, runs_dir=tmp_path)
