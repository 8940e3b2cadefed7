"""The least that a step costs: `python tests/benchmarks/step_floor.py`.

In: a teacher, a student made of its lower layers, lengths of rows, this machine's speed. Out: for
each part of a step its operations and its bytes of main memory per supervised token, and the
seconds that these cost at least: the larger of both, at the speed of a large matrix product and of
a large copy, each measured here. With `--readme` the README's table between its markers. What a
step really takes is told by the other benchmarks; what lies between is overhead.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from readme_part import into_readme

from distill_core import device
from distill_core.estimate.student_size import student_shape
from distill_core.estimate.time_need import forward_flops
from distill_core.models import model_facts
from distill_core.recipe import LayerDropStudent

FP32 = 4
ADAMW_FLOPS = 16
STATE_BYTES = 28
"""AdamW reads weight, gradient and two moments of each weight, and writes three of them back."""
LAYER_BYTES = 2 * 34 * 2
"""fp32 activations of a token, layer and unit of width (arXiv 2205.05198): written, read again."""


@dataclass(frozen=True)
class Part:
    """One part of a step, per supervised token."""

    name: str
    flops: float
    bytes: float

    def seconds(self, flops_per_s: float, bytes_per_s: float) -> float:
        """At best: the processor and the memory work at the same time."""
        return max(self.flops / flops_per_s, self.bytes / bytes_per_s)


def main() -> None:
    """Count, measure the machine, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--layers", type=int, default=6, help="of the student")
    parser.add_argument("--rows", type=int, default=8, help="of a step, in one pass")
    parser.add_argument("--tokens", type=float, default=214.0, help="of a row, on average")
    parser.add_argument("--supervised", type=float, default=124.0, help="of them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    where = torch.device(options.device)
    teacher = model_facts.config(options.teacher)
    student = student_shape(teacher, LayerDropStudent(layers=options.layers))
    found = parts(teacher, student, options)
    speeds = device.matmul_flops_per_s(where, torch.float32), bytes_per_s(where)
    written = table(found, *speeds)
    machine = {
        "device": device.device_name(where),
        "threads": torch.get_num_threads(),
        "flops_per_s": speeds[0],
        "bytes_per_s": speeds[1],
    }
    told = [
        {"part": one.name, "flops": one.flops, "bytes": one.bytes, "seconds": one.seconds(*speeds)}
        for one in found
    ]
    sys.stdout.write(f"{written}\n\n{json.dumps({'machine': machine, 'parts': told})}\n")
    if options.readme:
        into_readme("floor", written)


def parts(teacher: Any, student: Any, options: Any) -> list[Part]:
    """What a step of one pass over all its rows does, per supervised token."""
    supervised = options.rows * options.supervised
    tokens = options.tokens / options.supervised
    made = []
    for name, shape, passes, does in (
        ("teacher", teacher, 1, "forward"),
        ("student", student, 3, "forward and backward"),
    ):
        table = shape.vocab_size * shape.hidden_size
        body = forward_flops(shape, tokens, 0, options.tokens)
        weights = model_facts.parameters(shape) - table * (1 if shape.tie_word_embeddings else 2)
        # without gradients a layer's results live no longer than the next one needs them
        results = tokens * shape.num_hidden_layers * shape.hidden_size * LAYER_BYTES
        moved = results if passes == 3 else results / 2
        made += [
            Part(
                f"{name}'s body, {does}",
                passes * body,
                passes * weights * FP32 / supervised + moved,
            ),
            Part(
                f"{name}'s head, {does}",
                passes * 2 * table,
                # the table is read in each pass; a chunk of logits is written and read
                passes * (table / supervised + 2 * shape.vocab_size) * FP32,
            ),
        ]
    count = model_facts.parameters(student)
    made.append(
        Part("optimiser", ADAMW_FLOPS * count / supervised, STATE_BYTES * count / supervised)
    )
    return made


def bytes_per_s(where: torch.device) -> float:
    """Bytes read and written by copying 256 MB, the best of several."""
    source = torch.ones(64 * 2**20, device=where)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(7):
        device.synchronize(where)
        started = time.perf_counter()
        target.copy_(source)
        device.synchronize(where)
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() * source.element_size() / best


def table(found: list[Part], flops_per_s: float, bytes_per_s: float) -> str:
    """One line a part, and all together."""
    whole = Part("together", sum(one.flops for one in found), sum(one.bytes for one in found))
    total = sum(one.seconds(flops_per_s, bytes_per_s) for one in found)
    lines = [
        "| per supervised token | GFLOP | MB moved | at least | share |",
        "|---|---|---|---|---|",
    ]
    for one in [*found, whole]:
        seconds = total if one is whole else one.seconds(flops_per_s, bytes_per_s)
        lines.append(
            f"| {one.name} | {one.flops / 1e9:.3f} | {one.bytes / 1e6:.2f} "
            f"| {1e3 * seconds:.2f} ms | {seconds / total:.0%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
