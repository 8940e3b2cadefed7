"""How long the user waits: import, --help, the app until it answers, Start until there is a curve.

In: this checkout's environment. Out: a table of seconds, best and median of several tries beside
each one's goal, `start.json` beside this file, and with `--readme` the README's table.
Run: `make bench`, or `python tests/benchmarks/start.py [TRIES] [--readme]`.

Start is pressed in the app, on the default recipe, by what its button calls; the clock stops when
the first point of a curve can be drawn, the untrained student's held-out loss, and again at the
first training step. The first time the teacher has to answer the unlabelled commands in between;
every later run finds its answers beside the runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
STORE = Path(__file__).with_name("start.json")
sys.path.insert(0, str(ROOT))

from tests.benchmarks.readme_part import into_readme  # noqa: E402
from tests.e2e.drive import Studio, until  # noqa: E402 - needs the path


def command(*arguments: str) -> Callable[[], float]:
    """Time one Python process from start to end."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    return measure


def app_answers() -> float:
    """Time the app on an empty runs folder, from the command until the page is served."""
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        start = time.perf_counter()
        studio.start()
        elapsed = time.perf_counter() - start
        studio.kill()
    return elapsed


def first_points() -> dict[str, float]:
    """Seconds from Start to a curve's first point and to the first step, of two runs in turn."""
    from distill_core import api

    waited = {}
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        studio.start()
        recipe = api.load_recipe("pocket_student")
        api.check(recipe)  # as Build has done by then
        try:
            for which in ("first run", "later run"):
                start = time.perf_counter()
                run = api.start(recipe, runs_dir=studio.runs_dir)
                for until_what, curve in CURVES.items():

                    def drawn(run: str = run, curve: str = curve) -> bool:
                        series, _ = api.read_series(run, runs_dir=studio.runs_dir)
                        return curve in series

                    until(f"the {until_what}", drawn, patience_s=600)
                    waited[f"{which}: {until_what}"] = time.perf_counter() - start
                api.stop(run, runs_dir=studio.runs_dir)

                def ended(run: str = run) -> bool:
                    found = api.show(run, runs_dir=studio.runs_dir)
                    return found["status"]["state"] in ("stopped", "finished")

                until("the run to stop", ended)
        finally:
            studio.kill()
            for worker in studio.workers():
                with contextlib.suppress(OSError):
                    worker.kill()
    return waited


CURVES = {
    "first point of a curve": "0/held_out_cross_entropy",
    "first training step": "0/loss",
}
MEASURED: dict[str, tuple[Callable[[], float], float | None]] = {
    "python -c pass": (command("-c", "pass"), None),
    "import distill_core": (command("-c", "import distill_core"), 0.5),
    "import distill_core.api": (command("-c", "import distill_core.api"), None),
    "distill-studio --help": (command("-m", "distill_core.cli", "--help"), 1.0),
    "the app until it answers": (app_answers, 10.0),
}
"""What is timed, and its goal in seconds."""

WORDS = """*How long one waits*: `python tests/benchmarks/start.py --readme`. From the command to
its end, or to the app's answer; from Start on the default recipe to the first point of a curve (the
untrained student's held-out loss) and to the first training step, before which a first run waits
for the teacher's 20,000 answers.

"""


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tries", nargs="?", type=int, default=5)
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    found: dict[str, dict[str, float | None]] = {}

    def told(name: str, seconds: list[float], goal: float | None) -> None:
        found[name] = {
            "best": min(seconds),
            "median": statistics.median(seconds),
            "goal": goal,
        }
        print(f"{name:38}{min(seconds):8.2f}{statistics.median(seconds):8.2f}", flush=True)

    print(f"{'':38}{'best':>8}{'median':>8}   of {options.tries}, seconds")
    for name, (measure, goal) in MEASURED.items():
        told(name, [measure() for _ in range(options.tries)], goal)
    waits = [first_points() for _ in range(min(options.tries, 2))]
    for name in waits[0]:
        told(name, [each[name] for each in waits], 15.0 if "point" in name else None)
    STORE.write_text(json.dumps(found, indent=1) + "\n")
    if options.readme:
        into_readme("start", WORDS + table(found))


def table(found: dict[str, dict[str, float | None]]) -> str:
    """One line a measurement."""
    lines = ["| | best | median | goal |", "|---|---|---|---|"]
    for name, told in found.items():
        goal = "–" if told["goal"] is None else f"{told['goal']:g} s"
        lines.append(f"| {name} | {told['best']:.2f} s | {told['median']:.2f} s | {goal} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
