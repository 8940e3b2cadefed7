"""What grows with the data, and what must not: `python tests/benchmarks/growth.py [PART …]`.

In: this checkout. Out: a table for each part, `growth.json` beside this file, and with `--readme`
the README's table. Every measurement of time and memory is a process of its own.

`time`: seconds per token of reading, tokenising and training at 1 ×, 4 × and 16 × the data, sizes
taking turns. `memory`: the most memory that a whole run holds with few and with many rows. `steps`:
a run of 100,000 logged steps, one of 200, is opened, then refreshed each time that a step has
been added.
`runs`: a runs folder of 200 runs is listed; with Chromium, as the page does it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from tests.benchmarks.readme_part import into_readme  # noqa: E402 - needs the path

STORE = HERE / "growth.json"
BATCH = 32
WORDS = """*What grows with the data, and what must not*: `python tests/benchmarks/growth.py
--readme`. Rows beyond the first few thousand lie on the disk, as text and as token ids.

"""
LOGGED_STEPS = 100_000
RUNS = 200


def main() -> None:
    """Measure the parts that are asked for, print, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--base", type=int, default=1250, help="rows of 1 ×")
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000)
    parser.add_argument("--refreshes", type=int, default=60)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--clock", default="wall", choices=["wall", "processor"])
    parser.add_argument("--work", default=str(Path(tempfile.gettempdir()) / "growth"))
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--one", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        asked = json.loads(options.one)
        sys.stdout.write("\n" + json.dumps(ALONE[asked["what"]](asked)))
        return
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()}: there are {', '.join(PARTS)}")
    Path(options.work).mkdir(parents=True, exist_ok=True)
    found = json.loads(STORE.read_text()) if STORE.is_file() else {}
    for part in options.parts or PARTS:
        found[part] = PARTS[part](options)
        STORE.write_text(json.dumps(found, indent=1) + "\n")
    written = table(found)
    sys.stdout.write(written + "\n")
    if options.readme:
        into_readme("growth", WORDS + written)


def alone(what: str, options: Any, **more: Any) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    if options.threads:
        environment |= {"OMP_NUM_THREADS": str(options.threads)}
    asked = {"what": what, "clock": options.clock, "work": options.work, **more}
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(asked)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def clock_of(asked: dict[str, Any]) -> Callable[[], float]:
    return time.process_time if asked["clock"] == "processor" else time.perf_counter


# --- time and memory of training ----------------------------------------------------------------


def rows_file(folder: str, count: int) -> Path:
    """A file of `count` different rows, made of the starter's commands."""
    from distill_core import starter

    path = Path(folder) / f"{count}.jsonl"
    if not path.is_file():
        known = starter.rows("labelled")
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as stream:
            for number in range(count):
                row = known[number % len(known)]
                made = {"prompt": f"{row['prompt']} {number}", "response": row["response"]}
                stream.write(json.dumps(made) + "\n")
        partial.rename(path)
    return path


def measure_time(options: Any) -> dict[str, Any]:
    """Seconds per token at 1 ×, 4 ×, 16 ×, each size once a round."""
    sizes = [options.base * times for times in (1, 4, 16)]
    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for turn in range(options.rounds):
        for size in sizes if turn % 2 == 0 else sizes[::-1]:
            rows_file(options.work, size)
            runs[size].append(alone("train", options, rows=size, steps=options.steps))
            sys.stderr.write(f"time {turn + 1}/{options.rounds} {size} rows\n")
    first = runs[sizes[0]]
    return {
        str(size): {
            "prepare_s_per_token": statistics.median(run["prepare"] for run in told),
            "step_s_per_token": statistics.median(run["step"] for run in told),
            "against_first": statistics.median(
                (run["prepare"] + run["step"]) / (base["prepare"] + base["step"])
                for run, base in zip(told, first, strict=True)
            ),
        }
        for size, told in runs.items()
    }


def train_alone(asked: dict[str, Any]) -> dict[str, Any]:
    """Read, tokenise and train; seconds per token of both halves."""
    import torch

    from distill_core import models
    from distill_core.checkpoints import Checkpoints
    from distill_core.data.sources import prepare
    from distill_core.data.tokenize import pad_token_id
    from distill_core.losses.objective import Objective
    from distill_core.recipe import DataSettings, ForwardKLLoss, LayerDropStudent, OptimSettings
    from distill_core.stages import reading
    from distill_core.students.build import build_student
    from distill_core.teachers.local import LocalTeacher
    from distill_core.trainer import TrainingStage, train

    now = clock_of(asked)
    source = models.resolve("pocket-teacher")
    tokenizer = models.load_tokenizer(source)
    vocab_size = len(tokenizer)
    file = rows_file(asked["work"], asked["rows"])
    data = DataSettings.model_validate(
        {"sources": [{"kind": "file", "path": str(file)}], "held_out": 0.05}
    )
    objective = Objective([ForwardKLLoss(weight=1.0)])
    began = now()
    prepared = prepare(data, seed=0)
    _, encoded = reading.encode_rows(
        prepared.train, tokenizer, teacher=tokenizer, objective=objective, max_seq_len=128
    )
    reading_s = now() - began
    tokens = sum(len(item.input_ids) for item in encoded)
    network = models.load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    stage = TrainingStage(
        index=0,
        student=build_student(LayerDropStudent(layers=1), source=source, seed=0),
        objective=objective,
        rows=encoded,
        optim=OptimSettings(global_batch_size=BATCH, micro_batch_size=BATCH),
        total_steps=asked["steps"] + 2,
        seed=0,
        vocab_size=vocab_size,
        pad_token_id=pad_token_id(tokenizer),
        checkpoints=Checkpoints(Path(asked["work"]) / "none", keep=1),
        checkpoint_every=10**9,
        evaluate_every=10**9,
        teacher=LocalTeacher(network, vocab_size=vocab_size, stop_ids=set()),
    )
    ends = [now() for happening in train(stage) if happening["type"] == "step"]
    mean = tokens / len(encoded)
    taken = (ends[-1] - ends[1]) / asked["steps"] / (BATCH * mean)
    return {"prepare": reading_s / tokens, "step": taken}


