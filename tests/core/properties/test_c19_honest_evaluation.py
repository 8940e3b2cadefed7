"""C19, honest evaluation: rows by content, overlap told, scores apart, equal tokens, intervals."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_core import conclusions, evaluate, pipeline
from distill_core.comparing import lineup
from distill_core.data.formats import Row
from distill_core.data.sources import prepare
from distill_core.recipe import DataSettings, recipe_yaml
from distill_core.scoring import HeldOut, score_tokens
from distill_core.teachers.local import LocalTeacher
from tests.core.nets import tiny_llama

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")


def write(path: Path, rows: list[dict[str, str]]) -> dict[str, str]:
    path.write_text("\n".join(map(json.dumps, rows)))
    return {"kind": "file", "path": str(path)}


def pairs(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"turn {n}", "response": f"on {n}"} for n in range(start, start + count)]


def data(*sources: Any, **more: Any) -> DataSettings:
    return DataSettings.model_validate({"sources": list(sources)} | more)


def asked(rows: list[Row]) -> set[str]:
    return {row.prompt_text for row in rows}


# --- which rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_row_is_held_out_by_its_content_alone(tmp_path: Path, seed: int) -> None:
    """Not by its place, the rows around it, its answer, or the run's seed."""
    first = prepare(data(write(tmp_path / "a.jsonl", pairs(200)), held_out=0.3), seed=0)
    rows = [row | {"response": "other"} for row in pairs(200) + pairs(90, start=500)]
    random.Random(seed).shuffle(rows)
    second = prepare(data(write(tmp_path / "b.jsonl", rows), held_out=0.3), seed=seed)
    known = {row["prompt"] for row in pairs(200)}
    assert 30 < len(first.held_out) < 90
    assert asked(second.held_out) & known == asked(first.held_out)
    assert asked(second.train) & known == asked(first.train)
    assert not asked(second.train) & asked(second.held_out)


def test_overlap_with_training_is_taken_out_counted_and_shown(tmp_path: Path) -> None:
    train, held = pairs(20), [*pairs(5, start=15), *pairs(5, start=100)]
    made = prepare(
        data(write(tmp_path / "train.jsonl", train), held_out=write(tmp_path / "held.jsonl", held)),
        seed=0,
    )
    assert made.facts["overlap"] == 5
    assert len(made.train) == 15
    assert not asked(made.train) & asked(made.held_out)


# --- a whole run --------------------------------------------------------------------------------

BASELINES = ["fine_tuned_on_labels", "fine_tuned_on_teacher_text"]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_teacher_dir: Path
) -> tuple[Path, dict[str, Any]]:
    """A short run with both baselines."""
    folder = tmp_path_factory.mktemp("honest")
    rows = [
        {"prompt": f"please turn {chr(97 + n)}", "response": ["on", "off"][n % 2]}
        for n in range(24)
    ]
    made = recipe_yaml.parse(
        {
            "device": "cpu",
            "data": {"sources": [write(folder / "rows.jsonl", rows)], "held_out": 0.4},
            "stages": [
                {
                    "kind": "distill",
                    "teacher": str(tiny_teacher_dir),
                    "student": {"init": "layer_drop", "layers": 2},
                    "teacher_answers": {"max_new_tokens": 3},
                    "optim": {"max_steps": 3, "global_batch_size": 4},
                }
            ],
            "evaluation": {"rows": 1, "samples": 0, "max_new_tokens": 2, "baselines": BASELINES},
        }
    )
    run_dir = folder / "runs" / "one"
    run_dir.mkdir(parents=True)
    (run_dir / "recipe.yaml").write_text(recipe_yaml.dumps(made))
    events = list(pipeline.run(made, run_dir))
    return run_dir, events[-1]["evaluation"]


def test_baselines_get_the_same_steps_and_tuning(finished: Any) -> None:
    run_dir, found = finished
    steps = {key: found["models"][key]["trained_steps"] for key in ["student", *BASELINES]}
    assert set(steps.values()) == {3}
    tokens = [found["models"][key]["trained_tokens"] for key in ["student", BASELINES[0]]]
    assert tokens[0] == tokens[1], "all rows are labelled: the very same tokens"
    assert found["models"][BASELINES[1]]["trained_tokens"] > 0
    assert found["models"]["teacher"].get("trained_steps") is None
    stages = json.loads((run_dir / "lineup.json").read_text())
    parameters = {
        one["key"]: one["parameters"] for one in stages if one["key"] in ["student", *BASELINES]
    }
    assert len(set(parameters.values())) == 1, "the same student"


