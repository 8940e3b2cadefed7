"""One run in one process: what is written down, how it ends, and what a failure says."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core import device, files, runs, worker
from distill_core.errors import (
    DataError,
    DiskFullError,
    ModelError,
    NonFiniteError,
    OutOfMemory,
    Problem,
    RecipeError,
    RunError,
)
from distill_core.events import Event, event, progress
from distill_core.runs import journal, pace, recorder, run_control, series
from distill_core.runs import status as run_status
from tests.core import pretend


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A queued run that this process has claimed."""
    folder = runs.create(pretend.recipe(), tmp_path)
    worker.claim(folder)
    return folder


def of(*happenings: Event | BaseException) -> worker.Pipeline:
    """A pipeline of given events; an exception is raised in its place."""

    def pipeline(
        recipe: object, run_dir: Path, *, should_stop: Callable[[], str | None]
    ) -> Iterator[Event]:
        for happening in happenings:
            if isinstance(happening, BaseException):
                raise happening
            yield happening

    return pipeline


STARTED = event("run_started", stages=[{"total_steps": 9, "title": "Distil"}])
STAGE = event("stage_started", stage=0, title="Distil", total_steps=9)


def step(number: int, **metrics: float) -> Event:
    return event("step", stage=0, step=number, metrics=metrics or {"loss": 1.0})


def test_a_finished_run_is_written_down(run_dir: Path) -> None:
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 0
    status = run_status.current(run_dir)
    assert status["state"] == "finished"
    assert status["progress"] == 1
    assert (status["step"], status["total_steps"], status["stages"]) == (12, 12, 1)
    kinds = [found["type"] for found in journal.read(run_dir)[0]]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert kinds.count("step") == 12
    assert files.read_json(run_dir / "evaluation.json")["retention"] == 0.95
    assert json.loads((run_dir / "samples.jsonl").read_text())["prompt"] == "lights on"
    summary = files.read_json(run_dir / "summary.json")
    assert (summary["student_parameters"], summary["exact_match"]) == (7, 0.9)
    assert summary["teacher"] == "pocket-teacher"


def test_the_environment_is_written_down(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=pretend.pipeline)
    written = files.read_json(run_dir / "environment.json")
    assert written["cpu_count"] == os.cpu_count()
    assert set(written["versions"]) >= {"torch", "transformers"}
    assert written["command"]


