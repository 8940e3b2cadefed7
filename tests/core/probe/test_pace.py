"""How the time is divided: four seeds fit, rows and steps follow the speed."""

from __future__ import annotations

import pytest

from distill_core.probe.pace import LEAST_STEPS, Share, Timing, share, too_short

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
