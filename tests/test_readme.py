"""The README tells the truth: its tree is the disk's, its tables are the code's, its files exist.

In: README.md and the checkout. Knows nothing of what the code does.
"""

from __future__ import annotations

import re

import pytest

from tests.readme_tables import README, filled

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
PACKAGES = ("distill_core", "ui")
TOP_LEVEL_LEFT_OUT = {"README.md", ".gitignore"}


def tree() -> dict[str, str]:
    """Return the tree's paths with what is said of each."""
    block = re.search(r"<summary>Every file</summary>\n\n```\n(.*?)```", TEXT, re.DOTALL)
    assert block, "the README has no tree"
    found: dict[str, str] = {}
    folders: list[tuple[int, str]] = []
    for line in filter(str.strip, block[1].splitlines()):
        indent = len(line) - len(line.lstrip())
        name, _, words = line.strip().partition(" ")
        while folders and folders[-1][0] >= indent:
            folders.pop()
        parent = folders[-1][1] if folders else ""
        if name.endswith("/"):
            folders.append((indent, parent + name))
        found[parent + name] = words.strip()
    return found


def on_disk() -> set[str]:
    modules = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    }
    top = {path.name for path in ROOT.iterdir() if path.is_file()} - TOP_LEVEL_LEFT_OUT
    return modules | {name for name in top if not name.startswith(".")}


def test_the_tree_is_the_disks() -> None:
    told = {path for path in tree() if not path.endswith("/")}
    of_code = {path for path in told if path.endswith(".py") or "/" not in path}
    assert of_code == on_disk()
    assert all((ROOT / path).exists() for path in tree())


def test_every_file_is_told_in_a_few_words() -> None:
    wordy = {path: words for path, words in tree().items() if not 1 <= len(words.split()) <= 8}
    assert not wordy


def test_the_tables_are_the_codes() -> None:
    assert filled(TEXT) == TEXT, "run: python tests/readme_tables.py"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_links_and_pictures_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("script", sorted(set(re.findall(r"python (tests/\S+?\.py)", TEXT))))
def test_scripts_that_are_named_exist(script: str) -> None:
    assert (ROOT / script).is_file()


def test_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in set(re.findall(r"(?m)(?:^|`)make ([a-z]+)", TEXT)):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


def test_the_pinned_torch_is_the_same_everywhere() -> None:
    files = ("README.md", "Makefile", "constraints.txt")
    pins = {name: set(re.findall(r"torch==([\d.]+)", (ROOT / name).read_text())) for name in files}
    assert len(set.union(*pins.values())) == 1, pins
    assert all(pins.values())
