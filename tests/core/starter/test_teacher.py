"""The committed teacher: small enough, right nearly always, and made by the build that is here."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill_core.starter import build, loader, rows, teacher_dir

# answers worked out by hand
COMMANDS = {
    "turn on the kitchen light": '{"do":"on","what":"light","room":"kitchen"}',
    "please set the lamp in the study to thirty percent": (
        '{"do":"set","what":"light","room":"office","to":30}'
    ),
    "could you close the bedroom blinds at half past nine pm": (
        '{"do":"close","what":"blinds","room":"bedroom","at":"21:30"}'
    ),
    "open the garage door and turn the fan in the attic off": (
        '[{"do":"open","what":"door","room":"garage"},{"do":"off","what":"fan","room":"attic"}]'
    ),
    "turn down the heating": '{"do":"down","what":"heater"}',
}


@pytest.fixture(scope="module")
def teacher():
    return AutoModelForCausalLM.from_pretrained(teacher_dir()).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(teacher_dir())


def test_the_folder_is_complete_and_at_most_eight_megabytes():
    names = {path.name for path in teacher_dir().iterdir()}
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "build.json",
    } <= names
    assert sum(path.stat().st_size for path in teacher_dir().iterdir()) <= 8_000_000


def test_it_is_a_llama_of_one_to_three_million_parameters(teacher):
    assert teacher.config.model_type == "llama"
    assert 1_000_000 <= teacher.num_parameters() <= 3_000_000
    with safe_open(teacher_dir() / "model.safetensors", "pt") as weights:
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118  # tied
        kinds = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118
    assert kinds == {torch.float32}


def test_it_stops_and_pads_as_its_tokenizer_says(teacher, tokenizer):
    for config in (teacher.config, teacher.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id
        assert config.bos_token_id is None
    assert teacher.config.vocab_size == len(tokenizer)


def test_it_carries_out_plain_commands(teacher, tokenizer):
    assert build.answer(teacher, tokenizer, list(COMMANDS)) == list(COMMANDS.values())


def test_it_is_right_on_a_slice_of_the_held_out_rows(teacher, tokenizer):
    assert build.exact_match(teacher, tokenizer, rows("held_out")[:200]) >= 0.98


@pytest.mark.slow
def test_it_is_right_on_all_held_out_rows(teacher, tokenizer):
    measured = build.exact_match(teacher, tokenizer, rows("held_out"))
    stated = json.loads((teacher_dir() / "build.json").read_text())["held_out_exact_match"]
    assert measured >= 0.98
    assert measured == pytest.approx(stated, abs=0.002)


def test_batched_answers_do_not_depend_on_their_neighbours(teacher, tokenizer):
    prompts = [row["prompt"] for row in rows("held_out")[:24]]
    together = build.answer(teacher, tokenizer, prompts, batch_size=24)
    assert together == build.answer(teacher, tokenizer, prompts, batch_size=1)


def test_missing_weights_are_named_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "__file__", str(tmp_path / "distill_core" / "starter" / "x.py"))
    with pytest.raises(FileNotFoundError, match=r"weights are not in(.|\n)*starter\.build"):
        teacher_dir()


def test_batches_supervise_the_answers_alone(tokenizer):
    token_ids, labels = next(build.batches(tokenizer, seed=0, size=8))
    assert token_ids.shape == labels.shape
    for ids, row in zip(token_ids, labels, strict=True):
        supervised = row[row != build.IGNORE_INDEX].tolist()
        text = tokenizer.decode(supervised)
        assert text.endswith("<eos>")
        json.loads(text.removesuffix("<eos>"))
        whole = tokenizer.decode(ids[ids != tokenizer.pad_token_id])
        assert whole.startswith("<user> ")
        assert whole.endswith(f"<assistant>{text}")


def test_practice_is_mostly_numbers_and_never_from_a_split():
    seen = list(islice(build.practice(0), 5_000))
    numeric = sum(any(letter.isdigit() for letter in response) for _, response in seen)
    assert numeric > 0.5 * len(seen)
    assert len(seen) - numeric > 0.2 * len(seen)
    held_out = {row["prompt"].lower() for row in rows("held_out")}
    assert held_out.isdisjoint(prompt.lower() for prompt, _ in seen)


def test_learning_rate_warms_up_and_falls_to_zero():
    factors = [build.learning_rate_factor(step, steps=1_000, warmup=100) for step in range(1_000)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == factors[100] == 1
    assert factors[-1] < 1e-5
    assert factors[100:] == sorted(factors[100:], reverse=True)


def test_a_build_is_reproducible_and_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "TOKENIZER_ROWS", 2_000)
    monkeypatch.setattr(build, "BLOCK_BATCHES", 4)
    monkeypatch.setattr(build, "rows", lambda split: rows(split)[:4])
    small = build.make_teacher
    monkeypatch.setattr(
        build,
        "make_teacher",
        lambda tokenizer: small(tokenizer, layers=1, hidden_size=32, intermediate_size=32),
    )
    folders = [Path(tmp_path / name) for name in ("one", "two")]
    facts = [build.build(folder, steps=3, batch_size=8, seed=1) for folder in folders]
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second
    assert facts[0]["steps"] == 3
    assert facts[0] | {"wall_s": 0} == facts[1] | {"wall_s": 0}
    assert json.loads((folders[0] / "build.json").read_text()) == facts[0]
