"""Pictures of every tab, light and dark, from a real run of the default recipe.

In: the checkout, Chromium. Out: `assets/screenshots/<tab>-<light|dark>.png`, compared with nothing.
Run: `python tests/e2e/screenshots.py [FOLDER] [--steps N]`; fewer steps than the recipe's are for
trying the script out. The run takes minutes; `--advisor` takes the advisor's steps alone, as
`advisor-<step>-<light|dark|phone>.png`, and needs no run; `--probe MINUTES` presses *Measure it*,
and takes the advice with what it found, and the probe in Runs; with `--found RUNS` it is a probe
of the starter that has ended there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from distill_core import api  # noqa: E402 - needs the path
from tests.conftest import CHROMIUM_ARGS, chromium_path  # noqa: E402
from tests.e2e.drive import Studio  # noqa: E402
from tests.e2e.screen import Screen, opened  # noqa: E402

RUN_MS = 1_800_000
PROMPT = "please dim the lights in the kitchen to forty percent and then turn off the radio"


def take(browser: Browser, studio: Studio, folder: Path, steps: int | None) -> None:
    """Click through a run, taking each tab's picture at its best moment."""
    with (
        opened(browser, studio.url, color_scheme="light") as light,
        opened(browser, studio.url, color_scheme="dark") as dark,
    ):
        both = {"light": light, "dark": dark}

        def picture(tab: str) -> None:
            for scheme, screen in both.items():
                screen.tab(tab)
                screen.settle()
                screen.page.mouse.move(0, 0)
                screen.page.evaluate("window.scrollTo(0, 0)")
                screen.page.screenshot(path=folder / f"{tab.lower()}-{scheme}.png")
                print(f"{tab} {scheme}", flush=True)

        for screen in both.values():
            screen.tab("Advisor")
            expect(screen.button("Use this recipe")).to_be_enabled()
        picture("Advisor")
        for screen in both.values():
            screen.tab("Build")
            expect(screen.page.locator("#ds-summary")).to_contain_text("Ready")
        picture("Build")

        light.tab("Build")
        if steps:
            shorten(light, steps)
        light.page.locator("#ds-start").click()
        for screen in both.values():
            screen.tab("Train")
            wait_for_middle(screen)
        picture("Train")
        for screen in both.values():
            header = screen.page.locator("#ds-train-header")
            expect(header).to_contain_text("finished", timeout=RUN_MS)
            ask(screen)
        picture("Compare")
        picture("Runs")
        picture("Learn")


def take_steps(browser: Browser, studio: Studio, folder: Path) -> None:
    """Every step of the advisor: light, dark, and on a phone."""
    for look, context in LOOKS.items():
        with opened(browser, studio.url, **context) as screen:
            screen.tab("Advisor")
            expect(screen.button("Use this recipe")).to_be_enabled()
            expect(screen.page.locator("#ds-roads")).to_contain_text("Comes out")
            tabs = screen.page.locator("#ds-steps button[role=tab]:visible")
            for place in range(tabs.count()):
                tabs.nth(place).click()
                screen.settle()
                screen.page.mouse.move(0, 0)
                screen.page.evaluate("window.scrollTo(0, 0)")
                screen.page.screenshot(
                    path=folder / f"advisor-{place + 1}-{look}.png", full_page=look == "phone"
                )
                print(f"Advisor {place + 1} {look}", flush=True)


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"width": 360, "height": 740},
}


