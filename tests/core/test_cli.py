"""The command line in this process: documents, messages, exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core import api, checks, cli, processes, ranks, runs, worker
from distill_core.errors import DataError, Problem, RecipeError
from distill_core.events import Event, event
from distill_core.runs import run_control
from distill_core.runs import status as run_status
from tests.core import pretend

RECIPE = "data: {sources: [{kind: starter}]}\n"
RECIPE += "stages: [{kind: distill, teacher: pocket-teacher, student: {init: scratch}}]\n"


class Told:
    """What a command has written, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """Call the command line in an empty folder, with a pipeline that pretends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "_real_pipeline", lambda: pretend.pipeline)
    monkeypatch.setattr(checks, "check", lambda recipe: [])
    (tmp_path / "r.yaml").write_text(RECIPE)

    def run(*arguments: str) -> Told:
        code = cli.main(list(arguments))
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Told(code, told.out, told.err)

    return run


def found(tmp_path: Path) -> list[Path]:
    return runs.folders(tmp_path / "runs")


# --- help, usage, version -----------------------------------------------------------------------


def test_every_command_explains_itself(call: Callable[..., Told]) -> None:
    listed = call("--help").out
    names = re.findall(r"^  ([a-z]+)  ", listed, re.MULTILINE)
    assert len(names) == 18
    for name in names:
        told = call(name, "--help")
        assert told.code == 0
        assert "Usage: distill-studio " + name in told.out


def test_wrong_usage_exits_with_two(call: Callable[..., Told]) -> None:
    for arguments in (["zzz"], ["run"], ["show"], ["export", "x", "--format", "zip"], []):
        told = call(*arguments)
        assert told.code == 2, arguments


def test_version(call: Callable[..., Told]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", call("--version").out)


def test_help_needs_neither_torch_nor_the_app() -> None:
    code = "import sys; from distill_core import cli; cli.main(['--help']); "
    code += "print(*({'torch', 'transformers', 'gradio', 'numpy'} & sys.modules.keys()), file=sys.stderr)"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.split() == []


# --- recipes ------------------------------------------------------------------------------------


def test_init_takes_any_ready_recipe_and_puts_assistants_in(
    call: Callable[..., Told], tmp_path: Path
) -> None:
    assert call("init", "a.yaml", "--recipe", "task-specific").code == 0
    ready = {item["name"]: item["yaml"] for item in api.ready_recipes()}
    assert (tmp_path / "a.yaml").read_text() == ready["task_specific"]
    assert call("init", "b.yaml", "--progressive", "2").code == 0
    made = api.load_recipe(tmp_path / "b.yaml")
    assert [stage.teacher for stage in made.stages] == ["pocket-teacher", "previous", "previous"]
    told = call("init", "c.yaml", "--recipe", "fine_tune", "--progressive", "1")
    assert told.code == 1
    assert "No stage teaches the student" in told.err
    assert not (tmp_path / "c.yaml").exists()
    assert "Did you mean" in call("init", "d.yaml", "--recipe", "progresive").err


def test_init_writes_a_recipe_once(call: Callable[..., Told], tmp_path: Path) -> None:
    assert call("init").code == 0
    text = (tmp_path / "recipe.yaml").read_text()
    assert text == api.ready_recipes()[0]["yaml"]
    (tmp_path / "recipe.yaml").write_text("mine")
    told = call("init")
    assert told.code == 1
    assert "recipe.yaml exists already" in told.err
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


def test_init_into_a_folder_that_is_not_there(call: Callable[..., Told]) -> None:
    told = call("init", "no/such/r.yaml")
    assert (told.code, told.err) == (1, "Cannot write no/such/r.yaml: No such file or directory.\n")


def test_check_tells_problems_and_fails_on_errors_alone(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = "pair of stage 1: Same tokenizer.\n"
    assert call("check", "r.yaml").out == pair + "No problems. Ready to run.\n"
    assert call("check", "r.yaml", "--json").document == []
    warning = Problem(severity="warning", field="data", message="Few rows.", fix="Add some.")
    monkeypatch.setattr(checks, "check", lambda recipe: [warning])
    told = call("check", "r.yaml")
    assert (told.code, told.out) == (0, pair + "warning: data: Few rows. Add some.\n")
    error = Problem(severity="error", field="seed", message="Bad.")
    monkeypatch.setattr(checks, "check", lambda recipe: [warning, error])
    told = call("check", "r.yaml", "--json")
    assert told.code == 1
    assert [item["severity"] for item in told.document] == ["warning", "error"]


def test_check_of_a_recipe_that_cannot_be_read(call: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: [")
    told = call("check", "r.yaml")
    assert (told.code, told.out) == (1, "")
    assert "line 1" in told.err
    told = call("check", "r.yaml", "--json")
    assert told.code == 1
    assert told.document[0]["severity"] == "error"


def test_set_reaches_the_recipe_and_its_mistakes_are_told(call: Callable[..., Told]) -> None:
    told = call("check", "r.yaml", "--set", "seed=-1", "--set", "stages.0.optim.lr=1")
    assert told.code == 1
    assert len(told.err.strip().splitlines()) == 2
    assert "seed: -1 is not allowed" in told.err
    assert "Did you mean 'learning_rate'?" in told.err


def test_estimate(call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    forecast = {
        "memory_bytes": {"student": 2_000_000_000, "loss": 0},
        "total_memory_bytes": 2_000_000_000,
        "available_memory_bytes": 16_000_000_000,
        "memory_basis": "measured by a dry step",
        "fits": False,
        "savings": [
            {
                "field": "stages.0.optim.micro_batch_size",
                "value": 4,
                "change": "micro_batch_size 4, not 8",
                "saves_bytes": 500_000_000,
                "fits": True,
            }
        ],
        "time_s": [90, 4000],
        "time_basis": "formula",
        "steps": 1200,
        "caches": [
            {
                "stage": 1,
                "kind": "sampled",
                "bytes_per_token": 302,
                "tokens": 1_000_000,
                "bytes": 302_500_000,
                "at_most": True,
            }
        ],
    }
    monkeypatch.setattr(api, "estimate", lambda recipe: forecast)
    assert call("estimate", "r.yaml", "--json").document == forecast
    told = call("estimate", "r.yaml").out
    assert "2 GB" in told
    assert "teacher cache of stage 2 (sampled): up to 302 bytes a token × 1,000,000" in told
    assert "302 MB" in told or "303 MB" in told
    assert "1200 steps, 1 min 30 s to 1 h 06 min (formula); does not fit in memory" in told
    assert "(measured by a dry step)" in told
    assert "to change: micro_batch_size 4, not 8 (stages.0.optim.micro_batch_size) saves" in told
    assert "500 MB: then it fits." in told
    taken: list[Any] = []
    monkeypatch.setattr(api, "take_dry_step", taken.append)
    assert call("estimate", "r.yaml", "--dry-step", "--json").document == forecast
    assert len(taken) == 1


# --- run ----------------------------------------------------------------------------------------


def test_run_to_the_end(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("run", "r.yaml", "--set", "name=mine", "--set", "stages.0.optim.max_steps=3")
    assert told.code == 0
    assert "90.0%" in told.out
    assert "keeps 95.0% of the teacher" in told.out
    (folder,) = found(tmp_path)
    assert folder.name.endswith("-mine")
    assert run_status.current(folder)["step"] == 3


def test_run_prints_one_document(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("run", "r.yaml", "--json", "--runs-dir", str(tmp_path / "other"))
    assert told.code == 0
    assert told.document["status"]["state"] == "finished"
    assert (tmp_path / "other" / told.document["run"] / "student").parent.is_dir()
    assert not (tmp_path / "runs").exists()


def test_a_failing_run_is_told_in_two_lines(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(recipe: object, folder: Path, *, should_stop: object) -> Iterator[Event]:
        yield event("run_started", stages=[])
        raise DataError("rows.jsonl:3 is not JSON.\nMend or remove that line.")

    monkeypatch.setattr(worker, "_real_pipeline", lambda: broken)
    told = call("run", "r.yaml", "--json")
    assert told.code == 1
    assert told.document["status"]["state"] == "failed"
    assert told.err.splitlines()[-2:] == [
        "rows.jsonl:3 is not JSON.",
        "Mend or remove that line.",
    ]


def test_a_refused_recipe_makes_no_run(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    problem = Problem(severity="error", field="stages.0.student", message="It is larger.")
    monkeypatch.setattr(checks, "check", lambda recipe: [problem])
    for command in ("run", "start"):
        told = call(command, "r.yaml", "--json")
        assert told.code == 1
        assert told.err == "stages.0.student: It is larger.\n"
        assert told.document["error"]["problems"][0]["field"] == "stages.0.student"
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_saves_and_exits_with_130(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(recipe: Any, folder: Path, *, should_stop: Any) -> Iterator[Event]:
        for happening in pretend.pipeline(recipe, folder, should_stop=should_stop):
            if happening["type"] == "step" and happening["step"] == 2:
                signal.raise_signal(signal.SIGINT)
            yield happening

    monkeypatch.setattr(worker, "_real_pipeline", lambda: interrupted)
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored
    try:
        told = call("run", "r.yaml", "--set", "stages.0.optim.max_steps=50")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert told.code == 130
    (folder,) = found(tmp_path)
    assert f"distill-studio resume {folder.name}" in told.err
    status = run_status.current(folder)
    assert (status["state"], status["step"]) == ("stopped", 2)
    assert status["checkpoint"]["step"] == 2, "it has saved"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_second_ctrl_c_ends_at_once(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def deaf(recipe: Any, folder: Path, *, should_stop: Any) -> Iterator[Event]:
        yield event("run_started", stages=[])
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        yield event("warning", message="never told")

    monkeypatch.setattr(worker, "_real_pipeline", lambda: deaf)
    told = call("run", "r.yaml")
    assert told.code == 130
    assert "never told" not in told.err
    assert run_status.current(found(tmp_path)[0])["state"] == "stopped"


def test_what_libraries_print_stays_off_stdout(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(recipe: Any, folder: Path, *, should_stop: Any) -> Iterator[Event]:
        sys.stdout.write("Loading weights: 100%")
        yield from pretend.pipeline(recipe, folder, should_stop=should_stop)

    monkeypatch.setattr(worker, "_real_pipeline", lambda: noisy)
    told = call("run", "r.yaml", "--json")
    assert told.document["status"]["state"] == "finished"
    assert "Loading weights" in told.err


# --- start, watch, steer ------------------------------------------------------------------------


def test_start_prints_the_id_last_and_has_it_supervised(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(processes, "spawn_apart", lambda command, *, output: asked.append(command))
    told = call("start", "r.yaml")
    (folder,) = found(tmp_path)
    assert told.out.splitlines()[-1] == folder.name
    assert asked[0][1:] == ["-m", "distill_core.supervisor", str(tmp_path / "runs")]
    assert call("start", "r.yaml", "--json").document["status"]["queue_position"] == 2


def test_runs_show_and_events(call: Callable[..., Told], tmp_path: Path) -> None:
    told = call("runs")
    assert (told.code, told.out) == (0, "")
    assert "No runs yet" in told.err
    assert call("runs", "--json").document == []
    call("run", "r.yaml")
    (folder,) = found(tmp_path)
    listed = call("runs", "--json").document
    assert [item["run"] for item in listed] == [folder.name]
    assert folder.name in call("runs").out
    shown = call("show", "latest", "--json").document
    assert {"run", "status", "recipe", "evaluation"} <= shown.keys()
    told = call("show", str(folder)).out
    assert "state      finished" in told
    lines = call("events", "latest").out.splitlines()
    document = call("events", folder.name, "--json").document
    assert len(lines) == len(document)
    assert document[0]["type"] == "run_started"
    assert "stage 1 step 1  loss 1.0000" in lines[-3]


def test_events_of_a_run_that_has_none(call: Callable[..., Told], tmp_path: Path) -> None:
    runs.create(pretend.recipe(), tmp_path / "runs")
    assert call("events", "latest", "--json").document == []


def test_events_follow_to_the_end(call: Callable[..., Told], tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe("slow"), tmp_path / "runs")
    worker.claim(folder)
    at_work = threading.Thread(
        target=lambda: worker.work(folder, pipeline=pretend.pipeline), daemon=True
    )
    at_work.start()
    told = call("events", "latest", "--follow", "--json")
    at_work.join()
    assert told.document[-1]["type"] == "run_finished"
    assert len(told.document) == len(api.read_events(str(folder))[0])


def test_stop_pause_resume_delete(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "spawn_apart", lambda command, *, output: None)
    folder = runs.create(pretend.recipe(), tmp_path / "runs")
    assert call("pause", "latest").code == 0
    assert run_status.current(folder)["state"] == "paused"
    assert call("resume", "latest").out.splitlines()[-1] == folder.name
    assert run_status.current(folder)["state"] == "queued"
    refused = call("delete", folder.name)
    assert (refused.code, "Stop it before" in refused.err) == (1, True)
    assert call("stop", folder.name).code == 0
    assert call("delete", folder.name).code == 0
    assert not folder.exists()
    gone = call("show", folder.name, "--json")
    assert gone.code == 1
    assert "no runs" in gone.document["error"]["message"]


def test_resume_here_goes_on_in_this_process(call: Callable[..., Told], tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe(steps=12), tmp_path / "runs")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step").write_text("10")
    assert call("pause", "latest").code == 0
    told = call("resume", "latest", "--here")
    assert told.code == 0, told.err
    assert run_status.current(folder)["state"] == "finished"
    steps = [e["step"] for e in api.read_events(str(folder))[0] if e["type"] == "step"]
    assert steps == [11, 12]
    refused = call("resume", "latest", "--here")
    assert (refused.code, "has finished" in refused.err) == (1, True)


def test_one_of_several_processes_works_and_tells_nothing(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second of two: it runs the pipeline in the folder that the first one made."""
    folder = runs.create(pretend.recipe(steps=3), tmp_path / "runs", state="running")
    before = (folder / "status.json").read_text()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "join", lambda device: None)
    monkeypatch.setattr(ranks, "agree", lambda make: folder)
    ran = []

    def pipeline(recipe: Any, run_dir: Path, *, should_stop: Any) -> Iterator[Event]:
        ran.append((run_dir, should_stop()))
        yield event("run_finished", seconds=0.0, evaluation={})

    monkeypatch.setattr(worker, "_real_pipeline", lambda: pipeline)
    told = call("run", "r.yaml")
    assert (told.code, told.out, told.err) == (0, "", "")
    assert ran == [(folder, None)]
    assert (folder / "status.json").read_text() == before
    assert not (folder / "events.jsonl").exists()


