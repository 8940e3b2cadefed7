"""Whole recipes with a teacher cache: the same losses as online, shared, resumed, refused."""

from __future__ import annotations

import copy
import json
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill_core import trainer
from distill_core.comparing import lineup
from distill_core.errors import CacheError, ModelError
from distill_core.steps import ahead
from distill_core.teachers import cache_pass, loading
from distill_core.teachers.cache_store import RowStore
from distill_core.teachers.cached import CachedTeacher
from tests.core import small_runs
from tests.core.small_runs import of

pytestmark = pytest.mark.filterwarnings("ignore:Truncating")

FP32 = {"kind": "hidden", "precision": "fp32"}
ALL_SOFT = [
    {"name": "forward_kl", "weight": 0.5, "temperature": 2.0},
    {"name": "reverse_kl", "weight": 0.2},
    {"name": "jsd", "weight": 0.2, "beta": 0.3},
    {"name": "total_variation", "weight": 0.2},
    {"name": "skewed_reverse_kl", "weight": 0.2},
    {"name": "cross_entropy", "weight": 0.1},
]
FORWARD = [{"name": "forward_kl", "weight": 0.9}, {"name": "cross_entropy"}]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every teacher that was brought into memory, as long as it is there."""
    seen: list[Any] = []
    real = loading.load_network

    def counted(*args: Any, **more: Any) -> Any:
        network = real(*args, **more)
        seen.append(weakref.ref(network))
        return network

    monkeypatch.setattr(loading, "load_network", counted)
    return seen


Go = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def go(rows_file: Path, tiny_teacher_dir: Path, tmp_path: Path) -> Go:
    def run(name: str = "one", *, stages: Any = None, seed: int = 0, **more: Any) -> Any:
        stop_after = more.pop("stop_after", None)
        made = small_runs.recipe(
            rows_file,
            stages or [distill(**{"teacher": str(tiny_teacher_dir)} | more)],
            seed=seed,
            device="cpu",
            evaluation={"rows": 4, "samples": 2, "max_new_tokens": 4, "every_steps": 4},
            checkpoints={"every_steps": 4},
        )
        return small_runs.go(made, tmp_path / "runs" / name, stop_after=stop_after)

    return run


def distill(teacher: str, **more: Any) -> dict[str, Any]:
    optim = small_runs.optim(12, **more.pop("optim", {}))
    return small_runs.distill(teacher, losses=FORWARD, optim=optim) | more


def shown(events: list[dict[str, Any]], name: str = "loss") -> list[float]:
    return [event["metrics"][name] for event in of(events, "step")]


def facts(events: list[dict[str, Any]], stage: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = of(events, "rows_ready")[stage]["cache"]
    return found


def test_hidden_states_train_as_the_teacher_itself_does(go: Go) -> None:
    online = go("online", losses=ALL_SOFT)
    cached = go("cached", losses=ALL_SOFT, teacher_cache=FP32)
    for name in [term["name"] for term in ALL_SOFT] + ["loss", "grad_norm"]:
        assert shown(cached, name) == pytest.approx(shown(online, name), rel=1e-3, abs=1e-5)
    half = go("half", losses=ALL_SOFT, teacher_cache={"kind": "hidden"})
    assert shown(half) == pytest.approx(shown(online), rel=2e-2)
    for one, other in zip(of(cached, "evaluation"), of(online, "evaluation"), strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-3, abs=1e-4)
    assert [e["teacher"] for e in of(cached, "sample")] == [
        e["teacher"] for e in of(online, "sample")
    ]


def test_some_of_the_tokens_come_close_and_say_how_much_they_keep(go: Go) -> None:
    online = go("online")
    wide = go("wide", teacher_cache={"kind": "top_k", "k": 48})
    narrow = go("narrow", teacher_cache={"kind": "top_k", "k": 4})
    drawn = go("drawn", teacher_cache={"kind": "sampled", "samples": 400})
    assert shown(wide) == pytest.approx(shown(online), rel=2e-2)
    assert shown(drawn) == pytest.approx(shown(online), rel=0.2)
    assert shown(narrow)[0] < shown(online)[0], "of coarser distributions the KL is smaller"
    assert min(shown(wide, "kept_mass")) > 0.95
    assert max(shown(narrow, "kept_mass")) < 0.5
    assert "kept_mass" not in of(online, "step")[0]["metrics"]
    for events in (wide, narrow, drawn):
        start = of(events, "evaluation")[0]["metrics"]
        assert start == pytest.approx(of(online, "evaluation")[0]["metrics"], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("kind", ["hidden", "top_k", "sampled"])
def test_c4_micro_batches_and_chunks_change_nothing(go: Go, kind: str) -> None:
    losses = [{"name": "forward_kl", "temperature": 2.0}, {"name": "cross_entropy"}]
    whole = {"micro_batch_size": 4, "loss_chunk_rows": 0}
    ways = [
        go(f"{number}", losses=losses, teacher_cache={"kind": kind}, optim=optim)
        for number, optim in enumerate(
            [whole, {"micro_batch_size": 1}, {"micro_batch_size": 3, "loss_chunk_rows": 2}]
        )
    ]
    for other in ways[1:]:
        for name in ("loss", "grad_norm"):
            expected = pytest.approx(shown(ways[0], name), rel=1e-3, abs=1e-5)
            assert shown(other, name) == expected


def test_the_teacher_is_asked_once_for_all_seeds_students_and_runs(
    go: Go, loads: list[Any]
) -> None:
    first = go("one", teacher_cache=FP32)
    assert facts(first)["asked"] == facts(first)["rows"] > 0
    before = len(loads)
    again = go("two", teacher_cache=FP32)
    assert len(loads) - before == before - 1, "only the last evaluation needs its weights"
    other = {"init": "scratch", "layers": 1, "hidden_size": 16}
    more = go("three", teacher_cache=FP32, student=other, optim={"learning_rate": 0.02})
    assert facts(again)["asked"] == facts(more)["asked"] == 0
    assert facts(again)["folder"] == facts(more)["folder"]
    assert shown(again) == shown(first), "bit for bit"
    seed = go("four", teacher_cache=FP32, seed=1)
    assert facts(seed)["asked"] == 0
    assert facts(seed)["folder"] == facts(first)["folder"]


def test_only_rows_that_a_step_takes_are_asked_about(go: Go) -> None:
    assert facts(go("few", teacher_cache=FP32, optim={"max_steps": 2}))["rows"] == 8


def test_what_is_kept_is_read_while_the_step_before_computes(
    go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, threads = RowStore.read, []

    def watched(self: RowStore, keys: Any) -> Any:
        if self.identity["settings"]["kind"] == "sampled":  # held-out rows are kept as "hidden"
            threads.append(threading.current_thread().name)
        return read(self, keys)

    monkeypatch.setattr(RowStore, "read", watched)
    go(teacher_cache={"kind": "sampled", "samples": 20})
    assert len(threads) >= 12
    assert {name.rsplit("_", 1)[0] for name in threads} == {ahead.THREAD}


def test_the_teacher_is_out_of_memory_while_the_student_is_trained(
    go: Go, monkeypatch: pytest.MonkeyPatch, loads: list[Any]
) -> None:
    alive: list[bool] = []
    real = trainer.supervised_rows

    def look(network: Any, teacher: Any, *more: Any, **named: Any) -> Any:
        assert isinstance(teacher, CachedTeacher)
        alive.append(any(one() is not None for one in loads))
        return real(network, teacher, *more, **named)

    monkeypatch.setattr(trainer, "supervised_rows", look)
    go("one", teacher_cache={"kind": "top_k"})
    assert loads
    assert alive
    assert not any(alive)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"adapter": {"kind": "lora", "rank": 2, "dropout": 0.3}},
        {"teacher_precision": "int8"},
    ],
    ids=["all weights", "LoRA", "int8 teacher"],
)
def test_a_run_that_was_stopped_goes_on_as_one_that_was_not(
    go: Go, tmp_path: Path, more: dict[str, Any]
) -> None:
    whole = go("whole", teacher_cache={"kind": "hidden"}, **more)
    first = go("cut", teacher_cache={"kind": "hidden"}, stop_after=6, **more)
    rest = go("cut", teacher_cache={"kind": "hidden"}, **more)
    assert shown(first) + shown(rest) == shown(whole)
    one, two = (
        load_file(tmp_path / "runs" / name / "student" / "model.safetensors")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_kill_in_the_middle_of_the_pass_changes_nothing(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_pass, "TOKENS", 30)
    whole = go("one", teacher_cache=FP32)
    (tmp_path / "runs" / "teacher_cache").rename(tmp_path / "runs" / "aside")
    real, written = RowStore.add, []

    def dies(self: RowStore, key: bytes, arrays: Any) -> None:
        if len(written) == 9:
            raise KeyboardInterrupt
        written.append(key)
        real(self, key, arrays)

    monkeypatch.setattr(RowStore, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        go("two", teacher_cache=FP32)
    monkeypatch.setattr(RowStore, "add", real)
    again = go("two", teacher_cache=FP32)
    assert 0 < facts(again)["asked"] < facts(again)["rows"]
    assert shown(again) == shown(whole)


def test_stages_in_a_chain_share_what_their_teacher_has_said(
    go: Go, tiny_teacher_dir: Path, loads: list[Any]
) -> None:
    name = str(tiny_teacher_dir)
    stages = [
        distill(name, teacher_cache=FP32, student={"init": "layer_drop", "layers": 3}),
        distill("previous", teacher_cache=FP32, student={"init": "layer_drop", "layers": 1}),
        distill(name, teacher_cache=FP32, student={"init": "pretrained", "model": "previous"}),
    ]
    events = go("chain", stages=stages)
    assert facts(events, 0)["folder"] == facts(events, 2)["folder"]
    assert facts(events, 0)["folder"] != facts(events, 1)["folder"]
    assert (facts(events, 1)["asked"] > 0, facts(events, 2)["asked"]) == (True, 0)
    plain = [dict(stage, teacher_cache=None) for stage in stages]
    online = go("plain", stages=plain)
    assert shown(events) == pytest.approx(shown(online), rel=1e-2, abs=1e-4)


def test_a_teacher_with_other_weights_knows_nothing_of_the_first(
    go: Go, tiny_student_dir: Path
) -> None:
    first = go("one", teacher_cache=FP32)
    student = {"init": "layer_drop", "layers": 1}
    other = go("two", stages=[distill(str(tiny_student_dir), teacher_cache=FP32, student=student)])
    assert facts(other)["asked"] == facts(other)["rows"]
    assert facts(other)["folder"] != facts(first)["folder"]


def test_several_teachers_are_kept_as_one(
    go: Go, tiny_teacher_dir: Path, tiny_student_dir: Path
) -> None:
    both = [{"model": str(tiny_teacher_dir), "weight": 2}, {"model": str(tiny_student_dir)}]
    online = go("online", teacher=both)
    cached = go("cached", teacher=both, teacher_cache=FP32)
    assert shown(cached) == pytest.approx(shown(online), rel=1e-3)


def test_the_line_up_says_the_same_whether_the_teacher_was_loaded(go: Go, tmp_path: Path) -> None:
    for name in ("one", "two"):
        go(name, teacher_cache=FP32, teacher_precision="int8")
    one, two = (lineup.read(tmp_path / "runs" / name)[0] for name in ("one", "two"))
    assert one == two
    assert one.bytes < 4 * one.parameters


def test_a_damaged_cache_stops_training_and_is_mended_by_resuming(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go("one", teacher_cache=FP32)
    files = list((tmp_path / "runs" / "teacher_cache").glob("*/*.rows.safetensors"))
    monkeypatch.setattr(RowStore, "is_whole", lambda self, key: True)  # damaged after the look
    for file in files:
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        file.write_bytes(bytes(content))
    with pytest.raises(CacheError, match="is damaged"):
        go("two", teacher_cache=FP32)
    monkeypatch.undo()
    assert facts(go("two", teacher_cache=FP32))["asked"] > 0


@pytest.mark.parametrize(
    "more",
    [
        {"losses": [{"name": "reverse_kl"}], "teacher_cache": {"kind": "top_k"}},
        {"losses": [{"name": "hidden_states"}], "teacher_cache": {"kind": "hidden"}},
        {"on_policy_fraction": 0.5, "teacher_cache": {"kind": "hidden"}},
        {
            "losses": [{"name": "forward_kl", "temperature": {"start": 2, "end": 1}}],
            "teacher_cache": {"kind": "sampled"},
        },
    ],
    ids=["dense", "inside", "on policy", "moving temperature"],
)
def test_what_a_cache_cannot_serve_is_refused_before_anything_is_asked(
    go: Go, more: dict[str, Any], loads: list[Any]
) -> None:
    with pytest.raises(ModelError, match="cannot be served by a teacher cache") as caught:
        go("one", **more)
    assert caught.value.field == "stages.0.teacher_cache"
    assert not loads


def test_a_term_without_teacher_keeps_nothing(go: Go, tmp_path: Path) -> None:
    events = go("one", losses=[{"name": "cross_entropy"}], teacher_cache=FP32)
    assert facts(events) is None
    assert not (tmp_path / "runs" / "teacher_cache").exists()


def test_tokens_of_another_tokenizer_are_kept_on_the_teachers_side(
    go: Go, tiny_tokenizer: Any, tiny_llama: Any, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer

    plain = json.loads(tiny_tokenizer.backend_tokenizer.to_str())
    words = sorted(plain["model"]["vocab"].items(), key=lambda item: item[1])
    moved = [words[0], words[1], words[2], words[3], *reversed(words[4:])]
    plain["model"]["vocab"] = {word: number for number, (word, _) in enumerate(moved)}
    other = copy.deepcopy(tiny_tokenizer)
    other._tokenizer = Tokenizer.from_str(json.dumps(plain))
    folder = tmp_path / "other"
    tiny_llama(seed=4).save_pretrained(folder)
    other.save_pretrained(folder)
    losses = [{"name": "cross_tokenizer", "weight": 1.0}]
    student = {"init": "pretrained", "model": str(folder)}
    online = go("online", losses=losses, student=student)
    cached = go("cached", losses=losses, student=student, teacher_cache=FP32)
    assert shown(cached) == pytest.approx(shown(online), rel=1e-3)
    for one, two in zip(of(cached, "evaluation"), of(online, "evaluation"), strict=True):
        assert one["metrics"] == pytest.approx(two["metrics"], rel=1e-3, abs=1e-4)
