"""Students with fewer tokens, in whole recipes: every way, resumed, scored, compared, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from distill_core import api, checks, evaluate, runs
from distill_core.comparing import compare, lineup
from distill_core.errors import ModelError
from distill_core.export import export_run
from tests.core import small_runs
from tests.core.data import tokenizers
from tests.core.small_runs import SMALLER, TEXTS, go, of

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")
CORPUS = [*TEXTS, "please naïve on off two", "nothing of this is ever said here", *"abcdefghijklm"]
TRIM: dict[str, Any] = {"vocab_trim": {}}
WHOLE = 320


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Llama with a byte-level tokenizer, whose embedding has a few rows more than tokens.

    Beside it lies another of the same family, `second`.
    """
    folder = tmp_path_factory.mktemp("teachers") / "first"
    tokenizer = tokenizers.byte_level(size=WHOLE, corpus=CORPUS)
    config = LlamaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(5)
        LlamaForCausalLM(config).save_pretrained(folder)
        LlamaForCausalLM(config).save_pretrained(second(str(folder)))
    tokenizer.save_pretrained(folder)
    tokenizer.save_pretrained(second(str(folder)))
    return str(folder)


def second(teacher: str) -> str:
    return str(Path(teacher).with_name("second"))


def both(teacher: str) -> list[dict[str, Any]]:
    return [{"model": teacher, "weight": 3}, {"model": second(teacher)}]


OWN: dict[str, Any] = {"on_policy_fraction": 0.5, "student_answers": {"max_new_tokens": 3}}


