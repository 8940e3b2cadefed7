"""Events and the one table of metrics."""

from __future__ import annotations

import json
import time
import typing

import pytest

from distill_core import events, recipe
from distill_core.runs import recorder


def test_an_event_has_type_and_time() -> None:
    made = events.event("step", stage=0, step=3, metrics={"loss": 1.0})
    assert made["type"] == "step"
    assert abs(made["time_s"] - time.time()) < 60
    assert json.loads(json.dumps(made)) == made


def test_progress_of_unknown_length_is_none_of_none() -> None:
    made = events.progress("loading", "a model")
    assert (made["phase"], made["done"], made["total"]) == ("loading", 0, 0)


def test_phases_are_the_ones_of_the_type() -> None:
    assert typing.get_args(events.Phase) == events.PHASES


@pytest.mark.parametrize("name", events.METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = events.METRICS[name]
    assert metric.title
    assert metric.description.endswith(".")
    assert metric.better in ("lower", "higher", "")


def test_every_loss_term_has_a_curve_of_its_own() -> None:
    terms = {name for name, metric in events.METRICS.items() if metric.is_term}
    settings = typing.get_args(typing.get_args(recipe.Loss)[0])
    assert terms == {group.model_fields["name"].default for group in settings}


def test_the_recorder_knows_only_events_that_exist() -> None:
    assert set(recorder._EFFECTS) <= set(typing.get_args(events.EventType))
    assert set(typing.get_args(events.EventType)) >= recorder.ENDS
