"""Rules about the rows of one's own files: where they are scored, doubles, missing answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core import checks
from distill_core.errors import Problem
from distill_core.recipe import Recipe, recipe_yaml
from tests.core.small_runs import spelled

Make = Callable[..., Recipe]
STARTER = "{kind: starter, split: held_out}"
DISTIL: dict[str, Any] = {
    "kind": "distill",
    "student": {"init": "layer_drop", "layers": 2},
    "losses": [{"name": "forward_kl", "weight": 1.0}],
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(count: int = 800, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"turn {spelled(n)}", "response": "on"} for n in range(start, start + count)]


@pytest.fixture
def make(tiny_teacher_dir: Path, tmp_path: Path) -> Make:
    """A recipe of these rows, without problems; changed by `a.b=c` overrides."""

    def build(rows: list[dict[str, Any]], *overrides: str, tune: bool = False) -> Recipe:
        file = write(tmp_path / "rows.jsonl", rows)
        model = str(tiny_teacher_dir)
        plain = {
            "data": {
                "sources": [{"kind": "file", "path": str(file)}],
                "held_out": 0.4,
                "max_seq_len": 64,
            },
            "stages": [
                {"kind": "fine_tune", "model": model} if tune else DISTIL | {"teacher": model}
            ],
        }
        return recipe_yaml.loads(json.dumps(plain), list(overrides))

    return build


def found(recipe: Recipe, field: str) -> list[Problem]:
    return [one for one in checks.check(recipe) if one.field == field]


# --- where held-out rows come from ----------------------------------------------------------


def test_own_rows_are_not_scored_on_the_starter_s(make: Make) -> None:
    (problem,) = found(make(asked(), f"data.held_out={STARTER}"), "data.held_out")
    assert problem.severity == "warning"
    assert problem.message.startswith("The held-out rows are the starter's, and none of those")
    assert "held_out to 0.1" in problem.fix


def test_the_starter_s_rows_are_not_scored_on_own_ones(make: Make, tmp_path: Path) -> None:
    own = write(tmp_path / "own.jsonl", asked(300))
    aside = f"data.held_out={{kind: file, path: {own}}}"
    recipe = make(asked(), "data.sources=[{kind: starter, split: labelled}]", aside)
    (problem,) = found(recipe, "data.held_out")
    assert problem.message.startswith("All rows to learn from are the starter's")


def test_a_mixture_may_be_scored_on_either(make: Make) -> None:
    recipe = make(asked(), f"data.held_out={STARTER}")
    (file,) = recipe.model_dump(mode="json")["data"]["sources"]
    both = json.dumps([file, {"kind": "starter", "split": "labelled"}])
    assert not found(
        make(asked(), f"data.held_out={STARTER}", f"data.sources={both}"), "data.held_out"
    )


@pytest.mark.parametrize("texts_aside", [True, False])
def test_questions_and_plain_texts_are_other_tasks(
    make: Make, tmp_path: Path, texts_aside: bool
) -> None:
    texts = [{"text": f"dim {spelled(n)}"} for n in range(300)]
    other = write(tmp_path / "other.jsonl", texts if texts_aside else asked(300, start=900))
    aside = f"data.held_out={{kind: file, path: {other}}}"
    (problem,) = found(make(asked() if texts_aside else texts, aside), "data.held_out")
    assert "scores would be of another task" in problem.message


def test_another_file_of_the_same_kind_is_fine(make: Make, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", asked(300, start=900))
    assert not found(make(asked(), f"data.held_out={{kind: file, path: {other}}}"), "data.held_out")


# --- doubles and gaps -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("again", "severity"), [(0, None), (4, None), (80, "info"), (800, "warning")]
)
def test_rows_that_are_repeated(make: Make, again: int, severity: str | None) -> None:
    rows = asked()
    problems = found(make([*rows, *rows[:again]]), "data.sources")
    assert [one.severity for one in problems] == ([severity] if severity else [])
    if severity:
        assert f"{again:,} of {800 + again:,} rows ask what another row asks" in str(problems[0])


def test_texts_to_tell_apart_that_are_repeated(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    rows = [{"text": f"dim {spelled(n % 700)}", "label": n % 2} for n in range(800)]
    file = write(tmp_path / "rows.jsonl", rows)
    plain = {
        "task": "text_classification",
        "data": {"sources": [{"kind": "file", "path": str(file)}], "max_seq_len": 64},
        "stages": [{"kind": "fine_tune", "model": str(tiny_encoder_dir)}],
    }
    (problem,) = found(recipe_yaml.parse(plain), "data.sources")
    assert "100 of 800 rows say what another row says already" in problem.message


def test_answers_that_are_missing(make: Make) -> None:
    rows = asked()
    for row in rows[::4]:
        row["response"] = ""
    (taught,) = found(make(rows), "data.sources")
    assert taught.severity == "info"
    assert taught.message == (
        "200 rows have no answer where others have one: unlabelled, for a teacher alone."
    )
    (tuned,) = found(make(rows, tune=True), "data.sources")
    assert tuned.severity == "warning"
    assert "fine-tuning leaves them out" in tuned.message


def test_rows_without_any_answer_are_meant_to_have_none(make: Make, tmp_path: Path) -> None:
    labelled = write(tmp_path / "labelled.jsonl", asked(300, start=900))
    rows = [{"prompt": row["prompt"]} for row in asked()]
    assert not found(make(rows, f"data.held_out={{kind: file, path: {labelled}}}"), "data.sources")