def distill(
    teacher: str | list[dict[str, Any]], student: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return small_runs.distill(teacher, student=student, **more)


def tune(model: str, student: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = {"kind": "fine_tune", "model": model, "optim": small_runs.optim()} | more
    return made | ({"student": student} if student else {})


def recipe(rows_file: Path, stages: list[dict[str, Any]], **more: Any) -> Any:
    return small_runs.recipe(rows_file, stages, max_seq_len=96, **more)


def saved(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


WAYS: dict[str, Any] = {
    "the whole model": lambda t: [distill(t, {"init": "pretrained", **TRIM})],
    "a checkpoint": lambda t: [distill(t, {"init": "pretrained", "model": t, **TRIM})],
    "layers": lambda t: [distill(t, {**SMALLER, **TRIM})],
    "important layers": lambda t: [distill(t, {**SMALLER, "keep": "importance", **TRIM})],
    "width": lambda t: [distill(t, {"init": "width_prune", "intermediate_size": 40, **TRIM})],
    "new weights": lambda t: [
        distill(t, {"init": "scratch", "layers": 1, "hidden_size": 16, **TRIM})
    ],
    "LoRA": lambda t: [distill(t, {**SMALLER, **TRIM}, adapter={"kind": "lora", "rank": 2})],
    "hidden states and attention": lambda t: [
        distill(
            t,
            {**SMALLER, **TRIM},
            losses=[
                {"name": "forward_kl"},
                {"name": "hidden_states", "weight": 0.1},
                {"name": "attention", "weight": 0.1},
            ],
        )
    ],
    "pieces of text": lambda t: [
        distill(t, {**SMALLER, **TRIM}, losses=[{"name": "cross_tokenizer"}])
    ],
    "a mixture": lambda t: [distill(both(t), {**SMALLER, **TRIM})],
    "a mixture in int8": lambda t: [
        distill(both(t), {**SMALLER, **TRIM}, teacher_precision="int8")
    ],
    "a teacher in bf16": lambda t: [distill(t, {**SMALLER, **TRIM}, teacher_precision="bf16")],
    "the student's own answers": lambda t: [distill(t, {**SMALLER, **TRIM}, **OWN)],
    "its own answers before a mixture": lambda t: [distill(both(t), {**SMALLER, **TRIM}, **OWN)],
    "the teacher's text as labels": lambda t: [
        distill(
            t,
            {**SMALLER, **TRIM},
            losses=[
                {"name": "forward_kl"},
                {"name": "cross_entropy", "targets": "labels_and_teacher_text"},
            ],
        )
    ],
    "tuned, then distilled": lambda t: [tune(t), distill("previous", {**SMALLER, **TRIM})],
    "distilled, then tuned": lambda t: [distill(t, {**SMALLER, **TRIM}), tune("previous")],
    "trimmed once, two steps down": lambda t: [
        distill(t, {**SMALLER, **TRIM}),
        distill("previous", {"init": "layer_drop", "layers": 1}),
    ],
    "trimmed twice": lambda t: [
        distill(t, {**SMALLER, **TRIM}),
        distill("previous", {"init": "layer_drop", "layers": 1, **TRIM}),
    ],
    "trimmed, then answering itself": lambda t: [
        distill(t, {**SMALLER, **TRIM}),
        distill("previous", {"init": "pretrained"}, **OWN),
    ],
    "tuned small, then answering itself": lambda t: [
        tune(t, {**SMALLER, **TRIM}),
        distill(t, {"init": "pretrained", "model": "previous"}, **OWN),
    ],
    "tuned small, then distilled": lambda t: [
        tune(t, {**SMALLER, **TRIM}),
        distill(t, {"init": "pretrained", "model": "previous"}),
    ],
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_way_to_combine_runs_to_the_end(
    way: str, rows_file: Path, teacher: str, run_dir: Path
) -> None:
    made = recipe(rows_file, WAYS[way](teacher))
    assert not [problem for problem in checks.check(made) if problem.severity == "error"]
    events = go(made, run_dir)
    assert events[-1]["type"] == "run_finished"
    model, tokenizer = saved(run_dir / "student")
    assert model.config.vocab_size == len(tokenizer) < WHOLE
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    whole = AutoTokenizer.from_pretrained(teacher)
    assert tokenizer.chat_template == whole.chat_template
    assert tokenizer.tokenize("please turn on the light") == whole.tokenize(
        "please turn on the light"
    )
    scores = events[-1]["evaluation"]["models"]
    assert {"teacher", "student", "untrained_student"} <= set(scores)
    for name in ("student", "untrained_student"):
        assert "note" not in scores[name], "the two can be compared"
        assert scores[name]["kl_to_teacher"] >= 0
        assert scores[name]["kl_to_teacher_on_own_samples"] >= 0
    assert "dropped_mass" not in scores["teacher"]
    if way.startswith("trimmed"):
        assert "assistant" in scores
    if len(made.stages) == 1:
        assert 0 < scores["student"]["dropped_mass"] < 1
        assert 0 < of(events, "evaluation")[-1]["metrics"]["held_out_dropped_mass"] < 1
        for step in of(events, "step"):
            assert 0 < step["metrics"]["dropped_mass"] < 1


def test_c20_teachers_and_own_answers_change_the_first_losses_of_a_trimmed_student(
    rows_file: Path, teacher: str, tmp_path: Path
) -> None:
    losses, own = {}, {}
    ways: dict[str, dict[str, Any]] = {
        "one": {},
        "mixture": {"taught_by": both(teacher)},
        "int8": {"taught_by": both(teacher), "teacher_precision": "int8"},
        "own": OWN | {"on_policy_fraction": 1},
    }
    for name, more in ways.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        taught_by = more.pop("taught_by", teacher)
        made = recipe(rows_file, [distill(taught_by, {**SMALLER, **TRIM}, **more)])
        step = of(go(made, folder, stop_after=1), "step")[0]["metrics"]
        losses[name], own[name] = step["forward_kl"], step.get("own_answer_tokens")
    assert len(set(losses.values())) == len(losses)
    assert losses["int8"] == pytest.approx(losses["mixture"], rel=0.05)
    assert own.pop("own") > 0
    assert set(own.values()) == {None}


def test_each_teacher_of_a_mixture_is_scored_in_all_of_its_tokens(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    scores = go(recipe(rows_file, WAYS["a mixture"](teacher)), run_dir)[-1]["evaluation"]["models"]
    for name in ("teacher_1", "teacher_2"):
        assert "dropped_mass" not in scores[name]
        assert scores[name]["kl_to_teacher"] > 0
    assert scores["teacher_1"]["kl_to_teacher"] < scores["teacher_2"]["kl_to_teacher"]


def test_what_was_not_trimmed_drops_nothing(rows_file: Path, teacher: str, run_dir: Path) -> None:
    events = go(recipe(rows_file, [distill(teacher, SMALLER)]), run_dir)
    assert "dropped_mass" not in of(events, "step")[0]["metrics"]
    assert "dropped_mass" not in events[-1]["evaluation"]["models"]["student"]
    assert len(saved(run_dir / "student")[1]) == WHOLE


def test_a_trimmed_model_tuned_alone_stands_beside_its_original(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    made = recipe(rows_file, [tune(teacher, {"init": "pretrained", **TRIM})])
    events = go(made, run_dir)
    scores = events[-1]["evaluation"]["models"]
    assert set(scores) == {"original", "student", "untrained_student"}
    assert scores["student"]["parameters"] < scores["original"]["parameters"]


def test_c20_more_tokens_can_be_kept(rows_file: Path, teacher: str, tmp_path: Path) -> None:
    sizes = []
    for extra in (0, 20):
        folder = tmp_path / "runs" / str(extra)
        folder.mkdir(parents=True)
        trim = {"vocab_trim": {"extra_tokens": extra}}
        go(recipe(rows_file, [distill(teacher, {**SMALLER, **trim})]), folder)
        sizes.append(len(saved(folder / "student")[1]))
    assert sizes[0] + 20 <= sizes[1] <= WHOLE


def test_before_it_starts_it_is_as_large_as_it_will_be(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    """The forecast reads no weights, and counts the tokens of labelled rows exactly."""
    lines = [line for line in rows_file.read_text().splitlines() if "response" in line]
    rows_file.write_text("\n".join(lines))
    made = recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})])
    facts = api.student_facts(teacher, {**SMALLER, **TRIM}, made.data.model_dump())
    go(made, run_dir)
    model, tokenizer = saved(run_dir / "student")
    assert facts["parameters"] == model.num_parameters()
    assert facts["vocab_size"] == len(tokenizer)
    assert facts["layer_map"].endswith(f"; vocabulary {len(tokenizer)} of 384")
    (report,) = api.pair_reports(made)
    assert report["verdict"] == (
        f"Same tokenizer, of which the student keeps {len(tokenizer)} of {WHOLE} tokens."
    )
    assert report["comparable"]


# --- stop, resume ---------------------------------------------------------------------------


DOWN = "trimmed once, two steps down"


@pytest.mark.parametrize(
    ("way", "at"), [(DOWN, 1), (DOWN, 3), (DOWN, 6), ("its own answers before a mixture", 3)]
)
def test_a_stopped_chain_resumes_to_the_same_student(
    way: str, at: int, rows_file: Path, teacher: str, tmp_path: Path
) -> None:
    made = recipe(rows_file, WAYS[way](teacher))
    whole_dir, cut_dir = tmp_path / "runs" / "whole", tmp_path / "runs" / "cut"
    for folder in (whole_dir, cut_dir):
        folder.mkdir(parents=True)
    go(made, whole_dir)
    assert go(made, cut_dir, stop_after=at)[-1]["type"] == "run_stopped"
    assert go(made, cut_dir)[-1]["type"] == "run_finished"
    ours, theirs = (
        load_file(folder / "student" / "model.safetensors") for folder in (whole_dir, cut_dir)
    )
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_a_resumed_run_keeps_the_tokens_that_were_chosen_first(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_core.students import build

    made = recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})])
    go(made, run_dir, stop_after=2)
    first = json.loads((run_dir / "parts" / "stage_0.json").read_text())["tokens"]
    monkeypatch.setattr(build, "kept_tokens", lambda *given, **more: pytest.fail("chosen again"))
    assert go(made, run_dir)[-1]["type"] == "run_finished"
    assert len(saved(run_dir / "student")[1]) == len(first)