def measure_memory(options: Any) -> dict[str, Any]:
    """Peak memory of a whole run with few rows and with many."""
    found = {}
    for rows in (options.few, options.many):
        rows_file(options.work, rows)
        found[str(rows)] = alone("run", options, rows=rows)
        sys.stderr.write(f"memory {rows} rows: {found[str(rows)]['bytes'] / 1e6:,.0f} MB\n")
    return found


def run_alone(asked: dict[str, Any]) -> dict[str, Any]:
    """A whole run, evaluation included, of a few steps."""
    import resource

    from distill_core import pipeline
    from distill_core.recipe import Recipe

    recipe = Recipe.model_validate(
        {
            "name": "growth",
            "device": "cpu",
            "data": {
                "sources": [{"kind": "file", "path": str(rows_file(asked["work"], asked["rows"]))}],
                "held_out": 0.05,
            },
            "stages": [
                {
                    "kind": "distill",
                    "teacher": "pocket-teacher",
                    "student": {"init": "layer_drop", "layers": 1},
                    "losses": [{"name": "forward_kl", "weight": 1.0}],
                    "optim": {"max_steps": 20, "global_batch_size": 8},
                }
            ],
            "evaluation": {"rows": 16, "final_rows": 16, "samples": 1, "baselines": []},
        }
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=asked["work"]) as folder:
        for _ in pipeline.run(recipe, Path(folder)):
            pass
    unit = 1 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"bytes": held, "seconds": time.perf_counter() - began}


# --- the app ------------------------------------------------------------------------------------


def measure_steps(options: Any) -> dict[str, Any]:
    """A long run in the app: its first opening, and how long a refresh takes."""
    return alone("long", options, refreshes=options.refreshes)


def long_alone(asked: dict[str, Any]) -> dict[str, Any]:
    """Open a run of 100,000 steps beside others; then refresh, each time one step further."""
    from ui import plots, sidebar, tab_train

    now = clock_of(asked)
    with tempfile.TemporaryDirectory(dir=asked["work"]) as folder:
        many_runs(Path(folder), RUNS - 1)
        run = long_run(Path(folder), LOGGED_STEPS)

        def refreshed(since: int) -> tuple[float, int]:
            began = now()
            for draw in (tab_train.view, tab_train.header_of, tab_train.samples_of):
                draw(run, runs_dir=folder)
            sidebar.describe_running(folder)
            points = plots.read_points({"run": run, "since": since}, runs_dir=folder)
            json.dumps(points)
            return now() - began, points["offset"]

        opened, offset = refreshed(0)
        took = []
        for number in range(asked["refreshes"]):
            add_steps(Path(folder) / run, LOGGED_STEPS + 1 + number, 1)
            seconds, offset = refreshed(offset)
            took.append(seconds)
        # another page opens it, and nothing of the curves is remembered
        again, _ = refreshed(0)
    took.sort()
    return {
        "opened_s": opened,
        "opened_again_s": again,
        "refresh_median_s": statistics.median(took),
        "refresh_p95_s": took[int(0.95 * (len(took) - 1) + 0.5)],
    }


def long_run(runs_dir: Path, steps: int) -> str:
    """Write a run that has logged many steps; returns its id."""
    from tests.ui.fake_run import write_run

    run = write_run(runs_dir, name="long", upto=0, steps=2 * steps)
    add_steps(runs_dir / run, 1, steps)
    return run


def add_steps(run_dir: Path, first: int, count: int) -> None:
    """Log some steps more, as the trainer of the default recipe does."""
    import orjson

    from distill_core.events import event

    draw = random.Random(first)
    names = (
        *("loss", "forward_kl", "weighted_forward_kl", "cross_entropy", "weighted_cross_entropy"),
        *("learning_rate", "grad_norm", "tokens_per_s", "memory_bytes"),
    )
    with (run_dir / "events.jsonl").open("ab") as file:
        for step in range(first, first + count):
            metrics = {name: round(draw.random(), 9) for name in names}
            file.write(orjson.dumps(event("step", stage=0, step=step, metrics=metrics)) + b"\n")


