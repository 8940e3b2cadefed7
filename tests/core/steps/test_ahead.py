"""Steps that are made ready ahead: the same as in turn, one at most, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import trainer
from distill_core.data import batches as batches_module
from distill_core.data.batches import collate
from distill_core.data.class_batches import collate_texts
from distill_core.data.classes import EncodedText
from distill_core.data.tokenize import Encoded, Span, TeacherSide
from distill_core.losses.sparse import SparseRows
from distill_core.recipe import LoraSettings
from distill_core.steps.ahead import THREAD, Ready, prepared_ahead
from distill_core.students.adapters import with_adapter
from distill_core.trainer import TrainingStage, train
from tests.core.definition import encoded
from tests.core.steps.test_rows_at_once import equally_long, room_for
from tests.core.ways import TERMS, own_batches, stage_of

Make = Callable[..., Any]
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(THREAD)]


def in_turn(prepare: Callable[[int], Any], steps: Iterable[int]) -> Iterator[Any]:
    """As `prepared_ahead`, without a thread."""
    yield from map(prepare, steps)


# --- one step ahead -----------------------------------------------------------------------------


def test_the_next_one_is_made_while_one_is_used_and_no_more() -> None:
    begun = [threading.Event() for _ in range(6)]
    made_by = []

    def prepare(step: int) -> int:
        made_by.append(threading.current_thread())
        begun[step].set()
        return 10 * step

    ahead = prepared_ahead(prepare, range(6))
    for step in range(5):
        assert next(ahead) == 10 * step
        assert begun[step + 1].wait(PATIENCE_S), "made before it is asked for"
        assert not any(one.is_set() for one in begun[step + 2 :])
    assert list(ahead) == [50]
    assert len(set(made_by)) == 1
    assert made_by[0] is not threading.current_thread()
    assert list(prepared_ahead(prepare, [])) == []


def test_an_error_is_raised_where_its_step_is_taken() -> None:
    def prepare(step: int) -> int:
        return 6 // (3 - step)

    ahead = prepared_ahead(prepare, range(9))
    assert [next(ahead) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    ahead = prepared_ahead(lambda step: step, range(9))
    next(ahead)
    assert len(threads()) == 1
    ahead.close()
    assert threads() == []


# --- in training --------------------------------------------------------------------------------


def make(folder: Path, tiny_llama: Make, *, own: float = 0.0) -> TrainingStage:
    torch.manual_seed(0)
    student = with_adapter(tiny_llama(), LoraSettings(rank=4, dropout=0.3), seed=0)
    made = stage_of(
        folder,
        student,
        tiny_llama(layers=3, seed=1),
        TERMS["both"],
        rows=equally_long(encoded(20)),
        steps=7,
    )
    made.checkpoint_every = 3
    if own:
        made.on_policy = own_batches(made.rows, own)  # type: ignore[arg-type]
    return made


def told(events: Iterable[Any]) -> list[Any]:
    """Events, without what is measured."""
    found = []
    for one in events:
        metrics = one.get("metrics", {})
        plain = {k: v for k, v in metrics.items() if k not in {"tokens_per_s", "memory_bytes"}}
        found.append({k: v for k, v in one.items() if k != "time_s"} | {"metrics": plain})
    return found


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("room", [8, 3])
def test_events_and_weights_are_the_same_as_in_turn(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch, own: float, room: int
) -> None:
    found = []
    for name in ("ahead", "in turn"):
        if name == "in turn":
            monkeypatch.setattr(trainer, "prepared_ahead", in_turn)
        stage = make(tmp_path / name, tiny_llama, own=own)
        with room_for(room, since=2):
            found.append((told(train(stage)), stage.student.state_dict()))
    assert found[0][0] == found[1][0]
    assert len(found[0][0]) >= 9
    for name, value in found[0][1].items():
        assert torch.equal(value, found[1][1][name]), name


@pytest.mark.parametrize("end", ["stop", "pause", "closed", "broken"])
def test_no_thread_outlives_the_training(tmp_path: Path, tiny_llama: Make, end: str) -> None:
    stage = make(tmp_path, tiny_llama)
    if end in {"stop", "pause"}:
        wishes = iter([None, None, end])
        events = list(train(stage, should_stop=lambda: next(wishes)))
        assert events[-1]["type"] == "run_stopped"
    elif end == "closed":
        going = train(stage)
        next(going)
        assert len(threads()) == 1
        going.close()  # type: ignore[attr-defined]
    else:
        with room_for(0, error=RuntimeError("broken")), pytest.raises(RuntimeError, match="broken"):
            list(train(stage))
    assert threads() == []


def test_rows_that_cannot_be_read_end_the_training_at_their_step(
    tmp_path: Path, tiny_llama: Make
) -> None:
    class Broken(list[Any]):
        """Rows whose disk fails in the fourth step."""

        reads = 0

        def __getitem__(self, place: Any) -> Any:
            self.reads += 1
            if self.reads > 3 * 8:
                raise OSError("the disk is gone")
            return super().__getitem__(place)

    stage = make(tmp_path, tiny_llama)
    stage.rows = Broken(stage.rows)
    going = train(stage)
    happened = [next(going) for _ in range(4)]  # a checkpoint is among them
    assert [one["step"] for one in happened if one["type"] == "step"] == [1, 2, 3]
    with pytest.raises(OSError, match="disk is gone"):
        next(going)
    assert threads() == []


# --- where CUDA reads ---------------------------------------------------------------------------


def full_batch() -> Any:
    side = TeacherSide([7, 8], [-100, 8], [Span(0, 1, 0, 1, True)], torch.arange(9).numpy())
    items = [Encoded([1, 5], [-100, 5], True, False, side) for _ in range(2)]
    return collate(items, pad_token_id=0, rows=[0, 1])


def cached_batch() -> Any:
    made = full_batch()
    made.kept = torch.ones(2, 3)
    ones = torch.ones(2, 1)
    made.teacher.kept = SparseRows(ones.long(), ones, ones, ones[:, 0], 1.0, 9)
    return made


def class_batch() -> Any:
    items = [EncodedText([4, 5], [0, 1], 1, True, False) for _ in range(2)]
    return collate_texts(items, pad_token_id=0, rows=[0, 1])


def tensors_of(batch: Any) -> list[torch.Tensor]:
    """Its own and its teacher's; the rows as they were collated stay where they are."""
    found = []
    for name in set(batch.__dataclass_fields__) - {"_unmoved"}:
        value = getattr(batch, name)
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            found += [one for one in value if isinstance(one, torch.Tensor)]
        elif hasattr(value, "__dataclass_fields__"):
            found += tensors_of(value)
    return found


