"""What `broken_on_purpose.py` breaks is still there to be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.more_mutants import MORE_MUTANTS
from tests.benchmarks.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent.parent
ALL = [*MUTANTS, *MORE_MUTANTS]


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: f"{mutant.property}, {mutant.words}")
def test_the_line_to_break_is_found_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_every_property_is_broken() -> None:
    assert {mutant.property for mutant in ALL} == {f"C{number}" for number in range(1, 21)}
