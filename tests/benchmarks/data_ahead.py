"""What it brings to make the next step's rows ready ahead: `python tests/benchmarks/data_ahead.py`.

In: the starter's rows and teacher, a student of one layer. Out: the wall time of a training step,
with the rows made ready by a thread and in turn, from memory and from disk, with the teacher asked
and with what it said once read from a cache: medians over rounds in alternating order, and the
median of each round's ratio; a table. One thread of torch.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import torch

from distill_core import device as machine
from distill_core import models, trainer
from distill_core.checkpoints import Checkpoints
from distill_core.data import spooled
from distill_core.data.sources import load_rows
from distill_core.data.tokenize import encode, pad_token_id
from distill_core.losses.objective import Objective
from distill_core.recipe import (
    DataSettings,
    ForwardKLLoss,
    HiddenCache,
    LayerDropStudent,
    OptimSettings,
    SampledCache,
    StarterSource,
)
from distill_core.students.build import build_student
from distill_core.teachers.cache_pass import Questions, Reading, fill
from distill_core.teachers.cached import CachedTeacher
from distill_core.teachers.loading import Part, identity, load_network
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.on_demand import OnDemandTeacher

WARM_UP = 5
"""Steps at the beginning of a run that are not counted."""


def in_turn(prepare: Callable[[int], Any], steps: Iterable[int]) -> Generator[Any, None, None]:
    """As `prepared_ahead`, without a thread."""
    yield from map(prepare, steps)


WAYS = {"ahead": trainer.prepared_ahead, "in turn": in_turn}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="pocket-teacher")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| rows lie | ahead, ms a step | in turn, ms a step | ahead / in turn |"]
    lines.append("|---|---|---|---|")
    for place, in_memory, cache in (
        ("in memory", options.rows, None),
        ("on disk", 0, None),
        ("in memory, the teacher's hidden states on disk", options.rows, HiddenCache()),
        ("in memory, the teacher's samples on disk", options.rows, SampledCache()),
    ):
        spooled.IN_MEMORY = in_memory  # type: ignore[misc]
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(options, Path(folder), cache)
            ahead, turn = setting.rounds()
        ratio = statistics.median(a / b for a, b in zip(ahead, turn, strict=True))
        medians = [1e3 * statistics.median(seconds) for seconds in (ahead, turn)]
        lines.append(f"| {place} | {medians[0]:.2f} | {medians[1]:.2f} | {ratio:.3f} |")
    sys.stdout.write("\n".join(lines) + "\n")


class Setting:
    """One teacher, one student, one list of rows."""

    def __init__(self, options: argparse.Namespace, folder: Path, cache: Any) -> None:
        self.options, self.folder = options, folder
        self.device = torch.device(options.device)
        source = models.resolve(options.teacher)
        self.tokenizer = models.load_tokenizer(source)
        rows = StarterSource(limit=options.rows)
        read = load_rows(DataSettings(sources=[rows]), source=rows)
        encoded = (encode(row, self.tokenizer, 256) for row in read)
        self.rows = spooled.Spooled(row for row in encoded if row.supervised_tokens)
        network = load_network(
            [Part(source)],
            precision="fp32",
            device=self.device,
            vocab_size=len(self.tokenizer),
        )
        asked = LocalTeacher(network, vocab_size=len(self.tokenizer), stop_ids=set())
        self.teacher = asked if cache is None else self.kept(asked, cache, source)
        self.student = build_student(LayerDropStudent(layers=1), source=source, seed=0)

    def kept(self, teacher: LocalTeacher, cache: Any, source: Any) -> CachedTeacher:
        """A cache of all that the teacher says of the rows."""
        found = CachedTeacher(
            cache,
            root=self.folder,
            teacher=identity([Part(source)], precision="fp32", device=self.device),
            tokenizer=self.tokenizer,
            temperature=1.0,
            classes=None,
            device=self.device,
        )
        note = self.folder / "note.json"
        once = OnDemandTeacher(lambda: teacher, device=self.device, note=note)
        reading = Reading(self.rows, pad_token_id(self.tokenizer))
        list(fill(found, once, rows=reading, held_out=Questions()))
        return found

    def rounds(self) -> tuple[list[float], list[float]]:
        """Seconds of a step, ahead and in turn, of every round; the first one warms up."""
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        losses = set()
        for number in range(self.options.rounds + 1):
            for name in list(WAYS) if number % 2 else reversed(WAYS):
                took, loss = self.seconds(WAYS[name])
                losses.add(loss)
                if number:
                    seconds[name].append(took)
        if len(losses) != 1:
            raise SystemExit(f"the ways disagree: {losses}")
        return seconds["ahead"], seconds["in turn"]

    def seconds(self, way: Any) -> tuple[float, float]:
        """Seconds of a step, the mean of a run, and the last step's loss."""
        options = self.options
        stage = trainer.TrainingStage(
            index=0,
            student=copy.deepcopy(self.student).to(self.device),
            objective=Objective([ForwardKLLoss(weight=1.0)]),
            rows=self.rows,
            optim=OptimSettings(global_batch_size=options.batch, micro_batch_size=options.batch),
            total_steps=options.steps + WARM_UP,
            seed=0,
            vocab_size=len(self.tokenizer),
            pad_token_id=pad_token_id(self.tokenizer),
            checkpoints=Checkpoints(self.folder / "none", keep=1),
            checkpoint_every=10**9,
            evaluate_every=10**9,
            teacher=self.teacher,
            use_cpu=self.device.type == "cpu",
        )
        trainer.prepared_ahead = way
        started = 0.0
        for happening in trainer.train(stage):
            if happening["step"] == WARM_UP:
                machine.synchronize(self.device)
                started = time.perf_counter()
        machine.synchronize(self.device)
        return (time.perf_counter() - started) / options.steps, happening["metrics"]["loss"]


if __name__ == "__main__":
    main()
