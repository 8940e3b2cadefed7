"""This machine in facts: device, number format, memory, speed."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from distill_core import device
from distill_core.errors import RecipeError

CPU = torch.device("cpu")


@pytest.fixture
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_facts_have_what_the_sidebar_shows() -> None:
    facts = device.facts()
    assert set(facts) == {
        *(
            "device",
            "name",
            "dtype",
            "fast_bf16",
            "note",
            "cores",
            "memory_total_bytes",
            "memory_free_bytes",
        ),
        *("device_memory_total_bytes", "device_memory_free_bytes"),
    }
    assert facts["device"] in {"cpu", "cuda", "mps"}
    assert facts["dtype"] in {"fp32", "bf16"}
    assert 0 < facts["memory_free_bytes"] <= facts["memory_total_bytes"]
    assert facts["cores"] >= 1


@pytest.mark.usefixtures("_no_accelerator")
def test_auto_is_the_cpu_where_nothing_else_is() -> None:
    assert device.pick_device("auto") == CPU
    assert device.facts()["name"].startswith("CPU · ")
    assert device.device_memory(CPU) == (None, None)


def test_auto_prefers_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick_device("auto").type == "cuda"
    assert device.pick_device("cpu").type == "cpu"


@pytest.mark.usefixtures("_no_accelerator")
@pytest.mark.parametrize("setting", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(setting: str) -> None:
    with pytest.raises(RecipeError, match=f"no {setting} device") as raised:
        device.pick_device(setting)
    assert raised.value.problems[0].field == "device"


def test_a_cpu_computes_in_fp32_unless_told_otherwise() -> None:
    assert device.pick_dtype("auto", CPU) is torch.float32
    assert device.pick_dtype("bf16", CPU) is torch.bfloat16
    assert device.pick_dtype("fp32", torch.device("cuda")) is torch.float32


@pytest.mark.parametrize(("supported", "name"), [(True, "bf16"), (False, "fp32")])
def test_cuda_computes_in_bf16_where_it_is_in_hardware(
    monkeypatch: pytest.MonkeyPatch, supported: bool, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert device.dtype_name(device.pick_dtype("auto", torch.device("cuda"))) == name


def test_memory_on_a_cpu_is_what_is_resident() -> None:
    before = device.memory_bytes(CPU)
    held = torch.ones(40_000_000)  # 160 MB
    grown = device.memory_bytes(CPU) - before
    assert grown > 100_000_000
    assert device.memory_bytes(CPU) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    del held


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    whole = device.memory()
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert device.memory() == (1_000_000, 400_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert device.memory()[0] == whole[0]


def test_the_speed_is_measured_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([1e12, 2e12])
    clock = [100.0]
    monkeypatch.setattr(device, "_speeds", {})
    monkeypatch.setattr(device, "_measure", lambda *a: next(results))
    monkeypatch.setattr(device.time, "monotonic", lambda: clock[0])
    assert device.matmul_flops_per_s(CPU, torch.float32) == 1e12
    assert device.matmul_flops_per_s(CPU, torch.float32) == 1e12
    clock[0] += 61
    assert device.matmul_flops_per_s(CPU, torch.float32) == 2e12


def test_measuring_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert device._measure(CPU, torch.float32) > 1e8
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
