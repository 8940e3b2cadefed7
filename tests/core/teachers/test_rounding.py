"""What a smaller number format changes: measured once, against fp32, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_core import device as machine
from distill_core.data.batches import collate
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.teachers import rounding
from distill_core.teachers.int8 import with_int8_layers
from distill_core.teachers.local import LocalTeacher

CPU = torch.device("cpu")
ITEMS = [
    Encoded([5, 6, 7, 8], [IGNORE_INDEX, IGNORE_INDEX, 7, 8], True, False),
    Encoded([9, 10, 11, 12, 13, 14], [IGNORE_INDEX] * 3 + [12, 13, 14], True, False),
]


@pytest.fixture
def load(tiny_llama: Callable[..., Any]) -> Any:
    loaded: list[str] = []

    def one(precision: str, device: torch.device) -> LocalTeacher:
        loaded.append(precision)
        model = tiny_llama(layers=3, seed=1)
        if precision == "int8":
            model = with_int8_layers(model)
        return LocalTeacher(model, vocab_size=60, stop_ids={2})

    one.loaded = loaded  # type: ignore[attr-defined]
    return one


def measure(load: Any, folder: Path, **more: Any) -> rounding.Rounding:
    settings: dict[str, Any] = {
        "precision": "int8",
        "device": CPU,
        "fingerprint": "abc@int8",
        "parameters": 1000,
        "items": ITEMS,
        "pad_token_id": 0,
        "folder": folder,
    }
    return rounding.measured(load, **(settings | more))


def test_it_is_the_kl_of_both_distributions(load: Any, tmp_path: Path) -> None:
    found = measure(load, tmp_path)
    both = []
    for precision in ("fp32", "int8"):
        batch = collate(ITEMS, pad_token_id=0, rows=[0, 1])
        logits = load(precision, CPU).logits(batch).double().numpy()
        shares = np.exp(logits - logits.max(1, keepdims=True))
        both.append(shares / shares.sum(1, keepdims=True))
    p, q = both
    assert len(p) == 5, "supervised positions"
    assert found.kl_to_fp32 == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-3)
    assert found.kl_to_fp32 is not None
    assert found.kl_to_fp32 > 1e-7
    assert found.same_top1 == np.mean(p.argmax(1) == q.argmax(1))
    assert found.rows == 2
    assert f"{found.kl_to_fp32:.2g} nats a token" in found.facts["words"]


def test_it_is_measured_once(load: Any, tmp_path: Path) -> None:
    first = measure(load, tmp_path)
    assert load.loaded == ["fp32", "int8"]
    assert measure(load, tmp_path) == first
    assert len(load.loaded) == 2
    for other in ({"fingerprint": "other@int8"}, {"items": ITEMS[:1]}):
        measure(load, tmp_path, **other)
    assert len(load.loaded) == 6


def test_where_fp32_has_no_room_nothing_is_loaded(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_memory", lambda device: 7999)
    found = measure(load, tmp_path)
    assert (found.kl_to_fp32, load.loaded) == (None, [])
    assert "no room" in found.facts["words"]


def test_the_exact_teacher_goes_to_the_cpu_where_the_device_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"cuda": 7999, "cpu": 8000}
    monkeypatch.setattr(machine, "usable_memory", lambda device: free[device.type])
    assert rounding._room(torch.device("cuda"), 4000) == CPU
    free["cuda"] = 8000
    assert rounding._room(torch.device("cuda"), 4000) == torch.device("cuda")


def test_only_so_many_logits_are_compared(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(load, tmp_path / "whole", items=ITEMS[:1])
    monkeypatch.setattr(rounding, "_POSITIONS", 2)
    cut = measure(load, tmp_path / "cut")
    assert cut.kl_to_fp32 == whole.kl_to_fp32, "the first row has two supervised positions"
