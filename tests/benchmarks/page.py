"""What an open page costs the machine that trains: processor time of the browser and of the app.

`python tests/benchmarks/page.py [--seconds 20] [--readme]`

A tab is left alone, with nothing running and while a run logs twelve steps a second, as the
starter's does. Processor time of the page's own process, of the rest of the browser and of the app,
as shares of one core. The browser draws without a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.benchmarks.growth import add_steps  # noqa: E402
from tests.benchmarks.readme_part import into_readme  # noqa: E402
from tests.conftest import CHROMIUM_ARGS, chromium_path  # noqa: E402
from tests.e2e.drive import Studio  # noqa: E402
from tests.e2e.screen import Screen, opened  # noqa: E402
from tests.ui.fake_run import write_run  # noqa: E402

STEPS_PER_S = 12
IDLE = ("Build", "Runs", "Advisor")
BUSY = ("Train", "Build", "Runs")
REST_MS = 8000
"""Until what a tab draws when it is opened is drawn."""
FOUND = Path(__file__).with_suffix(".json")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long a tab is left alone")
    parser.add_argument("--readme", action="store_true", help="renew the README's table")
    options = parser.parse_args()
    found = measure(options.seconds)
    FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    if options.readme:
        into_readme("page", table(found))


def measure(seconds: float) -> list[dict[str, Any]]:
    """Open the app once, and leave one tab after the other alone."""
    found = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        studio = Studio(Path(folder))
        studio.start()
        browser = started.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_ARGS)
        with opened(browser, studio.url) as screen:
            for tab in IDLE:
                show(screen, tab)
                found.append({"tab": tab, "runs": False} | left_alone(studio, screen.page, seconds))
            run = studio.runs_dir / write_run(studio.runs_dir, upto=64, steps=100_000)
            step = 65

            def log() -> None:
                nonlocal step
                add_steps(run, step, STEPS_PER_S)
                step += STEPS_PER_S

            for _ in range(200):  # a curve of some length
                log()
            for tab in BUSY:
                show(screen, tab)
                told = left_alone(studio, screen.page, seconds, each_second=log)
                found.append({"tab": tab, "runs": True} | told)
        browser.close()
        studio.kill()
    return found


def show(screen: Screen, tab: str) -> None:
    """Open a tab and wait until it has come to rest."""
    screen.tab(tab)
    screen.settle()
    screen.page.wait_for_timeout(REST_MS)


def left_alone(
    studio: Studio, page: Page, seconds: float, each_second: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Shares of a core that page, browser and app use meanwhile."""
    assert studio.process is not None
    before, began = used(studio.process.pid), time.perf_counter()
    while time.perf_counter() - began < seconds:
        each_second()
        page.wait_for_timeout(1000)
    took = time.perf_counter() - began
    after = used(studio.process.pid)
    return {part: (after[part] - before[part]) / took for part in after}


def used(app: int) -> dict[str, float]:
    """Processor seconds so far."""
    sums = {"page": 0.0, "browser": 0.0, "app": 0.0}
    for process in [psutil.Process(app), *psutil.Process().children(recursive=True)]:
        try:
            words, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:
            continue  # it has ended
        if process.pid == app:
            part = "app"
        elif "--type=renderer" in words:
            part = "page"
        elif "chrom" in words and "driver" not in words:
            part = "browser"
        else:
            continue
        sums[part] += times.user + times.system
    return sums


def table(found: list[dict[str, Any]]) -> str:
    """The measurements as Markdown."""
    rows = [
        f"| {one['tab']} | {'12 steps a second' if one['runs'] else 'nothing'} | {one['page']:.0%} "
        f"| {one['browser']:.0%} | {one['app']:.0%} |"
        for one in found
    ]
    return "\n".join(
        [
            "*What an open page costs the machine that trains*, in shares of one core: `python",
            "tests/benchmarks/page.py --readme`. The browser draws without a GPU.",
            "",
            "| tab in view | what runs | the page | the rest of the browser | the app |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
