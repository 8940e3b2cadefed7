"""What the advisor writes for the starter runs to its end, verdict by verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core import api
from tests.benchmarks import advised_recipes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("verdict", advised_recipes.CASES)
def test_the_recipe_of_a_verdict_runs_to_its_end(verdict: str, tmp_path: Path) -> None:
    _, end = advised_recipes.outcome("starter", verdict, tmp_path, 4)
    assert end == "run_finished"
    (run,) = api.runs(tmp_path / "runs")
    models = api.evaluate(run["run"], runs_dir=tmp_path / "runs")["models"]
    assert models["student"]["parameters"] > 0
