"""The whole path in a browser, from advice to export, with the app killed in the middle.

In: the app on an empty runs folder, a recipe of a minute. Out: what a user sees at each step.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from transformers import AutoModelForCausalLM

from tests.e2e.drive import Studio, until, write_recipe
from tests.e2e.screen import Screen, opened

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

NEWEST_STEP = """() => {
  const chart = document.querySelector('[data-part="loss"]');
  const steps = ((chart && chart.data) || []).flatMap((curve) => Array.from(curve.x || []));
  return Math.max(0, ...steps);
}"""
PATIENCE_MS = 240_000


def test_from_advice_to_export(browser: Browser, studio: Studio, tmp_path: Path) -> None:
    with opened(browser, studio.url) as screen:
        take_the_advised_recipe(screen)
        start(screen, write_recipe(tmp_path, name="long-run", stages__0__optim__max_steps=100_000))
        (run,) = runs(studio)

        curves_move(screen.page)
        screen.page.reload()
        screen.tab("Train")
        curves_move(screen.page)
        with opened(browser, studio.url) as second:
            second.tab("Train")
            expect(second.page.locator("#ds-train-header")).to_contain_text("long-run")
            curves_move(second.page)
            assert second.outside == []

        restart_the_app(studio, run)
        screen.page.goto(studio.url)
        screen.tab("Train")
        curves_move(screen.page)
        expect(screen.page.locator('.modebar-btn[data-title^="Zoom"]').first).to_be_attached()
        expect(screen.page.locator('.modebar-btn[data-title^="Share"]')).to_have_count(0)
        stop_and_keep(screen, run)

        start(screen, write_recipe(tmp_path, name="short-run", stages__0__optim__max_steps=20))
        expect(screen.page.locator("#ds-train-header")).to_contain_text("finished")
        compare(screen)
        history_and_export(screen)

        assert screen.outside == []
        assert screen.errors == []
    log = studio.folder / "network.log"
    assert not log.exists(), log.read_text()


def take_the_advised_recipe(screen: Screen) -> None:
    screen.tab("Advisor")
    screen.button("Use this recipe").click()
    expect(screen.tab_button("Build")).to_have_attribute("aria-selected", "true")


def start(screen: Screen, recipe: Path) -> None:
    """Put a recipe into the YAML box and press Start."""
    told = json.loads(recipe.read_text())
    screen.tab("Build")
    name = screen.page.locator("#ds-field-name input, #ds-field-name textarea")
    expect(name).to_have_value(re.compile("."))  # the page has opened its draft
    box = screen.page.locator("#ds-yaml textarea")
    if not box.is_visible():
        screen.button("YAML").click()
    box.fill(recipe.read_text())
    box.blur()
    expect(name).to_have_value(told["name"])
    summary = screen.page.locator("#ds-summary")
    expect(summary).to_contain_text(f"{told['stages'][0]['optim']['max_steps']:,} steps")
    expect(summary).to_contain_text("Ready")
    screen.page.locator("#ds-start").click()
    expect(screen.tab_button("Train")).to_have_attribute("aria-selected", "true")
    expect(screen.page.locator("#ds-train-header")).to_contain_text(told["name"])


def runs(studio: Studio) -> list[Path]:
    return [path for path in studio.runs_dir.iterdir() if (path / "status.json").is_file()]


def curves_move(page: Page) -> None:
    """See the newest step on the chart grow twice."""
    page.wait_for_function(f"({NEWEST_STEP})() > 0", timeout=PATIENCE_MS)
    before = page.evaluate(NEWEST_STEP)
    page.wait_for_function(f"({NEWEST_STEP})() > {before}", timeout=PATIENCE_MS)


def restart_the_app(studio: Studio, run: Path) -> None:
    """Kill the app: the worker goes on; the app that comes after finds the same worker."""
    (worker,) = studio.workers()
    studio.kill()
    at = status(run)["step"]
    until("the worker to go on alone", lambda: status(run)["step"] > at)
    studio.start()
    assert [process.pid for process in studio.workers()] == [worker.pid]
    assert status(run)["state"] == "running"


def status(run: Path) -> dict[str, object]:
    return json.loads((run / "status.json").read_text())


def stop_and_keep(screen: Screen, run: Path) -> None:
    screen.button("Stop and keep").click()
    expect(screen.page.locator("#ds-train-header")).to_contain_text("stopped")
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    steps = [event["step"] for event in events if event["type"] == "step"]
    assert steps == list(range(1, len(steps) + 1)), "a step was lost or done twice"


def compare(screen: Screen) -> None:
    screen.button("Compare").click()
    expect(screen.tab_button("Compare")).to_have_attribute("aria-selected", "true")
    expect(screen.page.get_by_role("checkbox", name=re.compile("untrained")).first).to_be_visible()
    screen.page.locator("#ds-prompt textarea").fill("turn on the light in the kitchen")
    screen.page.locator("#ds-ask").click()
    for role in ("teacher", "student", "untrained"):
        pane = screen.page.locator(f".ds-pane-{role}").first
        expect(pane).to_contain_text("tokens/s", timeout=PATIENCE_MS)
    expect(screen.page.locator(".ds-pane-teacher .ds-answer")).to_contain_text("kitchen")
    tokens = screen.page.locator(".ds-pane-student [data-token]")
    expect(tokens.first).to_be_visible()
    tokens.first.click()
    card = screen.page.locator("#ds-token-card")
    expect(card).to_contain_text("Token 1:")
    expect(card.locator("table")).to_have_count(2)
    expect(screen.page.locator("#ds-scores")).to_contain_text("teacher")


def history_and_export(screen: Screen) -> None:
    screen.tab("Runs")
    row = screen.page.locator(".ds-history tbody tr", has_text="short-run")
    expect(row).to_contain_text("finished")
    box = row.get_by_role("checkbox")
    if not box.is_checked():
        box.check()
    screen.button("Export").click()
    told = screen.page.locator(".ds-path")
    expect(told).to_be_visible(timeout=PATIENCE_MS)
    model = AutoModelForCausalLM.from_pretrained(told.inner_text().strip())
    assert model.config.num_hidden_layers == 1
