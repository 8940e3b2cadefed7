"""Models between prompts: each once, however many runs name it, and anew when its file changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.comparing import kept_models
from distill_core.comparing.lineup import Member
from distill_core.recipe import LayerDropStudent

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    kept_models.forget()
    yield
    kept_models.forget()


def held(run: Path, source: Path, **fields: Any) -> Any:
    member = Member(**{"key": "teacher", "title": "teacher", "source": str(source), **fields})
    return kept_models.load(run, member, device=CPU)


def test_runs_with_one_teacher_share_it(tmp_path: Path, tiny_teacher_dir: Path) -> None:
    first = held(tmp_path / "one", tiny_teacher_dir)
    second = held(tmp_path / "two", tiny_teacher_dir, key="original", title="original model")
    assert second.model is first.model
    assert (first.member.key, second.member.key) == ("teacher", "original")


def test_what_is_made_of_the_same_file_differently_is_another_model(
    tmp_path: Path, tiny_teacher_dir: Path
) -> None:
    plain = held(tmp_path, tiny_teacher_dir)
    one, two, like_two = (
        held(tmp_path, tiny_teacher_dir, build=LayerDropStudent(layers=layers), seed=seed)
        for layers, seed in ((1, 0), (2, 0), (2, 0))
    )
    assert len({id(each.model) for each in (plain, one, two)}) == 3
    assert like_two.model is two.model
    assert held(tmp_path, tiny_teacher_dir, precision="bf16").model is not plain.model


def test_new_weights_in_the_same_place_are_read(tmp_path: Path, tiny_teacher_dir: Path) -> None:
    before = held(tmp_path, tiny_teacher_dir)
    file = tiny_teacher_dir / "model.safetensors"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert held(tmp_path, tiny_teacher_dir).model is not before.model


def test_the_longest_unused_is_let_go(tmp_path: Path, tiny_teacher_dir: Path) -> None:
    folders = [
        Path(shutil.copytree(tiny_teacher_dir, tmp_path / str(number)))
        for number in range(kept_models.MOST + 1)
    ]
    models = [held(tmp_path, folder).model for folder in folders[:-1]]
    assert held(tmp_path, folders[0]).model is models[0]
    held(tmp_path, folders[-1])
    assert held(tmp_path, folders[0]).model is models[0]
    assert held(tmp_path, folders[1]).model is not models[1]
