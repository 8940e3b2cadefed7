"""The pocket assistant's language: one meaning for each sentence, valid JSON, nothing repeated.

The expected answers here are worked out by hand from the rules in the generator's docstring.
"""

import json
from itertools import islice

import pytest

from distill_core.starter.generator import LONGEST_PROMPT, generate, to_json
from distill_core.starter.spoken import Dice, clock_time, duration, percentage, said
from distill_core.starter.vocabulary import DEVICES, FRAMES, KEYS, ROOMS


@pytest.fixture(scope="module")
def pairs():
    return list(islice(generate(Dice("test")), 20_000))


def test_the_same_seed_gives_the_same_rows_and_another_seed_gives_others():
    first, again, other = (list(islice(generate(Dice(s)), 50)) for s in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_a_prompt_never_has_two_meanings(pairs):
    meanings = {}
    for prompt, response in pairs:
        assert meanings.setdefault(prompt.lower().rstrip("."), response) == response


def test_no_spoken_name_is_shared():
    devices = [name for device in DEVICES.values() for name in device.names]
    rooms = [place for places in ROOMS.values() for place, _ in places]
    assert len(set(devices + rooms)) == len(devices) + len(rooms)


def test_every_action_can_be_asked_for():
    assert {action for device in DEVICES.values() for action in device.actions} == set(FRAMES)


def test_answers_are_one_line_of_compact_json_with_known_slots(pairs):
    for _, response in pairs:
        parsed = json.loads(response)
        assert json.dumps(parsed, separators=(",", ":")) == response
        commands = parsed if isinstance(parsed, list) else [parsed]
        assert 1 <= len(commands) <= 2
        for command in commands:
            assert list(command) == [key for key in KEYS if key in command]
            assert command["do"] in DEVICES[command["what"]].actions
            assert command.get("room", "all") in (*ROOMS, "all")
            assert 0 < command.get("to", 1) <= 100
            assert sum(key in command for key in ("at", "in", "for")) <= 1


def test_prompts_are_short_and_clean(pairs):
    for prompt, _ in pairs:
        assert prompt == " ".join(prompt.split())
        assert len(prompt.split()) <= LONGEST_PROMPT
        assert prompt.isascii()


def test_the_language_is_rich(pairs):
    assert len({prompt for prompt, _ in pairs}) > 0.95 * len(pairs)
    doubles = sum(response.startswith("[") for _, response in pairs) / len(pairs)
    assert 0.2 < doubles < 0.45
    for key in KEYS:
        assert sum(f'"{key}":' in response for _, response in pairs) > 0.02 * len(pairs)


def kinds_named(text):
    """Every device that a piece of text names, longest names first so that parts do not count."""
    found, rest = [], f" {text} "
    names = [(name, kind) for kind, device in DEVICES.items() for name in device.names]
    for name, kind in sorted(names, key=lambda pair: -len(pair[0])):
        if f" {name} " in rest:
            found.append(kind)
            rest = rest.replace(f" {name} ", " ")
    return found


def containing(pairs, words):
    """Rows in which the words occur: (before, after, commands)."""
    for prompt, response in pairs:
        before, middle, after = prompt.rstrip(".").lower().partition(words)
        if middle:
            yield before, after, json.loads(response)


def test_there_is_the_room_just_named(pairs):
    seen = [
        one["room"] == two["room"]
        for before, _, (one, two) in _doubles(pairs, " there ")
        if kinds_named(before)  # not "hi there"
    ]
    assert len(seen) > 20
    assert all(seen)


def test_a_time_after_both_counts_for_both(pairs):
    times = ("at", "in", "for")
    seen = [
        [one.get(key) for key in times] == [two.get(key) for key in times] != [None] * 3
        for _, _, (one, two) in _doubles(pairs, " both ")
    ]
    assert len(seen) > 20
    assert all(seen)


def _doubles(pairs, words):
    return [row for row in containing(pairs, words) if isinstance(row[2], list)]


@pytest.mark.parametrize("opening", ["never mind ", "forget ", "leave "])
def test_what_is_to_be_left_alone_is_left_out(pairs, opening):
    seen = 0
    for _, after, command in containing(pairs, opening):
        ignored, _, wanted = after.partition(" and ")
        assert isinstance(command, dict)
        if len(kinds_named(wanted)) == len(kinds_named(ignored)) == 1:
            assert command["what"] == kinds_named(wanted)[0] != kinds_named(ignored)[0]
            seen += 1
    assert seen > 20


def test_a_correction_replaces_the_device_before_it(pairs):
    seen = 0
    for before, after, commands in containing(pairs, " sorry i mean the "):
        wrong, right = kinds_named(before.split(" the ")[-1]), kinds_named(after)
        if isinstance(commands, dict) and len(wrong) == len(right) == 1:
            assert commands["what"] == right[0] != wrong[0]
            seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (7, "seven"),
        (13, "thirteen"),
        (20, "twenty"),
        (35, "thirty five"),
        (100, "one hundred"),
    ],
)
def test_said(number, words):
    assert said(number) == words


# worked out by hand
CLOCK = {
    "half past nine pm": "21:30",
    "quarter to seven am": "06:45",
    "quarter to two pm": "13:45",
    "quarter past one pm": "13:15",
    "nine thirty pm": "21:30",
    "eleven forty five pm": "23:45",
    "five o'clock pm": "17:00",
    "eight in the evening": "20:00",
    "eight in the morning": "08:00",
    "half past eleven in the morning": "11:30",
    "noon": "12:00",
    "midnight": "00:00",
}


def test_clock_times_mean_what_people_mean():
    dice = Dice("clock")
    heard = {}
    for _ in range(30_000):
        exact, spoken = clock_time(dice)
        assert heard.setdefault(spoken, exact) == exact
    assert {spoken: heard[spoken] for spoken in CLOCK} == CLOCK


def test_amounts_have_one_meaning_and_stay_in_range():
    dice = Dice("amounts")
    for say, low, high in ((percentage, 1, 100), (duration, 2, 180)):
        heard = {}
        for _ in range(5_000):
            value, spoken = say(dice)
            assert low <= value <= high
            assert heard.setdefault(spoken, value) == value
    assert heard["an hour and a half"] == 90
    assert heard["a quarter of an hour"] == 15


def test_to_json_orders_the_slots_and_lists_two_commands():
    first = {"room": "hall", "what": "fan", "do": "on"}
    second = {"do": "off", "what": "tv", "at": "21:30"}
    assert to_json([first]) == '{"do":"on","what":"fan","room":"hall"}'
    assert to_json([first, second]) == (
        '[{"do":"on","what":"fan","room":"hall"},{"do":"off","what":"tv","at":"21:30"}]'
    )
