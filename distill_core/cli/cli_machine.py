"""Commands about this machine.

In: a device. Out: what was found on it. Registered in `distill_core/cli/__init__.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from distill_core import api
from distill_core.cli.command_line import Json, say, say_json, stdout_kept_clean


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def self_test(
    device: Annotated[
        Device, typer.Option("--device", help="auto takes the best that is there.")
    ] = Device.auto,
    as_json: Json = False,
) -> None:
    """Measure whether the numbers are right on this machine.

    Losses and gradients on the device against float64 on the CPU; takes seconds. Exit code 1 if
    any property does not hold.
    """
    with stdout_kept_clean():
        found = api.self_test(device.value)
    if as_json:
        say_json(found)
    else:
        for line in _lines(found):
            say(line)
    if not found["passed"]:
        raise typer.Exit(1)


def _lines(found: dict[str, Any]) -> list[str]:
    """Say of each property what must hold, the figure found, and whether it is small enough."""
    lines = [found["name"]]
    for item in found["properties"]:
        figure = "none" if item["figure"] is None else f"{item['figure']:.1e}"
        lines.append(f"{'✓ pass' if item['passed'] else '✗ FAIL'}  {item['words']}")
        lines.append(f"        {item['measures']}: {figure}, allowed {item['limit']:.0e}")
        if item["error"]:
            lines.append(f"        {item['error']}")
    held = sum(item["passed"] for item in found["properties"])
    lines.append(
        f"{held} of {len(found['properties'])} properties hold ({found['seconds']:.1f} s)."
    )
    return lines
