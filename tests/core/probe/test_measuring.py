"""Probes on tiny models: equal budgets, when they stop, what is done once only, what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core import files, pipeline, runs, worker
from distill_core.events import Event
from distill_core.probe import looks, measuring, probe_file, report
from distill_core.probe.probe_file import Arm, Pace, Probe, Trained
from distill_core.recipe import recipe_yaml
from distill_core.recipe.plan import cast, plan

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")

DOING = {"distill": "distilling", "fine_tune": "fine-tuning"}


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty rows, all with answers, so that both arms learn from the same ones."""
    words = ["turn on the light", "dim the fan", "turn off the tv", "light in the hall"]
    lines = [
        {
            "prompt": f"please {words[n % 4]} {chr(97 + n % 26)} {chr(97 + n // 3)}",
            "response": ["on", "off", "two"][n % 3],
        }
        for n in range(60)
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def arm(rows_file: Path, verdict: str, stages: list[dict[str, Any]], doing: str = "") -> Arm:
    recipe = recipe_yaml.parse(
        {
            "name": verdict.replace("_", "-"),
            "data": {
                "sources": [{"kind": "file", "path": str(rows_file)}],
                "held_out": 0.3,
                "max_seq_len": 32,
            },
            "stages": stages,
            "evaluation": {"max_new_tokens": 4},
        }
    )
    planned = plan(recipe, labelled=42, unlabelled=0)
    return Arm(
        verdict=verdict,
        title=verdict.replace("_", " ").capitalize(),
        doing=doing or DOING[verdict],
        recipe=recipe,
        stage_steps=[stage.total_steps for stage in planned],
        origin=cast(planned).origin,
    )


def distill(teacher: Path, **more: Any) -> dict[str, Any]:
    return {
        "kind": "distill",
        "teacher": str(teacher),
        "student": {"init": "layer_drop", "layers": 2},
        "teacher_answers": {"max_new_tokens": 4},
        "optim": optim(),
    } | more


def fine_tune(teacher: Path, **more: Any) -> dict[str, Any]:
    student = {"init": "layer_drop", "layers": 2}
    return {
        "kind": "fine_tune",
        "model": str(teacher),
        "student": student,
        "optim": optim(),
    } | more


FULL = 6


def optim() -> dict[str, Any]:
    rates = {"max_steps": FULL, "global_batch_size": 4, "micro_batch_size": 4}
    return rates | {"learning_rate": 0.01}


def longer(arms: list[Arm], steps: int = 40) -> list[Arm]:
    """The same arms, of which a probe sees only the beginning."""
    return [arm.model_copy(update={"stage_steps": [steps]}) for arm in arms]


@pytest.fixture(scope="module")
def arms(rows_file: Path, tiny_teacher_dir: Path) -> list[Arm]:
    return [
        arm(rows_file, "distill", [distill(tiny_teacher_dir)]),
        arm(rows_file, "fine_tune", [fine_tune(tiny_teacher_dir)]),
    ]


def made(tmp_path: Path, arms: list[Arm], **more: Any) -> Path:
    """A run's folder with a probe in it."""
    folder = runs.create(arms[0].recipe, tmp_path / "runs", state="running")
    settings: dict[str, Any] = {"minutes": 5.0, "steps": 6, "fingerprint": {"task": "extraction"}}
    probe_file.write(folder, Probe(arms=arms, **(settings | more)))
    return folder


def go(folder: Path, **more: Any) -> list[Event]:
    return list(measuring.run(runs.load_recipe(folder), folder, **more))


def paced(folder: Path, *, used_s: float = 0) -> Path:
    """A folder where it is known how much each arm may do: six steps, four rows to score."""
    given = Pace(steps=6, most_rows=99, final_rows=4, watched_rows=4, used_s=used_s)
    probe_file.write_pace(folder, given)
    return folder


@pytest.fixture(scope="module")
def finished(arms: list[Arm], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe of three seeds that a worker has run to its end; do not write into it."""
    folder = made(tmp_path_factory.mktemp("finished"), arms, seeds=3)
    list(worker.follow(folder))
    return folder


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def scored(monkeypatch: pytest.MonkeyPatch, values: dict[str, list[list[float]]]) -> None:
    """Arms that train, but whose held-out rows score what a test says, seed by seed."""
    real = measuring._Measuring._keep

    def keep(self: Any, arm: Arm, seed: int, folder: Path, *rest: Any) -> None:
        rows = files.read_json(folder / "evaluation_rows.json")
        rows["rows"]["student"] = values[arm.verdict][seed]
        if "untrained_student" in rows["rows"]:
            rows["rows"]["untrained_student"] = [0.0] * len(values[arm.verdict][seed])
        files.replace_json(folder / "evaluation_rows.json", rows)
        real(self, arm, seed, folder, *rest)

    monkeypatch.setattr(measuring._Measuring, "_keep", keep)


# --- equal budgets ----------------------------------------------------------------------------


def test_both_arms_start_from_the_same_weights_and_learn_from_as_many_tokens(
    finished: Path,
) -> None:
    done = probe_file.finished_seeds(finished, probe_file.read(finished))
    assert len(done) == 3
    for taught, tuned in done:
        assert taught.starts_from == tuned.starts_from
        assert (taught.steps, tuned.steps) == (6, 6)
        assert taught.tokens == tuned.tokens > 0
        assert taught.supervised_tokens == tuned.supervised_tokens > 0
        assert len(taught.rows["student"]) == len(tuned.rows["student"]) > 10
    assert len({one.seed for arms in done for one in arms}) == 3
    assert report.read(finished)["notes"] == []


def test_the_rows_of_every_step_are_the_same_for_both_arms(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_core import trainer

    taken: list[tuple[int, ...]] = []
    real = trainer._batches

    def seen(stage: Any, rows: Any, *rest: Any) -> Any:
        taken.append(tuple(rows))
        return real(stage, rows, *rest)

    monkeypatch.setattr(trainer, "_batches", seen)
    go(paced(made(tmp_path, arms, seeds=3)))
    arms_of_seeds = [taken[start : start + 6] for start in range(0, len(taken), 6)]
    assert len(arms_of_seeds) == 6
    for place in (0, 2, 4):
        assert arms_of_seeds[place] == arms_of_seeds[place + 1], "one seed, one order"
    assert arms_of_seeds[0] != arms_of_seeds[2], "another seed, another order"


def test_a_student_of_several_stages_takes_no_more_steps_than_the_other(
    rows_file: Path, tiny_teacher_dir: Path, tmp_path: Path
) -> None:
    both = [distill(tiny_teacher_dir), {"kind": "fine_tune", "model": "previous", "optim": optim()}]
    arms = [
        arm(rows_file, "distill_then_fine_tune", both, "distilling, then fine-tuning"),
        arm(rows_file, "fine_tune", [fine_tune(tiny_teacher_dir)]),
    ]
    folder = paced(made(tmp_path, arms, seeds=3))
    go(folder)
    for first, second in probe_file.finished_seeds(folder, probe_file.read(folder)):
        assert (first.steps, second.steps) == (6, 6)
        assert first.starts_from == second.starts_from


# --- when it stops ----------------------------------------------------------------------------


def rising(mean: float, seeds: int = 6) -> list[list[float]]:
    return [[float(row < 20 * mean) for row in range(20)] for _ in range(seeds)]


def test_it_stops_as_soon_as_one_is_surely_better(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": rising(1.0), "fine_tune": rising(0.1)})
    folder = paced(made(tmp_path, arms))
    assert go(folder)[-1]["type"] == "run_finished"
    found = report.read(folder)
    assert (found["seeds"], found["winner"], found["loser"]) == (3, "distill", "fine_tune")
    assert found["words"].startswith("measured: distilling is better by 90.0 points [")
    assert found["low"] > 0
    assert found["why"] == "The interval keeps clear of zero after 3 seeds."
    assert found["final"] is True


def test_the_other_arm_may_win(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": rising(0.1), "fine_tune": rising(1.0)})
    folder = paced(made(tmp_path, arms))
    go(folder)
    found = report.read(folder)
    assert found["winner"] == "fine_tune"
    assert "fine-tuning is better by 90.0 points [" in found["words"]


def test_two_arms_that_are_the_same_are_inconclusive_and_end_early(
    rows_file: Path, tiny_teacher_dir: Path, tmp_path: Path
) -> None:
    stages = [fine_tune(tiny_teacher_dir)]
    arms = [
        arm(rows_file, "fine_tune", stages),
        arm(rows_file, "lora_fine_tune", stages, "fine-tuning again"),
    ]
    folder = paced(made(tmp_path, arms))
    go(folder)
    found = report.read(folder)
    assert found["winner"] is None
    assert found["words"].startswith("inconclusive after ")
    assert found["same"] is True
    assert "surely within 2 points" in found["why"]
    assert found["seeds"] == 3


def test_arms_that_have_not_begun_to_learn_are_not_called_equal(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": rising(0.0), "fine_tune": rising(0.0)})
    folder = paced(made(tmp_path, longer(arms)))
    go(folder)
    found = report.read(folder)
    assert (found["winner"], found["same"], found["seeds"]) == (None, False, 1)
    assert "neither is better than before training" in found["why"]


@pytest.mark.parametrize(
    ("second", "seeds", "why", "winner"),
    [
        ([0.1] * 3, 1, "has closed 11% of the gap to the teacher", None),  # only longer arms help
        ([0.2] * 3, 3, "has closed 22% of the gap to the teacher", None),
        ([0.2, 0.3, 0.3], 3, "keeps clear of zero", "fine_tune"),  # the first seed was unlucky
    ],
)
def test_who_leads_before_a_quarter_of_the_gap_is_closed_has_not_won(
    arms: list[Arm],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    second: list[float],
    seeds: int,
    why: str,
    winner: str | None,
) -> None:
    few = [[0.0] * 20] * 3
    scored(monkeypatch, {"distill": few, "fine_tune": [rising(mean)[0] for mean in second]})
    if winner:  # so few seeds and rows would leave the interval wide
        monkeypatch.setattr(looks.intervals, "crossed_mean", lambda apart, confidence: (-0.4, -0.1))
    folder = paced(made(tmp_path, longer(arms)))
    real = Trained.model_validate_json
    monkeypatch.setattr(
        probe_file.Trained,
        "model_validate_json",
        lambda text: real(text).model_copy(update={"teacher_score": 0.9}),
    )
    go(folder)
    found = report.read(folder)
    assert (found["winner"], found["too_early"]) == (winner, winner is None)
    assert (found["low"] is None) == (winner is None)
    assert why in found["why"]
    assert found["seeds"] == seeds


def test_the_teachers_score_is_kept_of_the_arm_that_it_teaches(finished: Path) -> None:
    ((taught, tuned), *_) = probe_file.finished_seeds(finished, probe_file.read(finished))
    assert taught.teacher_score is not None
    assert tuned.teacher_score is None


def test_after_the_last_seed_it_is_inconclusive(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swinging = [rising(0.9)[0] if seed % 2 else rising(0.2)[0] for seed in range(4)]
    scored(monkeypatch, {"distill": swinging, "fine_tune": rising(0.5)})
    folder = paced(made(tmp_path, arms, seeds=4))
    go(folder)
    found = report.read(folder)
    assert (found["winner"], found["same"], found["seeds"]) == (None, False, 4)
    assert [one["seeds"] for one in found["looks"]] == [3, 4]
    assert "still holds zero" in found["why"]


def test_when_time_is_over_the_step_is_saved_and_the_verdict_is_inconclusive(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paced(made(tmp_path, arms), used_s=240)
    watched: list[Event] = []
    for event in measuring.run(runs.load_recipe(folder), folder):
        watched.append(event)
        if event["type"] == "step":
            monkeypatch.setattr(measuring._Measuring, "left_s", property(lambda self: -1.0))
    assert watched[-1]["type"] == "run_finished"
    assert len(of(watched, "step")) == 1
    found = report.read(folder)
    assert found["words"].startswith("inconclusive after 4 minutes")
    assert "0 seeds; a verdict needs 3" in found["why"]


def test_one_way_alone_is_compared_with_the_student_before_training(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": rising(0.9)})
    folder = paced(made(tmp_path, arms[:1]))
    go(folder)
    found = report.read(folder)
    assert (found["winner"], found["loser"]) == ("distill", "untrained_student")
    assert found["untrained_score"] == 0.0


# --- its own pace -----------------------------------------------------------------------------


def test_the_pace_is_found_at_the_start_and_the_timing_is_thrown_away(
    arms: list[Arm], tmp_path: Path
) -> None:
    folder = made(tmp_path, longer(arms), steps=None, minutes=4, seeds=3)
    events = go(folder)
    pace = probe_file.read_pace(folder)
    assert pace.steps == 40, "no more than the full run"
    assert pace.final_rows == len(report.read(folder) and _rows_of(folder))
    assert not list((folder / "arms").glob("timing-*"))
    assert events[0]["message"] == "seeing how long each way takes"
    titles = [stage["title"] for stage in of(events, "run_started")[0]["stages"]]
    assert titles[:3] == ["Distill, seed 1", "Fine tune, seed 1", "Distill, seed 2"]


def _rows_of(folder: Path) -> list[float]:
    found = probe_file.read_trained(folder, probe_file.read(folder).arms[0], 0)
    assert found is not None
    return found.rows["student"]


def test_a_time_that_is_too_short_is_told_before_anything_is_trained(
    arms: list[Arm], tmp_path: Path
) -> None:
    folder = made(tmp_path, arms, steps=None, minutes=0.02)
    events = go(folder)
    assert of(events, "step") == []
    found = report.read(folder)
    assert found["words"].startswith("inconclusive")
    assert "minutes" in found["why"]


def test_curves_of_the_students_own_steps_lead_to_the_full_run(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": rising(0.5), "fine_tune": rising(0.5)})
    folder = made(tmp_path, longer(arms), steps=12, seeds=3)
    with worker.Recorder(folder) as recorder:
        for event in measuring.run(runs.load_recipe(folder), folder):
            recorder.record(event)
    for told in report.read(folder)["arms"]:
        assert [curve["step"] for curve in told["curves"]] == [[0, 2, 4, 6, 8, 10, 12]] * 3
        assert told["ahead"]["steps"] == 40
        ends = [told["ahead"][name] for name in ("low", "value", "high")]
        assert bool(told["ahead"]["why"]) == (ends == [None] * 3)


# --- the pace that it really has --------------------------------------------------------------


class Clock:
    """Goes on by what a test says that events take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def clocked(monkeypatch: pytest.MonkeyPatch, **slower: float) -> Clock:
    """A step takes 1 s, a held-out row 0.01 s, a beginning 2 s; in some folders `slower` times."""
    clock = Clock()
    real = pipeline.run

    def run(recipe: Any, folder: Path, **more: Any) -> Iterator[Event]:
        times = next((slower[part] for part in slower if part in folder.name), 1.0)
        for event in real(recipe, folder, **more):
            kind = event["type"]
            seconds = {"run_started": 2.0, "step": 1.0}.get(kind, 0.0)
            clock.now += times * (0.01 * event["rows"] if kind == "evaluation" else seconds)
            yield event

    monkeypatch.setattr(measuring, "CLOCK", clock)
    monkeypatch.setattr(pipeline, "run", run)
    return clock


def seesaw(seeds: int = 9) -> list[list[float]]:
    """Of one arm, so that against `rising(0.5)` nobody can tell; both learn something."""
    return [rising(0.9 if seed % 2 else 0.2)[0] for seed in range(seeds)]


def test_a_busy_moment_at_the_start_does_not_leave_the_time_unused(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": seesaw(), "fine_tune": rising(0.5, 9)})
    clocked(monkeypatch, timing=2.5)
    folder = made(tmp_path, longer(arms, 500), steps=None, minutes=7)
    events = go(folder)
    pace = probe_file.read_pace(folder)
    ((short,), steps) = pace.dropped, pace.steps
    assert steps is not None
    assert steps >= 1.5 * short
    assert 0.75 * 420 < pace.used_s <= 420
    found = report.read(folder)
    assert (found["steps"], found["winner"]) == (steps, None)
    assert f"1 of {short} steps came first" in " ".join(found["notes"])
    first, second = of(events, "run_started")
    assert {stage["total_steps"] for stage in first["stages"]} == {short}
    assert [stage["total_steps"] for stage in second["stages"]] == [short] * 2 + [steps] * 12
    took = {one["total_steps"] for one in of(events, "stage_started") if one["stage"] > 1}
    assert took == {steps}


def test_a_pace_that_was_measured_well_is_kept(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": seesaw(), "fine_tune": rising(0.5, 9)})
    clocked(monkeypatch)
    folder = made(tmp_path, longer(arms, 500), steps=None, minutes=3)
    events = go(folder)
    pace = probe_file.read_pace(folder)
    assert pace.dropped == []
    assert len(of(events, "run_started")) == 1
    assert report.read(folder)["seeds"] >= 4
    assert pace.used_s <= 180


def test_arms_too_short_for_a_verdict_are_followed_by_longer_ones_whose_seeds_count_alone(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none, most, few = rising(0.0, 1), rising(1.0), rising(0.1)
    scored(monkeypatch, {"distill": few[:1] + most, "fine_tune": none + few})
    monkeypatch.setattr(report, "ENOUGH", 0.5)
    real = Trained.model_validate_json
    told = {"teacher_score": 1.0}
    monkeypatch.setattr(
        probe_file.Trained, "model_validate_json", lambda text: real(text).model_copy(update=told)
    )
    clocked(monkeypatch)
    folder = made(tmp_path, longer(arms, 500), steps=None, minutes=3)
    go(folder)
    pace, found = probe_file.read_pace(folder), report.read(folder)
    assert len(pace.dropped) == 1
    assert (pace.steps or 0) >= 1.1 * pace.dropped[0]
    assert (found["winner"], found["seeds"], found["too_early"]) == ("distill", 3, False)
    assert found["difference"] == pytest.approx(0.9), "the first seed's 0.1 is not in it"
    seeds = [one.seed for one, _ in probe_file.finished_seeds(folder, probe_file.read(folder))]
    assert seeds == [1, 2, 3], "other seeds than the one that was seen"
    assert pace.used_s <= 180


def test_once_somebody_has_looked_nothing_begins_again(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {"distill": seesaw(), "fine_tune": rising(0.5, 9)})
    slow = {"timing": 2.5, "seed-0": 2.5, "seed-1": 2.5}
    clocked(monkeypatch, **slow)
    folder = made(tmp_path, longer(arms, 500), steps=None, minutes=7)
    go(folder)
    assert probe_file.read_pace(folder).dropped == []
    assert [one["seeds"] for one in report.read(folder)["looks"]] == [3, 4, 5, 6]


# --- paused, killed, resumed ------------------------------------------------------------------


def trained_folders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders whose pipeline ran, in order."""
    ran: list[str] = []
    real = pipeline.run

    def counted(recipe: Any, folder: Path, **more: Any) -> Iterator[Event]:
        ran.append(folder.name)
        return real(recipe, folder, **more)

    monkeypatch.setattr(pipeline, "run", counted)
    return ran


def test_a_pulled_plug_costs_nothing_that_was_finished(
    finished: Path, arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, arms, seeds=3)
    ran = trained_folders(monkeypatch)
    events = measuring.run(runs.load_recipe(folder), folder)
    for event in events:
        if event["type"] == "step" and (event["stage"], event["step"]) == (3, 4):
            events.close()  # type: ignore[attr-defined]
            break
    del ran[:]
    go(folder)
    assert ran == ["fine_tune-seed-1", "distill-seed-2", "fine_tune-seed-2"]
    again, once = report.read(folder), report.read(finished)
    for key in ("difference", "low", "high", "winner", "seeds"):
        assert again[key] == once[key], "as if nothing had happened"


def test_a_pause_says_so_saves_and_goes_on(
    arms: list[Arm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = paced(made(tmp_path, arms, seeds=3))
    asked: list[str] = []
    events = []
    for event in measuring.run(
        runs.load_recipe(folder), folder, should_stop=lambda: asked[-1] if asked else None
    ):
        events.append(event)
        if event["type"] == "step" and (event["stage"], event["step"]) == (1, 2):
            asked.append("pause")
    assert events[-1]["type"] == "run_stopped"
    assert (events[-1]["reason"], events[-1]["stage"]) == ("paused", 1)
    used = probe_file.read_pace(folder).used_s
    assert used > 0
    ran = trained_folders(monkeypatch)
    rest = go(folder)
    assert ran[0] == "fine_tune-seed-0"
    first = next(event for event in rest if event["type"] == "step")
    assert (first["stage"], first["step"]) == (1, first["step"])
    assert first["step"] > 2, "it goes on where it was"
    assert probe_file.read_pace(folder).used_s > used, "the time used before counts"
    assert rest[-1]["type"] == "run_finished"


def test_weights_of_finished_arms_are_not_kept(finished: Path) -> None:
    assert list(finished.rglob("evaluation.json"))
    assert not list(finished.rglob("*.safetensors"))


def test_a_worker_runs_a_probe_where_the_run_is_one(finished: Path) -> None:
    assert runs.show(finished)["status"]["state"] == "finished"
    assert report.read(finished)["final"] is True
