"""Rules about what models see of the rows: a recipe that triggers each, and one that does not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core import checks, models
from distill_core.data.formats import Row
from distill_core.data.tokenize import encode
from distill_core.errors import Problem
from distill_core.estimate import row_facts
from distill_core.estimate.sampled_rows import sampled, unknown_id
from distill_core.recipe import Recipe, recipe_yaml
from tests.core.small_runs import spelled

Make = Callable[..., Recipe]
LENGTH = "data.max_seq_len"


def write(path: Path, prompts: list[str], *, answer: str = "on") -> Path:
    rows = [{"prompt": prompt, "response": answer} for prompt in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompts(count: int = 800, *, words: int = 0, every: int = 1) -> list[str]:
    """Different prompts; one in `every` of them is `words` words longer."""
    longer = " please" * words
    return [f"turn{longer * (n % every == 0)} light {spelled(n)}" for n in range(count)]


@pytest.fixture
def make(tiny_teacher_dir: Path, tmp_path: Path) -> Make:
    """A recipe of rows with these prompts; its networks read 128 tokens."""

    def build(asked: list[str], *overrides: str, answer: str = "on") -> Recipe:
        rows = write(tmp_path / "rows.jsonl", asked, answer=answer)
        plain = {
            "data": {
                "sources": [{"kind": "file", "path": str(rows)}],
                "held_out": 0.4,
                "max_seq_len": 32,
            },
            "stages": [
                {
                    "kind": "distill",
                    "teacher": str(tiny_teacher_dir),
                    "student": {"init": "layer_drop", "layers": 2},
                    "losses": [{"name": "forward_kl", "weight": 1.0}],
                }
            ],
        }
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def found(recipe: Recipe, field: str) -> list[Problem]:
    return [one for one in checks.check(recipe) if one.field == field]


# --- rows that are cut ----------------------------------------------------------------------


def test_rows_that_fit_are_not_told(make: Make) -> None:
    assert not found(make(prompts()), LENGTH)


def test_long_prompts_lose_their_head(make: Make) -> None:
    (problem,) = found(make(prompts(words=30)), LENGTH)
    assert problem.severity == "warning"
    # <bos>, 31 + 1 + 3 words, answer and <eos>: 38 tokens
    assert problem.message == (
        "All rows are longer than 32 tokens: they lose the head of their prompt, about 6 tokens "
        "each."
    )
    assert problem.fix == (
        "Set it to 48, which holds nearly all of them, or leave the long ones out."
    )


def test_a_share_of_long_rows(make: Make) -> None:
    (problem,) = found(make(prompts(words=30, every=3)), LENGTH)
    share = int(problem.message.split()[1])
    assert 15 <= share <= 55
    assert problem.message.startswith(f"About {share} % of the rows are longer than 32 tokens")


def test_a_long_row_among_many_is_not_told(make: Make) -> None:
    rows = prompts()
    rows[1] = "turn" + " please" * 200
    assert not found(make(rows), LENGTH)


def test_long_answers_lose_their_end(make: Make) -> None:
    (problem,) = found(make(prompts(), answer="on " * 40), LENGTH)
    # 8 of 32 tokens stay for a prompt: all 6, so that 26 of 41 are the answer's
    assert "they lose the end of their text, about 15 tokens each" in problem.message


def test_both_may_be_cut(make: Make) -> None:
    (problem,) = found(make(prompts(words=30), answer="on " * 40), LENGTH)
    assert "head of their prompt, about 28 tokens each" in problem.message
    assert "the end of their answer, about 17 tokens" in problem.message


def test_a_question_that_is_lost_is_an_error(make: Make) -> None:
    recipe = make(prompts(words=30), f"{LENGTH}=8", answer="on " * 40)
    assert not any(one.severity == "error" for one in found(recipe, LENGTH))  # a word is left
    model = Path(recipe.stages[0].teachers[0].model)  # type: ignore[union-attr]
    other = _with_template(model, Path(recipe.data.sources[0].path).parent / "framed")  # type: ignore[union-attr]
    framed = recipe.model_dump(mode="json")
    framed["stages"][0]["teacher"] = str(other)
    (problem,) = found(recipe_yaml.parse(framed), LENGTH)
    assert problem.severity == "error"
    assert "nothing of what they ask is left" in problem.message


def _with_template(source: Path, folder: Path) -> Path:
    """The same model, whose template puts eight words between question and answer."""
    shutil.copytree(source, folder)
    tokenizer = models.load_tokenizer(folder)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }} : {% endfor %}"
        "{% if add_generation_prompt %}one two three one two three one two : {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


def test_no_longer_rows_are_proposed_than_can_be_read(make: Make) -> None:
    (most,) = found(make(prompts(words=200)), LENGTH)
    assert re.fullmatch(
        r"Set it to 128, the most that \S+ reads, or shorten the rows: 0 % of them fit there, "
        r"nearly all into 256\.",
        most.fix,
    )
    (none,) = found(make(prompts(words=200), f"{LENGTH}=128"), LENGTH)
    assert re.fullmatch(
        r"Shorten the rows, or choose models that read more: \S+ reads 128 at most, and nearly "
        r"all rows would need 256\.",
        none.fix,
    )


def test_texts_to_tell_apart_lose_their_end(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    rows = [{"text": one, "label": n % 2} for n, one in enumerate(prompts(words=20))]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain: dict[str, Any] = {
        "task": "text_classification",
        "data": {"sources": [{"kind": "file", "path": str(file)}], "max_seq_len": 16},
        "stages": [{"kind": "fine_tune", "model": str(tiny_encoder_dir)}],
    }
    (problem,) = found(recipe_yaml.parse(plain), LENGTH)
    assert "they lose the end of their text, about 11 tokens each" in problem.message
    plain["data"]["max_seq_len"] = 32
    assert not found(recipe_yaml.parse(plain), LENGTH)


# --- what a tokenizer does not know ---------------------------------------------------------


def unknown(recipe: Recipe, field: str = "stages.0.teacher") -> list[Problem]:
    return [one for one in found(recipe, field) if "'s tokenizer does not know" in one.message]


def test_a_tokenizer_that_knows_the_rows(make: Make) -> None:
    assert not unknown(make(prompts()))


def test_a_tokenizer_that_knows_little_of_the_rows(make: Make) -> None:
    (problem,) = unknown(make([f"{one} quark zebra lemon" for one in prompts()]))
    assert problem.severity == "warning"
    assert "does not know about 27 % of what the rows say, such as quark zebra lemon" in (
        problem.message
    )
    assert "next to nothing can be learnt" in problem.message
    assert "smollm2-135m-instruct knows any" in problem.fix


def test_a_tokenizer_that_does_not_know_some(make: Make) -> None:
    (problem,) = unknown(make([f"{one} quark" for one in prompts()]))
    assert problem.severity == "warning"
    assert "about 11 % of what the rows say, such as quark: to the model" in problem.message


def test_a_few_unknown_tokens_are_worth_knowing(make: Make) -> None:
    rows = [f"{one} quark" if n % 12 == 0 else one for n, one in enumerate(prompts(words=20))]
    (problem,) = unknown(make(rows))
    assert problem.severity == "info"
    assert "of the rows hold something that" in problem.message


def test_a_student_s_tokenizer_that_does_not_know_what_its_teacher_s_does(
    make: Make, tiny_teacher_dir: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_teacher_dir, teacher)
    file = teacher / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["model"]["vocab"]["quark"] = 63
    file.write_text(json.dumps(tokenizer))
    recipe = make(
        [f"{one} quark" for one in prompts()],
        f"stages.0.teacher={teacher}",
        f"stages.0.student={{init: pretrained, model: {tiny_teacher_dir}}}",
    )
    assert not unknown(recipe)
    (problem,) = unknown(recipe, "stages.0.student.model")
    assert problem.severity == "warning"


def test_a_tokenizer_whose_unknown_token_ends_answers_knows_all(tiny_teacher_dir: Path) -> None:
    tokenizer = models.load_tokenizer(tiny_teacher_dir)
    assert unknown_id(tokenizer) == tokenizer.unk_token_id
    tokenizer.unk_token = tokenizer.eos_token
    assert unknown_id(tokenizer) is None


# --- the sample -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [8, 12, 16, 64])
@pytest.mark.parametrize("answer", ["on", "on " * 20, None])
def test_a_sampled_row_is_counted_as_it_will_be_encoded(
    tiny_teacher_dir: Path, limit: int, answer: str | None
) -> None:
    tokenizer = models.load_tokenizer(tiny_teacher_dir)
    said = [{"role": "user", "content": "turn the light in the hall on please"}]
    said += [{"role": "assistant", "content": answer}] if answer else []
    row = Row(tuple(said), None, "here")
    (seen,) = sampled([row], tokenizer, limit, even=1).rows
    encoded, whole = encode(row, tokenizer, limit), encode(row, tokenizer, 1000)
    assert seen.whole == len(whole.input_ids)
    assert seen.kept == len(encoded.input_ids)
    assert seen.answer == encoded.supervised_tokens
    unasked = [len(one.input_ids) - one.supervised_tokens for one in (whole, encoded)]
    assert seen.prompt_lost == unasked[0] - unasked[1]


def test_rows_are_read_once_for_every_length(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill_core.data import sources

    data = make(prompts(300)).data
    read = sources.prepare
    asked: list[int] = []
    monkeypatch.setattr(sources, "prepare", lambda *a, **k: asked.append(1) or read(*a, **k))
    for length in (16, 24, 32):
        longer = data.model_copy(update={"max_seq_len": length})
        row_facts.data_facts(longer)
        assert row_facts.training_rows(longer)
    assert len(asked) == 1
