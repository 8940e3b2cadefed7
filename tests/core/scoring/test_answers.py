"""Task metrics, which one is chosen, and what counts as no answer."""

from __future__ import annotations

import pytest

from distill_core.data.formats import Row
from distill_core.scoring.answers import Validity, choose_metric, rouge_l, row_scores


def rows(*answers: str) -> list[Row]:
    question = {"role": "user", "content": "q"}
    return [Row((question, {"role": "assistant", "content": a}), None, "t") for a in answers]


LONG = "the light in the kitchen was turned off and the fan in the hall now runs"

CHOICES = {
    "JSON": (rows('{"a": 1}', "[1, 2]"), "exact_match", "JSON"),
    "labels": (rows(*["yes", "no"] * 6), "exact_match", "2 different answers"),
    "numbers are labels, not JSON": (rows(*["0", "1"] * 6), "exact_match", "2 different"),
    "short": (rows("Paris", "42 km"), "exact_match", "short"),
    "free text": (rows(LONG, LONG + " again"), "rouge_l", "free text"),
    "plain text": ([Row(None, "once upon", "t")], "bits_per_byte", "no row asks"),
}


@pytest.mark.parametrize("case", sorted(CHOICES))
def test_auto_looks_at_the_references(case: str) -> None:
    found, metric, reason = CHOICES[case]
    chosen, why = choose_metric("auto", found)
    assert chosen == metric
    assert reason in why


def test_a_metric_that_is_set_is_taken_where_it_can_be() -> None:
    assert choose_metric("rouge_l", rows("yes"))[0] == "rouge_l"
    metric, why = choose_metric("rouge_l", [Row(None, "text", "t")])
    assert metric == "bits_per_byte"
    assert "rouge_l has nothing to score" in why


def longest_common(a: list[str], b: list[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("the cat sat on the mat", "the cat lay on a mat"),
        ("a b c d", "d c b a"),
        ("Über die Brücke", "über eine brücke"),
        ("nothing", "at all"),
        ("", "words"),
    ],
)
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(text: str, label: str) -> None:
    mine, theirs = text.casefold().split(), label.casefold().split()
    common = longest_common(mine, theirs)
    expected = 0.0
    if common:
        precision, recall = common / len(mine), common / len(theirs)
        expected = 2 * precision * recall / (precision + recall)
    assert rouge_l(text, label) == pytest.approx(expected)


def test_rouge_l_reads_scripts_without_spaces() -> None:
    assert rouge_l("打开厨房的灯", "打开厨房的灯") == 1
    assert 0 < rouge_l("关闭厨房的灯", "打开厨房的灯") < 1


def test_exact_match_is_letter_by_letter() -> None:
    assert row_scores("exact_match", ["yes", "Yes", "no"], ["yes", "yes", "no"]) == [1, 0, 1]


def fault(references: list[str], text: str, ended: bool = True) -> str:
    return Validity.of(references, max_new_tokens=8).fault(text, ended)


def test_what_is_invalid_follows_from_the_references() -> None:
    json = ['{"a": 1}', '{"b": 2}']
    labels = ["yes", "no"] * 6
    free = ["a fine film", "a dull one"]
    assert fault(json, '{"a": 2}') == ""
    assert fault(json, '{"a": ') == "not_json"
    assert fault(json, "7") == "not_json"
    assert fault(labels, "yes") == ""
    assert fault(labels, "maybe") == "not_a_label"
    assert fault(free, "maybe") == ""
    for references in (json, labels, free):
        assert fault(references, "") == "empty"
        assert fault(references, references[0], ended=False) == "not_ended"
    assert fault(["", "a"], "") == "", "where a label is empty, an empty answer may be right"


def test_the_rule_says_what_applied() -> None:
    rule = Validity.of(["yes", "no"] * 6, max_new_tokens=8).rule
    assert rule == "empty, or not ended within 8 tokens, or none of the 2 labels"
    assert "JSON" in Validity.of(['{"a": 1}'], max_new_tokens=8).rule