# --- baselines, comparing, exporting --------------------------------------------------------


def test_baselines_are_the_same_student_though_their_rows_have_other_words(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    """The teacher's own text has tokens that the labelled rows lack: they are spelled."""
    made = recipe(
        rows_file,
        [
            distill(
                teacher,
                {**SMALLER, **TRIM},
                teacher_answers={"max_new_tokens": 8, "rows": "unlabelled"},
            )
        ],
        evaluation={
            "rows": 4,
            "max_new_tokens": 4,
            "baselines": ["fine_tuned_on_labels", "fine_tuned_on_teacher_text"],
        },
    )
    scores = go(made, run_dir)[-1]["evaluation"]["models"]
    known = saved(run_dir / "student")[1].get_vocab()
    for name, folder in (
        ("fine_tuned_on_labels", "baseline"),
        ("fine_tuned_on_teacher_text", "baseline_teacher_text"),
    ):
        assert scores[name]["parameters"] == scores["student"]["parameters"]
        assert saved(run_dir / folder)[1].get_vocab() == known


def test_compare_speaks_to_both_in_their_own_tokens(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    go(recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})]), run_dir)
    prompt = "please turn on nothing"
    events = list(
        compare.compare(run_dir, prompt, models=None, max_new_tokens=5, sampling_temperature=0.0)
    )
    told = {event["model"]: event for event in events if event["type"] == "tokens"}
    assert set(told) == {"student", "untrained_student"}
    for event in told.values():
        assert event["mean_kl"] >= 0
        assert 0 < event["dropped_mass"] < 1
    student = lineup.load(run_dir, lineup.member(run_dir, "student"), device=torch.device("cpu"))
    whole = lineup.load(run_dir, lineup.member(run_dir, "teacher"), device=torch.device("cpu"))
    expected = _by_hand(student, whole, prompt, [t["text"] for t in told["student"]["tokens"]])
    assert told["student"]["mean_kl"] == pytest.approx(expected[0], rel=1e-4)
    assert told["student"]["dropped_mass"] == pytest.approx(expected[1], abs=1e-6)


