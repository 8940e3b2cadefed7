"""Curves as the browser gets them: only what is new, nothing of other folders, bounded in size."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from distill_core.events import event
from distill_core.runs.recorder import Recorder
from tests.ui.fake_run import events_of_stage, write_run
from ui import plots, text
from ui.training.follow import Followed, follow, forget


def test_all_curves_at_first_then_only_new_points(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=60)
    first = plots.read_points({"run": run, "since": 0}, runs_dir=str(tmp_path))
    assert first["series"]["0/forward_kl"]["step"] == list(range(1, 61))
    assert first["series"]["0/weighted_forward_kl"]["value"][0] == pytest.approx(
        0.9 * first["series"]["0/forward_kl"]["value"][0]
    )
    again = plots.read_points({"run": run, "since": first["offset"]}, runs_dir=str(tmp_path))
    assert again["series"] == {}
    assert again["offset"] == first["offset"]
    with Recorder(tmp_path / run) as recorder:
        for found in events_of_stage(0, steps=120, upto=63):
            if found["step"] > 60:
                recorder.record(found)
    new = plots.read_points({"run": run, "since": first["offset"]}, runs_dir=str(tmp_path))
    assert new["series"]["0/forward_kl"]["step"] == [61, 62, 63]


def test_facts_name_stages_baseline_terms_and_the_teachers_score(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="finished", steps=20)
    facts = plots.read_points({"run": run, "since": 0}, runs_dir=str(tmp_path))["facts"]
    assert [(s["index"], s["baseline"]) for s in facts["stages"]] == [(0, False), (1, True)]
    assert {"forward_kl", "total_variation", "cross_entropy"} <= set(facts["terms"])
    assert "loss" not in facts["terms"]
    assert not any(term.startswith("held_out") for term in facts["terms"])
    assert (facts["score"], facts["teacher_score"]) == ("exact_match", pytest.approx(0.991))
    assert facts["rows_scored"] == 128
    assert facts["final"] == {
        "score": 0.962,
        "top1_agreement": 0.99,
        "teacher": 0.991,
        "baseline": 0.31,
        "rows": 1000,
    }
    assert facts["baseline_now"] is True
    assert facts["metrics"]["forward_kl"] == {"title": "forward KL", "unit": "nats per token"}


def test_a_run_that_tells_classes_apart_is_judged_by_accuracy_per_text() -> None:
    followed = Followed()
    metrics = {"held_out_accuracy": 0.8, "held_out_macro_f1": 0.7, "held_out_teacher_accuracy": 0.9}
    followed.take({"type": "evaluation", "stage": 0, "metrics": metrics, "rows": 50})
    assert (followed.score, followed.teacher_score) == ("accuracy", 0.9)
    models = {"student": {"accuracy": 0.85, "top1_agreement": 0.9}, "teacher": {"accuracy": 0.9}}
    followed.take({"type": "run_finished", "evaluation": {"models": models}})
    assert (followed.final["score"], followed.final["teacher"]) == (0.85, 0.9)
    assert text.unit_of("nats per token", followed.score) == "nats per text"
    assert text.unit_of("nats per token", "exact_match") == "nats per token"


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=3000, steps=3000)
    answer = plots.read_points({"run": run, "since": 0}, runs_dir=str(tmp_path))
    assert all(len(series["step"]) <= 1000 for series in answer["series"].values())
    assert answer["series"]["0/loss"]["step"][-1] == 3000


@pytest.mark.parametrize("asked", [None, "x", {}, {"run": "latest"}, {"run": "a", "since": "0"}])
def test_a_question_that_makes_no_sense_is_answered_in_words(asked: object, tmp_path: Path) -> None:
    assert "reload the page" in plots.read_points(asked, runs_dir=str(tmp_path))["error"]


def test_a_path_is_never_opened(tmp_path: Path) -> None:
    secret = write_run(tmp_path / "elsewhere", ends="stopped", upto=2)
    asked = {"run": str(tmp_path / "elsewhere" / secret), "since": 0}
    answer = plots.read_points(asked, runs_dir=str(tmp_path / "here"))
    assert "series" not in answer
    assert "no runs" in answer["error"]


def test_what_is_followed_is_rebuilt_after_forgetting(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=60)
    before = follow(run, runs_dir=str(tmp_path))
    samples = list(before.samples)
    assert len(samples) == 15
    forget(run, runs_dir=str(tmp_path))
    after = follow(run, runs_dir=str(tmp_path))
    assert after is not before
    assert after.samples == samples
    assert follow(run, runs_dir=str(tmp_path)) is after


def test_a_resumed_run_replaces_the_samples_it_answers_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="stopped", upto=12)
    assert len(follow(run, runs_dir=str(tmp_path)).samples) == 3
    old = follow(run, runs_dir=str(tmp_path)).samples[0]
    with Recorder(tmp_path / run) as recorder:
        recorder.record({**old, "student": "now right", "match": True})
        recorder.record(event("warning", message="One row was cut.", field=""))
        recorder.record(event("warning", message="One row was cut.", field=""))
    followed = follow(run, runs_dir=str(tmp_path))
    assert len(followed.samples) == 3
    assert followed.samples[-1]["student"] == "now right"
    assert followed.warnings == ["One row was cut."]


def test_overlay_tells_curves_apart_by_dash_as_well_as_colour() -> None:
    line = {"step": [1, 2], "value": [0.1, 0.2]}
    curves = [{"name": f"run {i}", "lines": [{"name": f"run {i}", **line}]} for i in range(6)]
    figure = plots.overlay(curves, metric="held_out_exact_match")
    assert len({trace["line"]["dash"] for trace in figure["data"]}) == 6
    assert len({trace["line"]["color"] for trace in figure["data"]}) == 6
    assert figure["layout"]["yaxis"]["tickformat"] == ".0%"
    assert figure["layout"]["showlegend"] is True
    json.dumps(figure)


def test_lines_of_one_curve_share_its_looks_and_one_place_in_the_legend() -> None:
    seeds = [{"name": f"a%, seed {n}", "step": [1], "value": [0.1]} for n in (1, 2)]
    other = [{"name": "b", "step": [1], "value": [0.2]}]
    curves = [{"name": "a%", "lines": seeds}, {"name": "b", "lines": other}]
    first, second, third = plots.overlay(curves, metric="held_out_exact_match")["data"]
    assert first["line"] == second["line"]
    assert first["line"]["color"] != third["line"]["color"]
    assert first["legendgroup"] == second["legendgroup"] != third["legendgroup"]
    assert [trace["showlegend"] for trace in (first, second, third)] == [True, False, True]
    assert first["name"] == "a%"
    assert second["hovertemplate"].startswith("a&#37;, seed 2: ")
    assert "hovertemplate" not in third


def test_quality_leaves_out_runs_without_a_score() -> None:
    points = [
        {"name": "a", "retention": 0.97, "size_ratio": 9.5, "speedup": 5.0, "selected": True},
        {"name": "b", "retention": None, "size_ratio": 9.5},
        {"name": "c"},
    ]
    by_size = plots.quality_against(points, axis="size_ratio")
    assert by_size["data"][0]["text"] == ["a"]
    assert by_size["data"][0]["x"] == [9.5]
    assert plots.quality_against(points, axis="speedup")["data"][0]["x"] == [5.0]
    assert plots.quality_against([], axis="nonsense")["data"][0]["x"] == []


def test_the_template_names_no_other_machine() -> None:
    html = plots._live_template() + plots._SCRIPTS
    assert "http" not in html
    assert "//" not in html


CHART_TEST = """
const fs = require('fs');
globalThis.window = globalThis;
globalThis.document = {body: {}};
const source = fs.readFileSync(process.argv[2], 'utf8')
  .replace('window.distillCharts = {', 'window.inside = {append, smooth, offsets, number, arms,'
    + 'LiveCharts};window.distillCharts = {');
