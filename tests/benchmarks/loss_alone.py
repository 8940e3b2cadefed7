"""The loss alone, from hidden states to gradients: `python tests/benchmarks/loss_alone.py`.

In: vocabularies, numbers of rows, perhaps a Python that has `liger-kernel` (`--liger PYTHON`, in a
virtual environment of its own; without it that column stays out). Out: a table, `loss_alone.json`
beside this file, and with `--readme` the README's table between its markers. Both heads are
projected, the terms compared, the gradients of the student's rows and head formed. Every
measurement is a process of its own; ways take turns, in the opposite order every other round; the
time is processor time on one thread on a CPU, and wall time on CUDA; the memory is the peak above
the inputs. What would need more than half of the memory that is free is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from readme_part import into_readme

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STORE = HERE / "loss_alone.json"
WIDTHS = {49_152: 576, 151_936: 896}
"""Hidden size by vocabulary: SmolLM2-135M, Qwen2.5-0.5B."""

WAYS = {
    "jsd": ("plain", "chunked", "chunked, compiled", "liger", "liger, compiled"),
    "forward_kl at T = 2 and cross_entropy": ("plain", "chunked", "chunked, compiled"),
}
"""By terms; the last one is compared with the first two where it is there."""

AGREE = 2e-3
"""Two ways may differ by so much in loss and gradient: sums of fp32 in another order."""


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--liger", default=None, help="a Python that has liger-kernel")
    parser.add_argument("--add", action="store_true", help="to what was measured before")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measured(json.loads(options.one))))
        return
    found = []
    for vocabulary in options.vocabularies:
        for terms, ways in WAYS.items():
            given = {"terms": terms, "vocabulary": vocabulary}
            ours = [way for way in ways if options.liger or not way.startswith("liger")]
            found += compared(given, ours, options)
    if options.add:
        found = added(json.loads(STORE.read_text())["cases"], found)
    STORE.write_text(json.dumps({"machine": machine(options), "cases": found}, indent=1) + "\n")
    written = table(found)
    sys.stdout.write(written + "\n")
    if options.readme:
        into_readme("loss", written)


def added(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases of before, but for those that were measured again, and these, in their order."""

    def place(case: dict[str, Any]) -> tuple[int, int, int]:
        return list(WAYS).index(case["terms"]), case["vocabulary"], case["rows"]

    cases = {place(case): case for case in (*before, *now)}
    return [cases[key] for key in sorted(cases)]


def compared(given: dict[str, Any], ways: list[str], options: Any) -> list[dict[str, Any]]:
    """All ways at every number of rows, the smallest first: it tells what the next one needs."""
    found: list[dict[str, Any]] = []
    per_row: dict[str, float] = {}
    for rows in sorted(options.rows):
        room = free_bytes() / 2
        fit = [way for way in ways if per_row.get(way, 0.0) * rows < room]
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in fit}
        for turn in range(options.rounds):
            for way in fit if turn % 2 == 0 else fit[::-1]:
                runs[way].append(one({**given, "rows": rows, "way": way}, options))
                sys.stderr.write(f"{given['terms']} {given['vocabulary']} {rows} {way}\n")
        case = {**given, "rows": rows, "ways": {way: summed_up(told) for way, told in runs.items()}}
        require_agreement(case)
        per_row |= {way: told["bytes"] / rows for way, told in case["ways"].items()}
        found.append(case)
    return found


def one(spec: dict[str, Any], options: Any) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    python = options.liger if spec["way"].startswith("liger") else sys.executable
    spec |= {"threads": options.threads, "device": options.device}
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        [python, __file__, "--one", json.dumps(spec)],
        env=os.environ | threads | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of several measurements."""
    medians = {key: statistics.median(run[key] for run in runs) for key in ("seconds", "bytes")}
    return medians | {"loss": runs[0]["loss"], "norms": runs[0]["norms"], "runs": runs}


def require_agreement(case: dict[str, Any]) -> None:
    """Every way has computed the same loss and the same gradients."""
    first, *others = case["ways"].values()
    for other in others:
        for a, b in zip([first["loss"], *first["norms"]], [other["loss"], *other["norms"]]):  # noqa: B905
            if abs(a - b) > AGREE * abs(a):
                raise SystemExit(f"the ways disagree: {case}")


# --- in the process that is measured ------------------------------------------------------------


def measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds and peak bytes of one forward and backward pass."""
    import torch

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    device, cuda = torch.device(spec["device"]), spec["device"].startswith("cuda")
    width = WIDTHS.get(spec["vocabulary"], 512)

    def head() -> Any:
        made = torch.nn.Linear(width, spec["vocabulary"], bias=False, device=device)
        torch.nn.init.normal_(made.weight, std=2 / width**0.5)
        return made

    mine, theirs = head(), head().requires_grad_(False)

    def given(rows: int) -> tuple[Any, ...]:
        states = torch.randn(rows, width, device=device).requires_grad_()
        targets = torch.randint(spec["vocabulary"], (rows,), device=device)
        return states, mine, torch.randn(rows, width, device=device), theirs, targets

    work = WORK[spec["way"]](spec["terms"])
    work(*given(min(1024, spec["rows"]))).backward()  # compiles, where there is a compiler
    mine.weight.grad = None
    inputs = given(spec["rows"])
    forget_peak()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else peak_resident()
    clock = time.perf_counter if cuda else time.process_time
    started = clock()
    loss = work(*inputs)
    loss.backward()
    if cuda:
        torch.cuda.synchronize()
    seconds = clock() - started
    after = torch.cuda.max_memory_allocated() if cuda else peak_resident()
    norms = [float(learnt.grad.norm()) for learnt in (inputs[0], mine.weight)]
    return {
        "seconds": seconds,
        "bytes": after - before,
        "loss": float(loss.detach()),
        "norms": norms,
    }


