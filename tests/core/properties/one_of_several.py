"""One of two processes that train tiny networks together, for the tests of C16.

In: a folder; the place of this process in the environment, as a launcher gives it. Out: in that
folder, what this process has computed of every case, and what it has seen of the others.
`python -m tests.core.properties.one_of_several FOLDER`.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from distill_core import checkpoints, ranks
from distill_core.errors import NonFiniteError
from distill_core.forward.network import Network
from distill_core.recipe import LoraSettings
from distill_core.students.adapters import with_adapter
from distill_core.trainer import train
from tests.core.definition import encoded
from tests.core.nets import tiny_llama
from tests.core.ways import TERMS, case, cases, one_teacher, stage_of

CASES = cases()
SIZES = {"plain": [1, 8]}
"""Rows in a step; with one row a process has none."""


def steps_of(way: str) -> list[int]:
    return SIZES.get(way, [8])


def take(folder: Path, way: str, terms: str, size: int) -> dict[str, Any]:
    """One step of a case."""
    made = case(folder / f"{way} {terms} {size}", way, terms, size=size)
    gradient, metrics = made.step()
    return {"gradient": gradient, "metrics": metrics}


def events_of(folder: Path, *, stop_at: int | None = None) -> list[dict[str, Any]]:
    """Six steps of a LoRA student with dropout, saved at each second one."""
    torch.manual_seed(0)
    student = with_adapter(tiny_llama(), LoraSettings(rank=4, dropout=0.3), seed=0)
    made = stage_of(
        folder, student, one_teacher(), TERMS["both"], rows=encoded(20), steps=6, micro_batch_size=3
    )
    made.checkpoint_every = 2
    seen = []
    for event in train(made):
        seen.append(event)
        if event["type"] == "step" and event["step"] == stop_at:
            break
    return seen


def refused(folder: Path) -> list[str]:
    """What is told where one row, which one process has, is not finite."""
    rows = encoded(8)
    rows[6].input_ids[0] = 1  # no other row has this token
    student = tiny_llama()
    with torch.no_grad():
        student.get_input_embeddings().weight[1] = float("nan")
    made = stage_of(folder, student, one_teacher(), TERMS["both"], rows=rows, steps=9)
    made.optim = made.optim.model_copy(update={"micro_batch_size": 1})
    told = []
    try:
        for event in train(made):
            told.append(event.get("message", event["type"]))
    except NonFiniteError as error:
        told.append(str(error))
    return told


def wishes(folder: Path) -> list[dict[str, Any]]:
    """The second process alone asks to stop at once, the first one at its third step."""
    made = stage_of(folder, tiny_llama(), one_teacher(), TERMS["both"], steps=9)
    asked = iter([None, None, "stop"])
    first = ranks.is_first()
    return list(train(made, should_stop=(lambda: next(asked)) if first else (lambda: "pause")))


@contextmanager
def watched(bare: list[str], written: list[str]) -> Any:
    """Note calls of the student's network outside its wrapper, and who writes checkpoints."""
    from torch.nn.parallel import DistributedDataParallel as Wrapper

    wrapped, inner, write = Wrapper.forward, Network.forward, checkpoints.Checkpoints._write
    inside = [False]

    def outer(self: Any, *args: Any, **kwargs: Any) -> Any:
        inside[0] = True
        try:
            return wrapped(self, *args, **kwargs)
        finally:
            inside[0] = False

    def network(self: Any, *given: Any) -> Any:
        if any(value.requires_grad for value in self.parameters()) and not inside[0]:
            bare.append(type(self).__name__)
        return inner(self, *given)

    def writes(self: Any, step: int, *args: Any) -> Any:
        written.append(f"{self.folder.parent.name} {step}")
        return write(self, step, *args)

    Wrapper.forward, Network.forward = outer, network
    checkpoints.Checkpoints._write = writes  # type: ignore[method-assign]
    try:
        yield
    finally:
        Wrapper.forward, Network.forward = wrapped, inner
        checkpoints.Checkpoints._write = write  # type: ignore[method-assign]


def main(folder: Path) -> None:
    ranks.join("cpu")
    bare: list[str] = []
    written: list[str] = []
    steps = {}
    with watched(bare, written):
        for way, terms in CASES:
            for size in steps_of(way):
                steps[way, terms, size] = take(folder, way, terms, size)
        whole = events_of(folder / "whole")
        cut = events_of(folder / "cut", stop_at=3)
        rest = events_of(folder / "cut")
    found = {
        "steps": steps,
        "bare": bare,
        "written": written,
        "whole": whole,
        "cut": cut + rest,
        "refused": refused(folder / "refused"),
        "wishes": wishes(folder / "wishes"),
    }
    torch.save(found, folder / f"process_{ranks.number()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
