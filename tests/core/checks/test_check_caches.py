"""Each rule about teacher caches: a recipe that triggers it, and one that does not."""

from __future__ import annotations

import copy
import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core import checks, estimate
from distill_core.errors import Problem
from distill_core.recipe import Recipe, recipe_yaml

Make = Callable[..., Recipe]
HIDDEN = "stages.0.teacher_cache={kind: hidden}"
TOP_K = "stages.0.teacher_cache={kind: top_k, k: 9}"
DRAWN = "stages.0.teacher_cache={kind: sampled}"


@pytest.fixture
def make(tiny_teacher_dir: Path, tmp_path: Path) -> Make:
    rows = tmp_path / "rows.jsonl"
    letters = [chr(97 + n) for n in range(26)]
    prompts = [f"turn {one} {other}" for one in letters for other in letters]
    lines = [{"prompt": prompt, "response": "on off"} for prompt in prompts]
    rows.write_text("\n".join(map(json.dumps, lines)))

    def build(*overrides: str, **more: Any) -> Recipe:
        stage = {
            "kind": "distill",
            "teacher": str(tiny_teacher_dir),
            "student": {"init": "layer_drop", "layers": 2},
            "losses": [{"name": "forward_kl", "weight": 0.9}, {"name": "cross_entropy"}],
            "optim": {"epochs": 2},
        }
        data = {
            "sources": [{"kind": "file", "path": str(rows)}],
            "held_out": 0.4,
            "max_seq_len": 64,
        }
        plain = {"data": data, "stages": [stage | more]}
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def errors(recipe: Recipe, severity: str = "error") -> list[Problem]:
    return [problem for problem in checks.check(recipe) if problem.severity == severity]


def one(recipe: Recipe, field: str, severity: str = "error") -> Problem:
    found = [problem for problem in errors(recipe, severity) if problem.field == field]
    assert len(found) == 1, [str(problem) for problem in checks.check(recipe)]
    assert found[0].fix
    return found[0]


@pytest.mark.parametrize("cache", [HIDDEN, TOP_K, DRAWN])
def test_a_cache_for_what_it_serves_is_no_problem(make: Make, cache: str) -> None:
    assert not errors(make(cache))
    two = ("{name: forward_kl, temperature: 2}", "{name: skewed_forward_kl, temperature: 2}")
    skewed = f"stages.0.losses=[{', '.join(two)}]"
    assert not errors(make(cache, skewed))


@pytest.mark.parametrize(
    "name", ["reverse_kl", "jsd", "skewed_reverse_kl", "total_variation", "cross_tokenizer"]
)
def test_terms_that_need_the_whole_distribution_say_the_way_out(make: Make, name: str) -> None:
    losses = f"stages.0.losses=[{{name: forward_kl}}, {{name: {name}}}]"
    for cache, kind in ((TOP_K, "top_k"), (DRAWN, "sampled")):
        problem = one(make(cache, losses), "stages.0.losses.1")
        assert f"{name} needs the teacher's whole distribution" in problem.message
        assert f"kind {kind}" in problem.message
        assert "hidden" in problem.fix
        assert not errors(make(cache, losses.replace("}, {", "}, {weight: 0, ", 1)))
    assert not any("distribution" in problem.message for problem in errors(make(HIDDEN, losses)))


@pytest.mark.parametrize("cache", [HIDDEN, TOP_K, DRAWN])
@pytest.mark.parametrize("name", ["hidden_states", "attention"])
def test_terms_that_look_inside_are_refused(make: Make, cache: str, name: str) -> None:
    losses = f"stages.0.losses=[{{name: forward_kl}}, {{name: {name}}}]"
    assert "keeps none of it" in one(make(cache, losses), "stages.0.losses.1").message
    assert not errors(make(losses))


@pytest.mark.parametrize("cache", [HIDDEN, TOP_K, DRAWN])
def test_what_the_student_writes_cannot_be_asked_before(make: Make, cache: str) -> None:
    own = "stages.0.on_policy_fraction=0.25"
    assert "0.25" in one(make(cache, own), "stages.0.teacher_cache").message
    assert not errors(make(own))


@pytest.mark.parametrize("cache", [TOP_K, DRAWN])
def test_some_of_the_tokens_serve_one_temperature(make: Make, cache: str) -> None:
    moving = "stages.0.losses=[{name: forward_kl, temperature: {start: 2, end: 1}}]"
    found = one(make(cache, moving), "stages.0.losses.0.temperature")
    assert "a temperature that moves" in found.message
    two = "stages.0.losses=[{name: forward_kl}, {name: skewed_forward_kl, temperature: 2}]"
    assert "temperatures 1 and 2" in one(make(cache, two), "stages.0.losses.1.temperature").message
    assert not errors(make(HIDDEN, moving))
    assert not errors(make(HIDDEN, two))


