"""One step, beside what people would use instead: `python tests/benchmarks/peers_step.py`.

In: rows (`--rows FILE`, JSON lines with question and answer) and a Python that has the peers
(`--peers PYTHON`), from a virtual environment of their own:

    python -m venv peers && peers/bin/pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    peers/bin/pip install -r tests/benchmarks/peers.txt

(on a CUDA machine without `--index-url`). Without `--peers` only our own ways are measured. Out: a
table, `peers_step.json` beside this file, and with `--readme` the README's table.

All train the same six layers, read from one file, against the same teacher, on the same token ids
in the same batches: forward KL at temperature 1, fp32, AdamW with the same rate, decay and clipping
(distill-anything has betas of its own and a cosine). Every measurement is a process of its own;
ways take turns, in the opposite order every other round. A process takes one step to warm up, whose
loss must be the same for all (1e-4), then the steps that are timed. Tokenising is timed for nobody.
Memory is the most that the process ever held, all included: libraries, weights, optimiser, step (on
CUDA: the most that PyTorch has allocated). On a busy machine `--clock processor --threads 1` counts
the time that the processor worked for the process, instead of what the wall clock says. What is measured already is kept in `--work` and not
measured again; name another folder, or `--fresh`, to begin anew.

Two cases: `rows`, eight rows at their real lengths, and `4096`, eight rows of 512 tokens each, chats
of several problems; both in one batch, as the peers do it.
"""

# ruff: noqa: E501 - the commands above are for copying

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from readme_part import into_readme

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
STORE = HERE / "peers_step.json"
PEERS = ("trl", "distill-anything")
OURS = ("online", "int8 teacher", "bf16 teacher", "warm cache")
BATCH = 8
WORDS = """*One step, beside what people would use instead*: `python tests/benchmarks/peers_step.py
--rows gsm8k.jsonl --peers PYTHON --readme`, SmolLM2-135M-Instruct and its first six layers, chats of
GSM8K, forward KL at temperature 1, fp32; TRL's `GKDTrainer` (`lmbda = 0`, `beta = 0`, without
checkpointing) and distill-anything's trainer. The same token ids in the same batches; all begin with
the same loss. Medians; memory is the most that the whole process held. Timed by the {clock} on
{threads} thread(s).

"""
WARM_UP = 1
LONG = 512
AGREE = {"warm cache": 1e-3, "int8 teacher": 0.1, "bf16 teacher": 0.1}
"""How far the first loss may be from the peers'; 1e-4 else. The cache holds hidden states in half
precision; another number format is another teacher, whose distance is shown."""
CLOCKS = {"wall": "wall clock", "processor": "processor's clock (busy machine)"}
GOALS = {
    ("online", "seconds"): 2.0,
    ("warm cache", "seconds"): 4.0,
    ("online", "bytes"): 1 / 0.35,
}
"""Peer ÷ ours, at least; memory counts in the case `4096`."""


