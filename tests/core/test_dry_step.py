"""A dry step: what it measures, that nothing of it stays, and what the forecast makes of it."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill_core import dry_rows, dry_step, estimate
from distill_core.checks import check_machine
from distill_core.data.formats import Row
from distill_core.data.spooled import Spooled
from distill_core.errors import DataError, OutOfMemory
from distill_core.estimate import dry_process
from distill_core.forward.network import Network
from distill_core.recipe import Recipe, recipe_yaml
from distill_core.recipe.plan import plan

Make = Callable[..., Recipe]


@pytest.fixture
def make(tiny_teacher_dir: Path, tmp_path: Path) -> Make:
    lines = [
        {"prompt": f"turn on light {n}", "response": "on off " * (1 + n % 5)} for n in range(40)
    ]
    lines += [{"prompt": f"dim fan {n}"} for n in range(40)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, lines)))

    def build(*overrides: str) -> Recipe:
        stage = {
            "kind": "distill",
            "teacher": str(tiny_teacher_dir),
            "student": {"init": "layer_drop", "layers": 2},
            "losses": [{"name": "forward_kl"}, {"name": "cross_entropy"}],
            "optim": {"max_steps": 50, "global_batch_size": 8, "micro_batch_size": 4},
        }
        data = {"sources": [{"kind": "file", "path": str(rows)}], "held_out": 0.2}
        plain = {"device": "cpu", "data": data | {"max_seq_len": 64}, "stages": [stage]}
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def files_of(folder: Path) -> dict[str, str]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["stages.0.teacher_cache={kind: hidden}"],
        ["stages.0.adapter={kind: lora}"],
        ["stages.0.optim.loss_chunk_rows=0", "stages.0.optim.micro_batch_size=1"],
    ],
    ids=["plain", "cached", "lora", "one row at once"],
)
def test_every_stage_is_measured_at_two_sizes(
    make: Make, tmp_path: Path, tiny_teacher_dir: Path, changes: list[str]
) -> None:
    before = files_of(tiny_teacher_dir)
    folder = tmp_path / "dry"
    folder.mkdir()
    recipe = make(*changes)
    (found,) = dry_step.measured(recipe, folder)["stages"]
    small, large = found["points"]
    assert 0 < small["tokens"] <= large["tokens"]
    assert large["peak_bytes"] >= found["held_bytes"] > 0
    assert found["tokens_per_s"] > 0
    assert "own_answers_s" not in found
    assert found["micro_batch_size"] == recipe.stages[0].optim.micro_batch_size
    assert files_of(tiny_teacher_dir) == before, "the teacher's weights"
    assert not list(folder.rglob("student/*")), "nothing that was trained is saved"


def test_what_the_student_writes_itself_is_timed_and_forecast(make: Make, tmp_path: Path) -> None:
    recipe = make("stages.0.on_policy_fraction=0.5", "stages.0.student_answers.max_new_tokens=48")
    told = dry_step.measured(recipe, tmp_path / "dry")
    (found,) = told["stages"]
    assert found["own_answers_s"] > 0
    assert 5 < found["own_row_tokens"] < 64

    def forecast(share: float, **changed: float) -> dict[str, Any]:
        dry = told | {"stages": [found | changed]}
        return estimate.estimate(make(f"stages.0.on_policy_fraction={share}"), dry=dry)

    plain, half, always = (forecast(share)["training_s"] for share in (0, 0.5, 1))
    work = estimate.Work(recipe)
    row = found["own_row_tokens"] - work.rows(work.stages[0]).mean
    own = found["own_answers_s"] + 8 * row / found["tokens_per_s"]
    assert always - plain == pytest.approx(50 * own, abs=0.02)
    assert half == pytest.approx((plain + always) / 2, abs=0.02)
    slower = forecast(1, own_answers_s=found["own_answers_s"] + 1)
    assert slower["training_s"] == pytest.approx(always + 50, abs=0.02)
    assert slower["time_s"][0] > forecast(1)["time_s"][0] + 30
    assert slower["memory_bytes"] == forecast(1)["memory_bytes"]


def test_a_stage_that_follows_another_is_measured_with_its_model(
    make: Make, tmp_path: Path, tiny_teacher_dir: Path
) -> None:
    first = {"kind": "fine_tune", "model": str(tiny_teacher_dir), "optim": {"max_steps": 9}}
    second = make().stages[0].model_dump(mode="json") | {"teacher": "previous"}
    second.pop("teachers", None)
    both = make(f"stages={json.dumps([first, second])}")
    told = dry_step.measured(both, tmp_path / "dry")
    assert [one["stage"] for one in told["stages"]] == [0, 1]


def test_memory_that_runs_out_in_it_lowers_the_rows(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Network.forward

    def forward(self: Any, batch: Any, comparison: Any = None) -> Any:
        if len(batch.rows) > 2 and self.training:
            raise MemoryError
        return real(self, batch, comparison)

    monkeypatch.setattr(Network, "forward", forward)
    (found,) = dry_step.measured(make(), tmp_path / "dry")["stages"]
    assert found["micro_batch_size"] == 2


def test_the_longest_rows_and_a_draw_of_the_others_all_with_answers(make: Make) -> None:
    def row(words: int, answered: bool = True) -> Row:
        messages = [{"role": "user", "content": "a " * 10 * words}]
        messages += [{"role": "assistant", "content": "yes"}] if answered else []
        return Row(tuple(messages), None, f"row {words}")  # type: ignore[arg-type]

    rows = [row(n, answered=n % 2 == 0) for n in range(1, 101)]
    chosen = dry_rows.few_rows(rows, plan(make(), labelled=50, unlabelled=50), seed=0)
    assert [one.origin for one in chosen[:8]] == [f"row {n}" for n in range(100, 92, -1)]
    assert len(chosen) == 8 + 8
    assert all(one.response for one in chosen)
    assert dry_rows.few_rows(
        [row(3, answered=False)], plan(make(), labelled=0, unlabelled=1), seed=0
    )


def test_of_many_rows_only_the_chosen_ones_are_kept(make: Make) -> None:
    """Tens of thousands lie on the disk: a list of all would be as large as if they did not."""

    def row(number: int) -> Row:
        content = f"question {number} " + "word " * (number % 50)
        messages = [{"role": "user", "content": content}]
        messages += [{"role": "assistant", "content": f"answer {number}"}] if number % 3 else []
        return Row(tuple(messages), None, f"row {number}")  # type: ignore[arg-type]

    rows = Spooled(map(row, range(20_000)))
    stages = plan(make(), labelled=1, unlabelled=1)
    tracemalloc.start()
    chosen = dry_rows.few_rows(rows, stages, seed=3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # of each row its length and place; the rows themselves take some 10 MB
    assert most < 4e6
    assert chosen == _few_of_a_list(list(rows), seed=3)


def _few_of_a_list(rows: list[Row], *, seed: int) -> list[Row]:
    """The eight longest, eight at random, and answers of anybody: as said, with all in memory."""
    longest = sorted(rows, key=lambda row: -sum(len(one["content"]) for one in row.messages or ()))
    chance = random.Random(seed)
    chosen = [*longest[:8], *chance.sample(rows, 8)]
    answers = [row.response for row in rows if row.response]
    return [
        row
        if row.response
        else replace(
            row,
            messages=(
                *row.prompt_messages,
                {"role": "assistant", "content": chance.choice(answers)},
            ),
        )
        for row in chosen
    ]


# --- in a process of its own ----------------------------------------------------------------------


def test_the_forecast_rests_on_it_until_something_changes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make()
    assert dry_process.remembered(recipe) is None
    told = dry_process.dry_steps(recipe)
    assert dry_process.remembered(recipe) == told
    longer = make("stages.0.optim.max_steps=900", "name=another", "evaluation.rows=7")
    assert dry_process.remembered(longer) == told
    assert dry_process.remembered(make("stages.0.optim.micro_batch_size=2")) is None
    monkeypatch.setattr(estimate.machine, "usable_memory", lambda device: 10**6)
    (problem,) = check_machine.memory(recipe, True)
    gb = sum(estimate.Work(recipe, told).memory().values()) / 1e9
    assert f"About {gb:.1f} GB are needed" in problem.message
    monkeypatch.undo()
    after = estimate.estimate(recipe, dry=told)
    assert after["memory_basis"] == after["time_basis"] == "measured by a dry step"
    assert after["total_memory_bytes"] == sum(after["memory_bytes"].values())
    (stage,) = told["stages"]
    assert after["total_memory_bytes"] >= stage["points"][-1]["peak_bytes"]
    tokens = 50 * 8 * estimate.Work(recipe).rows(estimate.Work(recipe).stages[0]).mean
    assert after["training_s"] == pytest.approx(tokens / stage["tokens_per_s"], abs=0.01)


def test_what_a_step_cannot_be_taken_with_is_told(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_process.machine, "usable_memory", lambda device: 10**6)
    with pytest.raises(OutOfMemory, match=r"with one row at once") as raised:
        dry_process.dry_steps(make())
    assert raised.value.field == "data.max_seq_len"
    hub = ["data.sources=[{kind: hub, id: org/not-here}]", "data.held_out=0.1"]
    monkeypatch.setattr(estimate.Work, "__init__", _unknown_rows)
    with pytest.raises(DataError, match="not on this disk yet"):
        dry_process.dry_steps(make(*hub))


def _unknown_rows(self: Any, recipe: Recipe, dry: Any = None) -> None:
    from distill_core.estimate.row_facts import DataFacts

    self.data = DataFacts(9, 9, 0, 1, known=False)


def test_a_process_that_ends_without_a_word_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended:
        returncode = -9

    monkeypatch.setattr(dry_process.subprocess, "run", lambda *a, **k: Ended())
    with pytest.raises(OutOfMemory, match="ended by the system"):
        dry_process.dry_steps(make("seed=4"))
    Ended.returncode = 1
    with pytest.raises(ValueError, match="broke off"):
        dry_process.dry_steps(make("seed=4"))


# --- what to change ---------------------------------------------------------------------------


def test_changes_that_help_are_told_with_what_they_save(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rows of five lengths, side by side: never as many tokens as of the longest may come together
    large = "stages.0.optim={micro_batch_size: 65536, global_batch_size: 65536}"
    recipe = make(large)
    assert estimate.estimate(recipe)["savings"] == []
    room = estimate.estimate(recipe)["total_memory_bytes"] - 1
    monkeypatch.setattr(estimate.machine, "usable_memory", lambda device: room)
    told = estimate.estimate(recipe)
    assert not told["fits"]
    found = {one["field"]: one for one in told["savings"]}
    halved = found["stages.0.optim.micro_batch_size"]
    fewer = f"stages.0.optim.micro_batch_size={halved['value']}"
    other = estimate.estimate(make(large, fewer))
    saved = told["total_memory_bytes"] - other["total_memory_bytes"]
    assert halved["saves_bytes"] == pytest.approx(saved, abs=2)
    assert saved > told["memory_bytes"]["activations"] / 3
    assert halved["value"] < 32768, "half of what may come together would save nothing"
    assert halved["fits"] == other["fits"]
    sizes = [one["saves_bytes"] for one in told["savings"]]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 2**20
    assert "stages.0.optim.loss_chunk_rows" not in found, "the loss is in chunks already"
