"""The self-test passes on this machine, and each property fails when the product is broken."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core import self_test
from distill_core.data.batches import Batch
from distill_core.errors import RecipeError
from distill_core.forward.supervised import SupervisedLogits
from distill_core.losses import divergences, objective, reference

Patch = pytest.MonkeyPatch


def failed(device: str = "cpu") -> set[str]:
    found = self_test.self_test(device)
    assert found["passed"] == all(item["passed"] for item in found["properties"])
    return {item["name"] for item in found["properties"] if not item["passed"]}


def test_all_properties_hold_here_and_in_seconds() -> None:
    found = self_test.self_test("cpu")
    assert found["passed"], [item for item in found["properties"] if not item["passed"]]
    assert [item["name"] for item in found["properties"]] == [
        "shift",
        "temperature",
        "vocabulary",
        "divergences",
        "one_truth",
        "precision",
    ]
    assert all(item["words"].endswith(".") for item in found["properties"])
    assert found["device"] == "cpu"
    assert found["seconds"] < 60
    json.dumps(found)


def test_the_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    self_test.self_test("cpu")
    assert torch.equal(before, torch.get_rng_state())


def test_every_soft_term_has_a_reference() -> None:
    assert {term.name for term in self_test._soft_terms()} == set(reference.DIVERGENCES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecipeError, match="no cuda device"):
        self_test.self_test("cuda")


# --- broken on purpose --------------------------------------------------------------------------


def _replace_forward_kl(patch: Patch, values: Callable[[Any, Any], Tensor]) -> None:
    term = dataclasses.replace(objective.LOSSES["forward_kl"], values=values)
    patch.setitem(objective.LOSSES, "forward_kl", term)


def _shift_by_one(patch: Patch) -> None:
    def late(batch: Batch) -> Tensor:
        found = batch.labels != -100
        found[:, 0] = False
        return found

    patch.setattr(Batch, "supervised", property(late))


def _without_the_square(patch: Patch) -> None:
    def values(rows: Any, settings: Any) -> Tensor:
        t = settings.temperature
        full = divergences.forward_kl(rows.student_logits, rows.teacher_logits, temperature=t)
        return full / t**2

    _replace_forward_kl(patch, values)


def _gradient_without_the_square(patch: Patch) -> None:
    """Scale what is shown, and not what is learnt from."""

    def values(rows: Any, settings: Any) -> Tensor:
        t = settings.temperature
        full = divergences.forward_kl(rows.student_logits, rows.teacher_logits, temperature=t)
        return full.detach() + (full - full.detach()) / t**2

    _replace_forward_kl(patch, values)


def _uncut_vocabulary(patch: Patch) -> None:
    whole = SupervisedLogits.__init__

    def init(self: Any, model: Any, *, vocab_size: int) -> None:
        whole(self, model, vocab_size=vocab_size + 8)

    patch.setattr(SupervisedLogits, "__init__", init)


def _turned_around(patch: Patch) -> None:
    _replace_forward_kl(
        patch, lambda rows, _: divergences.reverse_kl(rows.student_logits, rows.teacher_logits)
    )


def _cross_entropy_instead(patch: Patch) -> None:
    def values(rows: Any, settings: Any) -> Tensor:
        p = rows.teacher_logits.float().softmax(-1)
        return -(p * rows.student_logits.float().log_softmax(-1)).sum(-1)

    _replace_forward_kl(patch, values)


def _half_a_cross_entropy_mixed_in(patch: Patch) -> None:
    plain = objective.Objective.__call__

    def call(self: Any, rows: Any, *, totals: Any) -> Any:
        loss, sums = plain(self, rows, totals=totals)
        extra = torch.nn.functional.cross_entropy(rows.student_logits.float(), rows.targets)
        return loss + 0.5 * extra, sums

    patch.setattr(objective.Objective, "__call__", call)


def _in_half_precision(patch: Patch) -> None:
    def log_probabilities(student: Tensor, teacher: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return (teacher / t).log_softmax(-1), (student / t).log_softmax(-1)

    patch.setattr(divergences, "_log_probabilities", log_probabilities)


def _nothing_is_noticed(patch: Patch) -> None:
    patch.setattr(objective.Objective, "non_finite", lambda self, rows: None)


BREAKS: list[tuple[Callable[[Patch], None], str]] = [
    (_shift_by_one, "shift"),
    (_without_the_square, "temperature"),
    (_gradient_without_the_square, "temperature"),
    (_uncut_vocabulary, "vocabulary"),
    (_turned_around, "divergences"),
    (_cross_entropy_instead, "divergences"),
    (_half_a_cross_entropy_mixed_in, "one_truth"),
    (_in_half_precision, "precision"),
    (_nothing_is_noticed, "precision"),
]


@pytest.mark.parametrize(("break_it", "name"), BREAKS)
def test_a_property_that_is_broken_fails(
    monkeypatch: Patch, break_it: Callable[[Patch], None], name: str
) -> None:
    break_it(monkeypatch)
    assert name in failed()


def test_what_the_device_cannot_compute_is_told(monkeypatch: Patch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("logaddexp has no kernel here")

    monkeypatch.setattr(torch, "logaddexp", refuse)
    found = self_test.self_test("cpu")
    broken = next(item for item in found["properties"] if item["name"] == "one_truth")
    assert (broken["passed"], broken["figure"]) == (False, None)
    assert "no kernel here" in broken["error"]
