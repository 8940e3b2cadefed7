"""What a smaller number format costs and brings: `python tests/benchmarks/teacher_precision.py`.

In: a teacher, perhaps a file of rows (`--data`; the starter's held-out rows without). Out: for
each format how many times faster than fp32 a pass is (median of alternating passes over the same
batches, processor time of one thread), KL(fp32 ‖ format) per supervised token, and how often both
prefer the same token. `--whole` supervises the prompts too, so that every token of a row counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from distill_core import models
from distill_core.data.batches import Batch, by_length, collate
from distill_core.data.sources import load_rows
from distill_core.data.tokenize import IGNORE_INDEX, encode, pad_token_id
from distill_core.recipe import DataSettings, FileSource, StarterSource
from distill_core.teachers.loading import Part, load_network
from distill_core.teachers.local import LocalTeacher

FORMATS = ("fp32", "bf16", "int8")


def main() -> None:
    """Measure and print one line a format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="pocket-teacher")
    parser.add_argument("--data", default=None)
    parser.add_argument("--template", default=None)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = models.resolve(options.teacher)
    tokenizer = models.load_tokenizer(folder)
    teachers = {
        name: LocalTeacher(
            load_network(
                [Part(folder)],
                precision=name,
                device=torch.device("cpu"),
                vocab_size=len(tokenizer),
            ),
            vocab_size=len(tokenizer),
            stop_ids=set(),
        )
        for name in FORMATS
    }
    batches = batches_of(options, tokenizer)
    seconds: dict[str, list[float]] = {name: [] for name in FORMATS}
    for number in range(options.passes + 1):  # the first one warms up
        for name, teacher in teachers.items():
            started = time.process_time()
            for batch in batches:
                teacher.logits(batch)
            if number:
                seconds[name].append(time.process_time() - started)
    tokens = sum(batch.real_tokens for batch in batches)
    sys.stdout.write(f"{options.teacher}, {len(batches)} batches, {tokens:,} tokens\n")
    for name, teacher in teachers.items():
        ratios = [a / b for a, b in zip(seconds["fp32"], seconds[name], strict=True)]
        divergence, agreed = compared(teachers["fp32"], teacher, batches)
        sys.stdout.write(
            f"{name}: {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f}), KL {divergence:.5f}, "
            f"same first token {agreed:.1%}\n"
        )


def batches_of(options: argparse.Namespace, tokenizer: Any) -> list[Batch]:
    """Batches of at most 1,024 padded tokens."""
    source: Any = StarterSource(split="held_out", limit=options.rows)
    if options.data:
        source = FileSource(path=str(Path(options.data)), limit=options.rows)
    data = DataSettings(sources=[source], prompt_template=options.template)
    rows = load_rows(data, source=source)
    encoded = [encode(row, tokenizer, 256) for row in rows]
    if options.whole:
        for item in encoded:
            item.labels = [IGNORE_INDEX, *item.input_ids[1:]]
    groups = by_length([len(item.input_ids) for item in encoded], tokens_at_once=1024)
    pad = pad_token_id(tokenizer)
    return [
        collate([encoded[row] for row in group], pad_token_id=pad, rows=group) for group in groups
    ]


def compared(exact: LocalTeacher, other: LocalTeacher, batches: list[Batch]) -> tuple[float, float]:
    """KL(exact ‖ other) in nats per supervised token, and the share with the same likeliest one."""
    total = agreed = count = 0.0
    for batch in batches:
        p = exact.logits(batch).float().log_softmax(-1)
        q = other.logits(batch).float().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
        agreed += float((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(p)
    return total / count, agreed / count


if __name__ == "__main__":
    main()
