"""A loss that nothing can compile and a run without end: told at their fields, before the start."""

from __future__ import annotations

import re
from typing import Any

import pytest

from distill_core.checks import check_machine
from distill_core.recipe import Recipe

RECIPE: dict[str, Any] = {
    "device": "cpu",
    "data": {"sources": [{"kind": "starter", "limit": 4}]},
    "stages": [{"kind": "fine_tune", "model": "pocket-teacher", "optim": {"compile_loss": True}}],
}


def problems(**optim: Any) -> list[Any]:
    stage = RECIPE["stages"][0]
    recipe = RECIPE | {"stages": [stage | {"optim": {"compile_loss": True} | optim}]}
    return list(check_machine.compiled_loss(Recipe.model_validate(recipe), True))


def test_no_compiler_is_told_at_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_machine.shutil, "which", lambda name: None)
    (problem,) = problems()
    assert problem.severity == "error"
    assert problem.field == "stages.0.optim.compile_loss"
    assert "C++ compiler" in problem.message
    assert "compile_loss to false" in problem.fix
    assert problems(compile_loss=False) == []


def test_without_chunks_there_is_nothing_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_machine, "_no_compiler", lambda device: "")
    (problem,) = problems(loss_chunk_rows=0)
    assert "loss_chunk_rows is 0" in problem.message
    assert problems(loss_chunk_rows=7) == []


@pytest.mark.parametrize(("device", "word"), [("cuda", "triton"), ("mps", "mps")])
def test_other_devices_name_what_they_lack(
    device: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_machine, "find_spec", lambda name: None)
    assert word in check_machine._no_compiler(device)


def test_a_run_of_more_than_a_week_is_questioned() -> None:
    def found(steps: int) -> list[Any]:
        stage = RECIPE["stages"][0] | {"optim": {"max_steps": steps}}
        recipe = Recipe.model_validate(RECIPE | {"stages": [stage]})
        return list(check_machine.duration(recipe, True))

    (problem,) = found(1_000_000_000_000)
    assert problem.severity == "warning"
    assert problem.field == "stages.0.optim.max_steps"
    assert re.search(r"at least [\d,]{7,} days: 1,000,000,000,000 steps", problem.message)
    assert found(20) == []