def main() -> None:
    """Prepare, measure what is not measured yet, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", required=True, help="JSON lines with question and answer")
    parser.add_argument("--peers", default=None, help="a Python that has trl and distill-anything")
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--layers", type=int, default=6, help="of the student")
    parser.add_argument("--ways", nargs="+", default=["online", "int8 teacher", "warm cache"])
    parser.add_argument("--cases", nargs="+", default=["rows", "4096"], choices=["rows", "4096"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-rounds", type=int, default=1, help="of the case 4096")
    parser.add_argument("--steps", type=int, default=2, help="timed, in each process")
    parser.add_argument("--threads", type=int, default=None, help="on a CPU; else PyTorch's choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clock", default="wall", choices=["wall", "processor"])
    parser.add_argument("--work", default=str(Path(tempfile.gettempdir()) / "peers_step"))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        import peers_ways

        sys.stdout.write(
            "\n" + json.dumps(peers_ways.WAYS[options.ways[0]](json.loads(options.one)))
        )
        return
    if options.fresh:
        shutil.rmtree(options.work, ignore_errors=True)
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    ways = [*(PEERS if options.peers else ()), *options.ways]
    if not options.peers:
        sys.stderr.write("No --peers: trl and distill-anything are left out.\n")
    told = ask({**spec_of(options, "rows"), "cases": options.cases}, "prepare", sys.executable)
    cases = {}
    for case in options.cases:
        spec = spec_of(options, case)
        rounds = options.rounds if case == "rows" else options.long_rounds
        cases[case] = told[case] | {"ways": measured(spec, ways, rounds, options)}
        require_agreement(cases[case]["ways"])
    found = {"machine": machine(options), "cases": cases}
    STORE.write_text(json.dumps(found, indent=1) + "\n")
    written = table(cases)
    sys.stdout.write(f"{written}\n\n{verdicts(cases)}\n")
    if options.readme:
        words = WORDS.format(clock=CLOCKS[options.clock], threads=found["machine"]["threads"])
        into_readme("peers", words + written)


def spec_of(options: Any, case: str) -> dict[str, Any]:
    """All that a process has to know."""
    return {
        "case": case,
        "work": options.work,
        "rows": options.rows,
        "teacher": options.teacher,
        "layers": options.layers,
        "steps": options.steps + WARM_UP,
        "batch": BATCH,
        "long": LONG,
        "threads": options.threads,
        "device": options.device,
        "clock": options.clock,
    }


def measured(
    spec: dict[str, Any], ways: list[str], rounds: int, options: Any
) -> dict[str, list[dict[str, Any]]]:
    """The measurements of every way, round by round; what is kept is not done again."""
    kept = Path(options.work) / "measured.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways if turn % 2 == 0 else ways[::-1]:
            key = json.dumps([way, turn, spec], sort_keys=True)
            if key not in known:
                python = options.peers if way in PEERS else sys.executable
                known[key] = ask(spec, way, python)
                kept.write_text(json.dumps(known))
            runs[way].append(known[key])
            took = known[key]["seconds_per_token"] * 1e3
            sys.stderr.write(f"{spec['case']} {turn + 1}/{rounds} {way}: {took:.2f} ms a token\n")
    return runs


def ask(spec: dict[str, Any], way: str, python: str) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    environment = dict(os.environ)
    if spec["threads"]:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec["threads"]))
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if way in PEERS:
        environment.pop("PYTHONPATH", None)
    else:
        environment["PYTHONPATH"] = str(ROOT)
    given = ["--rows", spec["rows"], "--one", json.dumps(spec), "--ways", way]
    done = subprocess.run(
        [python, __file__, *given], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{way} has failed; what it said stands above.")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def require_agreement(ways: dict[str, list[dict[str, Any]]]) -> None:
    """The same weights on the same batch have the same loss, whoever computes it."""
    reference = ways.get("trl", ways.get("online"))
    if reference is None:
        return
    wanted = reference[0]["losses"][0]
    for way, runs in ways.items():
        apart = abs(runs[0]["losses"][0] - wanted) / wanted
        if apart > AGREE.get(way, 1e-4):
            raise SystemExit(f"{way} has the loss {runs[0]['losses'][0]}, not {wanted}")


# --- what is shown ------------------------------------------------------------------------------


def machine(options: Any) -> dict[str, Any]:
    """What was measured on, and with which versions."""
    import torch

    from distill_core.device import device_name, pick_device

    versions = [line for line in (HERE / "peers.txt").read_text().split() if "==" in line]
    return {
        "device": device_name(pick_device(options.device)),
        "threads": options.threads or torch.get_num_threads(),
        "clock": options.clock,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "peers": versions if options.peers else [],
    }


def ratio(peer: list[dict[str, Any]], ours: list[dict[str, Any]], key: str) -> list[float]:
    """Peer ÷ ours of each pair of runs."""
    name = {"seconds": "seconds_per_token", "bytes": "bytes"}[key]
    return [a[name] / b[name] for a, b in zip(peer, ours, strict=True)]


def table(cases: dict[str, Any]) -> str:
    """One line a case and way."""
    lines = [
        "| batch | way | ms a supervised token | peak memory | first loss "
        "| trl ÷ it: time, memory | distill-anything ÷ it |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {"rows": "8 rows", "4096": "8 × 512 tokens"}
    for case, told in cases.items():
        for way, runs in told["ways"].items():
            seconds = statistics.median(run["seconds_per_token"] for run in runs)
            held = statistics.median(run["bytes"] for run in runs)
            cells = []
            for peer in PEERS:
                there = told["ways"].get(peer)
                if there is None or way in PEERS:
                    cells.append("–")
                    continue
                times, sizes = (ratio(there, runs, key) for key in ("seconds", "bytes"))
                span = f" ({min(times):.2f}–{max(times):.2f})" if len(times) > 1 else ""
                cells.append(
                    f"{statistics.median(times):.2f} ×{span}, {statistics.median(sizes):.2f} ×"
                )
            shown = way if way in PEERS else f"ours, {way}"
            lines.append(
                f"| {names[case]} | {shown} | {1e3 * seconds:.2f} | {held / 1e9:.2f} GB "
                f"| {runs[0]['losses'][0]:.5f} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def verdicts(cases: dict[str, Any]) -> str:
    """Whether each goal is met against trl."""
    lines = []
    for (way, key), goal in GOALS.items():
        case = "4096" if key == "bytes" else "rows"
        ways = cases.get(case, {}).get("ways", {})
        if "trl" not in ways or way not in ways:
            continue
        reached = statistics.median(ratio(ways["trl"], ways[way], key))
        word = "met" if reached >= goal else "MISSED"
        lines.append(f"{way}, {key}: trl ÷ ours {reached:.2f}, goal {goal:.2f}: {word}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