@torch.no_grad()
def _by_hand(student: Any, teacher: Any, prompt: str, texts: list[str]) -> tuple[float, float]:
    """Mean KL and dropped mass over the student's greedy answer, from the models themselves."""
    tokens = student.tokenizer.get_vocab()
    order = sorted(tokens, key=lambda text: tokens[text])
    ids = [teacher.tokenizer.get_vocab()[text] for text in order]
    chat = [{"role": "user", "content": prompt}]

    def asked(tokenizer: Any) -> list[int]:
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    ours, theirs = asked(student.tokenizer), asked(teacher.tokenizer)
    total, dropped = 0.0, 0.0
    for _ in texts:
        q = student.model(torch.tensor([ours])).logits[0, -1].softmax(-1)
        p = teacher.model(torch.tensor([theirs])).logits[0, -1, :WHOLE].softmax(-1)[ids]
        dropped += 1 - float(p.sum())
        p = p / p.sum()
        total += float((p * (p / q).log()).sum())
        chosen = int(q.argmax())
        ours.append(chosen)
        theirs.append(ids[chosen])
    return total / len(texts), dropped / len(texts)


def test_it_is_scored_again_in_its_own_tokens(rows_file: Path, teacher: str, run_dir: Path) -> None:
    made = recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})])
    stored = go(made, run_dir)[-1]["evaluation"]["models"]["student"]
    again = evaluate.evaluate_run(run_dir, made, data=None, rows=4)["models"]["student"]
    assert again["fingerprint"] == stored["fingerprint"]
    assert 0 < again["dropped_mass"] < 1