def take_probe(browser: Browser, studio: Studio, folder: Path, minutes: int) -> None:
    """Measure instead of believing: while it is at work, what it found, and its curves."""

    def advisor(screen: Screen) -> None:
        screen.tab("Advisor")
        expect(screen.button("Use this recipe")).to_be_enabled()
        expect(screen.page.locator("#ds-roads")).to_contain_text("Comes out")

    def picture(screen: Screen, name: str, *, at: str = "body") -> None:
        screen.settle()
        screen.page.mouse.move(0, 0)
        screen.page.locator(at).scroll_into_view_if_needed()
        screen.page.screenshot(path=folder / f"{name}.png")
        print(name, flush=True)

    def measure(screen: Screen) -> None:
        screen.page.locator("#ds-probe-minutes input").fill(str(minutes))
        screen.page.locator("#ds-probe-start").click()
        card = screen.page.locator("#ds-probe")
        expect(card).to_contain_text("seed 1", timeout=RUN_MS)
        picture(screen, "probe-at-work-light", at="#ds-probe-pause")
        expect(card).to_contain_text("finished", timeout=RUN_MS)

    if minutes:
        with opened(browser, studio.url, **LOOKS["light"]) as screen:
            advisor(screen)
            measure(screen)
    for look, context in LOOKS.items():
        with opened(browser, studio.url, **context) as screen:
            advisor(screen)
            expect(screen.page.locator("#ds-probe")).to_contain_text("finished")
            screen.page.evaluate("window.scrollTo(0, 0)")
            picture(screen, f"probe-advice-{look}")
            screen.page.locator("#ds-probe").screenshot(path=folder / f"probe-{look}.png")
            if minutes:
                screen.tab("Runs")
                screen.page.get_by_role("checkbox").first.check()
                picture(screen, f"probe-runs-{look}")


def shorten(screen: Screen, steps: int) -> None:
    """Give the default recipe fewer steps and rows, through the YAML box."""
    recipe = api.load_recipe(
        "pocket-student",
        [f"stages.0.optim.max_steps={steps}", "data.sources.1.limit=200", "evaluation.rows=16"],
    )
    screen.button("YAML").click()
    box = screen.page.locator("#ds-yaml textarea")
    box.fill(api.dump_recipe(recipe))
    box.blur()
    expect(screen.page.locator("#ds-summary")).to_contain_text(f"{steps:,} steps")


def wait_for_middle(screen: Screen) -> None:
    """Wait until half of the run's steps are done."""
    screen.page.wait_for_function(
        """() => {
          const words = document.querySelector('#ds-train-header')?.innerText || '';
          const found = words.match(/step ([\\d,]+) of ([\\d,]+)/);
          if (!found || /finished/.test(words)) return /finished/.test(words);
          const [step, total] = found.slice(1).map((n) => Number(n.replaceAll(',', '')));
          return step >= total / 2;
        }""",
        timeout=RUN_MS,
    )


def ask(screen: Screen) -> None:
    """Let all models answer, and look at the student's first token."""
    screen.tab("Compare")
    expect(screen.page.locator("#ds-models")).to_contain_text("fine-tuned on labels only")
    screen.page.locator("#ds-prompt textarea").fill(PROMPT)
    screen.page.locator("#ds-ask").click()
    expect(screen.button("Ask all")).to_be_enabled()
    for pane in screen.page.locator(".ds-pane").all():
        expect(pane).to_contain_text("tokens/s")
    expect(screen.page.locator(".ds-pane-student [data-token]").first).to_be_visible()


def main() -> None:
    """Start the app on an empty runs folder and take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT / "assets" / "screenshots"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--advisor", action="store_true")
    parser.add_argument("--probe", type=int, metavar="MINUTES")
    parser.add_argument("--found", type=Path, metavar="RUNS")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        studio = Studio(Path(folder))
        if told.found:
            shutil.copytree(told.found, studio.runs_dir, dirs_exist_ok=True)
        studio.start()
        try:
            browser = playwright.chromium.launch(
                executable_path=chromium_path(), args=CHROMIUM_ARGS
            )
            if told.probe or told.found:
                take_probe(browser, studio, told.folder, told.probe or 0)
            elif told.advisor:
                take_steps(browser, studio, told.folder)
            else:
                take(browser, studio, told.folder, told.steps)
        finally:
            studio.kill()
            for worker in studio.workers():
                worker.kill()


if __name__ == "__main__":
    main()