def test_k_that_is_the_whole_vocabulary_warns(make: Make, tiny_tokenizer: Any) -> None:
    whole = f"stages.0.teacher_cache={{kind: top_k, k: {len(tiny_tokenizer)}}}"
    assert "is all of" in one(make(whole), "stages.0.teacher_cache.k", "warning").message
    assert not errors(make(TOP_K), "warning")


def test_tokens_that_the_student_lacks_are_not_kept(
    make: Make, tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, tiny_student_dir: Path
) -> None:
    wider = copy.deepcopy(tiny_tokenizer)
    wider.add_tokens(["<more>", "<still more>"])
    tiny_llama(seed=3).save_pretrained(tmp_path / "wide")
    wider.save_pretrained(tmp_path / "wide")
    pair = {
        "teacher": str(tmp_path / "wide"),
        "student": {"init": "pretrained", "model": str(tiny_student_dir)},
    }
    found = one(make(TOP_K, **pair), "stages.0.teacher_cache.kind")
    assert f"{len(wider)} tokens and the student {len(tiny_tokenizer)}" in found.message
    assert not errors(make(HIDDEN, **pair))


def test_a_cache_that_nobody_reads_warns(make: Make) -> None:
    alone = "stages.0.losses=[{name: cross_entropy, targets: labels_and_teacher_text}]"
    assert "are not kept" in one(make(HIDDEN, alone), "stages.0.teacher_cache", "warning").message


def test_classes_are_kept_whole() -> None:
    data = {"sources": [{"kind": "file", "path": "none.jsonl"}], "held_out": 0.2}
    stage = {
        "kind": "distill",
        "teacher": "minilm-l6",
        "student": {"init": "layer_drop", "layers": 2},
        "teacher_cache": {"kind": "top_k"},
    }
    plain = {"task": "text_classification", "data": data, "stages": [stage]}
    found = one(recipe_yaml.parse(plain), "stages.0.teacher_cache.kind")
    assert "a few classes" in found.message


def test_a_disk_without_room_is_told_at_the_cache(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = make("stages.0.teacher_cache={kind: hidden, precision: fp32}")
    need = estimate.estimate(cached)["disk_bytes"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, need))
    assert not errors(cached)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, need - 1))
    # of tiny models the checkpoints take more than the cache
    assert one(cached, "checkpoints.keep")
    monkeypatch.setattr("distill_core.estimate.cache_need._BYTES_PER_ROW", 100_000)
    assert "The teacher cache takes up to" in one(cached, "stages.0.teacher_cache").message


def test_the_forecast_says_bytes_of_a_token_and_of_all(make: Make) -> None:
    def told(*overrides: str) -> dict[str, Any]:
        (found,) = estimate.estimate(make(*overrides))["caches"]
        return dict(found)

    assert estimate.estimate(make())["caches"] == []
    hidden, top_k, drawn = told(HIDDEN), told(TOP_K), told(DRAWN)
    assert hidden["bytes_per_token"] == 2 * 32
    assert told("stages.0.teacher_cache={kind: hidden, precision: fp32}")["bytes_per_token"] == 128
    assert top_k["bytes_per_token"] == 9 * 4 + 4
    assert drawn["bytes_per_token"] == 50 * 6 + 2
    assert (hidden["at_most"], drawn["at_most"]) == (False, True)
    few = told(HIDDEN, "stages.0.optim.max_steps=2")
    assert few["tokens"] == pytest.approx(hidden["tokens"] * 64 / 405, rel=0.1)
    assert hidden["bytes"] > hidden["tokens"] * hidden["bytes_per_token"]


def test_the_forecast_is_what_is_written(make: Make, tmp_path: Path) -> None:
    from distill_core import pipeline

    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    few = ("stages.0.optim.max_steps=8", "evaluation={rows: 2, samples: 0, final_rows: 2}")
    recipe = make(HIDDEN, *few)
    (told,) = estimate.estimate(recipe)["caches"]
    events = list(pipeline.run(recipe, folder))
    (found,) = [event["cache"] for event in events if event["type"] == "rows_ready"]
    assert found["tokens"] == pytest.approx(told["tokens"], rel=0.05)
    assert found["bytes"] == pytest.approx(told["bytes"], rel=0.25)


def test_without_the_teacher_training_needs_less_memory_and_time(make: Make) -> None:
    online, cached = (estimate.estimate(make(*more)) for more in ((), (HIDDEN,)))
    assert cached["memory_bytes"]["teacher"] <= online["memory_bytes"]["teacher"]
    assert cached["time_s"][0] < online["time_s"][0]
