"""Leaving a run outside its training steps: between two things that a phase tells.

In: the events of a phase, and who says that the run is to stop. Out: the same events, until it is.
What a phase has finished is on disk, so that a resumed run goes on there. While steps are taken
the trainer asks, and saves first. Knows nothing of what the phases do.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from distill_core import ranks
from distill_core.events import Event

__all__ = ["Ask", "Left", "alone", "heed", "heeded", "together"]

T = TypeVar("T")

Ask = Callable[[], str | None]
"""Says `stop`, `pause`, or nothing."""


class Left(Exception):
    """A run was asked to end early, and has been left where it stood."""

    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.reason = "paused" if wish == "pause" else "stopped"


def together(should_stop: Ask) -> Ask:
    """Asks the first process for all: where each of them asks at the same points."""
    return lambda: ranks.agree(should_stop)


def alone(should_stop: Ask) -> Ask:
    """Asks a process that has no others: several may not leave where each is elsewhere."""
    return should_stop if ranks.count() == 1 else lambda: None


def heed(ask: Ask) -> None:
    """Raise `Left` if the run is to end early."""
    if wish := ask():
        raise Left(wish)


def heeded(events: Generator[Event, None, T], ask: Ask) -> Generator[Event, None, T]:
    """Pass on events and their result; raises `Left` after the first event at which `ask` says so.

    The phase is closed then, and stores what it has.
    """
    with closing(events):
        while True:
            try:
                happening = next(events)
            except StopIteration as end:
                result: T = end.value
                return result
            yield happening
            heed(ask)
