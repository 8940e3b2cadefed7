"""What tests of the harness share: lm-eval or a reason to skip, a cache of their own, a run.

In: tiny models. Out: fixtures.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_core import runs
from distill_core.comparing import lineup
from distill_core.recipe import LayerDropStudent, recipe_yaml
from tests.core.harness.local_tasks import write_tasks


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Skip without lm-eval; keep the rows of tests out of the user's cache."""
    pytest.importorskip(
        "lm_eval", reason="lm-eval is not installed: pip install 'distill-studio[lm-eval]'"
    )
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    return


@pytest.fixture
def tasks_dir(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


@pytest.fixture
def make_run(tmp_path: Path, tiny_teacher_dir: Path, tiny_student_dir: Path) -> Callable[..., Path]:
    """Make the folder of a run that has ended, as the pipeline leaves it."""

    def make(**teacher: Any) -> Path:
        recipe = recipe_yaml.parse(
            {
                "name": "tiny",
                "device": "cpu",
                "data": {"sources": [{"kind": "file", "path": str(tmp_path / "rows.jsonl")}]},
                "stages": [
                    {
                        "kind": "distill",
                        "teacher": str(tiny_teacher_dir),
                        "student": {"init": "layer_drop", "layers": 2},
                    }
                ],
            }
        )
        run_dir = runs.create(recipe, tmp_path / "runs", state="finished")
        shutil.copytree(tiny_student_dir, run_dir / "student")
        source, build = str(tiny_teacher_dir), LayerDropStudent(layers=2)
        members = [
            lineup.Member(key="teacher", title="teacher", source=source, **teacher),
            lineup.Member(key="student", title="student", source="student"),
            lineup.Member(
                key="untrained_student", title="untrained student", source=source, build=build
            ),
        ]
        lineup.write(run_dir, members)
        return run_dir

    return make
