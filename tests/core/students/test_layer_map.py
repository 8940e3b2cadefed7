"""Which layer learns from which, and the words for it."""

from __future__ import annotations

import pytest

from distill_core.errors import ModelError
from distill_core.students.layer_map import layer_pairs, pair_words


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 6, [(1, 2), (2, 4), (3, 6)]),
        (3, 5, [(1, 2), (2, 3), (3, 5)]),
        (2, 2, [(1, 1), (2, 2)]),
        (1, 30, [(1, 30)]),
    ],
)
def test_c15_evenly_spaced_and_the_last_with_the_last(
    student: int, teacher: int, expected: list[tuple[int, int]]
) -> None:
    assert layer_pairs(student, teacher) == expected
    assert layer_pairs(student, teacher, layers="last") == [(student, teacher)]


def test_c15_follows_the_layers_that_were_copied() -> None:
    assert layer_pairs(3, 30, kept=[0, 1, 2]) == [(1, 1), (2, 2), (3, 30)]
    assert layer_pairs(3, 30, kept=[0, 14, 29]) == [(1, 1), (2, 15), (3, 30)]


def test_a_map_of_ones_own_is_taken_as_it_is() -> None:
    assert layer_pairs(3, 6, layer_map="2: 4, 1:1") == [(1, 1), (2, 4)]
    assert layer_pairs(3, 6, layers="last", layer_map="1:1") == [(1, 1)]


@pytest.mark.parametrize(("layer_map", "who"), [("4:4", "student"), ("1:7", "teacher")])
def test_a_layer_that_is_not_there_is_named(layer_map: str, who: str) -> None:
    with pytest.raises(ModelError, match=rf"of the {who}, which has layers 1 to"):
        layer_pairs(3, 6, layer_map=layer_map)


def test_words() -> None:
    words = "student layer 1 learns from teacher layer 2, 2 from 4, 3 from 6"
    assert pair_words(layer_pairs(3, 6)) == words