def test_what_fails_in_one_of_several_is_in_the_log(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = runs.create(pretend.recipe(), tmp_path / "runs", state="running")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "join", lambda device: None)
    monkeypatch.setattr(ranks, "agree", lambda make: folder)

    def fails(recipe: Any, run_dir: Path, *, should_stop: Any) -> Iterator[Event]:
        yield event("run_started", stages=[])
        raise DataError("row 3 has no text")

    monkeypatch.setattr(worker, "_real_pipeline", lambda: fails)
    told = call("run", "r.yaml")
    assert (told.code, told.out) == (1, "")
    assert "row 3 has no text" in (folder / "worker.log").read_text()
    assert not (folder / "events.jsonl").exists()


def test_a_lost_run_says_why(call: Callable[..., Told], tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe(), tmp_path / "runs", state="running")
    gone = {"process_start_time": 1.0, "heartbeat_time": 1.0, "step": 7}
    run_status.write(folder, run_status.read(folder) | gone)
    told = call("show", "latest").out
    assert "state      lost" in told
    assert "ended unexpectedly at step 7" in told


# --- after training -----------------------------------------------------------------------------

SCORES = {
    "run": "r",
    "models": {
        "teacher": {"parameters": 1_640_000, "exact_match": 0.99, "exact_match_ci95": [0.98, 1]},
        "student": {"parameters": 178_000, "exact_match": 0.96, "kl_to_teacher": 0.0123},
    },
    "retention": 0.97,
    "retention_ci95": [0.95, 0.99],
    "size_ratio": 9.2,
    "speedup": 3.1,
    "verdict": "beats",
    "verdict_against": "fine_tuned_on_labels",
}


