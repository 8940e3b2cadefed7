"""Models between prompts: each once, however many runs name it, and anew when its file changes."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from distill_core.comparing import kept_models
from distill_core.comparing.lineup import Member, Share
from distill_core.models.weights import weight_files
from distill_core.recipe import LayerDropStudent, PretrainedStudent

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
    models = [weakref.ref(held(tmp_path, folder).model) for folder in folders[:-1]]
    assert held(tmp_path, folders[0]).model is models[0]()
    held(tmp_path, folders[-1])
    assert held(tmp_path, folders[0]).model is models[0]()
    gc.collect()
    assert models[1]() is None
    assert all(model() is not None for model in models[2:])


def test_shards_configuration_and_tokenizer_count_too(
    tmp_path: Path, tiny_teacher_dir: Path
) -> None:
    folder = Path(shutil.copytree(tiny_teacher_dir, tmp_path / "shards"))
    network = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    network.save_pretrained(folder, max_shard_size="20KB")
    assert len(weight_files(folder)) > 1
    before = held(tmp_path, folder).model
    assert held(tmp_path, folder).model is before
    with torch.no_grad():
        network.model.norm.weight.mul_(3)
    network.save_pretrained(folder, max_shard_size="20KB")
    after = held(tmp_path, folder).model
    assert torch.equal(after.model.norm.weight, network.model.norm.weight)
    for name in ("config.json", "tokenizer.json"):
        known = held(tmp_path, folder).model
        os.utime(folder / name, ns=(0, (folder / name).stat().st_mtime_ns + 1))
        assert held(tmp_path, folder).model is not known, name


def test_new_weights_of_a_published_student_are_read(
    tmp_path: Path, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    build = PretrainedStudent(model=str(tiny_student_dir))
    before = held(tmp_path, tiny_teacher_dir, build=build).model
    assert held(tmp_path, tiny_teacher_dir, build=build).model is before
    file = tiny_student_dir / "model.safetensors"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert held(tmp_path, tiny_teacher_dir, build=build).model is not before


@pytest.mark.parametrize("mixture_first", [True, False])
def test_a_mixture_and_each_of_its_teachers_hold_the_weights_once(
    tmp_path: Path, tiny_teacher_dir: Path, tiny_student_dir: Path, mixture_first: bool
) -> None:
    sources = [str(tiny_teacher_dir), str(tiny_student_dir)]
    shares = [Share(source=source, weight=0.5) for source in sources]

    def load(together: bool) -> list[Any]:
        if together:
            return list(held(tmp_path, tiny_teacher_dir, mixture=shares).model.members)
        names = {"key": "teacher_1", "title": "teacher 1"}
        return [held(tmp_path, Path(source), **names).model for source in sources]

    first, second = load(mixture_first), load(not mixture_first)
    assert all(one is other for one, other in zip(first, second, strict=True))
    other = held(tmp_path, tiny_teacher_dir, precision="bf16").model
    assert other is not first[0]
