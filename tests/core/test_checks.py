"""Each rule: a recipe that triggers it, and one that does not."""

from __future__ import annotations

import copy
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from distill_core import checks, device, estimate
from distill_core.errors import Problem
from distill_core.estimate import row_facts
from distill_core.models import hub
from distill_core.recipe import Recipe, recipe_yaml
from tests.core.small_runs import spelled

Make = Callable[..., Recipe]
MB = 1_000_000


@pytest.fixture(scope="module")
def tiny_teacher_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """As the shared one, with no row of the vocabulary too many."""
    return _folder_with(tmp_path_factory.mktemp("teacher"), tiny_llama(layers=4), tiny_tokenizer)


@pytest.fixture(scope="module")
def tiny_student_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """As the shared one, with no row of the vocabulary too many."""
    student = tiny_llama(hidden_size=16, seed=1)
    return _folder_with(tmp_path_factory.mktemp("student"), student, tiny_tokenizer)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """800 labelled rows."""
    return _write(tmp_path / "rows.jsonl", 800, answer="on")


@pytest.fixture
def make(tiny_teacher_dir: Path, rows: Path) -> Make:
    """A recipe without problems, changed by `a.b=c` overrides."""

    def build(*overrides: str, stages: list[dict[str, Any]] | None = None) -> Recipe:
        plain = {
            "data": {
                "sources": [{"kind": "file", "path": str(rows)}],
                "held_out": 0.4,
                "max_seq_len": 64,
            },
            "stages": stages
            or [
                {
                    "kind": "distill",
                    "teacher": str(tiny_teacher_dir),
                    "student": {"init": "layer_drop", "layers": 2},
                    "losses": [
                        {"name": "forward_kl", "weight": 0.9},
                        {"name": "cross_entropy", "weight": 0.1},
                    ],
                }
            ],
        }
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def _write(path: Path, count: int, *, answer: str | None) -> Path:
    words = ["light", "fan", "tv", "kitchen", "hall"]
    lines = []
    for number in range(count):
        row = {"prompt": f"turn {words[number % 5]} {spelled(number)}"}
        lines.append(json.dumps(row | ({"response": answer} if answer else {})))
    path.write_text("\n".join(lines) + "\n")
    return path


def _found(recipe: Recipe, field: str) -> Problem:
    """The one problem at a field."""
    problems = [problem for problem in checks.check(recipe) if problem.field == field]
    assert len(problems) == 1, [str(problem) for problem in checks.check(recipe)]
    return problems[0]


def _folder_with(path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_sound_recipe_has_no_problems(make: Make) -> None:
    assert checks.check(make()) == []


def test_the_default_recipe_has_no_problems_and_is_checked_quickly() -> None:
    from distill_core import api

    recipe = api.load_recipe("pocket_student")
    assert checks.check(recipe) == []
    changed = api.load_recipe("pocket_student", ["stages.0.student.layers=3"])
    started = time.process_time()
    checks.check(changed)
    assert time.process_time() - started < 1.0


def test_everything_is_told_at_once_and_errors_come_first(make: Make) -> None:
    problems = checks.check(
        make(
            "stages.0.losses.0.temperature=9",
            "stages.0.student.layers=9",
            "data.max_seq_len=999",
            "data.sources.0.path=nowhere.jsonl",
        )
    )
    fields = [problem.field for problem in problems]
    assert {"stages.0.student.layers", "data.max_seq_len", "data.sources.0.path"} < set(fields)
    assert fields[-1] == "stages.0.losses.0.temperature"
    assert [problem.severity for problem in problems] == ["error"] * 3 + ["warning"]


def test_no_weights_are_loaded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("loaded")
    )
    assert checks.check(make()) == []


# --- names --------------------------------------------------------------------------------------


def test_previous_needs_a_stage_before(make: Make, tiny_teacher_dir: Path) -> None:
    problem = _found(make("stages.0.teacher=previous"), "stages.0.teacher")
    assert problem.severity == "error"
    assert "this is the first stage" in problem.message
    fine_tune = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    distill = {"kind": "distill", "teacher": "previous", "student": {"init": "layer_drop"}}
    distill["student"] = {"init": "layer_drop", "layers": 2}
    assert checks.check(make(stages=[fine_tune, distill])) == []


def test_previous_as_a_students_weights_needs_a_stage_before(make: Make) -> None:
    problem = _found(
        make("stages.0.student={init: pretrained, model: previous}"), "stages.0.student.model"
    )
    assert "this is the first stage" in problem.message


def test_sizes_are_followed_from_stage_to_stage(make: Make, tiny_teacher_dir: Path) -> None:
    def drop(teacher: str, layers: int) -> dict[str, Any]:
        student = {"init": "layer_drop", "layers": layers}
        return {"kind": "distill", "teacher": teacher, "student": student}

    first = drop(str(tiny_teacher_dir), 2)
    assert checks.check(make(stages=[first, drop("previous", 1)])) == []
    problem = _found(make(stages=[first, drop("previous", 3)]), "stages.1.student.layers")
    assert problem.message == "layers = 3, but the teacher has only 2. Choose at most 2."