def measure_runs(options: Any) -> dict[str, Any]:
    """A folder of many runs: listed, and the app that starts on it."""
    from tests.e2e.drive import Studio

    found = alone("listed", options)
    with tempfile.TemporaryDirectory(dir=options.work) as empty:
        studio = Studio(Path(empty))
        began = time.perf_counter()
        studio.start()
        found["app_without_runs_s"] = time.perf_counter() - began
        studio.kill()
    with tempfile.TemporaryDirectory(dir=options.work) as full:
        studio = Studio(Path(full))
        many_runs(studio.runs_dir, RUNS)
        began = time.perf_counter()
        studio.start()
        found["app_with_runs_s"] = time.perf_counter() - began
        found |= listed_in_browser(studio.url)
        studio.kill()
    return found


def many_runs(runs_dir: Path, count: int) -> None:
    """Write finished runs; one is made whole, the others are copies under other names."""
    import shutil

    from distill_core import files
    from tests.ui.fake_run import write_run

    runs_dir.mkdir(parents=True, exist_ok=True)
    first = runs_dir / write_run(runs_dir, name="run", ends="finished", upto=120)
    for number in range(1, count):
        copy = runs_dir / f"{first.name}-{number:03}"
        shutil.copytree(first, copy)
        status = files.read_json(copy / "status.json")
        status |= {"name": f"run-{number:03}", "created_time_s": status["created_time_s"] + number}
        files.replace_json(copy / "status.json", status)


def listed_alone(asked: dict[str, Any]) -> dict[str, Any]:
    """What the page asks the app for: the table of all runs, made anew."""
    from ui.history import runs_table
    from ui.state import list_runs

    now = clock_of(asked)
    with tempfile.TemporaryDirectory(dir=asked["work"]) as folder:
        many_runs(Path(folder), RUNS)
        took = []
        for _ in range(5):
            began = now()
            html = runs_table.history_html(list_runs(folder), [])
            took.append(now() - began)
    assert html.count("run-") >= RUNS - 1
    return {"listed_first_s": took[0], "listed_median_s": statistics.median(took)}


def listed_in_browser(url: str) -> dict[str, float]:
    """From a click on Runs until the oldest of them is there; nothing without Chromium."""
    import shutil

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.stderr.write("No Chromium or Chrome: the page itself is not timed.\n")
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(90_000)
        page.goto(url)
        tab = page.get_by_role("tab", name="Runs", exact=True).and_(page.locator("button:visible"))
        tab.wait_for()
        began = time.perf_counter()
        tab.click()
        page.get_by_text("run-001", exact=False).first.wait_for()
        seconds = time.perf_counter() - began
        browser.close()
    return {"page_lists_s": seconds}


PARTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "time": measure_time,
    "memory": measure_memory,
    "steps": measure_steps,
    "runs": measure_runs,
}
ALONE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "train": train_alone,
    "run": run_alone,
    "long": long_alone,
    "listed": listed_alone,
}


# --- what is shown ------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """One line for each thing that may not grow, with its goal."""
    lines = ["| what | measured | goal |", "|---|---|---|"]
    for size, told in found.get("time", {}).items():
        before, training = (
            f"{1e6 * told[key]:.1f} µs" for key in ("prepare_s_per_token", "step_s_per_token")
        )
        lines.append(
            f"| {int(size):,} rows: reading and tokenising, then training, per token | {before}, "
            f"{training}; together {told['against_first']:.2f} × the first | 0.90–1.10 × |"
        )
    if memory := found.get("memory"):
        (few, less), (many, more) = memory.items()
        lines.append(
            f"| peak memory of a run of {int(few):,} rows, and of {int(many):,} "
            f"| {less['bytes'] / 1e6:,.0f} MB, {more['bytes'] / 1e6:,.0f} MB: "
            f"{(more['bytes'] - less['bytes']) / 1e6:+,.0f} MB | + 200 MB |"
        )
    if told := found.get("steps"):
        lines += [
            f"| a run of {LOGGED_STEPS:,} steps, one of {RUNS}, is opened "
            f"| {told['opened_s']:.2f} s | – |",
            f"| and refreshed, p95 (median) | {1e3 * told['refresh_p95_s']:.0f} ms "
            f"({1e3 * told['refresh_median_s']:.0f} ms) | 200 ms |",
        ]
    if told := found.get("runs"):
        full, empty = told["app_with_runs_s"], told["app_without_runs_s"]
        page = f", in the page {told['page_lists_s']:.2f} s" if "page_lists_s" in told else ""
        lines += [
            f"| {RUNS} runs are listed | {told['listed_first_s']:.2f} s{page} | 2 s |",
            f"| the app with {RUNS} runs answers, and without any "
            f"| {full:.1f} s, {empty:.1f} s ({full - empty:+.1f} s) | + 2 s |",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
