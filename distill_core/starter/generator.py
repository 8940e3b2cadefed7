"""Pocket assistant: spoken home commands and the one line of JSON that each of them means.

In: a `Dice` (seeded). Out: (prompt, response) pairs, without end. The meaning of a prompt follows
from its words alone. Knows nothing of splits, files or tokens; pure Python.

How commands are read, in a few rules: the answer names only what was said; a correction ("no wait",
"i mean") replaces the word before it; what someone says to leave alone is left out; a room
in front of two devices, or a time after "both", counts for both; "there" is the room just named;
two commands give a list, in the order in which they are said.
"""

import json
from collections.abc import Iterator
from typing import Final

from distill_core.starter.spoken import Dice, clock_time, duration, percentage
from distill_core.starter.vocabulary import DEVICES, EVERYWHERE, FRAMES, KEYS, ROOMS, Frame

__all__ = ["LONGEST_PROMPT", "Command", "generate", "to_json"]

Command = dict[str, str | int]
LONGEST_PROMPT: Final = 24  # words

_KINDS = tuple(DEVICES)
_PLACES = tuple(ROOMS)
_OOPS = ("no wait", "sorry i mean", "i mean", "make that")
_WAKE = ("hey", "ok", "okay", "hi there", "so", "listen", "alright", "um", "well")
_ASK = (
    "please",
    "could you",
    "can you",
    "would you",
    "could you please",
    "can you please",
    "i need you to",
    "i would like you to",
    "go ahead and",
    "just",
    "let us",
    "do me a favor and",
)
_THANKS = ("please", "thanks", "thank you", "if you can", "would you", "for me", "my friend")
_PAUSE = ("um", "uh", "er", "you know", "like")
_JOIN = ("and", "then", "and then", "and also", "and after that", "plus")


def to_json(commands: list[Command]) -> str:
    """Return one command as a compact JSON object, several as a list of them."""
    ordered = [{key: command[key] for key in KEYS if key in command} for command in commands]
    return json.dumps(ordered if len(ordered) > 1 else ordered[0], separators=(",", ":"))


def _other(dice: Dice, options: tuple[str, ...], known: str) -> str:
    """Return an option that is not the known one."""
    index = options.index(known)
    return options[(index + 1 + dice.below(len(options) - 1)) % len(options)]


def _device(dice: Dice, what: str, *, slips: bool = True) -> str:
    """Return a spoken name of the device, now and then after a slip of the tongue."""
    name = dice.pick(DEVICES[what].names)
    if slips and dice.chance(0.03):
        wrong = dice.pick(DEVICES[_other(dice, _KINDS, what)].names)
        return f"{wrong} {dice.pick(_OOPS)} the {name}"
    return name


def _where(dice: Dice, room: str) -> str:
    """Return "in the kitchen" for a room, now and then after a slip of the tongue."""
    if room == "all":
        return dice.pick(EVERYWHERE)
    place, preposition = dice.pick(ROOMS[room])
    if dice.chance(0.03):
        wrong, its_preposition = dice.pick(ROOMS[_other(dice, _PLACES, room)])
        return f"{its_preposition} the {wrong} {dice.pick(_OOPS)} {preposition} the {place}"
    return f"{preposition} the {place}"


def _thing(dice: Dice, what: str, room: str | None) -> str:
    """Return the device with its room, if it has one: "the study lamp", "the fan in the hall"."""
    if room is None:
        return f"the {_device(dice, what)}"
    if room == "all" or dice.chance(0.5):
        return f"the {_device(dice, what)} {_where(dice, room)}"
    place, _ = dice.pick(ROOMS[room])
    return f"the {place} {_device(dice, what, slips=False)}"


def _room(dice: Dice) -> str | None:
    """Return a room, "all", or nothing."""
    if dice.chance(0.25):
        return None
    return "all" if dice.chance(0.08) else dice.pick(_PLACES)


def _words(frame: Frame, thing: str, extra: str = "") -> str:
    """Return a frame filled with the device and what follows it."""
    return " ".join(part for part in (frame.before, thing, frame.after, extra) if part)


def _value(dice: Dice, command: Command, key: str) -> str:
    """Put a percentage into the command and return how it is said."""
    command[key], spoken = percentage(dice)
    if dice.chance(0.03):
        _, wrong = percentage(dice)
        return f"{wrong} {dice.pick(_OOPS)} {spoken}"
    return spoken


def _when(dice: Dice, command: Command) -> str:
    """Put a time or a duration into the command and return how it is said."""
    key = dice.pick(("at", "at", "at", "in", "for"))
    if key == "at":
        command["at"], spoken = clock_time(dice)
    else:
        command[key], spoken = duration(dice)
    return f"{key} {spoken}"


