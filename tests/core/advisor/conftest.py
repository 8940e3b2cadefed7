"""The starter's answers, as the defaults give them on a plain machine."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.advisor import default_answers

MACHINE = {"device": "cpu", "dtype": "fp32", "memory_total_bytes": 16 * 2**30, "name": "CPU"}


@pytest.fixture
def starter() -> dict[str, Any]:
    """Answers by dotted name."""
    return default_answers(MACHINE)
