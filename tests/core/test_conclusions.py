"""Ratios, comparisons and verdicts from scores that are written down here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distill_core import conclusions
from distill_core.comparing import lineup

ROWS = 400


def share(right: float, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(ROWS) < right).astype(float).tolist()


def scored(rows: dict[str, list[float]], metric: str = "exact_match") -> dict[str, Any]:
    return {
        key: {"parameters": 10, "tokens_per_s": 5.0, metric: float(np.mean(values))}
        for key, values in rows.items()
    }


def verdict(rows: Any, others: Any = (), metric: str = "exact_match") -> dict[str, Any]:
    return conclusions.verdict(rows, others, metric=metric, titles=lineup.TITLES)


ALL = {
    "teacher": share(0.95, 0),
    "student": share(0.9, 1),
    "untrained_student": share(0.1, 2),
    "fine_tuned_on_labels": share(0.5, 3),
}


def test_every_ratio_lies_in_its_interval() -> None:
    scores = scored(ALL)
    scores["teacher"] |= {"parameters": 40, "tokens_per_s": 2.0}
    timed = {"teacher": ([2, 4, 6], [1.0, 2.0, 3.0]), "student": ([5, 4, 6], [1.0, 0.8, 1.2])}
    found = conclusions.ratios(scores, ALL, timed, metric="exact_match")
    teacher, student, start = (np.mean(ALL[key]) for key in list(ALL)[:3])
    assert found["retention"] == pytest.approx(student / teacher)
    assert found["gap_closed"] == pytest.approx((student - start) / (teacher - start))
    assert found["size_ratio"] == 4
    assert found["speedup"] == 2.5
    assert found["compared_with"] == "teacher"
    for name in ("retention", "gap_closed", "size_ratio", "speedup"):
        low, high = found[f"{name}_ci95"]
        assert low <= found[name] <= high
    assert 0.01 < found["gap_closed_ci95"][1] - found["gap_closed_ci95"][0] < 0.2


def test_where_less_is_better_ratios_turn_round() -> None:
    rows = {"teacher": [1.0] * 50, "student": [1.25] * 50, "untrained_student": [5.0] * 50}
    found = conclusions.ratios(scored(rows, "bits_per_byte"), rows, {}, metric="bits_per_byte")
    assert found["retention"] == pytest.approx(0.8)
    assert found["gap_closed"] == pytest.approx(3.75 / 4)
    assert found["gap_closed_ci95"] == pytest.approx([3.75 / 4] * 2)


def test_without_a_teacher_the_original_model_stands_in() -> None:
    rows = {"original": ALL["teacher"], "student": ALL["student"]}
    found = conclusions.ratios(scored(rows), rows, {}, metric="exact_match")
    assert found["compared_with"] == "original"
    assert found["retention"] is not None
    alone = conclusions.ratios(scored({"student": ALL["student"]}), {}, {}, metric="exact_match")
    assert alone["compared_with"] is None
    assert alone["retention"] is alone["size_ratio"] is alone["gap_closed"] is None


def test_comparisons_pair_the_student_with_every_other_model() -> None:
    found = {item["against"]: item for item in conclusions.comparisons(ALL, metric="exact_match")}
    assert set(found) == set(ALL) - {"student"}
    for key, item in found.items():
        low, high = item["difference_ci95"]
        assert low <= item["difference"] <= high
        assert item["difference"] == pytest.approx(np.mean(ALL["student"]) - np.mean(ALL[key]))
        assert item["test"] == "McNemar"
    assert found["fine_tuned_on_labels"]["p"] < 1e-6


def test_a_verdict_says_worse_alike_or_that_it_cannot_tell() -> None:
    turned = ALL | {"student": ALL["fine_tuned_on_labels"], "fine_tuned_on_labels": ALL["student"]}
    assert verdict(turned, [turned])["verdict"] == "worse"
    same = ALL | {"student": ALL["fine_tuned_on_labels"]}
    assert verdict(same, [same])["verdict"] == "no difference"
    near = ALL | {"fine_tuned_on_labels": share(0.88, 9)}
    assert verdict(near, [near])["verdict"] == "inconclusive"


def test_one_seed_that_disagrees_makes_it_inconclusive() -> None:
    luck = ALL | {"student": ALL["fine_tuned_on_labels"]}
    assert verdict(ALL, [luck])["verdict"] == "inconclusive"


def test_the_rival_is_the_best_baseline_that_was_trained() -> None:
    both = ALL | {"fine_tuned_on_teacher_text": share(0.7, 5)}
    assert verdict(both)["verdict_against"] == "fine_tuned_on_teacher_text"
    assert verdict(ALL)["verdict_against"] == "fine_tuned_on_labels"
    none = {key: ALL[key] for key in ("teacher", "student", "untrained_student")}
    assert verdict(none)["verdict_against"] == "untrained_student"


def test_values_between_are_tested_by_permutation() -> None:
    random = np.random.default_rng(0)
    base = random.random(200)
    rows = {
        "student": (base + 0.05).tolist(),
        "untrained_student": base.tolist(),
    }
    item = conclusions.comparisons(rows, metric="rouge_l")[0]
    assert item["test"] == "permutation"
    assert item["p"] < 0.001
    assert verdict(rows, [rows], "rouge_l")["verdict"] == "beats"
    less = {"student": rows["untrained_student"], "untrained_student": rows["student"]}
    assert verdict(less, [less], "bits_per_byte")["verdict"] == "beats"


def test_rows_that_do_not_match_are_not_compared() -> None:
    odd = {"student": [1.0, 0.0], "fine_tuned_on_labels": [1.0]}
    assert conclusions.comparisons(odd, metric="exact_match") == []
    assert "Nothing to compare" in verdict(odd)["verdict_reason"]