eval(source);
const {append, smooth, offsets, number, arms, LiveCharts} = window.inside;
const stage = (index, arm, seed, total_steps) => ({index, title: `${arm}, ${seed}`, arm, seed,
  total_steps});
const probe = [stage(0, 'A', 1, 10), stage(1, 'A', 1, 20), stage(2, 'B', 1, 30),
  stage(3, 'A', 2, 10), stage(4, 'A', 2, 20), stage(5, 'B', 2, 30)];
const chain = [{index: 0, total_steps: 100}, {index: 1, total_steps: 50}];
const charts = (stages) => Object.assign(Object.create(LiveCharts.prototype), {
  facts: {stages}, series: Object.fromEntries(stages.map(({index}) =>
    [`${index}/score`, {step: [5, 9], value: [index, index + 0.5]}]))});
const drawn = (stages) => arms(stages).map((arm) => [arm.name,
  ...charts(stages).lines('score', arm).map(({x, y}) => [x, y])]);
const agreeing = charts(probe);
agreeing.series['4/agree'] = {step: [5], value: [0.7]};
const series = {step: [1, 2, 3, 4], value: [9, 8, 7, 6]};
append(series, [3, 4, 5], [1, NaN, 2]);
const long = {step: [], value: []};
append(long, [...Array(9000).keys()], [...Array(9000).keys()]);
console.log(JSON.stringify({
  resumed: series,
  kept: long.step.length, last: long.step[long.step.length - 1],
  flat: smooth([2, 2, 2], 0.9), off: smooth([1, 5], 0), mean: smooth([0, 1], 0.5),
  starts: offsets([{index: 0, total_steps: 100}, {index: 1, total_steps: 50},
    {index: 2, total_steps: 50, baseline: true}]),
  probe_starts: offsets(probe), probe: drawn(probe), chain: drawn(chain),
  boundaries: [charts(probe).boundaries().length, charts(probe).names().length],
  newest: [charts(probe).newest('score').title, charts(probe).now('score'),
    agreeing.now('agree'), agreeing.now('agree', probe[5]) ?? 'not told'],
  words: [number(0.97, '0–1'), number(0.00012), number(9850.4), number(null), number(0.6234)],
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_the_pages_own_arithmetic(tmp_path: Path) -> None:
    script = tmp_path / "test.cjs"
    script.write_text(CHART_TEST)
    charts = Path(plots.__file__).parent.parent / "assets" / "web" / "charts.js"
    done = subprocess.run(
        ["node", str(script), str(charts)], capture_output=True, text=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    assert found["resumed"] == {"step": [1, 2, 3, 5], "value": [9, 8, 1, 2]}
    assert found["kept"] <= 4501
    assert found["last"] == 8999
    assert found["flat"] == pytest.approx([2, 2, 2])
    assert found["off"] == [1, 5]
    assert found["mean"] == pytest.approx([0, 2 / 3])
    assert found["starts"] == {"0": 0, "1": 100, "2": 100}
    assert found["probe_starts"] == {"0": 0, "1": 10, "2": 0, "3": 0, "4": 10, "5": 0}
    assert found["probe"] == [
        [
            "A",
            [[5, 9, 15, 15, 19], [0, 0.5, None, 1, 1.5]],
            [[5, 9, 15, 15, 19], [3, 3.5, None, 4, 4.5]],
        ],
        ["B", [[5, 9], [2, 2.5]], [[5, 9], [5, 5.5]]],
    ]
    assert found["chain"] == [["", [[5, 9, 105, 105, 109], [0, 0.5, None, 1, 1.5]]]]
    assert found["boundaries"] == [0, 0]
    assert found["newest"] == ["B, 2", 5.5, 0.7, "not told"]
    assert found["words"] == ["97.0 %", "1.2e-4", "9,850", "–", "0.623"]