def test_every_ratio_has_an_interval_and_one_seed_gives_no_verdict(finished: Any) -> None:
    _, found = finished
    for name in ("retention", "gap_closed", "size_ratio", "speedup"):
        if found[name] is not None:
            low, high = found[f"{name}_ci95"]
            assert low <= found[name] <= high
    assert found["size_ratio"] is not None
    assert found["verdict"] == "inconclusive"
    assert "one seed" in found["verdict_reason"]
    assert found["paired_test_p"] is not None
    assert found["data"]["overlap_with_training"] == 0


def test_rows_that_were_trained_on_are_counted_when_they_are_scored(
    finished: Any, tmp_path: Path
) -> None:
    run_dir, _ = finished
    made = recipe_yaml.load(run_dir / "recipe.yaml")
    train = prepare(made.data, seed=0).train
    rows = [{"prompt": row.prompt_text, "response": row.response} for row in train[:3]]
    rows += [{"prompt": "dim the fan", "response": "off"}]
    file = write(tmp_path / "more.jsonl", rows)["path"]  # type: ignore[arg-type]
    found = evaluate.evaluate_run(run_dir, made, data=file, rows=None)
    assert (found["data"]["rows"], found["data"]["overlap_with_training"]) == (4, 3)


# --- scores -------------------------------------------------------------------------------------


def test_cross_entropy_on_labels_and_kl_to_the_teacher_are_apart(tiny_tokenizer: Any) -> None:
    """Labels move the one alone, the teacher the other alone; each equals its definition."""
    student = tiny_llama().eval()
    teachers = [tiny_llama(layers=3, seed=seed).eval() for seed in (1, 2)]
    size = len(tiny_tokenizer)

    def rows(answer: str) -> list[Row]:
        said = {"role": "assistant", "content": answer}
        return [
            Row(({"role": "user", "content": f"turn {word}"}, said), None, word)
            for word in ("on", "off", "fan")
        ]

    found: dict[Any, Any] = {}
    for answer in ("light", "the hall"):
        held = HeldOut.make(rows(answer), tiny_tokenizer, max_seq_len=32, max_new_tokens=4)
        for number, teacher in enumerate(teachers):
            asked_of = LocalTeacher(teacher, vocab_size=size, stop_ids={2})
            found[answer, number] = score_tokens(student, held, teacher=asked_of)
        entropy = kl = count = 0.0
        for item in held.encoded:
            ids = torch.tensor([item.input_ids])
            with torch.no_grad():
                q = student(ids).logits[0, :, :size].double().log_softmax(-1)
                p = teachers[0](ids).logits[0, :, :size].double().log_softmax(-1)
            for place, label in enumerate(item.labels):
                if label >= 0:
                    entropy -= float(q[place - 1, label])
                    kl += float((p[place - 1].exp() * (p[place - 1] - q[place - 1])).sum())
                    count += 1
        assert found[answer, 0].cross_entropy == pytest.approx(entropy / count, abs=1e-5)
        assert found[answer, 0].kl_to_teacher == pytest.approx(kl / count, abs=1e-5)
    assert found["light", 0].cross_entropy == found["light", 1].cross_entropy
    assert found["light", 0].kl_to_teacher != found["light", 1].kl_to_teacher


# --- verdicts -----------------------------------------------------------------------------------


def share(right: float, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(400) < right).astype(float).tolist()


ROWS = {
    "teacher": share(0.95, 0),
    "student": share(0.9, 1),
    "untrained_student": share(0.1, 2),
    "fine_tuned_on_labels": share(0.5, 3),
}


def verdict(rows: Any, others: Any = ()) -> dict[str, Any]:
    return conclusions.verdict(rows, others, metric="exact_match", titles=lineup.TITLES)


def test_a_verdict_needs_more_than_one_seed() -> None:
    one, two = verdict(ROWS), verdict(ROWS, [ROWS])
    assert (one["verdict"], one["seeds"]) == ("inconclusive", 1)
    assert (two["verdict"], two["seeds"]) == ("beats", 2)
    assert two["paired_test_p"] < 1e-6


def test_a_verdict_needs_a_paired_test() -> None:
    """A difference that the pairs do not bear out is none, however the means stand."""
    close = copy.deepcopy(ROWS) | {"fine_tuned_on_labels": share(0.88, 9)}
    assert np.mean(close["student"]) > np.mean(close["fine_tuned_on_labels"])
    found = verdict(close, [close])
    assert found["paired_test_p"] > 0.05
    assert found["verdict"] in {"inconclusive", "no difference"}
    luck = ROWS | {"student": ROWS["fine_tuned_on_labels"]}
    assert verdict(ROWS, [luck])["verdict"] == "inconclusive", "one seed disagrees"
