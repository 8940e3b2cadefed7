"""Times networks in turn: whatever else the machine does slows all of them alike.

In: a clock for each model. Out: what the clocks measured, by model; those of one shape share it.
Knows nothing of what is timed.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

_NO_SHAPE = {"_name_or_path", "architectures", "transformers_version", "id2label", "label2id"}
"""Keys of a config that name things and cost no time."""


class Clock(Protocol):
    """Times one network, turn by turn."""

    shape: Hashable
    turns: int

    def take(self, turn: int) -> None:
        """Time one turn; the first ones warm up and are not kept."""

    @property
    def timings(self) -> Any:
        """What the turns have measured: `tokens, seconds` one by one, and `as_scores()`."""


class InTurn:
    """Clocks of a run's models, one for each shape; their networks stay in memory until then."""

    def __init__(self) -> None:
        self._clocks: dict[Hashable, Clock] = {}
        self._shapes: dict[str, Hashable] = {}

    def add(self, model: str, clock: Clock) -> None:
        """Time this model, too; one of a shape that is there already is not timed again."""
        self._shapes[model] = clock.shape
        self._clocks.setdefault(clock.shape, clock)

    def timings(self) -> dict[str, Any]:
        """Time all: the first turn of each network, the second of each, and so on."""
        for turn in range(max((clock.turns for clock in self._clocks.values()), default=0)):
            for clock in self._clocks.values():
                if turn < clock.turns:
                    clock.take(turn)
        return {model: self._clocks[shape].timings for model, shape in self._shapes.items()}


def shape_of(model: Any, prompts: Sequence[Sequence[int]]) -> Hashable:
    """What the time of a network depends on: layers, sizes, number formats, and what it reads."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in _NO_SHAPE}
    tensors = [(name, tuple(t.shape), str(t.dtype)) for name, t in model.state_dict().items()]
    layers = [type(layer).__name__ for layer in model.modules()]
    return (
        json.dumps(config, sort_keys=True, default=str),
        tuple(tensors),
        tuple(layers),
        tuple(tuple(prompt) for prompt in prompts),
    )
