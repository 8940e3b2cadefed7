"""What a warm teacher cache brings: `python tests/benchmarks/teacher_cache.py`.

In: a teacher, perhaps a file of rows (`--data`; the starter's without). Out: for the teacher online
and for each kind of cache the seconds of a training step per supervised token (median over rounds
in alternating order, and the ratio of each round), the seconds of the pass and the bytes of a
token, and the loss of the first step; a table, then JSON. The student has the teacher's first
layers (`--layers`), the loss is forward KL at temperature 1 in fp32.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from distill_core import device as machine
from distill_core import models
from distill_core.checkpoints import Checkpoints
from distill_core.data.sources import load_rows
from distill_core.data.tokenize import encode, pad_token_id
from distill_core.losses.objective import Objective
from distill_core.recipe import (
    DataSettings,
    FileSource,
    ForwardKLLoss,
    HiddenCache,
    LayerDropStudent,
    OptimSettings,
    SampledCache,
    StarterSource,
    TopKCache,
)
from distill_core.students.build import build_student
from distill_core.teachers.cache_pass import Questions, Reading, fill
from distill_core.teachers.cached import CachedTeacher
from distill_core.teachers.loading import Part, identity, load_network
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.on_demand import OnDemandTeacher
from distill_core.trainer import TrainingStage, train

CACHES: dict[str, Any] = {
    "hidden": HiddenCache(),
    "top_k": TopKCache(),
    "sampled": SampledCache(),
}


def main() -> None:
    """Measure, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="pocket-teacher")
    parser.add_argument("--data", default=None)
    parser.add_argument("--template", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--max-seq-len", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = machine.pick_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(options, device, Path(folder))
        made = {name: setting.kept(name) for name in CACHES}
        teachers = {"online": setting.teacher()} | {n: one["teacher"] for n, one in made.items()}
        found = measured(setting, teachers, options.rounds)
    facts = {
        "teacher": options.teacher,
        "device": machine.device_name(device),
        "threads": torch.get_num_threads(),
        "rows": len(setting.rows),
        "supervised_tokens_per_row": setting.tokens / len(setting.rows),
        "tokens_per_row": sum(len(row.input_ids) for row in setting.rows) / len(setting.rows),
    }
    told = {
        name: {
            "s_per_supervised_token": statistics.median(seconds),
            "times_as_fast": [a / b for a, b in zip(found["online"][0], seconds, strict=True)],
            "first_loss": loss,
            **{key: value for key, value in made.get(name, {}).items() if key != "teacher"},
        }
        for name, (seconds, loss) in found.items()
    }
    sys.stdout.write(table(told) + json.dumps({**facts, "ways": told}) + "\n")


class Setting:
    """One teacher, one student, one set of rows."""

    def __init__(self, options: argparse.Namespace, device: torch.device, folder: Path) -> None:
        self.options, self.device, self.folder = options, device, folder
        self.source = models.resolve(options.teacher)
        self.tokenizer = models.load_tokenizer(self.source)
        source: Any = StarterSource(limit=options.rows)
        if options.data:
            source = FileSource(path=options.data, limit=options.rows)
        data = DataSettings(sources=[source], prompt_template=options.template)
        longest = options.max_seq_len
        rows = [encode(row, self.tokenizer, longest) for row in load_rows(data, source=source)]
        self.rows = [row for row in rows if row.supervised_tokens]
        self.tokens = sum(row.supervised_tokens for row in self.rows)
        layers = options.layers or max(1, models.facts(options.teacher)["layers"] // 5)
        self.student = build_student(LayerDropStudent(layers=layers), source=self.source, seed=0)

    def teacher(self) -> LocalTeacher:
        """The teacher in memory."""
        network = load_network(
            [Part(self.source)],
            precision="fp32",
            device=self.device,
            vocab_size=len(self.tokenizer),
        )
        return LocalTeacher(network, vocab_size=len(self.tokenizer), stop_ids=set())

    def kept(self, name: str) -> dict[str, Any]:
        """A cache of one kind, filled, with what that took."""
        cached = CachedTeacher(
            CACHES[name],
            root=self.folder,
            teacher=identity([Part(self.source)], precision="fp32", device=self.device),
            tokenizer=self.tokenizer,
            temperature=1.0,
            classes=None,
            device=self.device,
        )
        teacher = OnDemandTeacher(self.teacher, device=self.device, note=self.folder / "note.json")
        reading = Reading(self.rows, pad_token_id(self.tokenizer))
        assert teacher.loaded is not None, "loading it is no part of the pass"
        started = time.perf_counter()
        list(fill(cached, teacher, rows=reading, held_out=Questions()))
        seconds = time.perf_counter() - started
        arrays = cached.training.store.folder.glob("*.rows.safetensors")
        return {
            "teacher": cached,
            "pass_s_per_supervised_token": seconds / self.tokens,
            "bytes_per_token": sum(path.stat().st_size for path in arrays) / self.tokens,
        }

    def seconds(self, teacher: Any) -> tuple[float, float]:
        """Seconds of the steps per supervised token, and the first step's loss."""
        options = self.options
        stage = TrainingStage(
            index=0,
            student=copy.deepcopy(self.student).to(self.device),
            objective=Objective([ForwardKLLoss(weight=1.0)]),
            rows=self.rows,
            optim=OptimSettings(
                global_batch_size=options.batch, micro_batch_size=options.micro_batch
            ),
            total_steps=options.steps,
            seed=0,
            vocab_size=len(self.tokenizer),
            pad_token_id=pad_token_id(self.tokenizer),
            checkpoints=Checkpoints(self.folder / "none", keep=1),
            checkpoint_every=10**9,
            evaluate_every=10**9,
            teacher=teacher,
            use_cpu=self.device.type == "cpu",
        )
        started, losses = time.perf_counter(), []
        for happening in train(stage):
            if happening["type"] == "step":
                machine.synchronize(self.device)
                losses.append(happening["metrics"]["loss"])
        mean = self.tokens / len(self.rows)
        taken = options.steps * options.batch * mean
        return (time.perf_counter() - started) / taken, losses[0]


def measured(
    setting: Setting, teachers: dict[str, Any], rounds: int
) -> dict[str, tuple[list[float], float]]:
    """Seconds per supervised token of every round, and the first loss; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in teachers}
    losses: dict[str, float] = {}
    for number in range(rounds + 1):
        names = list(teachers) if number % 2 else list(reversed(teachers))
        for name in names:
            took, losses[name] = setting.seconds(teachers[name])
            if number:
                seconds[name].append(took)
    return {name: (seconds[name], losses[name]) for name in teachers}


def table(told: dict[str, Any]) -> str:
    """One line a way."""
    lines = ["| teacher | µs a supervised token | times as fast | pass, µs | bytes | first loss |"]
    lines.append("|---|---|---|---|---|---|")
    for name, one in told.items():
        fast = one["times_as_fast"]
        ratio = f"{statistics.median(fast):.2f} ({min(fast):.2f}–{max(fast):.2f})"
        passed = one.get("pass_s_per_supervised_token")
        lines.append(
            f"| {name} | {1e6 * one['s_per_supervised_token']:,.0f} | {ratio} "
            f"| {'–' if passed is None else f'{1e6 * passed:,.0f}'} "
            f"| {one.get('bytes_per_token', 0):,.0f} | {one['first_loss']:.5f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
