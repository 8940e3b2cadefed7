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
    100: ("the maximum",),
}

_HOURS: Final = tuple(hour for hour in range(6, 24) if hour != 12)

_DURATIONS: Final = {
    15: ("a quarter of an hour",),
    30: ("half an hour",),
    60: ("an hour", "one hour"),
    90: ("an hour and a half", "one and a half hours"),
    120: ("two hours", "a couple of hours"),
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
    """Return a percentage, a multiple of five of 5–100, and its spoken form."""
    value = 10 * (1 + dice.below(10)) if dice.chance(0.75) else 5 * (1 + dice.below(20))
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
    value = dice.pick((5, 10, 20, 30, 40, 50))
    return value, f"{said(value) if dice.chance(0.7) else value} minutes"


def _named_hour(dice: Dice, hour: int) -> str:
    """Return an hour of 1–11 or 13–23 in words with its part of the day: 21 → "nine pm"."""
    if hour < 12:
        return f"{_ONES[hour]} {'in the morning' if dice.chance(0.2) else 'am'}"
    late = hour > 17 and dice.chance(0.3)
    return f"{_ONES[hour - 12]} {'in the evening' if late else 'pm'}"


def clock_time(dice: Dice) -> tuple[str, str]:
    """Return a clock time as HH:MM of 24 hours, and its spoken form.

    Times are quarters of an hour, from six in the morning to half past eleven pm, and midnight.
    """
    if dice.chance(0.06):
        return dice.pick((("12:00", "noon"), ("00:00", "midnight")))
    hour = dice.pick(_HOURS)
    minute = dice.pick((0, 0, 0, 15, 30, 30, 45))
    exact = f"{hour:02d}:{minute:02d}"
    if dice.chance(0.12):
        return exact, exact
    if minute == 0:
        name = _named_hour(dice, hour)
        return exact, name.replace(" ", " o'clock ", 1) if dice.chance(0.2) else name
    if minute == 45 and hour not in (11, 23):
        return exact, f"quarter to {_named_hour(dice, hour + 1)}"
    if minute == 30 and dice.chance(0.7):
        return exact, f"half past {_named_hour(dice, hour)}"
    if minute == 15 and dice.chance(0.8):
        return exact, f"quarter past {_named_hour(dice, hour)}"
    word, part = _named_hour(dice, hour).split(" ", 1)  # "nine thirty pm"
    return exact, f"{word} {said(minute)} {part}"
