"""Liger's kernels are tried before a stage, and used where they are equal and faster alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core import pipeline
from distill_core.errors import RunError
from distill_core.losses import chunked, row_block
from distill_core.losses.objective import Objective
from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    HiddenStatesLoss,
    OptimSettings,
    TotalVariationLoss,
)
from distill_core.steps import loss_kernels
from distill_core.steps.loss_kernels import FILE, Sample, Trial, chosen, tried
from tests.core import small_runs

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TERMS = [ForwardKLLoss(weight=0.5, temperature=2.0), CrossEntropyLoss(weight=0.5)]


class Told:
    """A sample that takes as long as it is told, and gives slopes as far off."""

    def __init__(
        self, ours: float, ligers: float, *, off: float = 0.0, dtype: torch.dtype = torch.float32
    ) -> None:
        self.seconds, self.off, self.dtype = {"plain": ours, "liger": ligers}, off, dtype

    def compared(self, kernels: str) -> tuple[float, list[Tensor]]:
        scale = 1.0 + (self.off if kernels == "liger" else 0.0)
        found = torch.linspace(0.1, 1.0, 50).to(self.dtype)
        return self.seconds[kernels], [found[:5], (found * scale).to(self.dtype)]


@pytest.mark.parametrize(
    ("sample", "used"),
    [
        (Told(2.0, 1.0), True),
        (Told(1.0, 1.0), False),
        (Told(1.0, 2.0), False),
        (Told(2.0, 1.0, off=1e-6), True),
        (Told(2.0, 1.0, off=1e-3), False),
        (Told(2.0, 1.0, off=1e-3, dtype=torch.bfloat16), True),  # its own rounding is larger
        (Told(2.0, 1.0, off=0.1, dtype=torch.bfloat16), False),
        (Told(2.0, 1.0, off=float("nan")), False),
        (Told(2.0, 1.0, off=float("inf")), False),
    ],
)
def test_only_what_is_equal_and_faster_is_used(sample: Told, used: bool) -> None:
    found = tried(sample, ours="plain")
    assert found.used is used
    assert found.faster == pytest.approx(sample.seconds["plain"] / sample.seconds["liger"])
    assert ("are used" in found.words) is used


def test_what_fails_is_not_used_and_says_why() -> None:
    class Broken(Told):
        def compared(self, kernels: str) -> tuple[float, list[Tensor]]:
            if kernels == "liger":
                raise TypeError("dispatch() got an unexpected argument\nand a long trace")
            return super().compared(kernels)

    found = tried(Broken(1.0, 1.0), ours="plain")
    assert not found.used
    assert found.words.endswith("TypeError: dispatch() got an unexpected argument")


def test_a_loss_of_ours_that_cannot_be_compiled_is_not_hidden() -> None:
    class Uncompiled(Told):
        def compared(self, kernels: str) -> tuple[float, list[Tensor]]:
            raise RunError("The loss could not be compiled on this machine.")

    with pytest.raises(RunError, match="could not be compiled"):
        tried(Uncompiled(1.0, 1.0), ours="compiled")


def test_a_sample_is_worked_out_as_a_chunk_of_the_loss_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(block: Tensor, *rest: Any) -> Any:
        values, slopes = row_block.compare_block(block, *rest)
        return [2 * value for value in values], slopes

    monkeypatch.setattr(chunked, "KERNELS", {"plain": row_block.compare_block, "liger": twice})
    before = torch.random.get_rng_state()
    sample = Sample(Objective(TERMS), 7, 40, dtype=torch.float32, device=CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    seconds, (kl, labels, slopes) = sample.compared("plain")
    _, (double_kl, _, same_slopes) = sample.compared("liger")
    assert seconds > 0
    assert len(kl) == len(labels) == 7
    torch.testing.assert_close(double_kl, 2 * kl)
    torch.testing.assert_close(same_slopes, slopes)
    p, q = (torch.softmax(side / 2, -1) for side in (sample.teacher, sample.student))
    torch.testing.assert_close(kl, 4 * (p * (p / q).log()).sum(-1))
    assert not tried(sample, ours="plain").used


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each trial on a GPU that is not here; it finds Liger's kernels equal and faster."""
    seen: list[str] = []

    def instead(sample: Any, *, ours: str) -> Trial:
        seen.append(ours)
        return Trial(used=True, faster=1.5, apart=1e-7)

    monkeypatch.setattr(loss_kernels, "tried", instead)
    monkeypatch.setattr(loss_kernels, "Sample", lambda *sizes, **kinds: None)
    monkeypatch.setattr(loss_kernels.liger, "installed", lambda: True)
    return seen


