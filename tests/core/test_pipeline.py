"""Whole recipes on tiny models: stages, baselines, answers, resuming, and what is on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill_core import evaluate, runs, trainer
from distill_core.comparing import compare, kept_models, lineup
from distill_core.errors import DataError, DiskFullError, RunError
from distill_core.recipe import recipe_yaml
from distill_core.recipe.plan import plan
from distill_core.stages import learner, reading
from distill_core.students import width_prune
from distill_core.teachers import answers, cache_pass
from tests.core.small_runs import distill, go, of, optim, recipe, write_rows

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")


@pytest.fixture
def teacher(tiny_teacher_dir: Path) -> str:
    return str(tiny_teacher_dir)


def losses(events: list[dict[str, Any]]) -> dict[tuple[int, int], float]:
    return {(e["stage"], e["step"]): e["metrics"]["loss"] for e in of(events, "step")}


WAYS: dict[str, Any] = {
    "distill": lambda t: [distill(t)],
    "fine_tune": lambda t: [{"kind": "fine_tune", "model": t, "optim": optim()}],
    "fine_tune with LoRA": lambda t: [
        {"kind": "fine_tune", "model": t, "adapter": {"kind": "lora", "rank": 2}, "optim": optim()}
    ],
    "fine_tune a smaller copy": lambda t: [
        {
            "kind": "fine_tune",
            "model": t,
            "student": {"init": "layer_drop", "layers": 2},
            "optim": optim(),
        }
    ],
    "fine_tune the student, then distill": lambda t: [
        {
            "kind": "fine_tune",
            "model": t,
            "student": {"init": "layer_drop", "layers": 2},
            "optim": optim(),
        },
        distill(t, student={"init": "pretrained", "model": "previous"}),
    ],
    "fine_tune, then distill": lambda t: [
        {"kind": "fine_tune", "model": t, "optim": optim()},
        distill("previous"),
    ],
    "distill, then fine_tune": lambda t: [
        distill(t),
        {"kind": "fine_tune", "model": "previous", "optim": optim()},
    ],
    "two steps down": lambda t: [
        distill(t, student={"init": "layer_drop", "layers": 3}),
        distill("previous", student={"init": "scratch", "layers": 1, "hidden_size": 16}),
    ],
}


CASTS = {
    "distill": ["teacher", "student", "untrained_student"],
    "fine_tune": ["student", "untrained_student"],
    "fine_tune with LoRA": ["student", "untrained_student"],
    "fine_tune a smaller copy": ["original", "student", "untrained_student"],
    "fine_tune, then distill": ["teacher", "student", "untrained_student"],
    "fine_tune the student, then distill": ["teacher", "student", "untrained_student"],
    "distill, then fine_tune": ["teacher", "student", "untrained_student"],
    "two steps down": ["teacher", "assistant", "student", "untrained_student"],
}
"""Who is scored at the end of each way."""


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_combine_runs_to_the_end(
    way: str, rows_file: Path, teacher: str, run_dir: Path
) -> None:
    made = recipe(rows_file, WAYS[way](teacher), evaluation={"rows": 4, "max_new_tokens": 4})
    events = go(made, run_dir)
    assert events[-1]["type"] == "run_finished"
    finished = of(events, "stage_finished")
    assert [e["stage"] for e in finished] == list(range(len(made.stages)))
    assert (run_dir / "student" / "model.safetensors").is_file()
    scores = events[-1]["evaluation"]["models"]
    assert {"student", "untrained_student"} <= set(scores)
    if any(each.kind == "distill" for each in made.stages):
        assert scores["student"]["kl_to_teacher"] >= 0
    assert not list((run_dir / "checkpoints").iterdir())


def test_unlabelled_rows_are_answered_by_the_teacher_once(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = answers._ask

    def counted(teacher: Any, tokenizer: Any, prompts: Any, *more: Any) -> Any:
        asked.append(len(prompts))
        return ask(teacher, tokenizer, prompts, *more)

    monkeypatch.setattr(answers, "_ask", counted)
    events = go(recipe(rows_file, [distill(teacher)]), run_dir)
    started = of(events, "run_started")[0]["data"]
    assert asked == [started["unlabelled"]]
    assert of(events, "rows_ready")[0]["rows"] == started["rows"]
    other = run_dir.parent / "two"
    other.mkdir()
    again = go(recipe(rows_file, [distill(teacher)]), other)
    assert asked == [started["unlabelled"]], "a second run takes the stored answers"
    assert losses(again) == losses(events)


def test_the_first_look_waits_neither_for_answers_nor_for_rows(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    settings = recipe(rows_file, [distill(teacher)])
    events = go(settings, run_dir)
    marks = ("stage_started", "evaluation", "rows_ready", "step")
    begun = [event for event in events if event["type"] in marks or "answers rows" in said(event)]
    order = [event["type"] for event in begun]
    assert order[:4] == ["stage_started", "evaluation", "progress", "progress"]
    assert order[4:6] == ["rows_ready", "step"]
    firsts = [event for event in of(events, "evaluation") if event["step"] == 0]
    assert [event["stage"] for event in firsts] == sorted({event["stage"] for event in firsts})


def test_a_student_chosen_on_rows_is_looked_at_once_they_are_there(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    student = STUDENTS["important layers"]
    events = go(recipe(rows_file, [distill(teacher, student=student)]), run_dir)
    kinds = [event["type"] for event in events]
    assert kinds.index("rows_ready") < kinds.index("evaluation") < kinds.index("step")
    assert [event["step"] for event in of(events, "evaluation")].count(0) == 1


def said(event: dict[str, Any]) -> str:
    return str(event.get("message", ""))


def test_answers_of_another_teacher_are_never_taken(
    rows_file: Path, teacher: str, tiny_student_dir: Path, run_dir: Path
) -> None:
    go(recipe(rows_file, [distill(teacher)]), run_dir)
    other = run_dir.parent / "two"
    other.mkdir()
    student = {"init": "layer_drop", "layers": 1}
    go(recipe(rows_file, [distill(str(tiny_student_dir), student=student)]), other)
    stored = list((run_dir.parent / "teacher_answers").glob("*.jsonl"))
    assert len(stored) == 2


def test_the_baseline_is_the_same_student_on_labels_alone_for_the_same_steps(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": ["fine_tuned_on_labels"]}
    events = go(recipe(rows_file, [distill(teacher)], evaluation=evaluation), run_dir)
    student, baseline = of(events, "stage_started")
    data = of(events, "run_started")[0]["data"]
    assert baseline["baseline"]
    assert not student["baseline"]
    assert baseline["total_steps"] == student["total_steps"] == 4
    rows = [event["rows"] for event in of(events, "rows_ready")]
    assert rows == [data["rows"], data["labelled"]]
    assert baseline["student"] == student["student"]
    first = {e["stage"]: e["metrics"] for e in of(events, "evaluation") if e["step"] == 0}
    assert first[0]["held_out_cross_entropy"] == first[1]["held_out_cross_entropy"]
    assert "forward_kl" not in of(events, "step")[-1]["metrics"]
    assert events[-1]["evaluation"]["verdict_against"] == "fine_tuned_on_labels"


def test_every_model_says_how_many_tokens_it_has_seen(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, list[int]] = {}
    real = trainer._batches

    def counted(stage: Any, *step: Any) -> Any:
        batches = real(stage, *step)
        count = seen.setdefault(stage.index, [0, 0])
        count[0] += sum(batch.real_tokens for batch in batches)
        count[1] += sum(int(batch.supervised.sum()) for batch in batches)
        return batches

    monkeypatch.setattr(trainer, "_batches", counted)
    names = ["fine_tuned_on_labels", "fine_tuned_on_teacher_text"]
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": names}
    stages = WAYS["distill, then fine_tune"](teacher)
    events = go(recipe(rows_file, stages, evaluation=evaluation), run_dir)
    scores = events[-1]["evaluation"]["models"]
    assert "trained_steps" not in scores["teacher"]
    own = [sum(pair) for pair in zip(seen[0], seen[1], strict=True)]
    for key, count in {"student": own, names[0]: seen[2], names[1]: seen[3]}.items():
        assert scores[key]["trained_steps"] == 8, "equal steps"
        assert [scores[key]["trained_tokens"], scores[key]["supervised_tokens"]] == count


def test_the_text_baseline_learns_what_the_teacher_answers_and_nothing_else(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[list[str]] = []
    real = reading.rows_read

    def kept(rows: Any, *rest: Any, **more: Any) -> Any:
        learnt.append([row.response for row in rows])
        assert learnt[1:] == [] or all(row.labelled for row in rows)
        return real(rows, *rest, **more)

    monkeypatch.setattr(reading, "rows_read", kept)
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": ["fine_tuned_on_teacher_text"]}
    events = go(recipe(rows_file, [distill(teacher)], evaluation=evaluation), run_dir)
    data = of(events, "run_started")[0]["data"]
    labels = {"on", "off", "two"}
    assert labels & set(learnt[0]), "the student also learns from rows with labels"
    assert not labels & set(learnt[1]), "no label of the data is left"
    assert len(learnt[1]) <= data["rows"]
    assert events[-1]["evaluation"]["verdict_against"] == "fine_tuned_on_teacher_text"
    assert "forward_kl" not in of(events, "step")[-1]["metrics"]


def test_the_student_starts_from_the_weights_its_init_names(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    stages = [distill(teacher, optim=optim(1) | {"learning_rate": 1e-30, "weight_decay": 0.0})]
    go(recipe(rows_file, stages), run_dir)
    theirs = load_file(Path(teacher) / "model.safetensors")
    mine = load_file(run_dir / "student" / "model.safetensors")
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-12, msg=name)


STUDENTS: dict[str, dict[str, Any]] = {
    "scratch": {"init": "scratch", "layers": 1, "hidden_size": 16},
    "lower layers": {"init": "layer_drop", "layers": 2},
    "important layers": {"init": "layer_drop", "layers": 2, "keep": "importance"},
    "narrower": {"init": "width_prune", "hidden_size": 16, "intermediate_size": 24, "layers": 2},
}


@pytest.mark.parametrize("student", sorted(STUDENTS))
def test_the_untrained_student_is_built_again_as_training_started_from_it(
    student: str, rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, torch.Tensor]] = []
    build = learner.build_student

    def watched(*args: Any, **more: Any) -> Any:
        model = build(*args, **more)
        started.append({name: value.clone() for name, value in model.state_dict().items()})
        return model

    monkeypatch.setattr(learner, "build_student", watched)
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": ["fine_tuned_on_labels"]}
    made = recipe(rows_file, [distill(teacher, student=STUDENTS[student])], evaluation=evaluation)
    go(made, run_dir)
    member = lineup.member(run_dir, "untrained_student")
    again = lineup.load(run_dir, member, device=torch.device("cpu")).model.state_dict()
    assert len(started) == 2, "the student, and its baseline"
    for weights in started:
        assert weights.keys() == again.keys()
        for name, value in weights.items():
            assert torch.equal(value, again[name]), name
    assert member.parameters == lineup.member(run_dir, "student").parameters


# --- stop, resume -------------------------------------------------------------------------------


def test_a_resumed_run_keeps_the_parts_that_were_chosen_first(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(rows_file, [distill(teacher, student=STUDENTS["narrower"])])
    go(made, run_dir, stop_after=2)
    monkeypatch.setattr(width_prune, "width_importance", None)  # measuring again would fail
    assert go(made, run_dir)[-1]["type"] == "run_finished"


@pytest.fixture(scope="module")
def never_stopped(
    tmp_path_factory: pytest.TempPathFactory, tiny_teacher_dir: Path
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder and the events of a chain that ran through."""
    folder = tmp_path_factory.mktemp("whole")
    made = recipe(write_rows(folder), WAYS["fine_tune, then distill"](str(tiny_teacher_dir)))
    return folder / "run", go(made, folder / "run")


