"""Numbers as people say them: percentages, clock times and durations, in words and in digits.

In: a `Dice`. Out: a value and one of the ways to say it. Every spoken form has one meaning; knows
neither devices nor sentences.
"""

import random
from collections.abc import Sequence
from typing import Final, TypeVar

__all__ = ["Dice", "clock_time", "duration", "percentage", "said"]

T = TypeVar("T")

# fmt: off
_ONES: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
_TENS: Final = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)
# fmt: on

_SPECIAL_PERCENT: Final = {
    25: ("a quarter", "one quarter"),
    50: ("half", "one half"),
    75: ("three quarters",),
    100: ("full", "the maximum"),
}

_DURATIONS: Final = {
    15: ("a quarter of an hour",),
    30: ("half an hour",),
    45: ("three quarters of an hour",),
    60: ("an hour", "one hour"),
    90: ("an hour and a half", "one and a half hours"),
    120: ("two hours", "a couple of hours"),
    180: ("three hours",),
}


class Dice:
    """A seeded source of choices that is the same on every Python version."""

    __slots__ = ("_random",)

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def chance(self, probability: float) -> bool:
        """Return True with the given probability, 0–1."""
        return self._random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[int(self._random() * len(options))]

    def below(self, end: int) -> int:
        """Return a whole number in [0, end)."""
        return int(self._random() * end)


def said(number: int) -> str:
    """Return a number of 0–100 in words: 35 → "thirty five"."""
    if number < 20:
        return _ONES[number]
    if number == 100:
        return "one hundred"
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]} {_ONES[ones]}" if ones else _TENS[tens]


def percentage(dice: Dice) -> tuple[int, str]:
    """Return a percentage of 1–100 and its spoken form."""
    value = 5 * (1 + dice.below(20)) if dice.chance(0.6) else 1 + dice.below(99)
    if value in _SPECIAL_PERCENT and dice.chance(0.4):
        return value, dice.pick(_SPECIAL_PERCENT[value])
    if dice.chance(0.65):
        return value, f"{said(value)} percent"
    return value, f"{value}%" if dice.chance(0.6) else f"{value} percent"


def duration(dice: Dice) -> tuple[int, str]:
    """Return a duration in minutes and its spoken form."""
    if dice.chance(0.4):
        value = dice.pick(tuple(_DURATIONS))
        return value, dice.pick(_DURATIONS[value])
    value = 2 + dice.below(58)
    return value, f"{said(value) if dice.chance(0.7) else value} minutes"


def _named_hour(dice: Dice, hour: int, *, clock: bool = False) -> str:
    """Return an hour of 0–23 in words with its part of the day: 21 → "nine in the evening"."""
    if hour == 0:
        return "midnight"
    if hour == 12:
        return "noon"
    if hour < 12:
        part = dice.pick(("am", "in the morning"))
    elif hour < 18:
        part = dice.pick(("pm", "in the afternoon"))
    else:
        part = dice.pick(("pm", "in the evening" if hour < 21 else "at night"))
    name = f"{_ONES[hour % 12]} o'clock" if clock else _ONES[hour % 12]
    return f"{name} {part}"


def clock_time(dice: Dice) -> tuple[str, str]:
    """Return a clock time as HH:MM of 24 hours and its spoken form."""
    hour = dice.below(24)
    if dice.chance(0.15):  # digits, any minute
        minute = dice.below(60)
        exact = f"{hour:02d}:{minute:02d}"
        if dice.chance(0.5) or hour % 12 == 0:
            return exact, exact
        return exact, f"{hour % 12}:{minute:02d} {'am' if hour < 12 else 'pm'}"
    minute = dice.pick((0, 0, 0, 15, 30, 30, 45, 5 * dice.below(12)))
    exact = f"{hour:02d}:{minute:02d}"
    if minute == 0:
        return exact, _named_hour(dice, hour, clock=dice.chance(0.3))
    if minute >= 10 and hour % 12 and dice.chance(0.35):  # "nine thirty pm"
        word, part = _named_hour(dice, hour).split(" ", 1)
        return exact, f"{word} {said(minute)} {part}"
    if minute == 30:
        return exact, f"half past {_named_hour(dice, hour)}"
    before = minute > 30
    distance = 60 - minute if before else minute
    name = "quarter" if distance == 15 else said(distance)
    named = _named_hour(dice, (hour + 1) % 24 if before else hour)
    return exact, f"{name} {'to' if before else 'past'} {named}"
