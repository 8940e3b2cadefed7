"""The app as a user sees it: a page of a browser, its tabs, and what it asks of other machines.

In: a browser and the app's address. Out: `Screen`. Knows nothing of the app's inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

TABS = ("Advisor", "Build", "Train", "Compare", "Runs", "Learn")
LOCAL_SCHEMES = {"data", "blob", "about"}

PATIENCE_MS = 90_000  # two busy cores

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Screen:
    """One page of the app."""

    page: Page
    outside: list[str] = field(default_factory=list)
    """Addresses of other machines that the page asked for; all were refused."""
    errors: list[str] = field(default_factory=list)
    """What the page's own code threw."""

    def tab(self, name: str) -> None:
        """Open a tab and wait until it is shown."""
        button = self.tab_button(name)
        button.click()
        expect(button).to_have_attribute("aria-selected", "true")

    def tab_button(self, name: str) -> Locator:
        return self.page.get_by_role("tab", name=name, exact=True).and_(
            self.page.locator("button:visible")
        )

    def button(self, name: str) -> Locator:
        """Find a visible button by its words."""
        return self.page.get_by_role("button", name=name).and_(self.page.locator(":visible"))

    def settle(self) -> None:
        """Wait until what is pending has arrived and is drawn."""
        expect(self.page.locator(".pending:visible, .translucent:visible")).to_have_count(0)
        self.page.evaluate(
            "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )

    def is_dark(self) -> bool:
        return bool(self.page.evaluate("document.body.classList.contains('dark')"))

    def accessibility_problems(self) -> list[str]:
        """Return axe's violations of level serious or critical, one line each."""
        results: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{violation['id']}: {node['target']} {node.get('failureSummary', '')[:300]}"
            for violation in results["violations"]
            if violation["impact"] in {"serious", "critical"}
            for node in violation["nodes"]
        ]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )


@contextmanager
def opened(
    browser: Browser, url: str, *, width: int = 1440, height: int = 1000, **context: Any
) -> Iterator[Screen]:
    """Open the app in a browser context of its own, as another user of the machine would."""
    own = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", **context
    )
    own.set_default_timeout(PATIENCE_MS)
    screen = Screen(own.new_page())

    def refuse_others(route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in LOCAL_SCHEMES or address.hostname in {"127.0.0.1", "localhost"}:
            route.continue_()
        else:
            screen.outside.append(route.request.url)
            route.abort()

    own.route("**/*", refuse_others)
    screen.page.on("pageerror", lambda error: screen.errors.append(str(error)))
    screen.page.goto(url)
    expect(screen.tab_button("Build")).to_be_visible()
    yield screen
    own.close()
