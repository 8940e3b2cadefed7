"""The starter's splits: sizes, disjointness, and exactly the wrong labels that are announced."""

import hashlib
import json
import re
import subprocess
import sys
import time
from itertools import combinations, islice

import pytest

from distill_core import starter
from distill_core.starter.splits import (
    SPLITS,
    WRONG_LABEL_SHARE,
    bucket,
    correct_rows,
    rows,
    spoken_words,
    teacher_stream,
    wrong_label_indices,
)
from distill_core.starter.vocabulary import DEVICES, ROOMS


def words_of(prompt):
    return " ".join(re.findall(r"[a-z0-9:%]+", prompt.lower()))


@pytest.mark.parametrize(
    ("split", "size"),
    [("labelled", 500), ("unlabelled", 20_000), ("development", 300), ("held_out", 1_000)],
)
def test_sizes_and_keys(split, size):
    found = rows(split)
    keys = {"prompt"} if split == "unlabelled" else {"prompt", "response"}
    assert SPLITS[split].size == len(found) == size
    assert all(set(row) == keys for row in found)
    assert len({words_of(row["prompt"]) for row in found}) == size


def test_every_split_is_named_and_described():
    assert list(SPLITS) == ["labelled", "unlabelled", "development", "held_out"]
    assert all(split.description and "\n" not in split.description for split in SPLITS.values())


@pytest.mark.parametrize(("one", "other"), [*combinations(SPLITS, 2)])
def test_no_prompt_is_in_two_splits(one, other):
    first, second = ({words_of(row["prompt"]) for row in rows(name)} for name in (one, other))
    assert first.isdisjoint(second)


def test_the_teacher_never_sees_a_prompt_of_any_split():
    taught = {words_of(prompt) for prompt, _ in islice(teacher_stream(0), 20_000)}
    for name in SPLITS:
        assert taught.isdisjoint(words_of(row["prompt"]) for row in rows(name))


def test_case_and_punctuation_do_not_make_another_prompt():
    assert spoken_words(" Turn  on the fan. ") == spoken_words("turn on, the fan")
    assert bucket("Turn on the fan.") == bucket("turn on the fan")
    assert spoken_words("at 21:30 to 40%") == "at 21:30 to 40%"


def test_buckets_are_spread_evenly():
    sizes = [0] * 100
    for row in rows("unlabelled"):
        sizes[bucket(row["prompt"])] += 1
    owned = sizes[5:50]
    assert sum(owned) == 20_000
    assert min(owned) > 0.75 * 20_000 / 45


def test_rows_are_the_same_in_every_process_and_version():
    """The digests are of this release's rows: they change only when the language does."""
    digests = {
        name: hashlib.sha256(json.dumps(rows(name)).encode()).hexdigest()[:16] for name in SPLITS
    }
    assert digests == DIGESTS


DIGESTS = {
    "labelled": "75ee318ea95c5999",
    "unlabelled": "cf48a1105fadc806",
    "development": "219dc44e5bb66243",
    "held_out": "554291b527e107c1",
}


def test_a_caller_cannot_change_the_rows_of_the_next():
    rows("labelled")[0]["response"] = "spoiled"
    assert rows("labelled")[0]["response"] != "spoiled"


def test_exactly_the_announced_labels_are_wrong():
    pairs = list(zip(rows("labelled"), correct_rows("labelled"), strict=True))
    wrong = {i for i, (given, true) in enumerate(pairs) if given["response"] != true["response"]}
    assert wrong == wrong_label_indices()
    assert len(wrong) / len(pairs) == WRONG_LABEL_SHARE == 0.15
    assert f"{WRONG_LABEL_SHARE:.0%}".replace("%", " %") in SPLITS["labelled"].description


def test_wrong_labels_are_plausible():
    given = rows("labelled")
    for index in wrong_label_indices():
        parsed = json.loads(given[index]["response"])
        for command in parsed if isinstance(parsed, list) else [parsed]:
            assert command["what"] in DEVICES
            assert command.get("room", "all") in (*ROOMS, "all")


@pytest.mark.parametrize("split", ["development", "held_out"])
def test_other_labels_are_right(split):
    assert rows(split) == correct_rows(split)


def test_an_unknown_split_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"no split 'train'. Use one of: labelled, unlabelled"):
        rows("train")


def test_public_names():
    for name in starter.__all__:
        assert getattr(starter, name) is not None


def test_rows_come_fast_and_without_torch():
    code = (
        "import sys, distill_core.starter as s\n"
        "assert len(s.rows('unlabelled')) == 20000\n"
        "loaded = {'torch', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.perf_counter() - started < 20  # under two seconds on an idle machine
