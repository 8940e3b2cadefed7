"""Number formats: what auto means, what works where, and what the refusal says."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from distill_core import device as machine
from distill_core.errors import ModelError
from distill_core.teachers import precision

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture
def bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> Any:
    def there(is_there: bool) -> None:
        found = object() if is_there else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)

    return there


def test_auto_is_the_run_s_own_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda device: device.type == "cuda")
    chosen = {
        (run, device.type): precision.chosen("auto", precision=run, device=device)
        for run in ("auto", "fp32", "bf16")
        for device in (CPU, CUDA, MPS)
    }
    assert chosen == {
        ("auto", "cpu"): "fp32",
        ("auto", "cuda"): "bf16",
        ("auto", "mps"): "fp32",
        **{("fp32", name): "fp32" for name in ("cpu", "cuda", "mps")},
        **{("bf16", name): "bf16" for name in ("cpu", "cuda", "mps")},
    }
    assert precision.chosen("int8", precision="bf16", device=CPU) == "int8"


@pytest.mark.parametrize("installed", [True, False])
def test_what_works_where(bitsandbytes: Any, installed: bool) -> None:
    bitsandbytes(installed)
    works = {
        (chosen, device.type)
        for chosen in ("fp32", "bf16", "int8", "int4")
        for device in (CPU, CUDA, MPS)
        if precision.refusal(chosen, device) is None
    }
    everywhere = {(chosen, name) for chosen in ("fp32", "bf16") for name in ("cpu", "cuda", "mps")}
    quantised = {("int8", "cuda"), ("int4", "cuda")} if installed else set()
    assert works == everywhere | {("int8", "cpu")} | quantised


@pytest.mark.parametrize(
    ("chosen", "device", "why", "cure"),
    [
        ("int4", CUDA, "needs the package bitsandbytes", r"pip install 'distill-studio\[quant\]'"),
        ("int4", CPU, "int4 works on CUDA only", "Choose int8"),
        ("int8", MPS, "does not work on MPS", "Choose auto, fp32 or bf16"),
    ],
)
def test_a_refusal_says_why_and_what_works(
    bitsandbytes: Any, chosen: str, device: torch.device, why: str, cure: str
) -> None:
    bitsandbytes(False)
    with pytest.raises(ModelError, match=f"{why}.*\n.*{cure}") as caught:
        precision.require(chosen, device, field="stages.1.teacher_precision")
    assert caught.value.field == "stages.1.teacher_precision"
