"""The advisor's walkthrough in a browser: by keyboard alone, back and forth, and after a reload.

In: the app. Out: what the fields hold, where the focus is, what the card says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.e2e.drive import Studio
from tests.e2e.screen import Screen, opened

pytestmark = pytest.mark.browser


@pytest.fixture
def advisor(browser: Browser, studio: Studio) -> Iterator[Screen]:
    with opened(browser, studio.url) as screen:
        screen.tab("Advisor")
        expect(screen.button("Use this recipe")).to_be_enabled()
        yield screen
        assert screen.errors == []


def step(screen: Screen, name: str) -> Locator:
    tabs = screen.page.locator("#ds-steps button[role=tab]:visible")
    return tabs.filter(has_text=name)


def field(screen: Screen, name: str, kind: str = "input") -> Locator:
    return screen.page.locator(f"#ds-ask-{name} {kind}").first


def card(screen: Screen) -> Locator:
    return screen.page.locator("#ds-advice")


def focused(screen: Screen) -> str:
    return str(screen.page.evaluate("document.activeElement.textContent"))


def test_the_keyboard_alone_walks_answers_and_goes_back(advisor: Screen) -> None:
    page = advisor.page
    page.locator("#ds-ask-goal input[type=radio]:checked").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#ds-ask-goal input[value=better_at_task]")).to_be_checked()
    advisor.button("Next").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'Who could teach it?'")
    page.keyboard.press("Tab")
    inside = "#ds-ask-teacher-exists"
    assert page.evaluate(f"document.querySelector('{inside}').contains(document.activeElement)")
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"{inside} input[value=no]")).to_be_checked()
    expect(field(advisor, "teacher-name")).to_be_hidden()
    expect(card(advisor)).to_contain_text("There is no teacher.")
    advisor.button("Back").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'What is it for?'")
    expect(page.locator("#ds-ask-goal input[value=better_at_task]")).to_be_checked()


def test_nothing_is_lost_by_going_on_coming_back_and_reloading(advisor: Screen) -> None:
    step(advisor, "Data").click()
    labels = field(advisor, "data-labelled_rows")
    labels.fill("5000")
    advisor.page.locator("#ds-ask-data-label_quality input[value=clean]").check()
    expect(card(advisor)).to_contain_text("Fine-tune")
    for name in ("In use", "Goal", "Data"):
        step(advisor, name).click()
    expect(labels).to_have_value("5000")
    advisor.settle()
    advisor.page.reload()
    advisor.tab("Advisor")
    expect(card(advisor)).to_contain_text("Fine-tune")
    step(advisor, "Data").click()
    expect(labels).to_have_value("5000")


def test_a_file_fills_in_its_counts_and_the_card_leans(advisor: Screen, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"turn on light {n}", "response": "on"}) for n in range(321)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    step(advisor, "Data").click()
    box = field(advisor, "data-source")
    box.fill(str(tmp_path / "rows.jsonl"))
    box.press("Enter")
    expect(field(advisor, "data-labelled_rows")).to_have_value("321")
    expect(field(advisor, "data-unlabelled_rows")).to_have_value("0")
    expect(advisor.page.locator("#ds-ask-data-labelled_rows")).to_contain_text("rows.jsonl")
    expect(step(advisor, "Data")).not_to_contain_text("✓")
    expect(card(advisor)).to_contain_text("Leaning")
    step(advisor, "Answer").click()
    expect(advisor.page.locator("#ds-reckoning")).to_contain_text("Counted in tokens of")


def test_a_licence_is_confirmed_before_the_recipe_goes_to_build(advisor: Screen) -> None:
    page = advisor.page
    step(advisor, "Its terms").click()
    licence = field(advisor, "teacher-license")
    licence.fill("llama")
    licence.press("Enter")
    expect(page.locator("#ds-outlook")).to_contain_text("must begin with")
    expect(advisor.button("Use this recipe")).to_be_disabled()
    page.get_by_label("I have read the teacher's licence").check()
    expect(advisor.button("Use this recipe")).to_be_enabled()
    advisor.button("Use this recipe").click()
    expect(advisor.tab_button("Build")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#ds-summary")).to_contain_text("Ready")


def test_every_line_of_the_comparison_leads_to_where_it_can_be_tried(advisor: Screen) -> None:
    advisor.button("line by line").click()
    expect(advisor.tab_button("Learn")).to_have_attribute("aria-selected", "true")
    advisor.button("Distil in two steps").click()
    expect(advisor.tab_button("Build")).to_have_attribute("aria-selected", "true")
    expect(advisor.page.locator("#ds-summary")).to_contain_text("Ready")
    advisor.button("YAML").click()
    expect(advisor.page.locator("#ds-yaml textarea")).to_have_value(re.compile("teacher: previous"))


def test_a_probe_runs_in_the_background_is_found_again_and_paused(advisor: Screen) -> None:
    page, probe = advisor.page, advisor.page.locator("#ds-probe")
    expect(probe).to_contain_text("10 minutes of work")
    expect(advisor.button("Measure it")).to_be_enabled()
    advisor.button("Measure it").focus()
    page.keyboard.press("Enter")
    expect(advisor.button("Pause")).to_be_visible()
    expect(probe).to_contain_text("running")
    page.reload()
    advisor.tab("Advisor")
    expect(advisor.button("Pause")).to_be_visible()
    advisor.button("Pause").click()
    expect(probe).to_contain_text("paused")
    expect(advisor.button("Go on measuring")).to_be_enabled()
    advisor.tab("Runs")
    expect(page.get_by_role("button", name="probe-distill-vs-fine-tune")).to_be_visible()
