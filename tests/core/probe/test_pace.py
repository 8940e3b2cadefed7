"""How the time is divided: four seeds fit, rows and steps follow the speed."""

from __future__ import annotations

import pytest

from distill_core.probe.pace import LEAST_STEPS, Share, Timing, longer, share, too_short
from distill_core.probe.probe_file import Pace, Trained

FAST = Timing(step_s=0.02, row_s=0.005, fixed_s=1.0)
SLOW = Timing(step_s=1.0, row_s=0.1, fixed_s=5.0)


def given(*timings: Timing, left_s: float = 600, **more: int) -> Share:
    facts = {"full_steps": 5000, "rows_per_step": 32, "held_out": 1000, "unanswered": 0}
    return share(timings, left_s=left_s, **(facts | more))


def cost(one: Share, *timings: Timing) -> float:
    """Seconds of four seeds, counted independently."""
    total = 0.0
    for timing in timings:
        total += timing.fixed_s + one.steps * timing.step_s
        total += timing.row_s * (one.final_rows + 7 * one.watched_rows)
    total += timings[0].row_s * one.final_rows
    return 4 * total


@pytest.mark.parametrize("timings", [(FAST, FAST), (SLOW, SLOW), (FAST,)])
def test_four_seeds_fit_into_the_time(timings: tuple[Timing, ...]) -> None:
    one = given(*timings)
    assert one.steps >= LEAST_STEPS
    assert 250 < cost(one, *timings) <= 600


def test_a_slow_machine_scores_fewer_rows_and_no_arm_takes_more_than_its_full_run() -> None:
    assert given(SLOW, SLOW).final_rows < given(FAST, FAST).final_rows == 1000
    assert given(FAST, FAST, full_steps=40).steps == 40
    assert given(FAST, FAST, held_out=30).final_rows == 30


def test_rows_that_a_teacher_must_answer_take_at_most_a_quarter_of_the_time() -> None:
    asked = Timing(step_s=0.02, row_s=0.005, fixed_s=1.0, answer_s=0.5)
    one = given(asked, FAST, unanswered=20_000)
    assert one.most_rows == 0.25 * 600 / 0.5
    assert cost(one, asked, FAST) + one.most_rows * 0.5 <= 600


def test_too_little_time_is_told_with_what_would_do() -> None:
    one = given(SLOW, SLOW, left_s=60)
    told = too_short(one, (SLOW, SLOW), minutes=1, full_steps=5000)
    assert "10 are the least" in told
    minutes = float(told.split("about ")[1].split()[0])
    enough = given(SLOW, SLOW, left_s=60 * minutes)
    assert enough.steps >= LEAST_STEPS
    assert too_short(enough, (SLOW, SLOW), minutes=minutes, full_steps=5000) == ""


# --- what a whole seed has taken ----------------------------------------------------------------


def arm(seconds: float, *, step_s: float | None = 0.5, once_s: float = 0.0) -> Trained:
    facts = {"verdict": "distill", "seed": 0, "metric": "exact_match", "steps": 40, "tokens": 1}
    facts |= {"supervised_tokens": 1, "starts_from": "", "parameters": 1, "rows": {}}
    return Trained(**facts, seconds=seconds, step_s=step_s, once_s=once_s)


KNOWN = Pace(steps=40, most_rows=320, final_rows=50, watched_rows=20)


def again(*arms: Trained, left_s: float, early: bool = False, full: int = 5000) -> Pace | None:
    return longer(KNOWN, [arms], left_s=left_s, full_steps=full, too_early=early)


def test_the_seconds_that_a_seed_leaves_go_into_its_steps() -> None:
    found = again(arm(20), arm(30), left_s=400)
    # four seeds of 0.9 · 400 / 4 = 90 s each: 40 s more than one takes, at 1 s for a step of both
    assert found == KNOWN.model_copy(update={"steps": 80, "most_rows": 640, "dropped": [40]})
    assert again(arm(20), arm(30), left_s=400, full=70).steps == 70  # type: ignore[union-attr]
    assert again(arm(20), arm(30), left_s=300) is None, "17 steps more are not worth a seed"


def test_where_it_is_too_early_three_seeds_of_a_few_steps_more_will_do() -> None:
    found = again(arm(20), arm(30), left_s=200, early=True)
    assert found is not None
    assert found.steps == 50
    assert again(arm(20), arm(30), left_s=200) is None
    assert again(arm(20), arm(30), left_s=170, early=True) is None, "no time for longer ones"


def test_answers_that_are_kept_are_not_paid_twice_and_no_others_are_asked_for() -> None:
    found = again(arm(120, once_s=100), arm(30), left_s=400)
    assert found is not None
    assert (found.steps, found.most_rows) == (80, 320)


def test_an_arm_that_was_interrupted_tells_no_pace() -> None:
    assert again(arm(2, step_s=None), arm(30), left_s=4000) is None
