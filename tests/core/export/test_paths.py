"""What names a place on some machine, and what does not."""

from __future__ import annotations

import pytest

from distill_core.export.paths import is_local_path, last_part


@pytest.mark.parametrize(
    "text", ["/data/me/rows.jsonl", "~/rows.jsonl", "../rows.jsonl", "C:\\rows.csv", "\\\\a\\b\\c"]
)
def test_paths(text: str) -> None:
    assert is_local_path(text)


@pytest.mark.parametrize(
    "text", ["org/name", "rows.jsonl", "Answer: {prompt}", "/", "a\n/b", "pocket-teacher", ""]
)
def test_other_texts(text: str) -> None:
    assert not is_local_path(text)


@pytest.mark.parametrize("path", ["/data/me/rows.jsonl", "C:\\data\\rows.jsonl", "rows.jsonl"])
def test_the_last_part_is_the_name(path: str) -> None:
    assert last_part(path) == "rows.jsonl"