def ask(
    folder: Path, terms: Sequence[Any] = TERMS, *, stage: int = 0, optim: Any = None, **more: Any
) -> tuple[str, Trial | None]:
    given = {"device": CUDA, "dtype": torch.float32, "vocab_size": 64, "sparse": False} | more
    asking = chosen(
        Objective(terms), OptimSettings(**(optim or {})), folder=folder, stage=stage, **given
    )
    try:
        while True:
            next(asking)
    except StopIteration as done:
        found: tuple[str, Trial | None] = done.value
        return found


def test_the_answer_is_kept_for_whoever_resumes(tmp_path: Path, trials: list[str]) -> None:
    kernels, found = ask(tmp_path)
    assert kernels == "liger"
    assert found is not None
    assert found.faster == 1.5
    again = ask(tmp_path)
    assert again == (kernels, found)
    assert trials == ["plain"]
    assert json.loads((tmp_path / FILE).read_text())["0"]["used"] is True
    ask(tmp_path, stage=1, optim={"compile_loss": True})
    assert trials == ["plain", "compiled"]


def test_an_answer_that_says_no_is_kept_too(tmp_path: Path, trials: list[str]) -> None:
    (tmp_path / FILE).write_text(json.dumps({"0": {"used": False, "faster": 0.9, "apart": 0.0}}))
    kernels, found = ask(tmp_path, optim={"compile_loss": True})
    assert kernels == "compiled"
    assert found is not None
    assert not found.used
    assert trials == []


@pytest.mark.parametrize(
    "given",
    [
        {"optim": {"liger_loss": False}},
        {"optim": {"loss_chunk_rows": 0}},
        {"device": CPU},
        {"device": torch.device("mps")},
        {"vocab_size": None},
        {"sparse": True},
        {"terms": [ForwardKLLoss(weight=0.5), TotalVariationLoss(weight=0.5)]},
        {"terms": [HiddenStatesLoss(weight=1.0)]},
    ],
)
def test_c20_where_there_is_nothing_to_try_nothing_is_tried(
    tmp_path: Path, trials: list[str], given: dict[str, Any]
) -> None:
    assert ask(tmp_path, **given) == ("plain", None)
    assert trials == []
    assert not (tmp_path / FILE).exists()


def test_labels_alone_are_tried_whatever_is_known_of_the_teacher(
    tmp_path: Path, trials: list[str]
) -> None:
    assert ask(tmp_path, [CrossEntropyLoss()], sparse=True)[0] == "liger"


def test_without_the_package_nothing_is_tried(
    tmp_path: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_kernels.liger, "installed", lambda: False)
    assert ask(tmp_path) == ("plain", None)


def test_a_run_trains_with_the_kernels_that_were_found(
    rows_file: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, tiny_teacher_dir: Path
) -> None:
    worked_out: list[str] = []

    def counted(*arguments: Any) -> Any:
        worked_out.append("liger")
        return row_block.compare_block(*arguments)

    def found(*given: Any, **more: Any) -> Any:
        assert more["vocab_size"] > 0
        assert more["dtype"] == torch.float32
        return ("liger", Trial(used=True, faster=1.5, apart=1e-7))
        yield

    monkeypatch.setattr(chunked, "KERNELS", {"plain": row_block.compare_block, "liger": counted})
    monkeypatch.setattr(loss_kernels, "chosen", found)
    tune = {"kind": "fine_tune", "model": str(tiny_teacher_dir), "optim": small_runs.optim(2)}
    events = list(pipeline.run(small_runs.recipe(rows_file, [tune]), run_dir))
    (ready,) = [event for event in events if event["type"] == "rows_ready"]
    assert ready["loss_kernels"]["used"] is True
    assert "1.50 × as fast" in ready["loss_kernels"]["words"]
    assert len(worked_out) >= 2