@pytest.mark.parametrize("whole", [full_batch, cached_batch, class_batch])
def test_every_tensor_is_pinned_for_cuda_alone(
    whole: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[int] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        copy = self.clone()
        pinned.append(id(copy))
        kept.append(copy)
        return copy

    kept: list[torch.Tensor] = []
    monkeypatch.setattr(batches_module.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    batch = whole()

    def ready(device: str) -> Ready:
        return Ready([0, 1], [], lambda *_: [batch], torch.device(device)).made(2)

    assert ready("cpu").split(2)[0] is batch
    assert not pinned
    (moved,) = ready("cuda").split(2)
    assert len(tensors_of(moved)) == len(pinned) >= 8
    assert all(id(one) in pinned for one in tensors_of(moved))
    assert type(moved) is type(batch)
    assert ready("cuda").split(1) == [batch], "made for another size"


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("cpu", True), ("mps", True)])
@pytest.mark.parametrize("whole", [full_batch, cached_batch, class_batch])
def test_only_copies_to_cuda_are_not_waited_for(
    whole: Make, device: str, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Any] = []

    def to(self: torch.Tensor, where: Any, *, non_blocking: bool = False) -> torch.Tensor:
        copies.append((torch.device(where).type, non_blocking))
        return self

    batch = whole()
    count = len(tensors_of(batch.to("cpu")))
    monkeypatch.setattr(torch.Tensor, "to", to)
    batch.to(device)
    assert copies == [(device, not waits)] * count