@pytest.mark.parametrize("at", [1, 3, 5, 7])
def test_a_stopped_chain_resumes_to_the_same_losses_and_student(
    at: int, never_stopped: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    whole_dir, whole = never_stopped
    made = recipe_yaml.load(whole_dir / "recipe.yaml")
    cut_dir = tmp_path / "cut"
    cut = go(made, cut_dir, stop_after=at)
    assert cut[-1]["type"] == "run_stopped"
    rest = go(made, cut_dir)
    assert rest[-1]["type"] == "run_finished"
    assert losses(cut) | losses(rest) == losses(whole)
    assert len(losses(cut)) + len(losses(rest)) == len(losses(whole)), "nothing is done twice"
    looks = [(event["stage"], event["step"]) for event in of(rest, "evaluation")]
    assert (cut[-1]["stage"], 0) not in looks, "nor is the untrained student scored again"
    a = load_file(whole_dir / "student" / "model.safetensors")
    b = load_file(cut_dir / "student" / "model.safetensors")
    for name in a:
        assert torch.equal(a[name], b[name]), name


def during(phase: str, words: str) -> Any:
    """Whether an event tells of that phase, in these words."""
    return lambda event: event.get("phase") == phase and words in said(event)


PHASES = {
    "reading": during("preparing", "reading the data"),
    "building": during("preparing", "building the student"),
    "untrained": during("evaluating", "untrained student: answers"),
    "first look": lambda event: event["type"] == "evaluation",
    "answers": lambda event: "teacher answers rows" in said(event) and event["done"],
    "tokenizing": during("preparing", "tokenizing"),
    "cache": lambda event: "hidden states" in said(event) and event["done"],
    "between stages": lambda event: event["type"] == "stage_finished",
    "evaluating": lambda event: event.get("done") == 1 and "answers" in said(event),
}


@pytest.fixture
def cached_run(
    rows_file: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Run a stage of every phase, its teacher's answers and cache in several parts."""
    monkeypatch.setattr(answers, "ANSWERS_AT_ONCE_ON_CPU", 2)
    monkeypatch.setattr(cache_pass, "TOKENS", 30)
    made = recipe(rows_file, [distill(teacher, teacher_cache={"kind": "hidden"})])
    return lambda folder, **more: go(made, folder, **more)


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_a_run_left_in_any_phase_goes_on_there_to_the_same_losses(
    phase: str, cached_run: Any, tmp_path: Path
) -> None:
    whole = cached_run(tmp_path / "one" / "run")
    wish = "pause" if len(phase) % 2 else "stop"
    folder = tmp_path / "two" / "run"
    cut = cached_run(folder, stop_when=PHASES[phase], wish=wish)
    place = next(n for n, event in enumerate(cut) if PHASES[phase](event))
    assert [event["type"] for event in cut[place + 1 :]] == ["run_stopped"], "at once"
    assert cut[-1]["reason"] == {"stop": "stopped", "pause": "paused"}[wish]
    rest = cached_run(folder)
    assert losses(cut) | losses(rest) == losses(whole)
    assert rest[-1]["type"] == "run_finished"
    scores = [events[-1]["evaluation"]["models"] for events in (whole, rest)]
    for kept in ("cross_entropy", "kl_to_teacher"):
        assert scores[0]["student"][kept] == scores[1]["student"][kept]


def test_a_pass_that_was_left_asks_only_what_is_not_stored_yet(
    cached_run: Any, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ask = answers._ask

    def counted(teacher: Any, tokenizer: Any, prompts: Any, *more: Any) -> Any:
        asked.extend(prompts)
        return ask(teacher, tokenizer, prompts, *more)

    monkeypatch.setattr(answers, "_ask", counted)
    cut = cached_run(run_dir, stop_when=PHASES["answers"])
    assert cut[-1] | {"time_s": 0} == {
        "type": "run_stopped",
        "time_s": 0,
        "reason": "stopped",
        "stage": 0,
        "step": 0,
    }
    assert len(asked) == 2
    rows = of(cached_run(run_dir), "rows_ready")[0]
    assert len(asked) == len(set(asked)) == rows["answers"]["asked"]
    assert rows["cache"]["asked"] == rows["cache"]["rows"]


# --- what can go wrong --------------------------------------------------------------------------


def test_a_full_disk_leaves_no_half_written_model(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedModel

    def full(self: Any, folder: Path, **more: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    made = recipe(rows_file, [distill(teacher)])
    with pytest.raises(DiskFullError, match=r"disk that holds .* is full"):
        go(made, run_dir)
    assert not (run_dir / "student").exists()
    assert not list(run_dir.glob(".partial*"))
    monkeypatch.undo()
    assert go(made, run_dir)[-1]["type"] == "run_finished"


def test_a_full_disk_at_a_checkpoint_keeps_the_ones_before(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []

    def save(*args: Any, **more: Any) -> None:
        saved.append(args)
        if len(saved) > 2:  # optimiser and random state of the first checkpoint
            raise OSError(28, "No space left on device")
        return real(*args, **more)

    real = torch.save
    monkeypatch.setattr(torch, "save", save)
    made = recipe(rows_file, [distill(teacher, optim=optim(8))])
    with pytest.raises(DiskFullError, match="no checkpoint could be written at step 4"):
        go(made, run_dir)
    kept = [path.name for path in (run_dir / "checkpoints" / "stage_0").iterdir()]
    assert kept == ["step_000002"]


def test_rows_that_do_not_fit_are_told(rows_file: Path, teacher: str, run_dir: Path) -> None:
    rows_file.write_text('{"prompt": "turn on", "response": "on"}\n')
    made = recipe(rows_file, [distill(teacher)])
    with pytest.raises(DataError):
        go(made, run_dir)


# --- plan ---------------------------------------------------------------------------------------


def test_plan_counts_steps_and_rows(rows_file: Path, teacher: str) -> None:
    stages = WAYS["fine_tune, then distill"](teacher)
    for settings in stages:
        settings["optim"] = {"epochs": 1.5, "global_batch_size": 8}
    planned = plan(recipe(rows_file, stages), labelled=20, unlabelled=12)
    assert [(s.rows, s.total_steps) for s in planned] == [(20, 4), (32, 6)]
    assert [s.output for s in planned] == ["models/stage_0", "student"]
    assert [s.title for s in planned] == ["Fine-tune the teacher", "Distil the student"]


# --- evaluation and comparison of a finished run ------------------------------------------------


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory, tiny_teacher_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    evaluation = {"rows": 4, "max_new_tokens": 4, "baselines": ["fine_tuned_on_labels"]}
    evaluation["final_rows"] = 1000
    made = recipe(write_rows(folder), [distill(str(tiny_teacher_dir))], evaluation=evaluation)
    go(made, folder / "run")
    (folder / "run" / "status.json").write_text("{}")
    return folder / "run"


@pytest.fixture
def finished(finished_once: Path, run_dir: Path) -> Path:
    """A copy of a finished run."""
    kept_models.forget()
    return Path(shutil.copytree(finished_once, run_dir, dirs_exist_ok=True))


def test_evaluation_has_what_the_readme_promises(finished: Path) -> None:
    result = json.loads((finished / "evaluation.json").read_text())
    assert set(result["models"]) == {
        "teacher",
        "student",
        "untrained_student",
        "fine_tuned_on_labels",
    }
    for key, score in result["models"].items():
        low, high = score["exact_match_ci95"]
        assert low <= score["exact_match"] <= high
        assert score["perplexity"] == pytest.approx(2.718281828 ** score["cross_entropy"], rel=1e-6)
        bounds = [2.718281828**bound for bound in score["cross_entropy_ci95"]]
        assert score["perplexity_ci95"] == pytest.approx(bounds, rel=1e-6)
        low, high = score["tokens_per_s_ci95"]
        assert 0 < low <= score["tokens_per_s"] <= high
        assert score["latency_p95_ms"] >= score["latency_p50_ms"] > 0
        assert score["peak_memory_bytes"] >= score["bytes"] > 0
        assert min(score["prompt_tokens_per_s"], score["generation_tokens_per_s"] or 1) > 0
        assert score["bits_per_byte"] > 0
        assert 0 <= score["invalid_rate"] <= 1
        assert sum(score["invalid"].values()) == round(
            score["invalid_rate"] * result["data"]["rows"]
        )
        for name in ("kl_to_teacher", "kl_to_teacher_on_own_samples", "top1_agreement"):
            assert (name in score) == (key != "teacher")
            if name in score:
                low, high = score[f"{name}_ci95"]
                assert low <= score[name] <= high
    assert result["metric"]["name"] == "exact_match"
    assert "not ended within 4 tokens" in result["invalid_rule"]
    ratio = result["models"]["teacher"]["parameters"] / result["models"]["student"]["parameters"]
    assert result["size_ratio"] == pytest.approx(ratio)
    assert result["verdict"] == "inconclusive"
    assert "one seed" in result["verdict_reason"]


def test_evaluation_on_a_file_counts_the_overlap_with_training(
    finished: Path, rows_file: Path
) -> None:
    made = runs.load_recipe(finished)
    result = evaluate.evaluate_run(finished, made, data=str(rows_file), rows=None)
    assert result["data"]["name"] == "rows.jsonl"
    assert result["data"]["rows"] == 30
    assert 0 < result["data"]["overlap_with_training"] < 30
    stored = json.loads((finished / "evaluation.json").read_text())
    assert stored["data"]["rows"] != 30, "scoring on a file does not replace the run's own"
    kept = json.loads((finished / evaluate.ROWS_FILE).read_text())["rows"]
    assert len(kept["student"]) == stored["data"]["rows"]


def test_scores_equal_an_independent_count(finished: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill_core.data.sources import prepare

    made = runs.load_recipe(finished)
    rows = prepare(made.data, seed=0).held_out
    tokenizer = AutoTokenizer.from_pretrained(finished / "student")
    student = AutoModelForCausalLM.from_pretrained(finished / "student").eval()
    theirs = AutoModelForCausalLM.from_pretrained(made.stages[0].teacher).eval()
    nll, kl, agree, count = 0.0, 0.0, 0, 0
    for row in rows:
        from distill_core.data.tokenize import encode

        item = encode(row, tokenizer, 32)
        ids = torch.tensor([item.input_ids])
        with torch.no_grad():
            mine = student(input_ids=ids).logits[0].log_softmax(-1)[:, : len(tokenizer)]
            other = theirs(input_ids=ids).logits[0][:, : len(tokenizer)].log_softmax(-1)
        mine = mine.log_softmax(-1)
        for place, label in enumerate(item.labels):
            if label == -100:
                continue
            nll -= float(mine[place - 1, label])
            kl += float((other[place - 1].exp() * (other[place - 1] - mine[place - 1])).sum())
            agree += int(mine[place - 1].argmax() == other[place - 1].argmax())
            count += 1
    score = json.loads((finished / "evaluation.json").read_text())["models"]["student"]
    assert score["cross_entropy"] == pytest.approx(nll / count, rel=1e-4)
    assert score["kl_to_teacher"] == pytest.approx(kl / count, rel=1e-3, abs=1e-6)
    assert score["top1_agreement"] == pytest.approx(agree / count, abs=1e-6)


def test_compare_streams_every_model_and_both_distributions(finished: Path) -> None:
    events = list(
        compare.compare(
            finished, "please dim the fan", models=None, max_new_tokens=5, sampling_temperature=0.0
        )
    )
    models = ["teacher", "student", "untrained_student", "fine_tuned_on_labels"]
    assert [e["model"] for e in events if e["type"] == "loaded"] == models
    answers = {e["model"]: e for e in events if e["type"] == "answer"}
    assert set(answers) == set(models)
    for key, answer in answers.items():
        streamed = "".join(e["text"] for e in events if e["type"] == "token" and e["model"] == key)
        assert streamed.strip() == answer["text"]
    tokens = {e["model"]: e for e in events if e["type"] == "tokens"}
    assert set(tokens) == set(models) - {"teacher"}
    student = tokens["student"]
    assert len(student["tokens"]) == answers["student"]["tokens"]
    kls = [token["kl"] for token in student["tokens"]]
    assert student["mean_kl"] == pytest.approx(sum(kls) / len(kls), rel=1e-5)
    for token in student["tokens"]:
        same = token["student_top"][0]["text"] == token["teacher_top"][0]["text"]
        assert token["agree"] == same
        assert sum(entry["probability"] for entry in token["student_top"]) <= 1.000001


def test_each_pane_shows_whose_weights_answered(finished: Path) -> None:
    marks = {
        found.key: lineup.load(finished, found, device=torch.device("cpu")).fingerprint
        for found in lineup.read(finished)
    }
    assert len(set(marks.values())) == 4
    weights = finished / "student" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    again = lineup.load(finished, lineup.member(finished, "student"), device=torch.device("cpu"))
    assert again.fingerprint != marks["student"]


def test_compare_refuses_what_it_cannot_do(finished: Path) -> None:
    def ask(prompt: str, models: list[str]) -> None:
        list(
            compare.compare(
                finished, prompt, models=models, max_new_tokens=2, sampling_temperature=0.0
            )
        )

    with pytest.raises(RunError, match="The prompt is empty"):
        ask("  ", ["student"])
    with pytest.raises(RunError, match="has no uncle; it has: "):
        ask("dim", ["uncle"])


def test_the_template_is_put_around_a_typed_prompt_once() -> None:
    from distill_core.recipe import DataSettings

    data = DataSettings.model_validate(
        {"sources": [{"kind": "starter"}], "prompt_template": "Review: {prompt}\nGood?"}
    )
    assert compare._bare("Review: fine film\nGood?", data) == "fine film"
    assert compare._bare("fine film", data) == "fine film"
