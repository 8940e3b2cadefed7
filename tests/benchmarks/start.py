"""How long the user waits: import, --help, and the app until it answers.

In: this checkout's environment. Out: a table of seconds, best and median of several tries.
Run: `make bench`, or `python tests/benchmarks/start.py [TRIES]`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.drive import Studio  # noqa: E402 - needs the path


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


MEASURED = {
    "python -c pass": command("-c", "pass"),
    "import distill_core": command("-c", "import distill_core"),
    "import distill_core.api": command("-c", "import distill_core.api"),
    "distill-studio --help": command("-m", "distill_core.cli", "--help"),
    "the app until it answers": app_answers,
}


def main() -> None:
    """Print one line per measurement."""
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'':26}{'best':>8}{'median':>8}   of {tries}, seconds")
    for name, measure in MEASURED.items():
        seconds = [measure() for _ in range(tries)]
        print(f"{name:26}{min(seconds):8.2f}{statistics.median(seconds):8.2f}", flush=True)


if __name__ == "__main__":
    main()
