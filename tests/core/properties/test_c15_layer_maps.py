"""C15, layer maps: the last layer with the last, following the student; projectors train and stay.

Attention terms force an attention that returns its weights; the map is told in words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from distill_core import pipeline
from distill_core.recipe import AttentionLoss, HiddenStatesLoss, recipe_yaml
from distill_core.students.layer_map import layer_pairs, pair_words
from distill_core.trainer import train
from tests.core.nets import tiny_llama
from tests.core.ways import INSIDE, WAYS, case, one_teacher, stage_of

SEEN_INSIDE = [name for name, way in WAYS.items() if not way.refuses & INSIDE]

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 6, [(1, 2), (2, 4), (3, 6)]),
        (3, 5, [(1, 2), (2, 3), (3, 5)]),
        (2, 2, [(1, 1), (2, 2)]),
        (1, 30, [(1, 30)]),
    ],
)
def test_evenly_spaced_and_the_last_with_the_last(
    student: int, teacher: int, expected: list[tuple[int, int]]
) -> None:
    assert layer_pairs(student, teacher) == expected
    assert layer_pairs(student, teacher, layers="last") == [(student, teacher)]


@pytest.mark.parametrize("student", range(1, 13))
def test_the_last_learns_from_the_last_at_every_depth(student: int) -> None:
    for teacher in range(student, 40):
        pairs = layer_pairs(student, teacher)
        assert [ours for ours, _ in pairs] == list(range(1, student + 1))
        assert pairs[-1] == (student, teacher)
        theirs = [layer for _, layer in pairs]
        assert theirs == sorted(theirs)
        assert theirs[0] >= 1


def test_it_follows_the_layers_that_were_copied() -> None:
    assert layer_pairs(3, 30, kept=[0, 1, 2]) == [(1, 1), (2, 2), (3, 30)]
    assert layer_pairs(3, 30, kept=[0, 14, 29]) == [(1, 1), (2, 15), (3, 30)]


def test_it_is_told_in_words() -> None:
    words = "student layer 1 learns from teacher layer 2, 2 from 4, 3 from 6"
    assert pair_words(layer_pairs(3, 6)) == words


def go(folder: Path, teacher: Path, student: dict[str, Any], losses: list[Any]) -> list[Any]:
    rows = folder / "rows.jsonl"
    lines = [{"prompt": f"turn {chr(97 + n)}", "response": "on"} for n in range(12)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    made = recipe_yaml.parse(
        {
            "device": "cpu",
            "data": {"sources": [{"kind": "file", "path": str(rows)}], "held_out": 0.4},
            "stages": [
                {
                    "kind": "distill",
                    "teacher": str(teacher),
                    "student": student,
                    "losses": losses,
                    "optim": {"max_steps": 2, "global_batch_size": 4, "learning_rate": 1e-2},
                }
            ],
            "evaluation": {"rows": 1, "samples": 0, "final_rows": 1, "max_new_tokens": 1},
        }
    )
    run_dir = folder / "run"
    run_dir.mkdir()
    return list(pipeline.run(made, run_dir))


@pytest.mark.parametrize(
    ("student", "words"),
    [
        (
            {"init": "layer_drop", "keep_layers": [1, 3]},
            "student layer 1 learns from teacher layer 1, 2 from 4",
        ),
        (
            {"init": "layer_drop", "layers": 3, "keep": "first_and_last"},
            "student layer 1 learns from teacher layer 1, 2 from 2, 3 from 4",
        ),
        (
            {"init": "scratch", "layers": 2, "hidden_size": 16, "attention_heads": 4},
            "student layer 1 learns from teacher layer 2, 2 from 4",
        ),
    ],
)
def test_a_run_says_its_map_and_saves_no_projector(
    tmp_path: Path, tiny_teacher_dir: Path, student: dict[str, Any], words: str
) -> None:
    losses = [{"name": "hidden_states"}, {"name": "attention", "layers": "all"}]
    events = go(tmp_path, tiny_teacher_dir, student, losses)
    started = next(event for event in events if event["type"] == "stage_started")
    assert started["layer_map"] == {"hidden_states": words, "attention": words}
    with safe_open(tmp_path / "run" / "student" / "model.safetensors", "pt") as saved:
        names = list(saved.keys())
    assert names
    assert not [name for name in names if "projector" in name]
    config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
    assert config["num_hidden_layers"] == started["layer_map"]["attention"].count(" from ")


@pytest.mark.parametrize("way", SEEN_INSIDE)
def test_projectors_train_beside_the_student_on_every_way(tmp_path: Path, way: str) -> None:
    """A narrower student: each compared layer has a map to the teacher's width, which moves."""
    teacher = WAYS[way].teacher()
    made = stage_of(
        tmp_path,
        tiny_llama(hidden_size=16),
        teacher,
        [HiddenStatesLoss(layers="all")],
        steps=3,
        ids=WAYS[way].ids,
        micro_batch_size=WAYS[way].micro_batch_size,
    )
    projectors = made.objective.matching.projectors
    assert sorted(projectors) == ["1", "2"]
    before = {name: value.clone() for name, value in projectors.state_dict().items()}
    losses = [e["metrics"]["loss"] for e in train(made) if e["type"] == "step"]
    assert losses[-1] < losses[0]
    for name, value in projectors.state_dict().items():
        assert value.shape == (32, 16)
        assert not torch.equal(value, before[name])
    assert not any("projector" in name for name in made.student.state_dict())


def test_projectors_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    """Stopped after two of four steps and gone on with, they end where the others do."""

    def make(name: str) -> Any:
        student = tiny_llama(hidden_size=16)
        return stage_of(tmp_path / name, student, one_teacher(), [HiddenStatesLoss()], steps=4)

    whole, first, second = make("whole"), make("cut"), make("cut")
    list(train(whole))
    wishes = iter([None, "stop"])
    list(train(first, should_stop=lambda: next(wishes)))
    started = first.objective.matching.projectors["1"].weight.clone()
    list(train(second))
    ends = [made.objective.matching.projectors.state_dict() for made in (whole, second)]
    assert not torch.equal(started, ends[0]["1.weight"])
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize("way", SEEN_INSIDE)
def test_attention_terms_get_weights_on_every_way(tmp_path: Path, way: str) -> None:
    made = case(tmp_path, way, [AttentionLoss(layers="all")])
    teacher: Any = made.stage.teacher
    gradient, metrics = made.step()
    student = made.stage.student
    base = student.get_base_model() if hasattr(student, "get_base_model") else student
    for model in (base, teacher.model):
        assert model.config._attn_implementation == "eager"
    assert metrics["attention"] > 0
    queries = [value for name, value in gradient.items() if "q_proj" in name]
    assert queries
    assert any(value.abs().sum() > 0 for value in queries)
