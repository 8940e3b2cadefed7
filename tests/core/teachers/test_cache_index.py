"""Keys in arrays: found as in a dictionary, in a tenth of its room."""

from __future__ import annotations

import secrets
import tracemalloc

import numpy as np
import pytest

from distill_core.teachers.cache_index import Places, as_keys, key_at

ZEROS = bytes(16)
KEYS = [ZEROS, b"\x01" + bytes(15), bytes(15) + b"\x01", b"\xff" * 16, b"\x01" * 15 + b"\x00"]


def joined(keys: list[bytes]) -> np.ndarray:
    return as_keys(b"".join(keys))


def test_a_key_is_found_in_every_file_that_has_it() -> None:
    places = Places()
    places.add(joined(KEYS), 0)
    places.add(joined([KEYS[3], KEYS[0]]), 1)
    assert places.of(KEYS[0]) == [(0, 0), (1, 1)]
    assert places.of(KEYS[3]) == [(0, 3), (1, 0)]
    assert places.of(KEYS[1]) == [(0, 1)]
    assert places.of(b"\x02" * 16) == []
    assert len(places) == 5
    asked = joined([b"\x02" * 16, *KEYS])
    assert places.known(asked).tolist() == [False, *[True] * 5]
    assert [key_at(asked, place) for place in range(1, 6)] == KEYS, "zeros at the end stay"


def test_a_key_that_was_forgotten_comes_back_with_a_file() -> None:
    places = Places()
    places.add(joined(KEYS), 0)
    places.forget(KEYS[1])
    places.forget(b"\x02" * 16)
    assert places.of(KEYS[1]) == []
    assert places.known(joined(KEYS)).tolist() == [True, False, True, True, True]
    assert len(places) == 4
    places.add(joined([KEYS[1]]), 1)
    assert places.of(KEYS[1]) == [(0, 1), (1, 0)]
    assert len(places) == 5


def test_nothing_is_known_of_no_files_and_keys_have_16_bytes() -> None:
    assert Places().known(joined(KEYS)).tolist() == [False] * 5
    assert Places().of(KEYS[0]) == []
    with pytest.raises(ValueError, match="multiple"):
        as_keys(b"short")


def test_a_key_takes_few_bytes() -> None:
    many = 50_000
    tracemalloc.start()
    places = Places()
    for file in range(5):
        places.add(as_keys(secrets.token_bytes(16 * many // 5)), file)
    assert len(places) == many
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 50 * many
