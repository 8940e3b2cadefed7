"""Forecasts: the accounting by part, what moves it, and what it rests on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import device, environment, estimate, models, runs
from distill_core.errors import RecipeError
from distill_core.estimate import memory_need, past_speeds, row_facts, time_need, weights_need
from distill_core.models import model_facts
from distill_core.recipe import LoraSettings, Recipe, recipe_yaml
from distill_core.recipe.plan import plan
from distill_core.runs import status
from distill_core.teachers.loading import Part, load_network

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "matmul_flops_per_s", lambda *a: 1e11)


@pytest.fixture
def make(tiny_teacher_dir: Path, tmp_path: Path) -> Make:
    lines = [{"prompt": f"turn on light {n}", "response": "on off on off"} for n in range(500)]
    lines += [{"prompt": f"dim fan {n}"} for n in range(500)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, lines)))

    def build(*overrides: str, stages: list[dict[str, Any]] | None = None) -> Recipe:
        distill = {
            "kind": "distill",
            "teacher": str(tiny_teacher_dir),
            "student": {"init": "layer_drop", "layers": 2},
            "losses": [{"name": "forward_kl"}, {"name": "cross_entropy"}],
            "optim": {"max_steps": 100},
        }
        plain = {
            "device": "cpu",
            "data": {
                "sources": [{"kind": "file", "path": str(rows)}],
                "held_out": 0.2,
                "max_seq_len": 64,
            },
            "stages": stages or [distill],
        }
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def test_every_part_is_there(make: Make) -> None:
    result = estimate.estimate(make())
    assert set(result) == {
        *("memory_bytes", "total_memory_bytes", "available_memory_bytes", "fits", "time_s"),
        *("time_basis", "steps", "download_bytes", "disk_bytes", "caches"),
        *("memory_basis", "savings", "training_s", "time_parts"),
    }
    assert tuple(result["memory_bytes"]) == memory_need.PARTS
    assert result["total_memory_bytes"] == sum(result["memory_bytes"].values())
    assert result["fits"] is True
    assert result["steps"] == 100
    assert result["download_bytes"] == 0
    assert result["time_basis"] == result["memory_basis"] == "formula"
    assert result["savings"] == []
    assert 0 < result["time_s"][0] < result["time_s"][1]


def test_weights_count_as_the_accounting_says(make: Make, tiny_teacher_dir: Path) -> None:
    teacher = models.facts(str(tiny_teacher_dir))["parameters"]
    student = teacher // 4
    memory = estimate.estimate(make())["memory_bytes"]
    assert memory["teacher"] == 4 * teacher
    assert student < memory["student"] / 8 < teacher  # weights and gradients, fp32
    assert memory["student"] == memory["optimiser"]  # AdamW: 16 bytes a parameter in all
    bf16 = estimate.estimate(make("precision=bf16"))["memory_bytes"]
    assert bf16["student"] + bf16["optimiser"] == memory["student"] * 18 / 8


def test_fine_tuning_has_no_teacher(make: Make, tiny_teacher_dir: Path) -> None:
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    memory = estimate.estimate(make(stages=[stage]))["memory_bytes"]
    assert memory["teacher"] == 0
    assert memory["optimiser"] == 8 * models.facts(str(tiny_teacher_dir))["parameters"]


def test_lora_trains_what_peft_would(make: Make, tiny_teacher_dir: Path) -> None:
    from distill_core.students.adapters import with_adapter

    settings = LoraSettings(rank=3)
    model = models.load_model(tiny_teacher_dir, dtype=torch.float32, device="cpu")
    adapted = with_adapter(model, settings, seed=0)
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    shape = model_facts.config(str(tiny_teacher_dir))
    assert weights_need.trained_parameters(shape, settings) == trained
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir), "adapter": {"kind": "lora"}}
    recipe = make("stages.0.adapter.rank=3", stages=[stage])
    assert estimate.estimate(recipe)["memory_bytes"]["optimiser"] == 8 * trained


def test_rows_beyond_those_in_memory_take_hardly_any(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def context(rows: int) -> int:
        facts = row_facts.DataFacts(rows, rows, 0, 100)
        monkeypatch.setattr(estimate, "data_facts", lambda data, task: facts)
        return int(estimate.estimate(make())["memory_bytes"]["context"])

    few, ten_thousand, million = (context(rows) for rows in (1000, 10_000, 1_000_000))
    assert ten_thousand - few == pytest.approx(7192 * 2500, rel=0.01)
    # `growth.json`: 552.8 and 584.0 MB
    assert million - ten_thousand == pytest.approx(31e6, rel=0.1)


def test_activations_and_loss_grow_with_the_micro_batch(make: Make) -> None:
    def need(size: int) -> dict[str, int]:
        recipe = make(f"stages.0.optim={{micro_batch_size: {size}, global_batch_size: 65536}}")
        return estimate.estimate(recipe)["memory_bytes"]

    small, large = need(1024), need(2048)
    assert large["activations"] == pytest.approx(2 * small["activations"], rel=1e-6)
    assert large["loss"] == small["loss"]  # a chunk of it at a time
    assert large["student"] == small["student"]


def test_more_rows_at_once_than_ever_come_together_need_no_more_memory(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def activations(size: int) -> int:
        sizes = f"{{micro_batch_size: {size}, global_batch_size: 8192}}"
        recipe = make(f"stages.0.optim={sizes}", "device=cpu")
        return int(estimate.estimate(recipe)["memory_bytes"]["activations"])

    told = row_facts.Lengths(1000.0, 2000, 900.0, 100.0, seen=tuple(range(20, 2000)))
    monkeypatch.setattr(estimate, "lengths", lambda data, folder, task: told)
    assert activations(8192) == activations(6144) > 0


def test_every_row_of_the_sample_is_counted_with_its_answer_or_somebody_s(make: Make) -> None:
    recipe = make()
    work = estimate.Work(recipe)
    told = work.rows(work.stages[0])
    assert len(told.seen) > 60
    # half of the rows have no answer: with one of the others' they are as long as those
    assert max(told.seen) <= told.longest
    assert min(told.seen) > told.prompt
    assert sum(told.seen) / len(told.seen) == pytest.approx(told.mean, rel=0.05)


def test_the_loss_counts_the_terms_that_are_asked(make: Make) -> None:
    size = "stages.0.optim={micro_batch_size: 2048, global_batch_size: 2048, loss_chunk_rows: 0}"
    both = estimate.estimate(make(size))["memory_bytes"]["loss"]
    alone = estimate.estimate(make(size, "stages.0.losses=[{name: forward_kl}]"))
    assert alone["memory_bytes"]["loss"] == pytest.approx(both * 28 / 40, rel=1e-6)
    unweighted = estimate.estimate(make(size, "stages.0.losses.1.weight=0"))
    assert unweighted["memory_bytes"]["loss"] == alone["memory_bytes"]["loss"]


def test_a_loss_in_chunks_takes_two_tables_of_a_chunks_rows(
    make: Make, tiny_teacher_dir: Path
) -> None:
    def loss(*sets: str) -> int:
        size = "stages.0.optim.global_batch_size=4096"
        recipe = make(size, "stages.0.optim.micro_batch_size=4096", *sets)
        return estimate.estimate(recipe)["memory_bytes"]["loss"]

    width = model_facts.head_width(model_facts.config(str(tiny_teacher_dir)))
    chunk = "stages.0.optim.loss_chunk_rows"
    assert loss(f"{chunk}=100") == pytest.approx(100 * width * 8 * 1.15, abs=1)
    assert loss() == pytest.approx(512 * width * 8 * 1.15, abs=1)
    assert loss(f"{chunk}=0") > 4 * loss()


def test_the_highest_stage_decides(make: Make, tiny_teacher_dir: Path) -> None:
    first = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    second = {"kind": "distill", "teacher": "previous"}
    second |= {"student": {"init": "layer_drop", "layers": 1}}  # type: ignore[dict-item]
    one = estimate.estimate(make(stages=[first]))["total_memory_bytes"]
    two = estimate.estimate(make(stages=[first, second]))["total_memory_bytes"]
    assert two >= one


def test_more_answers_of_the_teacher_take_longer(make: Make) -> None:
    def slowest(**answers: Any) -> float:
        return estimate.estimate(make(f"stages.0.teacher_answers={json.dumps(answers)}"))["time_s"][
            1
        ]

    base = slowest()
    assert slowest(rows="all") > base
    assert slowest(best_of=4) > slowest(best_of=2) > base
    assert slowest(max_new_tokens=1) < base


@pytest.mark.parametrize("chosen", ["bf16", "int8"])
def test_a_teacher_takes_what_its_number_format_says(
    make: Make, tiny_teacher_dir: Path, chosen: str
) -> None:
    network = load_network(
        [Part(tiny_teacher_dir)], precision=chosen, device=torch.device("cpu"), vocab_size=49
    )
    tensors = [*network.parameters(), *network.buffers()]
    held = sum(value.numel() * value.element_size() for value in tensors)
    recipe = make(f"stages.0.teacher_precision={chosen}")
    assert estimate.estimate(recipe)["memory_bytes"]["teacher"] == pytest.approx(held, rel=0.05)


def test_int4_takes_about_half_a_byte_a_weight() -> None:
    shape = model_facts.config("smollm2-135m-instruct")
    sizes = [
        weights_need.teacher_bytes(shape, chosen, device="cuda")
        for chosen in ("fp32", "bf16", "int8", "int4")
    ]
    assert sizes == sorted(sizes, reverse=True)
    layers = sum(a * b for a, b in model_facts.linear_layers(shape))
    assert sizes[2] - sizes[3] == pytest.approx(layers * (1 - 4.127 / 8), rel=0.02)


def test_several_teachers_take_memory_and_time_together(
    make: Make, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    one = estimate.estimate(make())
    both = f"[{{model: {tiny_teacher_dir}}}, {{model: {tiny_student_dir}}}]"
    two = estimate.estimate(make(f"stages.0.teacher={both}"))
    second = 4 * models.facts(str(tiny_student_dir))["parameters"]
    assert two["memory_bytes"]["teacher"] == one["memory_bytes"]["teacher"] + second
    assert two["time_s"][0] > one["time_s"][0]


def test_an_int8_teacher_is_forecast_to_be_faster_on_a_cpu(make: Make) -> None:
    int8 = estimate.estimate(make("stages.0.teacher_precision=int8"))["time_s"]
    assert int8[0] < estimate.estimate(make())["time_s"][0]


def test_what_does_not_fit_is_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "memory", lambda: (10**8, 10**8))
    result = estimate.estimate(make())
    assert result["available_memory_bytes"] == 10**8
    assert result["fits"] is False


def test_time_grows_with_steps_and_a_larger_teacher(
    make: Make, tmp_path: Path, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    base = estimate.estimate(make())["time_s"]
    longer = estimate.estimate(make("stages.0.optim.max_steps=1000"))["time_s"]
    assert longer[0] > 2 * base[0]
    big = tmp_path / "big"
    tiny_llama(layers=4, hidden_size=512).save_pretrained(big)
    tiny_tokenizer.save_pretrained(big)
    assert estimate.estimate(make(f"stages.0.teacher={big}"))["time_s"][1] > 2 * base[1]


def test_small_micro_batches_take_longer(make: Make) -> None:
    whole = estimate.estimate(make("stages.0.optim.micro_batch_size=32"))["time_s"]
    single = estimate.estimate(make("stages.0.optim.micro_batch_size=1"))["time_s"]
    assert single[0] > 2 * whole[0]


def test_the_teachers_answers_and_the_baseline_take_time(make: Make) -> None:
    base = estimate.estimate(make())["time_s"][1]
    no_unlabelled = estimate.estimate(make("data.sources.0.limit=500"))["time_s"][1]
    assert no_unlabelled < base
    baseline = estimate.estimate(make("evaluation.baselines=[fine_tuned_on_labels]"))
    assert baseline["time_s"][1] > base
    assert baseline["steps"] == 100
    assert baseline["time_parts"] == [
        *("the teacher's answers", "100 steps", "baseline 100 steps", "scoring")
    ]


def test_a_baseline_on_the_teacher_s_text_waits_for_answers_to_all_rows(make: Make) -> None:
    many = "stages.0.teacher_answers={best_of: 8, sampling_temperature: 1}"
    one, both = (
        estimate.estimate(make(f"evaluation.baselines=[{names}]", many))
        for names in ("fine_tuned_on_labels", "fine_tuned_on_teacher_text")
    )
    assert both["time_s"][1] > 1.1 * one["time_s"][1]
    everything = "stages.0.teacher_answers.rows=all"
    one, both = (
        estimate.estimate(make(f"evaluation.baselines=[{names}]", everything))
        for names in ("fine_tuned_on_labels", "fine_tuned_on_teacher_text")
    )
    assert both["time_s"] == pytest.approx(one["time_s"], rel=0.05), "they are there already"


def test_what_the_time_goes_into(make: Make) -> None:
    quiet = estimate.estimate(make("data.sources.0.limit=500", "evaluation.baselines=[]"))
    assert quiet["time_parts"] == ["100 steps", "scoring"]
    two = "evaluation.baselines=[fine_tuned_on_labels, fine_tuned_on_teacher_text]"
    many = estimate.estimate(make(two, "stages.0.teacher_cache={kind: hidden}"))
    assert many["time_parts"] == [
        *("the teacher's answers", "the teacher's cache"),
        *("100 steps", "2 baselines 200 steps", "scoring"),
    ]


def test_steps_follow_from_epochs_and_rows(make: Make, tiny_teacher_dir: Path) -> None:
    labelled = row_facts.data_facts(make().data).labelled
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    recipe = make("stages.0.optim={epochs: 2, global_batch_size: 10}", stages=[stage])
    assert estimate.estimate(recipe)["steps"] == -(-2 * labelled // 10)


def test_unknown_rows_are_assumed_and_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_facts, "_hub_answers", lambda: True)
    hub = make("data.sources.0={kind: hub, id: org/name}", "stages.0.optim={epochs: 1}")
    result = estimate.estimate(hub)
    assert "assumes 10,000 rows" in result["time_basis"]
    assert result["steps"] == -(-10_000 // 32)
    limited = make("data.sources.0={kind: hub, id: org/name, limit: 640}")
    assert "assumes 640 rows" in estimate.estimate(limited)["time_basis"]


def test_a_download_is_counted(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "nothing"))
    stage = {"kind": "fine_tune", "model": "smollm2-135m-instruct"}
    result = estimate.estimate(make(stages=[stage]))
    assert result["download_bytes"] == 92_871_040
    assert result["disk_bytes"] > 134_515_008 * (4 + 3 * 12)


def test_a_wrong_model_is_told_as_a_problem(make: Make) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'pocket-teacher'"):
        estimate.estimate(make("stages.0.teacher=pocket-techer"))


# --- earlier runs --------------------


def _finished_run(recipe: Recipe, folder: Path, *, tokens_per_s: float, state: str) -> None:
    run_dir = runs.create(recipe, folder)
    status.write(run_dir, status.read(run_dir) | {"state": state})
    environment.write(run_dir, environment.computed_on(recipe))
    lines = [
        {"type": "step", "stage": 0, "step": n, "metrics": {"tokens_per_s": tokens_per_s}}
        for n in range(1, 51)
    ]
    (run_dir / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_measured_speed_takes_the_place_of_the_formula(make: Make, tmp_path: Path) -> None:
    recipe = make()
    folder = tmp_path / "runs"
    _finished_run(recipe, folder, tokens_per_s=1000.0, state="finished")
    history = past_speeds.past_speeds(folder)
    assert [item["tokens_per_s"] for item in history] == [1000.0]
    slow = estimate.estimate(recipe, history=history)
    assert slow["time_basis"] == "measured on an earlier run"
    fast = estimate.estimate(recipe, history=[history[0] | {"tokens_per_s": 10_000.0}])
    assert slow["time_s"][0] == pytest.approx(10 * fast["time_s"][0], rel=0.05)
    assert slow["time_s"][1] / slow["time_s"][0] < 2.0


def test_other_shapes_and_unfinished_runs_are_not_compared(make: Make, tmp_path: Path) -> None:
    other = make("stages.0.student.layers=1")
    _finished_run(other, tmp_path / "a", tokens_per_s=1000.0, state="finished")
    history = past_speeds.past_speeds(tmp_path / "a")
    assert estimate.estimate(make(), history=history)["time_basis"] == "formula"
    _finished_run(make(), tmp_path / "b", tokens_per_s=1000.0, state="stopped")
    assert past_speeds.past_speeds(tmp_path / "b") == []
    assert past_speeds.past_speeds(tmp_path / "nowhere") == []


def _keys(recipe: Recipe, device: str = "cpu", precision: str = "fp32") -> list[str]:
    stages = plan(recipe, labelled=9, unlabelled=0)
    return time_need.stage_keys(stages, device=device, precision=precision)


@pytest.mark.parametrize(
    "change",
    [
        "optim.micro_batch_size=2",
        "optim.global_batch_size=64",
        "optim.loss_chunk_rows=0",
        "optim.compile_loss=true",
        "optim.liger_loss=false",
        "losses=[{name: forward_kl}, {name: attention}]",
        "losses=[{name: forward_kl}]",
        "teacher_precision=int8",
        "teacher_cache={kind: hidden}",
        "on_policy_fraction=0.5",
        "adapter={kind: lora}",
    ],
)
def test_speeds_are_compared_only_where_steps_are_alike(make: Make, change: str) -> None:
    assert _keys(make(f"stages.0.{change}")) != _keys(make())


def test_what_leaves_a_step_as_long_is_alike(make: Make) -> None:
    for change in (
        "optim={max_steps: 7, learning_rate: 1.0e-5}",
        "losses=[{name: cross_entropy, weight: 3}, {name: forward_kl, temperature: 2}]",
        "teacher_precision=fp32",
        "student_answers.max_new_tokens=9",
    ):
        assert _keys(make(f"stages.0.{change}")) == _keys(make()), change


def test_a_cpu_s_speed_is_not_told_for_an_accelerator(make: Make) -> None:
    told = {*_keys(make()), *_keys(make(), "cuda"), *_keys(make(), "cpu", "bf16")}
    assert len(told) == 3


def test_what_auto_meant_is_read_from_the_run(make: Make, tmp_path: Path) -> None:
    recipe = make("device=auto")
    folder = tmp_path / "runs"
    _finished_run(recipe, folder, tokens_per_s=1000.0, state="finished")
    (run_dir,) = runs.folders(folder)
    (run_dir / environment.FILE).unlink()
    (unknown,) = past_speeds.past_speeds(folder)
    assert unknown["stage"] not in _keys(recipe)
    past_speeds._speeds.cache_clear()
    environment.write(run_dir, {"device": "cuda", "precision": "bf16"})
    (known,) = past_speeds.past_speeds(folder)
    assert [known["stage"]] == _keys(recipe, "cuda", "bf16")
    assert environment.computed_on(make()) == {"device": "cpu", "precision": "fp32"}


def test_own_answers_in_some_steps_count_in_an_earlier_run_s_speed(
    make: Make, tmp_path: Path
) -> None:
    recipe = make("stages.0.on_policy_fraction=0.25")
    folder = tmp_path / "runs"
    _finished_run(recipe, folder, tokens_per_s=1000.0, state="finished")
    (run_dir,) = runs.folders(folder)
    lines = (run_dir / "events.jsonl").read_text().splitlines()[:48]
    lines[::4] = [line.replace("1000.0", "100.0") for line in lines[::4]]
    (run_dir / "events.jsonl").write_text("\n".join(lines) + "\n")
    (told,) = past_speeds.past_speeds(folder)
    assert told["tokens_per_s"] == pytest.approx(1 / (0.75 / 1000 + 0.25 / 100))


def test_a_stage_that_goes_on_from_another_needs_the_same_one_before(
    make: Make, tiny_teacher_dir: Path, tiny_student_dir: Path, tmp_path: Path
) -> None:
    second = {"kind": "distill", "teacher": "previous"}
    second |= {"student": {"init": "layer_drop", "layers": 1}}  # type: ignore[dict-item]
    large = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    small = {"kind": "fine_tune", "model": str(tiny_student_dir)}
    keys = [_keys(make(stages=[first, second])) for first in (large, small, large)]
    assert keys[0] == keys[2]
    assert keys[0][1] != keys[1][1]


def test_answers_of_the_student_take_time(make: Make) -> None:
    plain = estimate.estimate(make())["time_s"]
    half = estimate.estimate(make("stages.0.on_policy_fraction=0.5"))["time_s"]
    always = estimate.estimate(make("stages.0.on_policy_fraction=1"))["time_s"]
    assert plain[0] < half[0] < always[0]


def test_a_teacher_that_only_writes_is_not_asked_at_every_step(make: Make) -> None:
    text = "{name: cross_entropy, targets: labels_and_teacher_text}"
    both = estimate.estimate(make(f"stages.0.losses=[{{name: forward_kl}}, {text}]"))["time_s"]
    alone = estimate.estimate(make(f"stages.0.losses=[{text}]"))["time_s"]
    assert alone[0] < both[0]
