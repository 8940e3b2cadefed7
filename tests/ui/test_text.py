"""Numbers and states in words: the formats that every tab uses."""

from __future__ import annotations

import pytest

from distill_core.runs import status as run_status
from ui import text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), (0, "0"), (950, "950"), (12_300, "12,300"), (178_000, "0.178 M"),
        (1_690_000, "1.69 M"), (134_515_008, "134.5 M"), (7.2e9, "7.2 B"),
    ],
)  # fmt: skip
def test_counts(value: float | None, words: str) -> None:
    assert text.count_text(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"), (512, "512 B"), (1024, "1 KiB"), (6.8 * 2**20, "6.8 MiB"),
        (23.4 * 2**30, "23.4 GiB"), (750 * 2**20, "750 MiB"),
    ],
)  # fmt: skip
def test_bytes(value: float | None, words: str) -> None:
    assert text.bytes_text(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"), (-3, "0 s"), (8.4, "8 s"), (59.6, "1 min"), (80, "1 min 20 s"),
        (3600, "1 h"), (7500, "2 h 5 min"), (172_000, "47 h 46 min"), (187_200, "2 days 4 h"),
        (259_200, "3 days"), (4e11, "4,629,629 days"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, words: str) -> None:
    assert text.duration_text(seconds) == words


def test_shares_and_factors() -> None:
    assert text.percent_text(0.9649) == "96.5 %"
    assert text.percent_text(0.5, 0) == "50 %"
    assert text.factor_text(9.494) == "9.49 ×"
    assert text.percent_text(None) == text.factor_text(None) == "–"


def test_every_state_has_icon_tone_and_words_on_what_is_next() -> None:
    states = set(run_status.State.__args__)  # type: ignore[attr-defined]
    assert set(text.STATE_LOOKS) == states
    assert set(text.STATE_NEXT) == states - {"running", "stopping"}, "see `next_of`"
    assert set(text.ACTIVE_STATES) == run_status.ACTIVE
    assert set(text.RESUMABLE_STATES) == run_status.RESUMABLE


def test_how_far_a_run_is() -> None:
    training = {"state": "running", "phase": "training", "step": 640, "total_steps": 1200}
    assert text.step_of(training) == "step 640 of 1,200"
    caching = {"state": "running", "phase": "caching teacher", "done": 3200, "total": 20000}
    assert text.step_of(caching | {"total_steps": 1200}) == "3,200 of 20,000"
    assert text.step_of({"state": "queued", "phase": "", "total_steps": 0}) == ""
    assert text.stage_of({"stage": 0, "stages": 2}) == "stage 1 of 2"
    named = {"stage": 1, "stages": 2, "stage_title": "fine-tuned on labels"}
    assert text.stage_of(named) == "stage 2 of 2: fine-tuned on labels"
    assert text.stage_of({"stage": 0, "stages": 0}) == ""


def test_time_left_is_only_told_while_it_matters() -> None:
    assert text.time_left({"state": "running", "eta_s": 80.2}) == "1 min 20 s left"
    answers = {"state": "running", "phase": "caching teacher", "eta_s": 80.2}
    assert text.time_left(answers) == "1 min 20 s left in this phase"
    assert text.time_left({"state": "running", "eta_s": None}) == ""
    assert text.time_left({"state": "paused", "eta_s": 80.2}) == ""


def test_paused_runs_by_name() -> None:
    assert text.paused([]) == ""
    assert text.paused(["mine"]) == "1 paused: mine"
    assert text.paused(["a", "b", "c"]) == "3 paused: a, b, …"


def test_the_queue_in_words() -> None:
    assert text.queued(0) == ""
    assert text.queued(2) == "2 queued"
    assert text.queue_place({"state": "queued", "queue_position": 1}) == "next in the queue"
    assert text.queue_place({"state": "queued", "queue_position": 3}) == "number 3 in the queue"
    assert text.queue_place({"state": "running", "queue_position": None}) == ""


def test_when_something_was() -> None:
    now = 1_700_000_000.0
    assert text.when_text(now - 5, now_s=now) == "just now"
    assert text.when_text(now - 300, now_s=now) == "5 min ago"
    assert text.when_text(now - 7200, now_s=now) == "2 h ago"
    assert text.when_text(now - 10 * 86400, now_s=now).startswith("2023-11-0")
    assert text.when_text(None, now_s=now) == "–"


def test_numbers_are_never_written_as_powers() -> None:
    values = (0, 0.00042, 0.5, 9.99, 12.34, -7.8, 1187.2, 1e6)
    told = ["0", "0.00042", "0.5", "9.99", "12.3", "-7.8", "1,187", "1,000,000"]
    assert [text.number_text(value) for value in values] == told
    assert text.factor_text(1190.4) == "1,190 ×"