def test_an_unknown_teacher(make: Make) -> None:
    problem = _found(make("stages.0.teacher=poket-teacher"), "stages.0.teacher")
    assert (problem.severity, problem.fix) == ("error", "Did you mean 'pocket-teacher'?")


def test_an_encoder_writes_no_text(make: Make, tiny_encoder_dir: Path) -> None:
    problem = _found(make(f"stages.0.teacher={tiny_encoder_dir}"), "stages.0.teacher")
    assert "is an encoder (bert)" in problem.message
    assert "causal language model" in problem.fix


def test_a_hub_that_cannot_be_reached(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    problem = _found(make("stages.0.teacher=someone/something"), "stages.0.teacher")
    assert problem.severity == "error"
    assert "cannot be reached" in problem.message
    assert "pocket-teacher" in problem.fix


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "field"),
    [
        ("{init: scratch, layers: 2, hidden_size: 96}", "stages.0.student.hidden_size"),
        ("{init: scratch, layers: 5, hidden_size: 32}", "stages.0.student.layers"),
    ],
)
def test_a_student_larger_than_its_teacher(make: Make, student: str, field: str) -> None:
    problem = _found(make(f"stages.0.student={student}"), field)
    assert problem.severity == "error"
    assert "more than its teacher's" in problem.message


