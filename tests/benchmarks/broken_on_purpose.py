"""Break each property on purpose, and see its test fail.

In: a checkout. Out: a table of mutants, each killed or not; exit code 1 when one survives. Every
mutant is one wrong line in a copy of the tree, on which the test file of its property is run; the
checkout itself is never touched.
Run: `python tests/benchmarks/broken_on_purpose.py [--only C7 …] [--jobs N]`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.benchmarks.more_mutants import MORE_MUTANTS  # noqa: E402 - needs the path
from tests.benchmarks.mutants import MUTANTS, Mutant  # noqa: E402

TESTS_FAILED = 1
"""Pytest's exit code; others mean that nothing was tested."""
PATIENCE_S = 600
"""Processes that wait for each other for ever have failed too."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    mutant: Mutant
    killed: bool
    by: str
    seconds: float


def main() -> int:
    """Try all mutants, or those of some properties; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", metavar="C1", help="properties to try")
    options.add_argument("--jobs", type=int, default=1, help="mutants at once")
    given = options.parse_args()
    chosen = [m for m in (*MUTANTS, *MORE_MUTANTS) if not given.only or m.property in given.only]
    with tempfile.TemporaryDirectory() as folder:
        whole = copied(Path(folder) / "whole")
        stale = [m for m in chosen if (whole / m.file).read_text("utf-8").count(m.old) != 1]
        for mutant in stale:
            print(f"{mutant.property}: {mutant.file} has not exactly one\n{mutant.old}\n")
        if stale:
            return 1
        names = dict.fromkeys(mutant.property for mutant in chosen)
        failing = [name for name in names if not passes(whole, name)]
        if failing:
            print(f"Already failing without any mutant: {', '.join(failing)}")
            return 1
        with ThreadPoolExecutor(given.jobs) as pool:
            fates = list(pool.map(partial(tried, whole, Path(folder)), chosen))
    print(table(fates))
    survivors = [fate for fate in fates if not fate.killed]
    print(f"\n{len(fates) - len(survivors)} of {len(fates)} killed")
    return 1 if survivors else 0


def copied(target: Path) -> Path:
    """Copy what git knows of the checkout, and what it would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def tried(whole: Path, folder: Path, mutant: Mutant) -> Fate:
    """Run the property's tests on a copy with the mutant in it."""
    tree = Path(tempfile.mkdtemp(dir=folder)) / "tree"
    shutil.copytree(whole, tree)
    file = tree / mutant.file
    file.write_text(file.read_text("utf-8").replace(mutant.old, mutant.new), "utf-8")
    start = time.monotonic()
    code, said = run(tree, mutant.property)
    shutil.rmtree(tree)
    by = next((line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))), said)
    fate = Fate(mutant, code == TESTS_FAILED, shortened(by), time.monotonic() - start)
    print(
        f"{mutant.property:4} {'killed' if fate.killed else 'SURVIVED'}  {mutant.words}", flush=True
    )
    return fate


def passes(tree: Path, name: str) -> bool:
    """Whether a property's tests pass in a tree."""
    return run(tree, name)[0] == 0


def run(tree: Path, name: str) -> tuple[int, str]:
    """Run a property's tests until the first failure; returns pytest's exit code and last lines."""
    (file,) = (tree / "tests/core/properties").glob(f"test_c{int(name[1:]):02}_*.py")
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(file)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return TESTS_FAILED, "FAILED by waiting for ever"
    return done.returncode, done.stdout[-3000:]


def shortened(line: str) -> str:
    """The name of the test that failed."""
    return line.split("::")[-1].split(" - ")[0][-100:]


def table(fates: list[Fate]) -> str:
    """Markdown, one row for each mutant."""
    lines = ["| property | mutant | killed by | s |", "|---|---|---|---|"]
    for fate in fates:
        by = f"`{fate.by}`" if fate.killed else "**survived**"
        lines.append(
            f"| {fate.mutant.property} | {fate.mutant.words} | {by} | {fate.seconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