def test_evaluate(call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        api, "evaluate", lambda run, **given: asked.update(given, run=run) or SCORES
    )
    assert call("evaluate", "latest", "--json").document == SCORES
    told = call("evaluate", "latest", "--data", "own.jsonl", "--rows", "5").out
    assert (asked["run"], asked["data"], asked["rows"]) == ("latest", "own.jsonl", 5)
    assert "98.0%–100.0%" in told
    assert "keeps 97.0% of the teacher (95 %: 95.0% – 99.0%)" in told
    assert "9.2 times smaller and answers 3.1 times as fast" in told
    assert "Verdict against fine tuned on labels: beats." in told


def test_compare(call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(run: str, prompt: str, **_: Any) -> Iterator[dict[str, Any]]:
        for name in ("teacher", "student"):
            yield {"type": "loaded", "model": name, "parameters": 5, "fingerprint": "abc"}
            yield {"type": "token", "model": name, "text": "{", "index": 0}
            text = f"{name} on {prompt}"
            yield {"type": "answer", "model": name, "text": text, "tokens": 3, "tokens_per_s": 9.0}

    monkeypatch.setattr(api, "compare", compare)
    document = call("compare", "r", "--prompt", "a", "--prompt", "b", "--json").document
    assert [item["prompt"] for item in document] == ["a", "b"]
    assert document[1]["answers"][0]["text"] == "teacher on b"
    assert document[0]["answers"][1]["fingerprint"] == "abc"
    assert "student on a" in call("compare", "r", "--prompt", "a").out
    assert call("compare", "r").code == 2


def test_export(call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "export", lambda run, **given: given["out"])
    assert call("export", "latest", "--format", "hf", "--out", "there").out == "there\n"
    told = call("export", "latest", "--format", "gguf", "--out", "there")
    assert told.code == 1
    assert "not available yet. Use --format hf." in told.err


# --- advisor, app, errors -----------------------------------------------------------------------

ADVICE = {
    "title": "Distil",
    "summary": "The teacher labels your rows.",
    "measured": {
        "words": "measured: distilling is better by 6.1 points [3.9, 8.2]",
        "seeds": 4,
        "run": "probe-1",
        "rules_title": "Fine-tune",
    },
    "confidence": {"level": "high", "why": "It leads by 5 votes."},
    "reasons": [
        {
            "rule": "R5.few_labels",
            "headline": "Few labels.",
            "sentence": "500 rows.",
            "source": "Hinton 2015",
        }
    ],
    "runner_up": {
        "title": "Fine-tune",
        "why_lost": "too few labels",
        "flips_when": "with 5,000 labels instead of 500",
    },
    "expected": {
        "retention": {"low": 80, "high": 96.8, "unit": "%", "what": "studies", "source": "A"},
        "memory": {"low": 14e9, "high": 14e9, "unit": "bytes", "what": "sum", "source": "B"},
        "time": {"low": 60, "high": 200, "unit": "s", "what": "forecast", "source": "C"},
        "speed": "no evidence",
    },
    "filled": [{"field": "machine.device", "value": "cpu", "words": "Read from this machine."}],
    "notes": ["rows.csv has no column of answers."],
    "past_runs": [
        {"name": "trial", "words": "In trial distilling was better.", "not_counted": ""},
        {"name": "short", "words": "", "not_counted": "a short trial, not counted: 9 steps"},
    ],
    "conflicts": [{"rule": "R12", "sentence": "Some say so."}],
    "warnings": [{"sentence": "Beware."}],
    "next_steps": ["Run it."],
}


def test_advise_from_a_file(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        api, "advise", lambda answers, **given: seen.append((answers, given)) or ADVICE
    )
    (tmp_path / "a.yaml").write_text("goal: both\n")
    assert call("advise", "a.yaml", "--runs-dir", "there", "--json").document == ADVICE
    assert seen == [({"goal": "both"}, {"hub": True, "forecast": True, "runs_dir": Path("there")})]
    told = call("advise", "a.yaml").out
    assert "Confidence: high. It leads by 5 votes." in told
    words = "Measured: distilling is better by 6.1 points [3.9, 8.2] (4 seeds, probe probe-1)."
    assert words in told
    assert "The published rules alone say: Fine-tune." in told
    assert "Few labels: 500 rows. [R5.few_labels, Hinton 2015]" in told
    assert "Runner-up: Fine-tune. too few labels It would win with 5,000 labels" in told
    assert "Expected retention: 80 %–96.8 % (studies) [A]" in told
    assert "Expected memory: 14 GB (sum) [B]" in told
    assert "Expected time: 1 min 00 s–3 min 20 s (forecast) [C]" in told
    assert "Filled in: machine.device cpu. Read from this machine." in told
    assert "Your run: trial. In trial distilling was better." in told
    assert "Your run: short, a short trial, not counted: 9 steps." in told
    assert "Sources disagree: Some say so." in told
    assert "Note: Beware." in told
    for text, words in (("goal: [", "not valid YAML"), ("- a", "holds no answers")):
        (tmp_path / "a.yaml").write_text(text)
        told = call("advise", "a.yaml")
        assert told.code == 1
        assert words in told.err
    assert "Cannot read the answers gone.yaml" in call("advise", "gone.yaml").err


def test_advise_asks_on_stderr(call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(api, "advise", lambda answers, **_: seen.append(answers) or ADVICE)
    asked: list[str] = []

    def reply(prompt: str, **_: Any) -> str:
        asked.append(prompt)
        return {1: "3", 2: "2"}.get(len(asked), "no" if len(asked) == 5 else "")

    monkeypatch.setattr("typer.prompt", reply)
    told = call("advise", "--json")
    assert told.document == ADVICE
    (answers,) = seen
    assert (answers["goal"], answers["task"]) == ("both", "extraction")
    assert answers["teacher"] == {"exists": "no"}, "of no teacher nothing else is asked"
    assert answers["data"]["labelled_rows"] == 500, "Enter takes what is offered"
    assert "3. Smaller and better" in told.err
    assert "Which one?" not in told.err, "without a teacher nobody is asked about one"


def test_advise_offers_what_it_has_seen_and_no_default_of_other_rows(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [f'{{"prompt": "p{n}", "response": "a"}}\n' for n in range(123)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    seen: list[Any] = []
    monkeypatch.setattr(api, "advise", lambda answers, **_: seen.append(answers) or ADVICE)
    titles = [question["title"] for question in api.advisor_questions(here=False)]
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)

    def reply(prompt: str, **_: Any) -> str:
        title = next(one for text in reversed(told) for one in titles if one in text)
        return {"Where are your rows?": "rows.jsonl", "Largest student": "25"}.get(title, "")

    monkeypatch.setattr("distill_core.cli.interview.tell", tell)
    monkeypatch.setattr("typer.prompt", reply)
    call("advise", "--json")
    (answers,) = seen
    assert answers["data"]["labelled_rows"] == 123
    assert answers["data"]["unlabelled_rows"] == 0
    assert "held_out_rows" not in answers["data"], "the starter's 1,000 are not these rows'"
    assert answers["student"]["max_parameters"] == 25e6
    assert "device_memory_gib" not in answers["student"]


def test_the_app_is_launched_as_asked(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Layout:
        @staticmethod
        def launch(**given: Any) -> None:
            asked.update(given)
            if given["host"] == "0.0.0.0":
                raise ValueError("Reachable from outside: give --auth user:password.")

    monkeypatch.setitem(sys.modules, "ui.layout", Layout)
    monkeypatch.setattr("ui.layout", Layout, raising=False)
    assert call("ui", "--port", "7999", "--no-browser", "--runs-dir", "there").code == 0
    assert asked == {
        "host": "127.0.0.1",
        "port": 7999,
        "auth": None,
        "runs_dir": "there",
        "inbrowser": False,
    }
    told = call("ui", "--host", "0.0.0.0")
    assert (told.code, told.err) == (1, "Reachable from outside: give --auth user:password.\n")


def test_a_surprise_is_told_without_a_traceback(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(runs_dir: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(api, "runs", broken)
    told = call("runs")
    assert told.code == 1
    assert "KeyError: 'surprise'" in told.err
    assert "DISTILL_DEBUG=1" in told.err
    monkeypatch.setenv("DISTILL_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["runs"])


def test_ctrl_c_elsewhere_exits_with_130(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(runs_dir: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "runs", interrupted)
    assert call("runs").code == 130


def test_several_problems_are_all_told(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [Problem(severity="error", field=name, message="Wrong.") for name in ("a", "b")]

    def refuse(recipe: object, **_: object) -> None:
        raise RecipeError(two)

    monkeypatch.setattr(api, "start", refuse)
    told = call("start", "r.yaml")
    assert told.err == "a: Wrong.\nb: Wrong.\n"


def test_a_run_is_not_stopped_twice(call: Callable[..., Told], tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe(), tmp_path / "runs")
    run_control.stop(folder)
    told = call("stop", "latest")
    assert told.code == 1
    assert "is stopped: there is nothing to stop" in told.err


# --- the self-test ------------------------------------------------------------------------------

TESTED = {
    "name": "CPU",
    "passed": True,
    "seconds": 0.5,
    "properties": [
        {
            "name": "shift",
            "words": "Only labels count.",
            "measures": "largest difference",
            "figure": 1.25e-7,
            "limit": 1e-5,
            "passed": True,
            "error": "",
        }
    ],
}


def test_self_test_says_each_property_and_its_figure(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(api, "self_test", lambda device: asked.append(device) or TESTED)
    told = call("self-test")
    assert told.code == 0
    assert "✓ pass  Only labels count." in told.out
    assert "largest difference: 1.2e-07, allowed 1e-05" in told.out
    assert "1 of 1 properties hold" in told.out
    assert call("self-test", "--device", "cpu", "--json").document == TESTED
    assert asked == ["auto", "cpu"]


def test_self_test_ends_with_1_where_a_property_fails(
    call: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = TESTED["properties"][0] | {"figure": None, "passed": False, "error": "no such kernel"}
    failed = TESTED | {"passed": False, "properties": [item]}
    monkeypatch.setattr(api, "self_test", lambda device: failed)
    told = call("self-test")
    assert told.code == 1
    assert "✗ FAIL  Only labels count." in told.out
    assert "no such kernel" in told.out
    told = call("self-test", "--json")
    assert (told.code, told.document["passed"]) == (1, False)
