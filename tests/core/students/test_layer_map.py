"""Which layer learns from which, and the words for it."""

from __future__ import annotations

import pytest

from distill_core.errors import ModelError
from distill_core.students.layer_map import layer_pairs


def test_a_map_of_ones_own_is_taken_as_it_is() -> None:
    assert layer_pairs(3, 6, layer_map="2: 4, 1:1") == [(1, 1), (2, 4)]
    assert layer_pairs(3, 6, layers="last", layer_map="1:1") == [(1, 1)]


@pytest.mark.parametrize(("layer_map", "who"), [("4:4", "student"), ("1:7", "teacher")])
def test_a_layer_that_is_not_there_is_named(layer_map: str, who: str) -> None:
    with pytest.raises(ModelError, match=rf"of the {who}, which has layers 1 to"):
        layer_pairs(3, 6, layer_map=layer_map)
