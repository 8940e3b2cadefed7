"""Train: what is shown of a run in each state, and what its buttons do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from distill_core import api
from distill_core.events import event
from distill_core.runs.recorder import Recorder
from tests.ui.fake_run import write_run
from ui import tab_train
from ui.run_bar import run_bar
from ui.state import list_runs
from ui.training import samples

SWITCHED = ("pause", "resume", "stop", "compare", "nothing")


def view(runs_dir: Path, run: str = "") -> dict[str, Any]:
    """What the components show, and what is drawn beside them."""
    folder = str(runs_dir)
    return tab_train.view(run, runs_dir=folder) | {
        "header": tab_train.header_of(run, runs_dir=folder),
        "table": tab_train.samples_of(run, runs_dir=folder),
        "log": tab_train.log_of(run, runs_dir=folder),
    }


def shown(found: dict[str, Any]) -> set[str]:
    return {name for name in SWITCHED if found[name]}


def test_without_runs_it_says_what_to_do(tmp_path: Path) -> None:
    found = view(tmp_path)
    assert found["header"] == ""
    assert found["body"] is False
    assert found["nothing"] is True
    assert shown(found) == {"nothing"}


def test_a_run_in_training(tmp_path: Path) -> None:
    run = write_run(tmp_path, name="mine", upto=64)
    found = view(tmp_path)
    assert found["charts"] == {"run": run}
    assert found["picker"]["value"] == run
    assert found["picker"]["choices"][0][0].startswith("▶ mine · running · ")
    assert "stage 1 of 2: distill · step 64 of 120" in found["header"]
    assert 'role="status" aria-live="polite"' in found["header"]
    assert ">training<" in found["header"].replace("</span> training<", ">training<")
    assert 'aria-valuenow="27"' in found["header"]  # 64 of 120 + 120 steps
    assert shown(found) == {"pause", "stop"}
    assert found["alerts"] == ""


def test_other_phases_have_their_own_progress(tmp_path: Path) -> None:
    write_run(tmp_path, ends="caching")
    header = view(tmp_path)["header"]
    assert "caching teacher" in header
    assert "3,200 of 20,000" in header
    assert 'aria-valuenow="16"' in header
    assert "the teacher answers" in header


def test_a_phase_of_unknown_length_moves_without_a_number() -> None:
    status = {"state": "running", "phase": "loading", "done": 0, "total": 0, "progress": 0.0}
    html = run_bar("mine", status)
    assert "ds-waiting" in html
    assert "aria-valuenow" not in html


def test_a_run_that_was_left_while_its_teacher_answered_stands_where_it_was() -> None:
    status = {"phase": "caching teacher", "done": 12_800, "total": 20_000, "progress": 0.0}
    for state in ("running", "stopping", "paused", "stopped"):
        assert 'aria-valuenow="64"' in run_bar("mine", status | {"state": state})
    again = status | {"state": "queued", "phase": ""}
    assert 'aria-valuenow="0"' in run_bar("mine", again)


@pytest.mark.parametrize(
    ("phase", "asked", "words"),
    [
        ("training", {"stop_asked": True}, "Saves a checkpoint, then ends."),
        ("training", {"pause_asked": True}, "Saves a checkpoint, then gives its memory back."),
        ("caching teacher", {"stop_asked": True}, "Keeps what is done so far, then ends."),
        ("evaluating", {"pause_asked": True}, "what is done so far, then gives its memory back."),
        ("training", {"pause_asked": True, "stop_asked": True}, "a checkpoint, then ends."),
    ],
)
def test_a_run_that_leaves_says_how(
    phase: str, asked: dict[str, bool], words: str, tmp_path: Path
) -> None:
    write_run(tmp_path, upto=12)
    (run,) = list_runs(str(tmp_path))
    leaving = {"state": "stopping", "phase": phase} | asked
    html = tab_train.header_html(run | {"status": run["status"] | leaving})
    assert words in html
    chip = "pausing" if "stop_asked" not in asked else "stopping"
    assert f"</span> {chip}<" in html


def test_a_finished_run_tells_what_came_out(tmp_path: Path) -> None:
    write_run(tmp_path, ends="finished", steps=20)
    header = view(tmp_path)["header"]
    assert "96.2 % exact match · 97.1 % of the teacher kept · 9.49 × smaller" in header
    assert "5.3 × faster · 3 min 51 s" in header
    assert "step 20" not in header


@pytest.mark.parametrize(
    ("ends", "buttons", "words"),
    [
        ("queued", {"pause", "stop"}, "next in the queue"),
        ("paused", {"resume", "stop"}, "Resume goes on from there"),
        ("stopped", {"resume"}, "Resume goes on from there"),
        ("finished", {"compare"}, "Compare the student with its teacher"),
    ],
)
def test_each_state_offers_what_makes_sense(
    ends: str, buttons: set[str], words: str, tmp_path: Path
) -> None:
    write_run(tmp_path, ends=ends, steps=20, upto=10)
    found = view(tmp_path)
    assert shown(found) == buttons
    assert words in found["header"]


def test_a_failed_run_says_what_why_and_how(tmp_path: Path) -> None:
    write_run(tmp_path, ends="failed", upto=2)
    found = view(tmp_path)
    assert 'role="alert"' in found["alerts"]
    assert "rows.jsonl:12 is not JSON" in found["alerts"]
    assert "In the recipe: data.sources." in found["alerts"]
    assert "then resume" in found["alerts"]
    assert shown(found) == {"resume"}


def test_a_lost_run_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, ends="lost", upto=12)
    found = view(tmp_path)
    assert "lost its training process" in found["alerts"]
    assert "step 12" in found["alerts"]
    assert shown(found) == {"resume"}


def test_warnings_are_counted_and_the_newest_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="stopped", upto=2)
    with Recorder(tmp_path / run) as recorder:
        recorder.record(event("warning", message="<b>3 rows</b> were cut.", field=""))
        recorder.record(event("warning", message="A step was refused.", field=""))
    alerts = view(tmp_path)["alerts"]
    assert "2 warnings, the newest" in alerts
    assert "A step was refused." in alerts


def test_what_the_teacher_s_number_format_changes_is_said(tmp_path: Path) -> None:
    name = write_run(tmp_path, name="rounded", upto=40)
    assert "in fp32" not in tab_train.header_of(name, runs_dir=str(tmp_path))
    path = tmp_path / name / "summary.json"
    told = {"words": "The teacher in int8 is 0.0002 nats a token from itself in fp32"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher_rounding": told}))
    assert told["words"] in tab_train.header_of(name, runs_dir=str(tmp_path))


def test_which_kernels_work_the_loss_out_is_said(tmp_path: Path) -> None:
    name = write_run(tmp_path, name="kernels", ends="stopped", upto=2)
    words = "Liger's kernels are used for the loss: 1.50 × as fast as ours here"
    with Recorder(tmp_path / name) as recorder:
        recorder.record(event("rows_ready", stage=0, loss_kernels={"used": True, "words": words}))
    header = tab_train.header_of(name, runs_dir=str(tmp_path))
    assert "1.50 × as fast" in header


def test_a_finished_probe_has_no_student_to_compare(tmp_path: Path) -> None:
    name = write_run(tmp_path, ends="finished", upto=20, steps=20)
    path = tmp_path / name / "events.jsonl"
    begun, *rest = path.read_text().splitlines()
    started = json.loads(begun)
    for place, stage in enumerate(started["stages"]):
        stage |= {"arm": f"way {place}", "seed": 1}
    path.write_text("\n".join([json.dumps(started), *rest]) + "\n")
    found = view(tmp_path)
    assert "compare" not in shown(found)
    assert "in the Advisor" in found["header"]


def test_the_run_in_view_is_the_one_asked_for(tmp_path: Path) -> None:
    first = write_run(tmp_path, name="first", ends="stopped", upto=2)
    write_run(tmp_path, name="second", ends="stopped", upto=2)
    assert "second" in view(tmp_path)["header"]
    assert view(tmp_path, first)["charts"] == {"run": first}
    assert view(tmp_path, "../../etc")["header"] == view(tmp_path)["header"]


# --- updates ----------------------------------------------------------------------------------


def is_skipped(update: Any) -> bool:
    return isinstance(update, dict) and set(update) == {"__type__"}


def test_nothing_is_sent_while_nothing_changes(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=30)
    now = view(tmp_path, run)
    parts = list(now)
    first = tab_train._only_changes(now, {}, parts)
    assert not any(is_skipped(update) for update in first)
    again = tab_train._only_changes(view(tmp_path, run), now, parts)
    assert all(is_skipped(update) for update in again)


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=30)
    now = view(tmp_path, run)
    later = now | {"alerts": "new", "pause": False}
    updates = dict(zip([*now, "seen"], tab_train._only_changes(later, now, list(now)), strict=True))
    sent = {name for name, update in updates.items() if not is_skipped(update)}
    assert sent == {"alerts", "pause", "seen"}
    assert updates["pause"] == gr.update(visible=False)
    assert updates["seen"] == later


# --- buttons ----------------------------------------------------------------------------------


def test_pause_stop_and_resume_reach_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="queued")
    tab_train.ask_run(api.pause, run, runs_dir=str(tmp_path))
    assert api.show(run, runs_dir=tmp_path)["status"]["state"] == "paused"
    tab_train.ask_run(api.resume, run, runs_dir=str(tmp_path))
    assert api.show(run, runs_dir=tmp_path)["status"]["state"] == "queued"
    tab_train.ask_run(api.stop, run, runs_dir=str(tmp_path))
    assert api.show(run, runs_dir=tmp_path)["status"]["state"] == "stopped"


def test_what_the_api_refuses_becomes_a_message(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="finished", steps=4)
    with pytest.raises(gr.Error, match="has finished"):
        tab_train.ask_run(api.resume, run, runs_dir=str(tmp_path))


def test_a_button_never_acts_on_another_run_than_the_one_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, ends="queued")
    with pytest.raises(gr.Error, match="not there any more"):
        tab_train.ask_run(api.stop, "20200101-000000-gone", runs_dir=str(tmp_path))
    assert api.show(run, runs_dir=tmp_path)["status"]["state"] == "queued"


# --- samples and log --------------------------------------------------------------------------


def test_samples_stand_beside_the_teacher_with_differences_marked(tmp_path: Path) -> None:
    write_run(tmp_path, ends="finished", steps=20)
    table = view(tmp_path)["table"]
    head, rows = table.split("</thead>")
    steps = re.findall(r"◆ student, step (\d+)(, the newest)?", head)
    assert [step for step, _ in steps] == ["20", "12", "2"], "the newest beside the teacher"
    assert [bool(newest) for _, newest in steps] == [True, False, False]
    assert rows.count('class="ds-newest"') == rows.count("<tr>") == 3
    assert "○ labels only, step 20" in head
    assert "<del>tv</del><ins>music</ins>" in table
    assert 'title="as the teacher">✓' in table


def test_model_output_cannot_write_html(tmp_path: Path) -> None:
    write_run(tmp_path, upto=64)
    table = view(tmp_path)["table"]
    assert "is &lt;b&gt;the oven&lt;/b&gt; still on" in table
    assert "oven oven &lt;i&gt;" in table
    assert "<i>" not in table


def test_marks_keep_both_texts() -> None:
    html = samples.marked("set lamp to 15", "set lamp to 25 now")
    assert html == "set lamp to <del>15</del><ins>25 now</ins>"
    assert samples.marked("same", "same") == "same"
    assert samples.marked("xyz xyz", "a b c") == "<del>xyz xyz</del>"


def test_an_answer_without_end_is_folded() -> None:
    sample = {"stage": 0, "step": 0, "prompt": "p", "teacher": "on", "student": "us" * 200}
    table = samples.samples_html([sample], [{"index": 0}])
    assert table.count('<details class="ds-long">') == 1
    assert "us" * 200 in table, "all of it is there"


def test_a_stage_without_a_teacher_is_held_against_the_labels() -> None:
    sample = {"stage": 0, "step": 5, "prompt": "p", "teacher": None, "student": "on fan"}
    table = samples.samples_html([sample | {"reference": "on lamp"}], [{"index": 0}])
    assert "on <del>fan</del><ins>lamp</ins>" in table


def test_the_log_is_shown_as_text(tmp_path: Path) -> None:
    run = write_run(tmp_path, upto=2)
    (tmp_path / run / "worker.log").write_text("first\n<script>alert(1)</script>\n")
    log = view(tmp_path)["log"]
    assert "&lt;script&gt;" in log
    assert "<script>" not in log
    assert "Nothing has been logged yet" in tab_train.log_html("\n")