def _clause(
    dice: Dice, what: str, room: str | None, *, thing: str = "", timed: float = 0.28
) -> tuple[Command, str, bool]:
    """Return one command, how it is said, and whether it is an imperative."""
    do = dice.pick(DEVICES[what].actions)
    frame = dice.pick(FRAMES[do])
    command: Command = {"do": do, "what": what}
    if room is not None:
        command["room"] = room
    extra = ""
    if do == "set":
        extra = _value(dice, command, "to")
    elif do in ("up", "down") and not frame.after.endswith("bit") and dice.chance(0.35):
        extra = f"by {_value(dice, command, 'by')}"
    words = _words(frame, thing or _thing(dice, what, room), extra)
    if do != "status" and dice.chance(timed):
        when = _when(dice, command)
        words = f"{when} {words}" if dice.chance(0.25) else f"{words} {when}"
    return command, words, frame.imperative


def _single(dice: Dice) -> tuple[list[Command], str, bool]:
    """Return one command: plain, with its room in front, or beside something to leave alone."""
    what, room = dice.pick(_KINDS), _room(dice)
    if room not in (None, "all") and dice.chance(0.12):
        command, words, imperative = _clause(dice, what, room, thing=f"the {_device(dice, what)}")
        return [command], f"{_where(dice, str(room))} {words}", imperative
    command, words, imperative = _clause(dice, what, room)
    if dice.chance(0.04):
        ignored = _thing(dice, _other(dice, _KINDS, what), _room(dice))
        opening = dice.pick(("never mind {} and", "forget {} and", "leave {} alone and"))
        return [command], f"{opening.format(ignored)} {words}", False
    return [command], words, imperative


def _two_clauses(dice: Dice) -> tuple[list[Command], str, bool]:
    """Return two whole commands, independent or tied by "there"."""
    room = _room(dice)
    what = dice.pick(_KINDS)
    first, words, imperative = _clause(dice, what, room, timed=0.18)
    other = _other(dice, _KINDS, what)
    if room not in (None, "all") and dice.chance(0.25):
        second, more, _ = _clause(
            dice, other, room, thing=f"the {_device(dice, other)} there", timed=0
        )
    else:
        second, more, _ = _clause(dice, other, _room(dice), timed=0.18)
    return [first, second], f"{words} {dice.pick(_JOIN)} {more}", imperative


def _two_things(dice: Dice) -> tuple[list[Command], str, bool]:
    """Return one action for two devices: "open the blinds and the bedroom window"."""
    do = dice.pick(("on", "off", "open", "close", "status", "up", "down"))
    able = tuple(kind for kind in _KINDS if do in DEVICES[kind].actions)
    what = dice.pick(able)
    other = _other(dice, able, what)
    frame = dice.pick([frame for frame in FRAMES[do] if frame.before])
    commands: list[Command] = [{"do": do, "what": what}, {"do": do, "what": other}]
    things = []
    for command in commands:
        room = dice.pick(_PLACES)
        command["room"] = room
        place, _ = dice.pick(ROOMS[room])
        things.append(f"the {place} {_device(dice, str(command['what']), slips=False)}")
    if dice.chance(0.3):  # one room in front, for both
        room = str(commands[0]["room"])
        commands[1]["room"] = room
        names = " and ".join(f"the {dice.pick(DEVICES[kind].names)}" for kind in (what, other))
        return commands, f"{_where(dice, room)} {_words(frame, names)}", False
    words = _words(frame, " and ".join(things))
    if do != "status" and dice.chance(0.25):
        when = _when(dice, commands[0])
        for key in ("at", "in", "for"):
            if key in commands[0]:
                commands[1][key] = commands[0][key]
        words = f"{words} both {when}"
    return commands, words, frame.imperative


def _same_elsewhere(dice: Dice) -> tuple[list[Command], str, bool]:
    """Return one command and the same again in another room."""
    room = dice.pick(_PLACES)
    first, words, imperative = _clause(dice, dice.pick(_KINDS), room, timed=0.18)
    other = _other(dice, _PLACES, room)
    place, preposition = dice.pick(ROOMS[other])
    again = dice.pick(("and the same", "and do the same", "then do that again", "and also"))
    return (
        [first, {**first, "room": other}],
        f"{words} {again} {preposition} the {place}",
        imperative,
    )


def _manners(dice: Dice, words: str, imperative: bool) -> str:
    """Return the request with wake words, politeness, pauses, a capital or a full stop."""
    if dice.chance(0.08):
        head, _, tail = words.partition(" the ")
        words = f"{head} {dice.pick(_PAUSE)} the {tail}" if head and tail else words
    if imperative and dice.chance(0.45):
        words = f"{dice.pick(_ASK)} {words}"
    if dice.chance(0.15):
        words = f"{dice.pick(_WAKE)} {words}"
    if dice.chance(0.15):
        words = f"{words} {dice.pick(_THANKS)}"
    if dice.chance(0.12):
        words = f"{words[0].upper()}{words[1:]}{'.' if dice.chance(0.7) else ''}"
    return words


def generate(dice: Dice) -> Iterator[tuple[str, str]]:
    """Yield (prompt, response) pairs without end."""
    while True:
        if dice.chance(0.7):
            commands, words, imperative = _single(dice)
        else:
            shape = dice.pick(
                (_two_clauses, _two_clauses, _two_clauses, _two_things, _same_elsewhere)
            )
            commands, words, imperative = shape(dice)
        prompt = _manners(dice, words, imperative)
        if prompt.count(" ") < LONGEST_PROMPT:
            yield prompt, to_json(commands)
