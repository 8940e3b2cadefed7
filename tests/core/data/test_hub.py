"""Data sets of the hub: read, or refused in words. No network: `load_dataset` is replaced."""

from __future__ import annotations

import errno
import threading
import time
from typing import Any

import datasets
import pytest

from distill_core.data import hub as data_hub
from distill_core.data.hub import hub_answers, read_hub
from distill_core.data.sources import load_rows
from distill_core.errors import DataError, DiskFullError, HubUnreachable
from distill_core.recipe import DataSettings, HubSource

SST2 = HubSource(id="stanfordnlp/sst2", split="validation")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_hub.hub, "reachable", lambda: True)


def serve(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[Any, ...]]:
    """Let `load_dataset` give (or raise) the answer; returns the calls."""
    calls = []

    def load(*args: Any, **settings: Any) -> Any:
        calls.append((*args, settings))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def reviews() -> datasets.Dataset:
    features = datasets.Features(
        {
            "idx": datasets.Value("int32"),
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )
    columns = {"idx": [0, 1, 2], "sentence": ["good", "bad", "so so"], "label": [1, 0, -1]}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.usefixtures("online")
def test_rows_with_names_for_class_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = serve(monkeypatch, reviews())
    rows = load_rows(DataSettings(sources=[SST2]), source=SST2)
    assert calls == [("stanfordnlp/sst2", {"name": None, "split": "validation"})]
    assert [(row.prompt_text, row.response, row.labelled) for row in rows] == [
        ("good", "positive", True),
        ("bad", "negative", True),
        ("so so", None, False),
    ]
    assert rows[2].origin == "stanfordnlp/sst2/validation:3"


@pytest.mark.usefixtures("online")
def test_limit_and_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = serve(monkeypatch, reviews())
    found = read_hub(HubSource(id="nyu-mll/glue", config="sst2", limit=2))
    assert calls[0][1] == {"name": "sst2", "split": "train"}
    assert [origin for origin, _ in found.records] == [
        *("nyu-mll/glue/sst2/train:1", "nyu-mll/glue/sst2/train:2")
    ]


def test_offline_without_a_copy_says_what_works() -> None:
    started = time.monotonic()
    with pytest.raises(HubUnreachable, match="cannot be reached, and stanfordnlp/sst2") as raised:
        read_hub(SST2, field="data.held_out")
    assert "use a file or the starter's rows" in str(raised.value)
    assert raised.value.field == "data.held_out.id"
    assert time.monotonic() - started < 30


def test_offline_with_a_copy_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, reviews())
    assert len(read_hub(SST2).records) == 3


def test_unreachable_keeps_the_libraries_off_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(data_hub.hub, "reachable", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    seen = []

    def load(*_: Any, **__: Any) -> Any:
        seen.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        return reviews()

    monkeypatch.setattr(datasets, "load_dataset", load)
    read_hub(SST2)
    assert seen == [(True, True)]
    assert (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE) == (False, False)


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(data_hub.hub, "reachable", lambda: never.wait(60))
    assert not hub_answers(patience_s=0.05)
    never.set()


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("raised", "kind", "field", "message"),
    [
        (ValueError('Unknown split "x". Should be one of []'), DataError, "split", "Unknown split"),
        (ValueError("Config name is missing."), DataError, "config", "Config name is missing"),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"),
            DataError,
            "id",
            "doesn't exist on the Hub",
        ),
        (ConnectionError("reset"), HubUnreachable, "id", "cannot be reached"),
    ],
)
def test_what_the_library_raises_is_put_into_words(
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    kind: type[DataError],
    field: str,
    message: str,
) -> None:
    serve(monkeypatch, raised)
    with pytest.raises(kind, match=message) as caught:
        read_hub(SST2)
    assert caught.value.field == f"data.sources.0.{field}"
    assert str(caught.value).count("\n") == 1


@pytest.mark.usefixtures("online")
def test_a_full_disk_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DiskFullError, match="The disk is full: stanfordnlp/sst2"):
        read_hub(SST2)


@pytest.mark.usefixtures("online")
def test_a_split_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, reviews().select([]))
    with pytest.raises(DataError, match="stanfordnlp/sst2/validation holds no rows"):
        read_hub(SST2)