def ours(chunk_rows: int | None, kernels: str = "plain") -> Callable[[str], Callable[..., Any]]:
    """The product's own objective; 0: all logits at once."""

    def make(terms: str) -> Callable[..., Any]:
        import torch

        from distill_core.losses.base import SupervisedRows
        from distill_core.losses.chunked import compared as in_chunks
        from distill_core.losses.logit_rows import HeadRows
        from distill_core.losses.objective import Objective
        from distill_core.recipe import CrossEntropyLoss, ForwardKLLoss, JSDLoss

        soft = ForwardKLLoss(weight=0.7, temperature=2.0)
        chosen = [JSDLoss(weight=1.0)] if terms == "jsd" else [soft, CrossEntropyLoss(weight=0.3)]
        objective = Objective(chosen, kernels=kernels)

        def work(states: Any, mine: Any, their_states: Any, theirs: Any, targets: Any) -> Any:
            labelled = torch.ones_like(targets, dtype=torch.bool)
            totals = {loss.name: len(targets) for loss in chosen}
            teacher = HeadRows(their_states, theirs, theirs.out_features)
            asked = objective.comparison(
                teacher, targets, labelled, totals=totals, chunk_rows=chunk_rows
            )
            if asked is None:
                rows = SupervisedRows(mine(states), teacher.all(), targets, labelled)
            else:
                outcome = in_chunks(states, mine, asked, vocab_size=mine.out_features)
                rows = SupervisedRows(None, None, targets, labelled, compared=outcome)
            return objective(rows, totals=totals)[0]

        return work

    return make


def liger(*, compiled: bool) -> Callable[[str], Callable[..., Any]]:
    """Liger's chunked JSD in PyTorch; its weight of the hard loss, ½ by default, is put to 0."""

    def make(terms: str) -> Callable[..., Any]:
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        assert terms == "jsd"
        loss = LigerFusedLinearJSDLoss(
            weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.5, compiled=compiled
        )

        def work(states: Any, mine: Any, their_states: Any, theirs: Any, targets: Any) -> Any:
            return loss(states, mine.weight, their_states, theirs.weight, targets)

        return work

    return make


WORK = {
    "plain": ours(0),
    "chunked": ours(None),
    "chunked, compiled": ours(None, "compiled"),
    "liger": liger(compiled=False),
    "liger, compiled": liger(compiled=True),
}


def forget_peak() -> None:
    """Let the peak count from now on, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """The most memory that this process has had, in bytes."""
    if sys.platform == "linux":  # what `getrusage` says includes the parent before this one began
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line[:6] == "VmHWM:"
        )
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# --- what is shown ------------------------------------------------------------------------------


def free_bytes() -> int:
    """Memory that nobody uses now."""
    import psutil

    return int(psutil.virtual_memory().available)


def machine(options: Any) -> dict[str, Any]:
    """What was measured on."""
    import torch

    from distill_core.device import device_name

    return {
        "device": device_name(torch.device(options.device)),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def table(cases: list[dict[str, Any]]) -> str:
    """One line a case: seconds and memory of each way, and how plain relates to chunked."""
    ways = list(dict.fromkeys(way for case in cases for way in case["ways"]))
    lines = [
        f"| terms | vocabulary | rows | {' | '.join(ways)} | plain ÷ chunked: time, memory |",
        "|" + "---|" * (len(ways) + 4),
    ]
    for case in cases:
        told = case["ways"]
        cells = [
            f"{told[way]['seconds']:.2f} s, {told[way]['bytes'] / 1e9:.2f} GB"
            if way in told
            else "–"
            for way in ways
        ]
        ratio = "–"
        if "plain" in told and "chunked" in told:
            pairs = list(zip(told["plain"]["runs"], told["chunked"]["runs"], strict=True))
            by = [
                statistics.median(a[key] / b[key] for a, b in pairs) for key in ("seconds", "bytes")
            ]
            ratio = f"{by[0]:.2f} ×, {by[1]:.1f} ×"
        head = f"| {case['terms']} | {case['vocabulary']:,} | {case['rows']:,} "
        lines.append(f"{head}| {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
