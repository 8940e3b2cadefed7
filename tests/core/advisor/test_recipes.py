"""Recipes that the advisor writes: what they say, that they pass the check, and that they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_core import api, models
from distill_core.advisor import advise, default_answers
from distill_core.advisor.advisor_here import advise_here
from distill_core.advisor.evidence import load
from distill_core.advisor.stand_ins import STAND_IN
from distill_core.advisor.student_sizes import Known
from distill_core.recipe import ready_recipes, recipe_yaml

START = load().recipe
STARTER = default_answers(
    {"device": "cpu", "dtype": "fp32", "memory_total_bytes": 16 * 2**30, "name": "CPU"}
)
LABELS = {
    **STARTER,
    "data.source": "rows.jsonl",
    "data.labelled_rows": 20_000,
    "data.label_quality": "clean",
    "teacher.exists": "no",
    "teacher.name": "unknown",
    "student.published_checkpoint": "yes",
}
SMOLLM2 = "smollm2-135m-instruct"


def recipe_for(verdict: str, **changes: Any) -> dict[str, Any]:
    told = advise({**STARTER, **changes})
    assert told["verdict"] == verdict, told["votes"]
    return told["recipe"]


def errors(recipe: dict[str, Any]) -> list[Any]:
    return [one for one in api.check(recipe_yaml.parse(recipe)) if one.severity == "error"]


# --- what they say ----------------------------------------------------------------------------


def test_fine_tuning_the_starter_trains_the_same_student_on_labels_alone() -> None:
    recipe = recipe_for("fine_tune", **{"data.labelled_rows": 5000, "data.label_quality": "clean"})
    (stage,) = recipe["stages"]
    assert stage["kind"] == "fine_tune"
    ready = api.load_recipe("pocket_student").stages[0].student
    assert stage["student"] == ready.model_dump(mode="json", exclude_none=True)
    assert [source["split"] for source in recipe["data"]["sources"]] == ["labelled", "unlabelled"]


def test_one_stage_and_two_stages() -> None:
    shared = {"data.source": "rows.jsonl", "teacher.name": "org/big", "goal": "both"}
    both = recipe_for(
        "distill_then_fine_tune",
        **shared,
        **{"data.labelled_rows": 3000, "data.label_quality": "clean"},
        **{"data.unlabelled_rows": 40_000, "constraints.budget_gpu_hours": 100},
    )
    assert [stage["kind"] for stage in both["stages"]] == ["distill", "fine_tune"]
    assert both["stages"][1]["model"] == "previous"
    assert both["stages"][0]["losses"][1] == {"name": "cross_entropy", "weight": 0.3}
    weak = recipe_for(
        "fine_tune_then_distill",
        **shared,
        **{"teacher.good_at_task": "no", "teacher.serves_several_students": "yes"},
        **{"data.labelled_rows": 1500, "data.label_quality": "clean"},
    )
    assert [stage["kind"] for stage in weak["stages"]] == ["fine_tune", "distill"]
    assert weak["stages"][0]["model"] == "org/big"
    assert weak["stages"][1]["teacher"] == "previous"


def test_a_wide_gap_gets_a_student_in_between() -> None:
    recipe = recipe_for(
        "progressive_distill",
        **{"data.source": "rows.jsonl", "teacher.name": "org/big", "teacher.parameters": 7e10},
        **{"student.max_parameters": 1e9, "machine.memory_gib": 200},
        **{"constraints.budget_gpu_hours": 1000},
    )
    first, second = recipe["stages"]
    assert second["teacher"] == "previous"
    assert first["student"]["layers"] > second["student"]["layers"]
    assert first["student"]["hidden_size"] > second["student"]["hidden_size"]


def test_lora_gets_an_adapter_and_ten_times_the_learning_rate() -> None:
    told = advise({**LABELS, "student.max_parameters": 3e9})
    plain = advise({**LABELS, "student.max_parameters": 1e8})
    assert (told["verdict"], plain["verdict"]) == ("lora_fine_tune", "fine_tune")
    (lora,), (full,) = told["recipe"]["stages"], plain["recipe"]["stages"]
    assert lora["adapter"]["rank"] == told["method"]["lora_rank"]["value"] == 16
    assert plain["method"]["lora_rank"]["value"] == "none"
    ratio = lora["optim"]["learning_rate"] / full["optim"]["learning_rate"]
    assert ratio == pytest.approx(10)


def test_a_text_only_teacher_becomes_rows_to_train_on() -> None:
    recipe = recipe_for("distill", **{"teacher.access": "text", "data.source": "rows.jsonl"})
    (stage,) = recipe["stages"]
    assert stage["kind"] == "fine_tune"
    told = advise({**STARTER, "teacher.access": "text", "data.source": "rows.jsonl"})
    assert any("teacher answer" in step for step in told["next_steps"])


def test_what_stands_in_for_rows_and_models_is_said_and_passes_the_check() -> None:
    unknown = {"data.source": "unknown", "teacher.name": "unknown"}
    told = advise({**STARTER, **unknown})
    assert told["verdict"] == "distill"
    text = " ".join(told["next_steps"])
    assert "starter's rows stand in" in text
    assert "pocket-teacher stands in" in text
    assert errors(told["recipe"]) == []
    assert advise(STARTER)["next_steps"] == []
    no_model = advise(LABELS)
    assert f"{STAND_IN} stands in" in " ".join(no_model["next_steps"])
    assert no_model["recipe"]["stages"][0]["model"] == STAND_IN


def test_rows_that_were_seen_decide_how_long_a_row_may_be() -> None:
    def data(**seen: Any) -> dict[str, Any]:
        return advise({**LABELS, **seen})["recipe"]

    assert data()["data"]["max_seq_len"] == START.row_tokens
    long = data(**{"data.longest_tokens": 700, "data.answer_tokens": 300})
    assert long["data"]["max_seq_len"] == 768
    assert long["evaluation"]["max_new_tokens"] == 320
    short = {**LABELS, "data.longest_tokens": 700, "teacher.context_tokens": 512}
    assert advise(short)["recipe"]["data"]["max_seq_len"] == 512


def test_rows_without_a_test_set_are_split_by_share() -> None:
    told = advise({**LABELS, "data.labelled_rows": 1000, "data.held_out_rows": 0})
    assert told["recipe"]["data"]["held_out"] == pytest.approx(0.2)
    told = advise({**LABELS, "data.held_out_source": "test.csv"})
    assert told["recipe"]["data"]["held_out"] == {"kind": "file", "path": "test.csv"}


def test_the_hub_and_files_are_told_apart() -> None:
    def source(name: str) -> dict[str, Any]:
        return advise({**LABELS, "data.source": name})["recipe"]["data"]["sources"][0]

    assert source("org/rows") == {"kind": "hub", "id": "org/rows"}
    assert source("/home/me/rows.csv") == {"kind": "file", "path": "/home/me/rows.csv"}
    assert source("data/rows.jsonl") == {"kind": "file", "path": "data/rows.jsonl"}


# --- methods ----------------------------------------------------------------------------------

CHAT: dict[str, Any] = {
    **STARTER,
    "task": "chat",
    "data.source": "rows.jsonl",
    "teacher.name": SMOLLM2,
    "teacher.parameters": 134_515_008,
    "student.max_parameters": 3e7,
    "constraints.budget_gpu_hours": 20,
}


def test_an_open_task_ends_on_the_students_own_samples() -> None:
    answers = {**CHAT, "student.published_checkpoint": "yes"}
    first, last = recipe_for("distill", **answers)["stages"]
    assert first["losses"][0]["name"] == "forward_kl"
    assert last["student"] == {"init": "pretrained", "model": "previous"}
    assert last["on_policy_fraction"] == 0.25
    assert [loss["name"] for loss in last["losses"]] == ["jsd"], "no hard labels on own samples"
    (only,) = recipe_for("distill", **answers | {"constraints.budget_gpu_hours": 1})["stages"]
    assert "on_policy_fraction" not in only


def test_open_tasks_start_narrower_and_quick_answers_from_fewer_layers() -> None:
    facts = {"layers": 30, "parameters": 134_515_008, "hidden_size": 576}
    known = Known(facts=lambda name: facts)

    def student(**changes: Any) -> dict[str, Any]:
        answers = {**CHAT, "student.published_checkpoint": "no", **changes}
        return advise(answers, known=known)["recipe"]["stages"][0]["student"]

    assert student()["init"] == "width_prune"
    assert student()["hidden_size"] < 576
    assert student(**{"student.latency_ms": 40})["init"] == "layer_drop"
    assert student(task="extraction")["init"] == "layer_drop"
    assert student(**{"student.max_parameters": 1e6})["init"] == "scratch"


def test_a_plain_processor_gets_an_8_bit_teacher() -> None:
    own = {"data.source": "rows.jsonl", "teacher.name": "org/big", "teacher.parameters": 1e9}
    plain = recipe_for("distill", **own, **{"student.max_parameters": 2e8})
    assert plain["stages"][0]["teacher_precision"] == "int8"
    fast = {"machine.device": "cuda", "machine.fast_bf16": "yes", "machine.memory_gib": 80}
    gpu = recipe_for("distill", **own, **fast, **{"student.max_parameters": 2e8})
    assert "teacher_precision" not in gpu["stages"][0]
    tight = {**fast, "machine.memory_gib": 5}
    both = recipe_for("distill", **own, **tight, **{"student.max_parameters": 2e8})
    assert both["stages"][0]["teacher_precision"] == "int8", "both do not fit otherwise"


def test_a_plain_processor_trims_the_vocabulary_of_a_narrow_task() -> None:
    own = {"data.source": "rows.jsonl", "teacher.name": "org/big", "teacher.parameters": 1e9}

    def student(**changes: Any) -> dict[str, Any]:
        answers = {**STARTER, **own, "student.max_parameters": 4e8, **changes}
        return advise(answers)["recipe"]["stages"][0]["student"]

    assert student()["vocab_trim"] is not None
    for other in (
        {"task": "chat"},
        {"constraints.keep_general_skills": "yes"},
        {"machine.fast_bf16": "yes"},
        {"student.published_checkpoint": "yes", "student.name": "org/small"},
    ):
        assert "vocab_trim" not in student(**other), other


def test_classes_add_hidden_states_where_the_student_is_made_of_the_teacher() -> None:
    own = {"data.source": "rows.jsonl", "teacher.name": "org/big", "task": "classification"}
    sizes = {"teacher.parameters": 1e9, "student.max_parameters": 4e8}
    made = recipe_for("distill", **own, **sizes)["stages"][0]
    assert made["student"]["init"] == "layer_drop"
    assert {"name": "hidden_states", "weight": START.hidden_states_weight} in made["losses"]
    base = {"student.published_checkpoint": "yes", "student.name": "org/small"}
    other = recipe_for("distill", **own, **sizes, **base)["stages"][0]
    assert [loss["name"] for loss in other["losses"]] == ["forward_kl", "cross_entropy"]


def test_other_tokenizers_are_compared_where_both_cut_alike() -> None:
    answers = {
        **CHAT,
        "task": "extraction",
        "student.published_checkpoint": "yes",
        "student.name": "pocket-teacher",
        "teacher.same_tokenizer": "no",
        "data.source": "starter",
    }
    (stage,) = recipe_for("distill", **answers)["stages"]
    assert stage["losses"][0]["name"] == "cross_tokenizer"
    assert errors(advise(answers)["recipe"]) == []
    assert advise(answers)["method"]["loss"]["value"] == "cross_tokenizer"


def test_general_skills_are_kept_by_an_adapter_while_distilling() -> None:
    own = {"data.source": "rows.jsonl", "teacher.name": "org/big", "teacher.parameters": 1e9}
    base = {"student.published_checkpoint": "yes", "student.name": "org/small"}
    keep = {"constraints.keep_general_skills": "yes", "student.max_parameters": 4e8}
    stage = recipe_for("distill", **own, **base, **keep)["stages"][0]
    assert stage["adapter"]["rank"] == 16
    assert stage["optim"]["learning_rate"] == START.learning_rates["lora"]


@pytest.mark.parametrize(
    ("labels", "kinds"), [([], ["fine_tune", "distill"]), (["no", "yes"], ["distill"])]
)
def test_an_encoder_tells_classes_apart_and_needs_a_head_to_teach(
    labels: list[str], kinds: list[str]
) -> None:
    answers = {**STARTER, "data.source": "rows.jsonl", "teacher.name": "minilm-l6"}
    answers |= {"task": "classification", "teacher.writes_text": "no"}
    facts = {"layers": 6, "parameters": 2.3e7, "tasks": ["text_classification"], "labels": labels}
    recipe = advise(answers, known=Known(facts=lambda name: facts))["recipe"]
    assert recipe["task"] == "text_classification"
    assert [stage["kind"] for stage in recipe["stages"]] == kinds
    assert recipe["stages"][0].get("model", recipe["stages"][0].get("teacher")) == "minilm-l6"
    assert recipe["stages"][-1]["teacher"] == ("minilm-l6" if labels else "previous")
    assert recipe["stages"][-1]["losses"][0]["temperature"] == 2.0


# --- running ----------------------------------------------------------------------------------


def run(recipe: dict[str, Any], tmp_path: Path, *changes: str) -> dict[str, Any]:
    """Train every stage for two steps on a few rows."""
    text = yaml.safe_dump(recipe, sort_keys=False)
    few = [f"stages.{place}.optim.max_steps=2" for place in range(len(recipe["stages"]))]
    few += [f"stages.{place}.optim.global_batch_size=4" for place in range(len(recipe["stages"]))]
    few += [f"data.sources.{place}.limit=4" for place in range(len(recipe["data"]["sources"]))]
    few += ["data.held_out.limit=4", "evaluation.rows=1", "evaluation.final_rows=2"]
    few += ["evaluation.samples=0", "evaluation.max_new_tokens=4", "evaluation.baselines=[]"]
    few += ["evaluation.every_steps=100", "checkpoints.every_steps=100"]
    for place, stage in enumerate(recipe["stages"]):
        if stage.get("student", {}).get("init") == "width_prune":
            few.append(f"stages.{place}.student.calibration_rows=2")
        if stage["kind"] == "distill":
            few.append(f"stages.{place}.teacher_answers.max_new_tokens=8")
            few.append(f"stages.{place}.student_answers.max_new_tokens=8")
    made = recipe_yaml.loads(text, [*few, *changes])
    events = list(api.run_here(made, runs_dir=tmp_path))
    assert events[-1]["type"] == "run_finished", events[-1]
    return events[-1]["evaluation"]


STARTER_VERDICTS: dict[str, dict[str, Any]] = {
    "distill": {},
    "fine_tune": {"data.labelled_rows": 5000, "data.label_quality": "clean"},
    "lora_fine_tune": {
        **{"data.labelled_rows": 5000, "data.label_quality": "clean", "teacher.exists": "no"},
        "constraints.keep_general_skills": "yes",
    },
    "distill_then_fine_tune": {
        **{"goal": "both", "data.labelled_rows": 3000, "data.label_quality": "clean"},
        "constraints.budget_gpu_hours": 10,
        "data.unlabelled_rows": 100_000,
    },
    "fine_tune_then_distill": {
        **{"goal": "both", "data.labelled_rows": 3000, "data.label_quality": "clean"},
        **{"teacher.serves_several_students": "yes", "constraints.budget_gpu_hours": 10},
        "teacher.good_at_task": "no",
    },
    "progressive_distill": {"teacher.parameters": 7e10, "constraints.budget_gpu_hours": 10}
    | {"student.max_parameters": 1e9, "machine.memory_gib": 500},
}


@pytest.mark.parametrize("verdict", STARTER_VERDICTS)
def test_every_verdict_that_trains_runs_on_the_starter(verdict: str, tmp_path: Path) -> None:
    recipe = recipe_for(verdict, **STARTER_VERDICTS[verdict])
    assert errors(recipe) == []
    scores = run(recipe, tmp_path)
    assert scores["models"]["student"]["parameters"] > 0


def test_own_samples_run_on_the_starter(tmp_path: Path) -> None:
    changes = {"task": "chat", "student.published_checkpoint": "yes"}
    recipe = recipe_for("distill", **changes, **{"constraints.budget_gpu_hours": 10})
    assert recipe["stages"][-1]["on_policy_fraction"] == 0.25
    assert errors(recipe) == []
    run(recipe, tmp_path, "stages.1.on_policy_fraction=1.0")


def test_the_starters_recipe_is_the_ready_one() -> None:
    assert recipe_yaml.parse(recipe_for("distill")) == ready_recipes.read("pocket_student")


PLAIN_CPU = {"device": "cpu", "memory_gib": 16, "fast_bf16": "no"}
OF_SMOLLM2 = pytest.mark.parametrize(
    ("changes", "init"),
    [
        ({"task": "open_generation"}, "width_prune"),
        ({"task": "classification", "machine": PLAIN_CPU}, "layer_drop"),
    ],
    ids=["narrower", "fewer layers and tokens"],
)


def advice_for_smollm2(changes: dict[str, Any], runs_dir: Path) -> dict[str, Any]:
    answers = {
        "goal": "smaller_faster",
        **changes,
        "data": {"source": "starter", "label_quality": "mixed"},
        "teacher": {"name": SMOLLM2, "good_at_task": "yes", "serves_several_students": "no"},
        "student": {"max_parameters": 4.5e7, "published_checkpoint": "no"},
        "constraints": {"task_changes": "rarely", "calls_per_month": 100000},
    }
    told = advise_here(answers, runs_dir=runs_dir)
    assert told["verdict"] == "distill"
    json.dumps(told)
    return told


@OF_SMOLLM2
def test_recipes_for_smollm2_have_the_size_asked_for_and_pass_the_check(
    changes: dict[str, Any], init: str, tmp_path: Path
) -> None:
    told = advice_for_smollm2(changes, tmp_path)
    student = told["recipe"]["stages"][0]["student"]
    assert student["init"] == init
    facts = api.student_facts(SMOLLM2, student)
    assert 0.5 * 4.5e7 < facts["parameters"] <= 4.5e7
    assert errors(told["recipe"]) == []


@pytest.mark.slow
@pytest.mark.skipif(models.local_folder(SMOLLM2) is None, reason="SmolLM2 is not on this machine")
@OF_SMOLLM2
def test_recipes_for_smollm2_run_to_the_end(
    changes: dict[str, Any], init: str, tmp_path: Path
) -> None:
    told = advice_for_smollm2(changes, tmp_path)
    scores = run(told["recipe"], tmp_path)
    student = told["recipe"]["stages"][0]["student"]
    trimmed = bool(student.get("vocab_trim"))
    parameters = api.student_facts(SMOLLM2, student)["parameters"]
    trained = scores["models"]["student"]["parameters"]
    assert trained < parameters if trimmed else trained == parameters
