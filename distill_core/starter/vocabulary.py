"""What the pocket assistant can talk about: devices, rooms and the ways to ask for each action.

In: nothing. Out: literal tables, canonical name → spoken forms. A spoken form belongs to exactly
one canonical name, so that a careful listener can always tell what was meant. Knows no grammar:
how the pieces are put together is `generator`'s.
"""

from typing import Final, NamedTuple

__all__ = ["DEVICES", "EVERYWHERE", "FRAMES", "KEYS", "ROOMS", "Device", "Frame"]


class Device(NamedTuple):
    """One kind of device: the names people give it and the actions it understands."""

    names: tuple[str, ...]
    actions: tuple[str, ...]


class Frame(NamedTuple):
    """One way to ask for an action: what is said before and after the device.

    `imperative` frames may be wrapped in "could you …"; the others stand on their own.
    """

    before: str
    after: str
    imperative: bool = True


_SWITCH = ("on", "off", "status")
_DIAL = (*_SWITCH, "set", "up", "down")
_COVER = ("open", "close", "set", "status")
_LEAF = ("open", "close", "lock", "unlock", "status")

DEVICES: Final[dict[str, Device]] = {
    "light": Device(("light", "lights", "lamp", "lighting"), _DIAL),
    "heater": Device(("heater", "heating", "radiator"), _DIAL),
    "fan": Device(("fan", "ventilator"), _DIAL),
    "cooler": Device(("cooler", "cooling", "air conditioner"), _DIAL),
    "music": Device(("music", "stereo", "speakers"), _DIAL),
    "tv": Device(("tv", "television", "telly"), _DIAL),
    "plug": Device(("plug", "socket", "outlet"), _SWITCH),
    "camera": Device(("camera", "webcam"), _SWITCH),
    "kettle": Device(("kettle", "tea kettle"), _SWITCH),
    "coffee": Device(("coffee machine", "coffee maker"), _SWITCH),
    "washer": Device(("washing machine", "washer"), _SWITCH),
    "vacuum": Device(("vacuum", "hoover"), _SWITCH),
    "alarm": Device(("alarm", "siren"), _SWITCH),
    "sprinkler": Device(("sprinkler", "sprinklers"), _SWITCH),
    "blinds": Device(("blinds", "shades", "shutters"), _COVER),
    "curtains": Device(("curtains", "drapes"), _COVER),
    "window": Device(("window", "skylight"), _LEAF),
    "door": Device(("door", "doors"), _LEAF),
    "gate": Device(("gate", "gates"), _LEAF),
}

# canonical → ((place, its preposition), …)
ROOMS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "kitchen": (("kitchen", "in"), ("galley", "in")),
    "bedroom": (("bedroom", "in"),),
    "living": (("living room", "in"), ("lounge", "in")),
    "bath": (("bathroom", "in"), ("washroom", "in")),
    "office": (("office", "in"), ("study", "in")),
    "hall": (("hall", "in"), ("hallway", "in"), ("corridor", "in")),
    "garage": (("garage", "in"), ("carport", "in")),
    "garden": (("garden", "in"), ("backyard", "in"), ("yard", "in")),
    "nursery": (("nursery", "in"), ("kids room", "in")),
    "attic": (("attic", "in"), ("loft", "in")),
    "cellar": (("cellar", "in"), ("basement", "in")),
    "dining": (("dining room", "in"),),
    "porch": (("porch", "on"), ("veranda", "on")),
    "guest": (("guest room", "in"),),
    "stairs": (("stairs", "on"), ("staircase", "on")),
}

# said after the device; every one means the room "all"
EVERYWHERE: Final = ("everywhere", "in the whole house", "in every room", "all over the house")

FRAMES: Final[dict[str, tuple[Frame, ...]]] = {
    "on": (
        Frame("turn on", ""),
        Frame("turn", "on"),
        Frame("switch on", ""),
        Frame("switch", "on"),
        Frame("put", "on"),
        Frame("power up", ""),
        Frame("start", ""),
        Frame("get", "going"),
        Frame("i want", "on", False),
        Frame("", "on", False),
    ),
    "off": (
        Frame("turn off", ""),
        Frame("turn", "off"),
        Frame("switch off", ""),
        Frame("switch", "off"),
        Frame("shut off", ""),
        Frame("power down", ""),
        Frame("stop", ""),
        Frame("kill", ""),
        Frame("i want", "off", False),
        Frame("", "off", False),
    ),
    "up": (
        Frame("turn up", ""),
        Frame("turn", "up"),
        Frame("raise", ""),
        Frame("increase", ""),
        Frame("boost", ""),
        Frame("bring", "up a bit"),
        Frame("i want more from", "", False),
    ),
    "down": (
        Frame("turn down", ""),
        Frame("turn", "down"),
        Frame("lower", ""),
        Frame("reduce", ""),
        Frame("ease off", ""),
        Frame("bring", "down a bit"),
        Frame("i want less from", "", False),
    ),
    "set": (
        Frame("set", "to"),
        Frame("put", "at"),
        Frame("bring", "to"),
        Frame("adjust", "to"),
        Frame("i want", "at", False),
        Frame("", "to", False),
    ),
    "open": (
        Frame("open", ""),
        Frame("open up", ""),
        Frame("pull", "open"),
        Frame("i want", "open", False),
    ),
    "close": (
        Frame("close", ""),
        Frame("shut", ""),
        Frame("pull", "shut"),
        Frame("i want", "closed", False),
    ),
    "lock": (Frame("lock", ""), Frame("bolt", ""), Frame("i want", "locked", False)),
    "unlock": (Frame("unlock", ""), Frame("unbolt", ""), Frame("i want", "unlocked", False)),
    "status": (
        Frame("check", ""),
        Frame("check on", ""),
        Frame("tell me about", ""),
        Frame("give me the state of", ""),
        Frame("how is", "doing", False),
        Frame("what is", "up to", False),
        Frame("what is going on with", "", False),
    ),
}

# the answer's keys, in the order in which they are written
KEYS: Final = ("do", "what", "room", "to", "by", "at", "in", "for")
