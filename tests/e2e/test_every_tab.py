"""Every tab: no accessibility violation, no sideways scrolling, no request to other machines.

In: the app with one finished run. Out: axe's verdicts, widths, addresses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.e2e.drive import Studio, until
from tests.e2e.screen import TABS, Screen, opened

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def dark(browser: Browser, studio: Studio) -> Iterator[Screen]:
    with opened(browser, studio.url, color_scheme="dark") as screen:
        assert screen.is_dark()
        yield screen


@pytest.fixture(scope="module")
def light(browser: Browser, studio: Studio) -> Iterator[Screen]:
    with opened(browser, studio.url, color_scheme="light") as screen:
        assert not screen.is_dark()
        yield screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing_serious(tab: str, scheme: str, request: pytest.FixtureRequest) -> None:
    screen: Screen = request.getfixturevalue(scheme)
    screen.tab(tab)
    if tab == "Advisor":  # until its first advice has come, the button is half transparent
        expect(screen.button("Use this recipe")).to_be_enabled()
    screen.settle()
    problems = screen.accessibility_problems()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def narrow(browser: Browser, studio: Studio) -> Iterator[Screen]:
    with opened(browser, studio.url, width=360, height=740) as screen:
        yield screen


@pytest.mark.parametrize("tab", TABS)
def test_a_phone_needs_no_sideways_scrolling(tab: str, narrow: Screen) -> None:
    narrow.page.reload()
    narrow.tab(tab)
    narrow.settle()
    assert narrow.overflow() <= 0


@pytest.mark.parametrize("width", ["light", "narrow"])
def test_no_checkbox_in_build_cuts_its_words(width: str, request: pytest.FixtureRequest) -> None:
    screen: Screen = request.getfixturevalue(width)
    screen.tab("Build")
    screen.settle()
    words = screen.page.locator(".ds-fields .checkbox-container:visible")
    screen.button("Advanced: schedule").click()
    expect(words.first).to_be_visible()
    cut = screen.page.eval_on_selector_all(
        ".ds-fields .block:has(> .checkbox-container)",
        "found => found.filter(one => one.scrollWidth > one.clientWidth + 1).length",
    )
    assert cut == 0
    assert screen.overflow() <= 0


def test_a_files_columns_are_offered_where_one_is_to_be_named(
    browser: Browser, studio: Studio, tmp_path: Path
) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text('{"asked": "what is up", "said": "the sky"}\n' * 40)
    with opened(browser, studio.url) as screen:
        screen.tab("Build")
        expect(screen.page.locator("#ds-field-name").get_by_role("textbox")).to_have_value(
            re.compile(".")
        )
        screen.button("Choose the data").click()
        with screen.page.expect_file_chooser() as chooser:
            screen.button("Upload files").click()
        chooser.value.set_files(file)
        prompt, answer = (
            screen.page.locator(f"#ds-field-data-columns-{name} input")
            for name in ("prompt", "response")
        )
        expect(screen.page.locator("#ds-column-names option")).to_have_count(2)
        for field in (prompt, answer):
            expect(field).to_have_attribute("list", "ds-column-names")
        prompt.fill("asked")
        answer.fill("said")
        expect(screen.page.get_by_text("prompt ← asked, response ← said")).to_be_visible()
        expect(screen.page.locator("#ds-column-names option")).to_have_count(2)


def test_the_tabs_say_what_they_are(light: Screen) -> None:
    for tab in TABS:
        expect(light.tab_button(tab)).to_be_visible()
    assert light.page.title() == "Distill Studio"


def test_no_script_failed_and_nothing_was_asked_of_other_machines(
    light: Screen, dark: Screen, studio: Studio
) -> None:
    assert light.outside + dark.outside == []
    assert light.errors + dark.errors == []
    log = studio.folder / "network.log"
    assert not log.exists(), log.read_text()


def test_a_page_left_alone_makes_no_events(browser: Browser, studio: Studio) -> None:
    """It asks what has changed and hears: nothing. Listeners that trigger each other show here."""
    with opened(browser, studio.url) as screen:
        for name in TABS:  # each tab's first event is for what it shows
            screen.tab(name)
            screen.settle()
        beats: list[str] = []
        events: list[int] = []

        def heard(request: Request) -> None:
            if (found := cause(request)) is not None:
                events.append(found)
            elif "component_server" in request.url:
                beats.append(request.url)

        screen.page.on("request", heard)

        def quiet() -> bool:
            beats.clear(), events.clear()
            while len(beats) < 4:
                screen.page.wait_for_event("request")
            return not events

        until("a page that came to rest", quiet)


def cause(request: Request) -> int | None:
    """Return the component that made the page ask, None for what no component caused."""
    if request.method != "POST" or not request.post_data:
        return None
    found = json.loads(request.post_data).get("trigger_id")
    return int(found) if found is not None else None