def test_it_is_exported_whole(rows_file: Path, teacher: str, run_dir: Path, tmp_path: Path) -> None:
    go(recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})]), run_dir)
    target = tmp_path / "exported"
    assert export_run(run_dir, "hf", target) == target
    shutil.rmtree(run_dir)
    model, tokenizer = saved(target)
    assert len(tokenizer) == model.config.vocab_size < WHOLE
    ids = tokenizer("please turn on the light, naïve 🙂", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == "please turn on the light, naïve 🙂"
    answer = model.generate(ids, max_new_tokens=3, do_sample=False)
    assert answer.max() < len(tokenizer)


# --- what cannot be -------------------------------------------------------------------------


def test_a_student_with_tokens_that_its_teacher_has_lost_is_refused(
    rows_file: Path, teacher: str, run_dir: Path
) -> None:
    made = recipe(
        rows_file,
        [
            distill(teacher, {**SMALLER, **TRIM}),
            distill("previous", {"init": "pretrained", "model": teacher}),
        ],
    )
    errors = [problem for problem in checks.check(made) if problem.severity == "error"]
    assert "stages.1.student.model" in {problem.field for problem in errors}
    assert any("has tokens that its teacher lacks" in problem.message for problem in errors)
    with pytest.raises(ModelError):
        go(made, run_dir)


@pytest.mark.parametrize("first", [True, False])
def test_a_trimmed_teacher_is_never_mixed_with_a_whole_one(
    first: bool, rows_file: Path, teacher: str, run_dir: Path
) -> None:
    teachers = [{"model": "previous"}, {"model": teacher}]
    made = recipe(
        rows_file,
        [
            distill(teacher, {**SMALLER, **TRIM}),
            distill(teachers if first else teachers[::-1], SMALLER),
        ],
    )
    (error,) = [problem for problem in checks.check(made) if problem.severity == "error"]
    assert error.field == "stages.1.teacher.1.model"
    assert "trimmed in the stage before" in error.message
    with pytest.raises(ModelError, match="cannot be mixed") as caught:
        go(made, run_dir)
    assert caught.value.field == error.field


def test_own_answers_that_the_teacher_reads_in_another_template_are_refused(
    rows_file: Path, teacher: str, tmp_path: Path, run_dir: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(teacher, folder)
    tokenizers.byte_level(tokenizers.TRIMMED, size=WHOLE, corpus=CORPUS).save_pretrained(folder)
    student = {"init": "pretrained", "model": str(folder), **TRIM}
    across = {"losses": [{"name": "reverse_kl"}]}
    made = recipe(rows_file, [distill(teacher, student, **OWN, **across)])
    errors = [problem for problem in checks.check(made) if problem.severity == "error"]
    assert "stages.0.on_policy_fraction" in {problem.field for problem in errors}
    with pytest.raises(ModelError):
        go(made, run_dir)


def test_a_tokenizer_that_cannot_be_trimmed_is_told_at_its_field(
    rows_file: Path, teacher: str, tmp_path: Path
) -> None:
    folder = tmp_path / "marked"
    shutil.copytree(teacher, folder)
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["end_of_word_suffix"] = "</w>"
    (folder / "tokenizer.json").write_text(json.dumps(state))
    made = recipe(rows_file, [distill(str(folder), {**SMALLER, **TRIM})])
    (error,) = [problem for problem in checks.check(made) if problem.severity == "error"]
    assert error.field == "stages.0.student.vocab_trim"
    assert "cannot be trimmed" in error.message


def test_a_tokenizer_that_would_cut_otherwise_is_told(
    rows_file: Path, teacher: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise that pieces stay the same is kept by looking, row by row."""
    from distill_core.stages import learner

    real = learner.trimmed_tokenizer

    def lowered(tokenizer: Any, tokens: Any) -> Any:
        found = real(tokenizer, tokens)
        state = json.loads(found.backend_tokenizer.to_str())
        state["model"]["merges"] = []
        folder = run_dir / "lowered"
        found.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(state))
        return AutoTokenizer.from_pretrained(folder)

    monkeypatch.setattr(learner, "trimmed_tokenizer", lowered)
    made = recipe(rows_file, [distill(teacher, {**SMALLER, **TRIM})])
    with pytest.raises(ModelError, match="otherwise than the whole one") as caught:
        go(made, run_dir)
    assert caught.value.field == "vocab_trim"


# --- classes --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_classes_are_told_apart_with_fewer_tokens(
    kind: str, tiny_encoder_dir: Path, tiny_teacher_dir: Path, tmp_path: Path, run_dir: Path
) -> None:
    folder = tiny_encoder_dir if kind == "encoder" else tiny_teacher_dir
    words = {"on": "turn on the light", "off": "turn off the fan"}
    lines = [
        json.dumps({"text": f"{words[label]} {chr(97 + row % 6)}", "label": label})
        for row, label in enumerate(["on", "off"] * 15)
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(lines))
    data = small_runs.data(path)
    stages = [tune(str(folder)), distill("previous", {**SMALLER, **TRIM})]
    for one in stages:
        one.pop("teacher_answers", None)
    made = recipe(path, stages, task="text_classification", data=data)
    assert not [problem for problem in checks.check(made) if problem.severity == "error"]
    events = go(made, run_dir)
    scores = events[-1]["evaluation"]["models"]
    assert scores["student"]["kl_to_teacher"] >= 0
    assert scores["student"]["parameters"] < scores["teacher"]["parameters"]
    assert "dropped_mass" not in scores["student"]
    whole = AutoTokenizer.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(run_dir / "student")
    assert len(tokenizer) < len(whole)
    assert tokenizer.tokenize("turn off the fan") == whole.tokenize("turn off the fan")
    said = list(
        compare.compare(
            run_dir, "turn on the light", models=None, max_new_tokens=1, sampling_temperature=0.0
        )
    )
    told = {event["model"]: event for event in said if event["type"] == "tokens"}
    assert told["student"]["mean_kl"] >= 0
    assert runs.load_recipe(run_dir) == made
