"""Without a mouse: reach Start with Tab, press Enter, open tabs with the arrow keys, stop the run.

In: the app on an empty runs folder. Out: what the keys reach.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.drive import Studio, write_recipe
from tests.e2e.screen import opened

pytestmark = pytest.mark.browser


def test_start_and_stop_with_the_keyboard_alone(
    browser: Browser, studio: Studio, tmp_path: Path
) -> None:
    few = {"evaluation__rows": 1, "evaluation__final_rows": 1}
    recipe = write_recipe(tmp_path, name="by-keys", stages__0__optim__max_steps=100_000, **few)
    with opened(browser, studio.url) as screen:
        page = screen.page
        expect(page.locator("#ds-summary")).to_contain_text("Ready")

        press_tab_to(page, "YAML")
        page.keyboard.press("Enter")
        expect(page.locator("#ds-yaml textarea")).to_be_visible()
        press_tab_to(page, "The same recipe as YAML")
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(recipe.read_text())
        page.keyboard.press("Shift+Tab")
        expect(page.locator("#ds-summary")).to_contain_text("100,000 steps")
        press_tab_to(page, "Start", backwards=True)
        page.keyboard.press("Enter")
        expect(page.locator("#ds-train-header")).to_contain_text("by-keys")

        expect(page.locator("#ds-train-header")).to_contain_text("training", timeout=120_000)
        screen.tab_button("Train").focus()
        press_tab_to(page, "Stop and keep")
        page.keyboard.press("Enter")
        expect(page.locator("#ds-train-header")).to_contain_text("stopped", timeout=120_000)


def press_tab_to(page: Page, name: str, *, backwards: bool = False) -> None:
    """Press Tab until what has the focus is called so; fails when the round is complete."""
    reached = []
    for _ in range(200):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        words = page.evaluate(
            """() => {
              const here = document.activeElement;
              // a Copy button may stand inside a field's label: it is not the field
              const label = here.tagName !== 'BUTTON' && here.labels && here.labels[0];
              const names = [here.getAttribute('aria-label'), label && label.innerText];
              return (names.find(Boolean) || here.innerText || '').trim();
            }"""
        )
        reached.append(words[:40])
        if re.sub(r"^\W+", "", words).startswith(name):  # an icon may stand before it
            return
    pytest.fail(f"Tab never reached {name!r}, only {reached}")