def test_a_pretrained_student_larger_than_its_teacher(
    make: Make, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    recipe = make(
        f"stages.0.teacher={tiny_student_dir}",
        f"stages.0.student={{init: pretrained, model: {tiny_teacher_dir}}}",
    )
    assert "more than its teacher's" in _found(recipe, "stages.0.student.model").message


def test_a_student_as_large_as_its_teacher(make: Make) -> None:
    problem = _found(make("stages.0.student.layers=4"), "stages.0.student.layers")
    assert problem.severity == "warning"
    assert "as large as its teacher" in problem.message


def test_more_layers_than_the_teacher_has(make: Make) -> None:
    problem = _found(make("stages.0.student.layers=5"), "stages.0.student.layers")
    assert problem.severity == "error"
    assert "the teacher has only 4" in problem.message


@pytest.mark.parametrize(
    ("student", "field", "message"),
    [
        ("hidden_size: 30, attention_heads: 4", "attention_heads", "cannot be divided among 4"),
        ("hidden_size: 12, attention_heads: 4", "attention_heads", "odd width per head"),
        ("hidden_size: 17", "hidden_size", "odd width per head"),
    ],
)
def test_widths_that_do_not_fit(make: Make, student: str, field: str, message: str) -> None:
    recipe = make(f"stages.0.student={{init: scratch, layers: 1, {student}}}")
    problem = _found(recipe, f"stages.0.student.{field}")
    assert problem.severity == "error"
    assert message in problem.message


@pytest.mark.parametrize(
    ("student", "field", "message"),
    [
        ("layer_drop, keep_layers: [1, 5]", "keep_layers", "must name layers 1 to 4"),
        ("width_prune, layers: 5", "layers", "only 4"),
        ("width_prune, hidden_size: 40", "hidden_size", "only 32"),
        ("width_prune, hidden_size: 21", "hidden_size", "hidden_size 21 does not fit"),
        ("width_prune, attention_heads: 3", "attention_heads", "Choose one of 2, 4"),
        ("width_prune, intermediate_size: 65", "intermediate_size", "only 64"),
    ],
)
def test_parts_that_the_teacher_lacks(make: Make, student: str, field: str, message: str) -> None:
    problem = _found(make(f"stages.0.student={{init: {student}}}"), f"stages.0.student.{field}")
    assert problem.severity == "error"
    assert message in problem.message


def test_an_architecture_that_cannot_be_made_narrower(
    make: Make, tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    from transformers import StableLmConfig, StableLmForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    other = StableLmForCausalLM(
        StableLmConfig(vocab_size=64, num_attention_heads=4, num_key_value_heads=4, **sizes)
    )
    folder = _folder_with(tmp_path / "other", other, tiny_tokenizer)
    student = "stages.0.student={init: width_prune, hidden_size: 16}"
    problem = _found(make(f"stages.0.teacher={folder}", student), "stages.0.student.init")
    assert "stablelm model cannot be made narrower" in problem.message
    assert "llama, mistral, qwen2" in problem.fix


def test_a_wide_gap(
    make: Make,
    tmp_path: Path,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    big = _folder_with(tmp_path / "big", tiny_llama(layers=4, hidden_size=128), tiny_tokenizer)
    student = "stages.0.student={init: scratch, layers: 1, hidden_size: 16}"
    problem = _found(make(f"stages.0.teacher={big}", student), "stages.0.student.hidden_size")
    assert problem.severity == "warning"
    assert "times larger than the student" in problem.message
    assert "1902.03393" in problem.message


def test_rows_longer_than_a_model_can_read(make: Make) -> None:
    problem = _found(make("data.max_seq_len=129"), "data.max_seq_len")
    assert problem.severity == "error"
    assert problem.fix == "Set it to 128 or less."
    assert checks.check(make("data.max_seq_len=128")) == []


# --- pairs of models --------------------


def _retokenized(source: Path, target: Path, change: Callable[[dict[str, int]], None]) -> Path:
    shutil.copytree(source, target)
    content = json.loads((target / "tokenizer.json").read_text())
    change(content["model"]["vocab"])
    (target / "tokenizer.json").write_text(json.dumps(content))
    return target


def test_other_tokenizers_are_told_by_their_map_not_their_size(
    make: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    def swap(vocabulary: dict[str, int]) -> None:
        vocabulary["turn"], vocabulary["on"] = vocabulary["on"], vocabulary["turn"]

    other = _retokenized(tiny_student_dir, tmp_path / "other", swap)
    recipe = make(f"stages.0.student={{init: pretrained, model: {other}}}")
    problem = _found(recipe, "stages.0.losses.0")
    assert problem.severity == "error"
    assert problem.message.startswith("forward_kl compares the two models token by token")
    assert "different tokenizers (47 of 49 tokens have the same id)" in problem.message
    assert "Use cross_tokenizer" in problem.fix
    problem = _found(recipe, "stages.0.student.model")
    assert problem.severity == "info"
    assert problem.message.startswith("Different tokenizers: cross-tokenizer loss or text.")
    assert problem.fix == ""  # told once, at the loss
    same = make(f"stages.0.student={{init: pretrained, model: {tiny_student_dir}}}")
    assert checks.check(same) == []


@pytest.mark.parametrize(
    "name",
    [
        *("forward_kl", "reverse_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl"),
        "total_variation",
    ],
)
def test_c5_no_term_compares_ids_across_tokenizers(
    make: Make, tiny_student_dir: Path, tmp_path: Path, name: str
) -> None:
    def shift(vocabulary: dict[str, int]) -> None:
        vocabulary.update({word: (number + 1) % 49 for word, number in vocabulary.items()})

    other = _retokenized(tiny_student_dir, tmp_path / "other", shift)
    student = f"stages.0.student={{init: pretrained, model: {other}}}"
    both = f"stages.0.losses=[{{name: {name}}}, {{name: cross_tokenizer}}]"
    assert _found(make(student, both), "stages.0.losses.0").severity == "error"
    off = f"stages.0.losses=[{{name: {name}, weight: 0}}, {{name: cross_tokenizer}}]"
    assert not any(p.severity == "error" for p in checks.check(make(student, off)))


def test_one_tokenizer_needs_no_loss_across_tokenizers(make: Make) -> None:
    problem = _found(make("stages.0.losses=[{name: cross_tokenizer}]"), "stages.0.losses.0")
    assert problem.severity == "info"
    assert "forward_kl" in problem.fix


def test_other_chat_templates(make: Make, tiny_student_dir: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_student_dir, tmp_path / "other"))
    template = "{% for message in messages %}{{ message['content'] }}<eos>{% endfor %}"
    (other / "chat_template.jinja").write_text(template)
    recipe = make(f"stages.0.student={{init: pretrained, model: {other}}}")
    problem = _found(recipe, "stages.0.student.model")
    assert problem.severity == "info"
    assert "another chat template" in problem.message
    student = f"stages.0.student={{init: pretrained, model: {other}}}"
    problem = _found(make(student, "stages.0.losses=[{name: attention}]"), "stages.0.losses.0")
    assert problem.severity == "error"
    assert "chat templates of their own" in problem.message


def test_c15_says_which_layer_learns_from_which(make: Make) -> None:
    losses = "stages.0.losses=[{name: hidden_states}, {name: attention, layers: all}]"
    scratch = "stages.0.student={init: scratch, layers: 2, hidden_size: 16, attention_heads: 4}"
    found = _found(make(losses, scratch), "stages.0.losses.0.layer_map")
    assert found.severity == "info"
    assert "student layer 1 learns from teacher layer 2, 2 from 4" in found.message
    assert "projectors" in found.message
    dropped = "stages.0.student={init: layer_drop, layers: 2, keep: lower}"
    found = _found(make(losses, dropped), "stages.0.losses.1.layer_map")
    assert "student layer 1 learns from teacher layer 1, 2 from 4" in found.message
    assert "projectors" not in found.message


@pytest.mark.parametrize(
    ("loss", "field", "message"),
    [
        ('{name: attention, layer_map: "3:1"}', "layer_map", "layer 3 of the student"),
        ("{name: hidden_states, layer_map: {1: 9}}", "layer_map", "layer 9 of the teacher"),
        (
            "{name: attention, compares: values, relation_heads: 3}",
            "relation_heads",
            "does not divide",
        ),
    ],
)
def test_layers_and_heads_that_are_not_there(
    make: Make, loss: str, field: str, message: str
) -> None:
    dropped = "stages.0.student={init: layer_drop, layers: 2}"
    found = _found(make(f"stages.0.losses=[{loss}]", dropped), f"stages.0.losses.0.{field}")
    assert found.severity == "error"
    assert message in found.message
    assert found.fix


def test_other_ends_of_an_answer(
    make: Make, tiny_student_dir: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_student_dir, tmp_path / "other"))
    template = "{% for message in messages %}{{ message['content'] }}<unk>{% endfor %}"
    (other / "chat_template.jinja").write_text(template)
    recipe = make(f"stages.0.student={{init: pretrained, model: {other}}}")
    problem = _found(recipe, "stages.0.losses.0")
    assert problem.severity == "error"
    assert "they end an answer with <eos> and <unk>" in problem.message
    mended = make(
        f"stages.0.student={{init: pretrained, model: {other}}}",
        "stages.0.losses=[{name: cross_tokenizer}]",
    )
    assert not any(problem.severity == "error" for problem in checks.check(mended))


def test_a_padded_vocabulary_is_only_worth_knowing(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "padded"
    config = {"vocab_size": 100}
    _resized(folder, make().stages[0].teacher, config)  # type: ignore[union-attr]
    problem = _found(make(f"stages.0.teacher={folder}"), "stages.0.teacher")
    assert problem.severity == "info"
    assert "100 rows for" in problem.message


def test_a_vocabulary_that_is_too_small_is_an_error(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    _resized(folder, make().stages[0].teacher, {"vocab_size": 20})  # type: ignore[union-attr]
    problem = _found(make(f"stages.0.teacher={folder}"), "stages.0.teacher")
    assert problem.severity == "error"
    assert "only 20 rows" in problem.message


def _resized(folder: Path, source: str, changes: dict[str, Any]) -> None:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("family", ["meta-llama-3.1-8b", "gemma-2-2b-it"])
def test_licences_that_follow_the_student(
    make: Make, tiny_teacher_dir: Path, tmp_path: Path, family: str
) -> None:
    folder = Path(shutil.copytree(tiny_teacher_dir, tmp_path / family))
    problem = _found(make(f"stages.0.teacher={folder}"), "stages.0.teacher")
    assert problem.severity == "info"
    assert family.split("-")[0 if "gemma" in family else 1].capitalize() in problem.message
    assert "https://" in problem.fix


# --- teachers -----------------------------------------------------------------------------------


def _two(first: Path, second: Path) -> str:
    return f"stages.0.teacher=[{{model: {first}, weight: 2}}, {{model: {second}}}]"


def test_two_teachers_of_one_family(
    make: Make, tiny_teacher_dir: Path, tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    other = _folder_with(tmp_path / "other", tiny_llama(layers=5, seed=3), tiny_tokenizer)
    assert checks.check(make(_two(tiny_teacher_dir, other))) == []
    problem = _found(make(_two(other, other)), "stages.0.teacher.1.model")
    assert (problem.severity, "named twice" in problem.message) == ("warning", True)


def test_c5_teachers_with_different_tokenizers_are_never_mixed(
    make: Make, tiny_teacher_dir: Path, tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    swapped = tmp_path / "swapped"
    _folder_with(swapped, tiny_llama(layers=4), tiny_tokenizer)
    text = (swapped / "tokenizer.json").read_text()  # as many tokens, two of them exchanged
    text = text.replace('"light"', '"LIGHT"').replace('"fan"', '"light"')
    (swapped / "tokenizer.json").write_text(text.replace('"LIGHT"', '"fan"'))
    problem = _found(make(_two(tiny_teacher_dir, swapped)), "stages.0.teacher.1.model")
    assert problem.severity == "error"
    assert "cannot be mixed" in problem.message
    assert re.search(r"\d+ of \d+ tokens have the same id", problem.message)


def test_a_second_teacher_that_does_not_exist_is_told_at_its_field(
    make: Make, tiny_teacher_dir: Path
) -> None:
    recipe = make(_two(tiny_teacher_dir, Path("no/where/at/all")))
    assert _found(recipe, "stages.0.teacher.1.model").severity == "error"
    first = make("stages.0.teacher=[{model: previous}, {model: previous}]")
    fields = [problem.field for problem in checks.check(first)]
    assert fields == ["stages.0.teacher.0.model", "stages.0.teacher.1.model"]


def test_a_format_that_does_not_work_here(make: Make) -> None:
    problem = _found(make("device=cpu", "stages.0.teacher_precision=int4"), _FORMAT)
    assert problem.severity == "error"
    assert "CUDA only" in problem.message
    assert "int8" in problem.fix


_FORMAT = "stages.0.teacher_precision"


@pytest.mark.parametrize(
    ("gain", "fast_bf16", "severity"), [(0.4, False, "warning"), (2.0, True, "info")]
)
def test_int8_that_is_of_little_use_here(
    make: Make, monkeypatch: pytest.MonkeyPatch, gain: float, fast_bf16: bool, severity: str
) -> None:
    from distill_core.teachers import int8

    monkeypatch.setattr(int8, "gain", lambda: gain)
    monkeypatch.setattr(device, "cpu_has_fast_bf16", lambda: fast_bf16)
    problem = _found(make("device=cpu", "stages.0.teacher_precision=int8"), _FORMAT)
    assert problem.severity == severity
    monkeypatch.setattr(int8, "gain", lambda: 2.0)
    monkeypatch.setattr(device, "cpu_has_fast_bf16", lambda: False)
    assert checks.check(make("device=cpu", "stages.0.teacher_precision=int8")) == []
    slow = _found(make("device=cpu", "stages.0.teacher_precision=bf16"), _FORMAT)
    assert "half the memory and more time" in slow.message


@pytest.mark.parametrize("name", ["hidden_states", "attention"])
def test_several_teachers_have_no_common_inside(
    make: Make,
    tiny_teacher_dir: Path,
    tmp_path: Path,
    tiny_llama: Any,
    tiny_tokenizer: Any,
    name: str,
) -> None:
    terms = f"stages.0.losses=[{{name: forward_kl}}, {{name: {name}}}]"
    assert {found.severity for found in checks.check(make(terms))} <= {"info"}
    other = _folder_with(tmp_path / "other", tiny_llama(layers=5, seed=3), tiny_tokenizer)
    problem = _found(make(terms, _two(tiny_teacher_dir, other)), "stages.0.losses.1")
    assert (problem.severity, name.replace("_", " ") in problem.message) == ("error", True)


# --- the student's own answers, the teacher's text ------------------------------------------------

_SHARE = "stages.0.on_policy_fraction"
_ROOM = "stages.0.student_answers.max_new_tokens"
_SHORT = f"{_ROOM}=16"


def test_a_comparison_must_judge_what_the_student_writes(make: Make) -> None:
    assert checks.check(make(f"{_SHARE}=0.5", _SHORT)) == []
    text = "{name: cross_entropy, targets: labels_and_teacher_text}"
    alone = _found(make(f"{_SHARE}=0.5", _SHORT, f"stages.0.losses=[{text}]"), _SHARE)
    assert (alone.severity, "no labels" in alone.message) == ("error", True)
    always = _found(make(f"{_SHARE}=1", _SHORT), _SHARE)
    assert (always.severity, "cross_entropy stays empty" in always.message) == ("warning", True)
    assert checks.check(make(f"{_SHARE}=1", _SHORT, "stages.0.losses=[{name: jsd}]")) == []


def test_the_teacher_must_read_what_the_student_writes(
    make: Make, tiny_student_dir: Path, tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    def fields(folder: Path, loss: str) -> list[str]:
        student = f"stages.0.student={{init: pretrained, model: {folder}}}"
        losses = f"stages.0.losses=[{{name: {loss}}}]"
        found = checks.check(make(f"{_SHARE}=0.5", _SHORT, student, losses))
        return [problem.field for problem in found if problem.severity == "error"]

    assert fields(tiny_student_dir, "jsd") == []
    assert fields(tiny_student_dir, "cross_tokenizer") == [_SHARE]
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}"
    other = _folder_with(tmp_path / "other", tiny_llama(hidden_size=16), tokenizer)
    assert _SHARE in fields(other, "jsd")


def test_random_weights_cannot_write_yet(make: Make) -> None:
    scratch = "stages.0.student={init: scratch, layers: 2, hidden_size: 16}"
    problem = _found(make(f"{_SHARE}=0.5", _SHORT, scratch), _SHARE)
    assert (problem.severity, "noise" in problem.message) == ("warning", True)


def test_answers_that_are_never_asked_for(make: Make) -> None:
    assert _found(make(_SHORT), "stages.0.student_answers").severity == "warning"


def test_own_answers_leave_room_for_their_prompts(make: Make) -> None:
    problem = _found(make(f"{_SHARE}=0.5", f"{_ROOM}=60"), _ROOM)
    assert "leave 4 of max_seq_len 64" in problem.message


def test_the_teacher_s_text_may_stand_in_for_labels_put_aside(make: Make) -> None:
    aside = "stages.0.teacher_answers={rows: all, max_new_tokens: 32}"
    assert _found(make(aside), "stages.0.losses.1").severity == "warning"
    text = "{name: cross_entropy, targets: labels_and_teacher_text}"
    assert checks.check(make(aside, f"stages.0.losses=[{{name: forward_kl}}, {text}]")) == []
    assert checks.check(make(aside, f"stages.0.losses=[{text}]")) == []


# --- one stage's settings --------------------


def test_all_weights_zero(make: Make) -> None:
    recipe = make("stages.0.losses.0.weight=0", "stages.0.losses.1.weight=0")
    assert "nothing to learn from" in _found(recipe, "stages.0.losses").message


def test_a_term_named_twice(make: Make) -> None:
    losses = "stages.0.losses=[{name: forward_kl}, {name: forward_kl, temperature: 2}]"
    problem = _found(make(losses), "stages.0.losses.1")
    assert problem.severity == "error"
    assert "named 2 times" in problem.message


def test_only_labels_in_a_distill_stage(make: Make) -> None:
    problem = _found(make("stages.0.losses.0.weight=0"), "stages.0.losses")
    assert problem.severity == "warning"
    assert "the teacher is never asked" in problem.message


@pytest.mark.parametrize("name", ["reverse_kl", "jsd", "total_variation"])
def test_every_term_but_cross_entropy_asks_the_teacher(make: Make, name: str) -> None:
    recipe = make(f"stages.0.losses=[{{name: {name}, weight: 1}}, {{name: cross_entropy}}]")
    assert not [p for p in checks.check(recipe) if "never asked" in p.message]
    recipe = make(f"stages.0.losses=[{{name: {name}, weight: 0}}, {{name: cross_entropy}}]")
    assert [p for p in checks.check(recipe) if "never asked" in p.message]


@pytest.mark.parametrize(
    ("loss", "field", "words"),
    [
        ("{name: jsd, beta: 0.01}", "beta", "about 0.01 times the forward KL"),
        ("{name: jsd, beta: 0.98}", "beta", "about 0.02 times the reverse KL"),
        ("{name: skewed_forward_kl, skew: 0.97}", "skew", "compared almost with itself"),
        ("{name: jsd, beta: 0}", "beta", ""),
        ("{name: jsd, beta: 0.1}", "beta", ""),
        ("{name: skewed_reverse_kl, skew: 0.1}", "skew", ""),
    ],
)
def test_a_mixture_that_fades(make: Make, loss: str, field: str, words: str) -> None:
    recipe = make(f"stages.0.losses=[{loss}]")
    if words:
        problem = _found(recipe, f"stages.0.losses.0.{field}")
        assert words in problem.message
    else:
        assert not [p for p in checks.check(recipe) if p.field.endswith(field)]


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "total_variation"])
def test_a_hot_temperature_of_any_term(make: Make, name: str) -> None:
    recipe = make(f"stages.0.losses=[{{name: {name}, temperature: 5}}]")
    assert "flattens" in _found(recipe, "stages.0.losses.0.temperature").message


def test_a_schedule_is_judged_by_its_highest_value(make: Make) -> None:
    recipe = make("stages.0.losses.0.temperature={start: 1, end: 6}")
    assert "Temperature 6" in _found(recipe, "stages.0.losses.0.temperature").message
    zero = make("stages.0.losses=[{name: forward_kl, weight: {start: 0, end: 0}}]")
    assert "weight 0" in _found(zero, "stages.0.losses").message
    later = make("stages.0.losses=[{name: forward_kl, weight: {start: 0, end: 1}}]")
    assert not [p for p in checks.check(later) if p.field == "stages.0.losses"]


def test_a_schedule_that_stays(make: Make) -> None:
    recipe = make("stages.0.losses.0.weight={start: 0.5, end: 0.5}")
    assert "does not move" in _found(recipe, "stages.0.losses.0.weight").message
    recipe = make("stages.0.losses.0.weight={start: 0.5, end: 0.4}")
    assert not [p for p in checks.check(recipe) if p.field == "stages.0.losses.0.weight"]


@pytest.mark.parametrize(("temperature", "warns"), [(3.0, False), (3.5, True)])
def test_a_hot_temperature(make: Make, temperature: float, warns: bool) -> None:
    recipe = make(f"stages.0.losses.0.temperature={temperature}")
    if warns:
        problem = _found(recipe, "stages.0.losses.0.temperature")
        assert problem.severity == "warning"
        assert "1503.02531" in problem.fix
    else:
        assert checks.check(recipe) == []


def test_a_micro_batch_above_the_global_one(make: Make) -> None:
    recipe = make("stages.0.optim.micro_batch_size=64")
    assert "more than the 32 rows" in _found(recipe, "stages.0.optim.micro_batch_size").message
    assert checks.check(make("stages.0.optim.micro_batch_size=32")) == []


def test_fine_tuning_random_weights(make: Make, tiny_teacher_dir: Path) -> None:
    student = {"init": "scratch", "layers": 1, "hidden_size": 16}
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir), "student": student}
    problem = _found(make(stages=[stage]), "stages.0.student.init")
    assert problem.severity == "warning"
    assert "random weights" in problem.message


def test_lora_on_random_weights(make: Make) -> None:
    recipe = make(
        "stages.0.student={init: scratch, layers: 1, hidden_size: 16}",
        "stages.0.adapter={kind: lora}",
    )
    problem = _found(recipe, "stages.0.adapter")
    assert problem.severity == "warning"
    assert "almost nothing can be learnt" in problem.message
    assert checks.check(make("stages.0.adapter={kind: lora}")) == []


def test_a_low_rate_for_lora(make: Make) -> None:
    recipe = make("stages.0.adapter={kind: lora}", "stages.0.optim.learning_rate=1e-5")
    problem = _found(recipe, "stages.0.optim.learning_rate")
    assert (problem.severity, "low for LoRA" in problem.message) == ("info", True)


def test_a_high_rate_for_all_weights_of_a_large_model(make: Make) -> None:
    changes = ["stages.0.teacher=smollm2-135m-instruct", "stages.0.optim.learning_rate=3e-3"]
    problem = _found(make(*changes), "stages.0.optim.learning_rate")
    assert (problem.severity, "may forget" in problem.message) == ("info", True)
    assert checks.check(make("stages.0.optim.learning_rate=3e-3")) == []


def test_several_answers_without_sampling(make: Make) -> None:
    problem = _found(make("stages.0.teacher_answers.best_of=4"), "stages.0.teacher_answers.best_of")
    assert problem.severity == "warning"
    assert "the 4 answers to a prompt are all the same" in problem.message
    sampled = "stages.0.teacher_answers={best_of: 4, sampling_temperature: 0.8}"
    assert checks.check(make(sampled)) == []


# --- rows -----------------------------------------------------------------------------------------


def test_labels_that_the_teacher_replaces(make: Make) -> None:
    room = "stages.0.teacher_answers={rows: all, max_new_tokens: 32}"
    problem = _found(make(room), "stages.0.losses.1")
    assert problem.severity == "warning"
    assert "take the place of the labels" in problem.message
    alone = make(room, "stages.0.losses=[{name: cross_entropy}]")
    assert _found(alone, "stages.0.losses.0").severity == "error"
    assert checks.check(make(room, "stages.0.losses=[{name: forward_kl}]")) == []


@pytest.fixture
def unlabelled(make: Make, tmp_path: Path) -> Callable[..., Recipe]:
    """The same recipe on rows without answers, scored on a labelled file."""
    prompts = _write(tmp_path / "prompts.jsonl", 300, answer=None)
    labelled = tmp_path / "labelled.jsonl"
    lines = [json.dumps({"prompt": f"dim tv {n}", "response": "on"}) for n in range(300)]
    labelled.write_text("\n".join(lines))

    def build(*overrides: str, **options: Any) -> Recipe:
        if not options:  # room for prompts beside the teacher's answers
            overrides = ("stages.0.teacher_answers.max_new_tokens=32", *overrides)
        return make(
            f"data.sources.0.path={prompts}",
            f"data.held_out={{kind: file, path: {labelled}}}",
            *overrides,
            **options,
        )

    return build


def test_cross_entropy_without_labels(unlabelled: Callable[..., Recipe]) -> None:
    problem = _found(unlabelled(), "stages.0.losses.1")
    assert problem.severity == "warning"
    assert "this term will stay empty" in problem.message
    alone = unlabelled("stages.0.losses.0.weight=0")
    assert _found(alone, "stages.0.losses.1").severity == "error"


def test_the_teacher_alone_needs_no_labels(unlabelled: Callable[..., Recipe]) -> None:
    assert checks.check(unlabelled("stages.0.losses.1.weight=0")) == []


def test_fine_tuning_without_labels(
    unlabelled: Callable[..., Recipe], tiny_teacher_dir: Path
) -> None:
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    problem = _found(unlabelled(stages=[stage]), "data.sources")
    assert problem.severity == "error"
    assert "none of the 300 rows has an answer" in problem.message


def test_a_baseline_without_labels(unlabelled: Callable[..., Recipe]) -> None:
    recipe = unlabelled("evaluation.baselines=[fine_tuned_on_labels]")
    assert _found(recipe, "evaluation.baselines").severity == "error"


def test_a_baseline_on_the_teachers_text_needs_a_teacher_and_no_labels(
    unlabelled: Callable[..., Recipe], make: Make, tiny_teacher_dir: Path
) -> None:
    wanted = "evaluation.baselines=[fine_tuned_on_teacher_text]"
    assert not [p for p in checks.check(unlabelled(wanted)) if "baselines" in p.field]
    stage = {"kind": "fine_tune", "model": str(tiny_teacher_dir)}
    problem = _found(make(wanted, stages=[stage]), "evaluation.baselines")
    assert problem.severity == "error"
    assert "no stage teaches the student" in problem.message


def test_few_held_out_rows(make: Make) -> None:
    problem = _found(make("data.held_out=0.05"), "data.held_out")
    assert problem.severity == "warning"
    assert "2411.00640" in problem.fix
    problem = _found(make("evaluation.final_rows=100"), "evaluation.final_rows")
    assert "Only 100 rows are scored" in problem.message


def test_rows_that_are_also_scored_on(make: Make, rows: Path) -> None:
    problem = _found(
        make(f"data.held_out={{kind: file, path: {rows}, limit: 300}}"), "data.held_out"
    )
    assert problem.severity == "warning"
    assert problem.message.startswith("300 training rows ask what a held-out row asks too")


def test_answers_that_leave_no_room_for_the_prompt(unlabelled: Callable[..., Recipe]) -> None:
    base = "stages.0.losses.1.weight=0"
    recipe = unlabelled(base, "stages.0.teacher_answers.max_new_tokens=60")
    problem = _found(recipe, "stages.0.teacher_answers.max_new_tokens")
    assert (problem.severity, "leave 4 of max_seq_len 64" in problem.message) == ("warning", True)


def test_every_broken_source_is_told_at_its_own_field(make: Make, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "response": "b"}\nnot json\n')
    sources = [
        {"kind": "file", "path": str(tmp_path / name)}
        for name in ("gone.jsonl", "empty.jsonl", "bad.jsonl")
    ]
    problems = checks.check(make(f"data.sources={json.dumps(sources)}"))
    told = {problem.field: problem for problem in problems}
    assert set(told) == {f"data.sources.{place}.path" for place in range(3)}
    assert "There is no file" in told["data.sources.0.path"].message
    assert "is empty" in told["data.sources.1.path"].message
    assert "bad.jsonl:2" in told["data.sources.2.path"].message
    assert {problem.severity for problem in problems} == {"error"}


def test_a_column_that_is_not_there(make: Make) -> None:
    problem = _found(make("data.columns.prompt=question"), "data.columns.prompt")
    assert "no column 'question'" in problem.message


def test_a_file_that_is_mended_is_seen(make: Make, rows: Path) -> None:
    good = rows.read_text()
    rows.write_text("not json\n")
    assert checks.check(make())[0].field == "data.sources.0.path"
    rows.write_text(good)
    assert checks.check(make()) == []


def test_a_data_set_on_the_hub_is_not_downloaded(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_facts, "_hub_answers", lambda: True)
    monkeypatch.setattr(
        "distill_core.data.sources.read_hub", lambda *a, **k: pytest.fail("downloaded")
    )
    assert checks.check(make("data.sources.0={kind: hub, id: org/name}")) == []


def test_a_data_set_on_a_hub_that_cannot_be_reached(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make("data.sources.0={kind: hub, id: org/name}")
    problem = _found(recipe, "data.sources.0.id")
    assert problem.severity == "error"
    assert "org/name is not on this disk yet" in problem.message
    monkeypatch.setattr(row_facts, "_hub_answers", lambda: True)
    assert checks.check(recipe) == []  # seen as soon as the hub answers


# --- this machine --------------------


def test_a_device_that_is_not_here(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no cuda device" in _found(make("device=cuda"), "device").message


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_on_a_cpu_without_hardware_for_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(device, "cpu_has_fast_bf16", lambda: fast)
    recipe = make("device=cpu", "precision=bf16")
    if fast:
        assert checks.check(recipe) == []
    else:
        problem = _found(recipe, "precision")
        assert (problem.severity, "times slower here" in problem.message) == ("warning", True)


def test_memory_that_does_not_suffice(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make("device=cpu", "stages.0.optim={micro_batch_size: 4096, global_batch_size: 4096}")
    monkeypatch.setattr(device, "memory", lambda: (600 * MB, 600 * MB))
    problem = _found(recipe, "stages.0.optim.micro_batch_size")
    assert problem.severity == "error"
    assert "GB are needed" in problem.message
    assert "Lower micro_batch_size" in problem.fix


def test_memory_that_is_taken_by_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "memory", lambda: (64_000 * MB, 100 * MB))
    problems = checks.check(make("device=cpu"))
    assert [problem.severity for problem in problems] == ["warning"]
    assert problems[0].fix.startswith("Close other programs, or: ")


def test_large_weights_ask_for_an_adapter(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "memory", lambda: (2_000 * MB, 2_000 * MB))
    stage = {"kind": "fine_tune", "model": "smollm2-135m-instruct"}
    stage["optim"] = {"micro_batch_size": 1}  # type: ignore[assignment]
    # rows of known length: without the model's tokenizer on this disk, long ones are assumed
    short = row_facts.Lengths(60.0, 80, 59.0, 1.0)
    monkeypatch.setattr(estimate, "lengths", lambda data, folder, task: short)
    problem = _found(make("device=cpu", stages=[stage]), "stages.0.adapter")
    assert "LoRA" in problem.fix


def test_a_disk_without_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    problem = _found(make(), "checkpoints.keep")
    assert problem.severity == "error"
    assert "--runs-dir" in problem.fix
