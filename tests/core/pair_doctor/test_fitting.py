"""Which terms are exchanged for which pair, and what is kept of them."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core import api
from distill_core.pair_doctor.fitting import TERMS
from distill_core.recipe import recipe_yaml

LABELS = {"name": "cross_entropy", "weight": 0.1}


def test_terms_that_compare_token_by_token_become_one_across_tokenizers() -> None:
    losses = [{"name": "forward_kl", "weight": 0.5, "temperature": 2.0}, LABELS]
    losses.append({"name": "reverse_kl", "weight": 0.2})
    assert api.fitting_losses(False, losses) == [
        {"name": "cross_tokenizer", "weight": 0.7, "temperature": 2.0},
        LABELS,
    ]


def test_schedules_are_kept_or_counted_by_their_highest() -> None:
    moving = {"start": 0.6, "end": 0.2}
    hot = {"start": 4.0, "end": 1.0, "schedule": "cosine"}
    alone = [{"name": "jsd", "weight": moving, "temperature": hot}, LABELS]
    assert api.fitting_losses(False, alone) == [
        {"name": "cross_tokenizer", "weight": moving, "temperature": hot},
        LABELS,
    ]
    both = [{"name": "jsd", "weight": moving}, {"name": "reverse_kl", "weight": 0.3}]
    assert api.fitting_losses(False, both) == [{"name": "cross_tokenizer", "weight": 0.9}]
    broken = [{"name": "jsd", "weight": {"start": "x"}}, {"name": "reverse_kl"}]
    assert api.fitting_losses(False, broken) == [{"name": "cross_tokenizer"}]


def test_and_back_where_the_tokenizers_are_the_same() -> None:
    losses = [{"name": "cross_tokenizer", "weight": 0.7, "hybrid": False}, LABELS]
    assert api.fitting_losses(True, losses) == [{"name": "forward_kl", "weight": 0.7}, LABELS]


@pytest.mark.parametrize("comparable", [True, None])
def test_what_fits_or_is_not_known_is_left_alone(comparable: bool | None) -> None:
    losses = [{"name": "jsd", "beta": 0.3}, LABELS, {"name": "typo"}]
    assert api.fitting_losses(comparable, losses) is losses
    across = [{"name": "cross_tokenizer"}, LABELS]
    assert api.fitting_losses(False, across) is across


def test_a_term_that_is_there_already_is_not_named_twice() -> None:
    losses = [{"name": "forward_kl"}, {"name": "cross_tokenizer", "weight": 0.3}]
    assert api.fitting_losses(False, losses) == [{"name": "cross_tokenizer", "weight": 0.3}]
    assert api.fitting_losses(True, losses) == [{"name": "forward_kl"}]


@pytest.mark.parametrize("name", sorted(TERMS))
def test_every_exchange_is_a_valid_recipe(name: str) -> None:
    for comparable in (True, False):
        losses: list[dict[str, Any]] = api.fitting_losses(comparable, [{"name": name}])
        stage = {
            "kind": "distill",
            "teacher": "pocket-teacher",
            "student": {"init": "scratch"},
            "losses": losses,
        }
        data = {"sources": [{"kind": "starter"}]}
        made = recipe_yaml.parse({"data": data, "stages": [stage]})
        assert all(loss.across_tokenizers or comparable for loss in made.stages[0].losses)  # type: ignore[union-attr]