def test_it_says_what_auto_meant_here(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_pipeline_of", lambda run_dir: pretend.pipeline)
    worker.work(run_dir)
    written = files.read_json(run_dir / "environment.json")
    assert written["device"] == device.pick_device("auto").type
    assert written["precision"] in {"fp32", "bf16"}


def test_nothing_temporary_is_left(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=pretend.pipeline)
    assert not [path.name for path in run_dir.rglob("*") if path.name.startswith(".")]


def test_the_first_event_names_the_run(run_dir: Path) -> None:
    told = list(worker.follow(run_dir, pipeline=pretend.pipeline))
    assert told[0]["run"] == run_dir.name
    assert all("run" not in later for later in told[1:])


def test_status_follows_the_events(run_dir: Path) -> None:
    asking = iter(
        worker.follow(
            run_dir,
            pipeline=of(
                STARTED,
                STAGE,
                progress("caching teacher", "answers", done=3, total=8),
                event("checkpoint", stage=0, step=0),
            ),
        )
    )
    for _ in range(3):
        next(asking)
    status = run_status.current(run_dir)
    assert status["state"] == "running"
    assert (status["phase"], status["message"]) == ("caching teacher", "answers")
    assert (status["done"], status["total"], status["total_steps"]) == (3, 8, 9)
    assert status["eta_s"] is None
    asking.close()  # type: ignore[attr-defined]


def test_steps_are_written_without_the_one_that_trains(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the events nor the status of a step are written in its own thread."""
    write, replace = os.write, files.replace_json
    by: list[tuple[str, bool]] = []

    def writes(fd: int, data: bytes) -> int:
        by.append((data.decode(), threading.current_thread() is threading.main_thread()))
        return write(fd, data)

    def replaces(path: Path, data: Any) -> None:
        by.append((path.name, threading.current_thread() is threading.main_thread()))
        replace(path, data)

    def steps(recipe: object, folder: Path, *, should_stop: object) -> Iterator[Event]:
        yield STARTED
        yield STAGE
        yield step(1)  # the first one changes the phase, which is told at once
        by.clear()
        for number in range(2, 5):
            yield step(number)
        assert not [what for what, in_main in by if in_main]
        pretend.until("the steps", lambda: run_status.current(folder)["step"] == 4)
        pretend.until("the events", lambda: len(journal.read(folder)[0]) >= 6)
        assert not [what for what, in_main in by if in_main]
        yield event("run_finished", evaluation={})

    monkeypatch.setattr(os, "write", writes)
    monkeypatch.setattr(files, "replace_json", replaces)
    assert worker.work(run_dir, pipeline=steps) == 0


def test_time_left_is_forecast_from_the_pace() -> None:
    watch = pace.Pace()
    assert watch.seconds_left(step(1), [10, 20]) is None
    left = watch.seconds_left(step(6), [10, 20])
    assert left is not None
    assert left >= 0
    assert watch.seconds_left({**step(1), "stage": 1}, [10, 20]) is None, "a new stage: a new pace"


def test_a_phase_that_counts_tells_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now, watch = [0.0], pace.PhasePace()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def left(at: float, done: int, total: int = 100, phase: Any = "caching teacher") -> Any:
        now[0] = at
        return watch.seconds_left(progress(phase, "", done=done, total=total))

    assert left(0, 0) is None
    assert left(0.1, 20) is None
    assert left(0.2, 40) is None, "stored already: passed over at once"
    assert left(10, 50) == pytest.approx(49)
    assert left(20, 60) == pytest.approx(39.6)
    assert left(30, 60) == pytest.approx(29.6), "time goes on while nothing is told"
    assert left(500, 60) is None, "never 0 s left"
    assert left(501, 0, total=4, phase="evaluating") is None, "another phase: another pace"
    assert left(502, 0, total=0, phase="saving") is None


@pytest.mark.parametrize(("asked", "state"), [("stop", "stopped"), ("pause", "paused")])
def test_asked_by_a_file_it_saves_and_leaves(run_dir: Path, asked: str, state: str) -> None:
    (run_dir / asked).touch()
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 0
    status = run_status.current(run_dir)
    assert status["state"] == state
    assert status["checkpoint"] == {"stage": 0, "step": 1}
    assert run_control.asked(run_dir) is None, "the request has been met"


def test_a_resumed_run_goes_on_from_its_checkpoint(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=pretend.pipeline, also_asked=lambda: "pause")
    run_control.resume(run_dir)
    assert run_status.current(run_dir)["state"] == "queued"
    worker.claim(run_dir)
    worker.work(run_dir, pipeline=pretend.pipeline)
    curves, _ = series.read_series(run_dir)
    assert curves["0/loss"]["step"] == list(range(1, 13))


def test_a_resumed_stage_shows_the_step_it_goes_on_from(run_dir: Path) -> None:
    saved = event("checkpoint", stage=0, step=6)
    worker.work(run_dir, pipeline=of(STARTED, STAGE, step(7), saved, DataError("gone")))
    run_control.resume(run_dir)
    worker.claim(run_dir)
    going = worker.follow(run_dir, pipeline=of(STARTED, STAGE, step(7)))
    next(going), next(going)
    assert run_status.current(run_dir)["step"] == 6
    going.close()  # type: ignore[attr-defined]


def test_after_the_last_word_the_folder_is_left_alone(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever resumes the run right then must not be overwritten by the one that leaves."""
    monkeypatch.setattr(recorder, "HEARTBEAT_S", 0.001)
    beats: list[journal.Journal] = []
    flush = journal.Journal.flush

    def count(log: journal.Journal) -> None:
        beats.append(log)
        flush(log)

    monkeypatch.setattr(journal.Journal, "flush", count)
    going = worker.follow(run_dir, pipeline=pretend.pipeline, also_asked=lambda: "stop")
    for told in going:
        if told["type"] == "run_stopped":
            run_control.resume(run_dir)
            beats.clear()
            pretend.until("some heartbeats more", lambda: len(beats) > 3)
    assert run_status.current(run_dir)["state"] == "queued"


def test_a_caller_that_walks_away_leaves_a_stopped_run(run_dir: Path) -> None:
    going = worker.follow(run_dir, pipeline=pretend.pipeline)
    for told in going:
        if told["type"] == "step":
            break
    going.close()  # type: ignore[attr-defined]
    assert run_status.current(run_dir)["state"] == "stopped"
    assert journal.read(run_dir)[0][-1]["type"] == "run_stopped"


def test_ctrl_c_in_this_process_leaves_a_stopped_run(run_dir: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        list(worker.follow(run_dir, pipeline=of(STARTED, KeyboardInterrupt())))
    assert run_status.current(run_dir)["state"] == "stopped"


def test_the_heart_beats_while_nothing_happens(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "HEARTBEAT_S", 0.01)

    def loading(recipe: object, folder: Path, *, should_stop: object) -> Iterator[Event]:
        yield progress("loading", "a model")
        first = run_status.read(folder)["heartbeat_time"]
        pretend.until("a beat", lambda: run_status.read(folder)["heartbeat_time"] > first)
        yield event("run_finished", evaluation={})

    assert worker.work(run_dir, pipeline=loading) == 0


# --- failures -----------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


FULL = OSError(errno.ENOSPC, "No space left on device")


def wrapped(cause: Exception) -> Exception:
    """An error as libraries raise it: with the real one as its cause."""
    error = RuntimeError("SafetensorError while saving")
    error.__cause__ = cause
    return error


PROBLEM = Problem(severity="error", field="seed", message="-1 is not allowed.", fix="Choose 0.")
FAILURES = {
    "data": (DataError("rows.jsonl:3 is not JSON."), "data", "rows.jsonl:3", "data_error"),
    "model": (ModelError("No model x.", field="stages.0.teacher"), "stages", "x", "model_error"),
    "recipe": (RecipeError([PROBLEM]), "seed", "Choose 0", "recipe"),
    "nan": (NonFiniteError("loss is NaN in rows 3, 4."), "", "rows 3, 4", "non_finite_error"),
    "disk": (FULL, "", "is full", "disk_full"),
    "disk, wrapped": (wrapped(FULL), "", "is full", "disk_full"),
    "disk, by text": (RuntimeError("I/O: No space left on device"), "", "is full", "disk_full"),
    "disk, told": (DiskFullError("no room for step 9"), "", "step 9", "disk_full"),
    "one row": (
        OutOfMemory("A single row.", field="data.max_seq_len"),
        "data.max_seq_len",
        "A single row.",
        "out_of_memory",
    ),
    "memory": (MemoryError(), "micro_batch_size", "Memory ran out", "out_of_memory"),
    "cuda": (OutOfMemoryError("CUDA"), "micro_batch_size", "Lower", "out_of_memory"),
    "allocator": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        "micro_batch_size",
        "Memory ran out",
        "out_of_memory",
    ),
    "bug": (KeyError("surprise"), "", "KeyError: 'surprise'", "internal"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_and_why(run_dir: Path, name: str) -> None:
    error, field, words, kind = FAILURES[name]
    assert worker.work(run_dir, pipeline=of(STARTED, error)) == 1
    status = run_status.current(run_dir)
    assert status["state"] == "failed"
    told = status["error"]
    assert words in told["message"]
    assert len(told["message"].splitlines()) <= 2
    assert "Traceback" not in told["message"]
    assert field in told["field"]
    assert told["kind"] == kind
    last = journal.read(run_dir)[0][-1]
    assert (last["type"], last["message"]) == ("run_failed", told["message"])
    assert "Traceback" in runs.read_log(run_dir), "the whole report is in the log"


def test_a_long_message_is_cut_to_two_lines(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=of(DataError("one\ntwo\nthree")))
    assert run_status.current(run_dir)["error"]["message"] == "one\ntwo three"


def test_a_failure_is_raised_for_whoever_iterates(run_dir: Path) -> None:
    going = worker.follow(run_dir, pipeline=of(DataError("broken")))
    assert next(going)["type"] == "run_failed"
    with pytest.raises(DataError, match="broken"):
        next(going)


def test_a_pipeline_that_says_nothing_has_failed(run_dir: Path) -> None:
    assert worker.work(run_dir, pipeline=of(STARTED)) == 1
    assert "without saying how" in run_status.current(run_dir)["error"]["message"]


def test_a_failed_run_can_go_on(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=of(STARTED, STAGE, step(1), DataError("broken")))
    run_control.resume(run_dir)
    assert run_status.current(run_dir)["error"] is None
    worker.claim(run_dir)
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 0


def test_a_disk_that_fills_up_ends_the_run_with_whole_lines(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    room = 700

    def small(fd: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise FULL
        count = write(fd, data[:room])
        room -= count
        return count

    def endless(recipe: object, folder: Path, *, should_stop: object) -> Iterator[Event]:
        yield STARTED
        while True:
            yield event("warning", message="x" * 100)

    monkeypatch.setattr(os, "write", small)
    assert worker.work(run_dir, pipeline=endless) == 1
    assert run_status.current(run_dir)["error"]["kind"] == "disk_full"
    text = (run_dir / "events.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line) for line in text.splitlines()]


def test_a_disk_without_any_room_still_gets_the_last_word(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing new can be written, not even beside: the status goes into its own file."""

    def refuse(*_: object) -> int:
        raise FULL

    monkeypatch.setattr(os, "write", refuse)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 1
    status = run_status.current(run_dir)
    assert status["state"] == "failed"
    assert status["error"]["kind"] == "disk_full"


def test_room_is_kept_for_the_last_word(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the ballast lies there, the disk is full."""
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if (run_dir / ".ballast").exists():
            raise FULL
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 1
    assert [told["type"] for told in journal.read(run_dir)[0]] == ["run_failed"]


def test_a_disk_without_room_for_the_events_file(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise FULL

    monkeypatch.setattr(os, "open", refuse)
    assert worker.work(run_dir, pipeline=pretend.pipeline) == 1
    monkeypatch.undo()
    assert run_status.current(run_dir)["error"]["kind"] == "disk_full"


# --- one owner ----------------------------------------------------------------------------------


def test_a_run_is_claimed_once(tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe(), tmp_path)
    worker.claim(folder)
    other = run_status.read(folder) | {"pid": os.getppid()}
    other["process_start_time"] = run_status.start_time(os.getppid())
    run_status.write(folder, other)
    with pytest.raises(RunError, match="is running; it cannot be started"):
        worker.claim(folder)


def test_a_finished_run_is_not_claimed(run_dir: Path) -> None:
    worker.work(run_dir, pipeline=pretend.pipeline)
    with pytest.raises(RunError, match="is finished"):
        worker.claim(run_dir)


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.main([]) == 2
    assert "RUN_DIR" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_stops_politely(tmp_path: Path) -> None:
    folder = runs.create(pretend.recipe("slow", steps=100_000), tmp_path)
    child = pretend.spawn(folder)
    try:
        pretend.until("a step", lambda: run_status.read(folder)["step"] > 0)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    status = run_status.current(folder)
    assert status["state"] == "stopped"
    assert status["checkpoint"]["step"] == status["step"]


def test_run_here_makes_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_real_pipeline", lambda: pretend.pipeline)
    told = list(worker.run_here(pretend.recipe(), tmp_path))
    folder = tmp_path / told[0]["run"]
    assert run_status.current(folder)["state"] == "finished"
    with pytest.raises(RunError, match="has finished"):
        next(worker.run_here(pretend.recipe(), tmp_path, resume=folder))


def test_run_here_goes_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_real_pipeline", lambda: pretend.pipeline)
    folder = runs.create(pretend.recipe(), tmp_path)
    run_control.pause(folder)
    told: list[dict[str, Any]] = list(worker.run_here(pretend.recipe(), tmp_path, resume=folder))
    assert told[0]["run"] == folder.name
    assert run_status.current(folder)["state"] == "finished"
    assert time.time() - run_status.read(folder)["heartbeat_time"] < 60
