"""Memory that runs out in a step: it goes on with fewer rows at once, to the same result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import pipeline, ranks
from distill_core.data.tokenize import IGNORE_INDEX, Encoded
from distill_core.errors import OutOfMemory
from distill_core.forward.network import Network
from distill_core.recipe import LoraSettings, recipe_yaml
from distill_core.steps.rows_at_once import FILE, RowsAtOnce
from distill_core.students.adapters import with_adapter
from distill_core.trainer import TrainingStage, train
from tests.core.definition import encoded
from tests.core.ways import TERMS, own_batches, stage_of

Make = Callable[..., Any]

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes."),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB)."),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "python": MemoryError(),
}


@contextmanager
def room_for(
    rows: int, *, since: int = 0, error: Exception = ERRORS["cpu"]
) -> Iterator[dict[str, int]]:
    """Let the student's training pass fail for more rows, from its `since`th pass on.

    It fails after the pass, so that random numbers have been drawn by then.
    """
    real, seen = Network.forward, {"passes": 0, "failed": 0}

    def forward(self: Any, batch: Any, comparison: Any = None) -> Any:
        view = real(self, batch, comparison)
        if torch.is_grad_enabled():
            seen["passes"] += 1
            if len(batch.rows) > rows and seen["passes"] > since:
                seen["failed"] += 1
                raise error
        return view

    Network.forward = forward  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Network.forward = real  # type: ignore[method-assign]


def equally_long(rows: list[Encoded]) -> list[Encoded]:
    """Ten tokens each, so that a micro-batch has as many rows as it is told."""
    return [
        Encoded(
            (row.input_ids + [5] * 10)[:10],
            (row.labels + [IGNORE_INDEX] * 10)[:10],
            labelled=row.labelled,
            truncated=False,
        )
        for row in rows
    ]


def make(folder: Path, tiny_llama: Make, *, micro: int, dropout: float = 0.0) -> TrainingStage:
    torch.manual_seed(0)
    student = with_adapter(tiny_llama(), LoraSettings(rank=4, dropout=dropout), seed=0)
    return stage_of(
        folder,
        student if dropout else tiny_llama(),
        tiny_llama(layers=3, seed=1),
        TERMS["both"],
        rows=equally_long(encoded(20)),
        steps=6,
        micro_batch_size=micro,
    )


def losses(events: list[Any]) -> list[float]:
    return [e["metrics"]["loss"] for e in events if e["type"] == "step"]


def warnings(events: list[Any]) -> list[Any]:
    return [event for event in events if event["type"] == "warning"]


@pytest.mark.parametrize("kind", ERRORS)
def test_the_run_goes_on_as_one_that_took_fewer_from_the_start(
    tmp_path: Path, tiny_llama: Make, kind: str
) -> None:
    small = make(tmp_path / "small", tiny_llama, micro=2)
    expected = losses(list(train(small)))
    large = make(tmp_path / "large", tiny_llama, micro=8)
    with room_for(2, error=ERRORS[kind]) as seen:
        events = list(train(large))
    assert losses(events) == pytest.approx(expected, rel=1e-6)
    for name, value in small.student.state_dict().items():
        torch.testing.assert_close(large.student.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert seen["failed"] == len(warnings(events)) == 2, "8 and 4 at once, in the first step alone"


def test_weights_random_numbers_and_optimiser_are_those_before_the_step(
    tmp_path: Path, tiny_llama: Make
) -> None:
    """With dropout, exactly: the step that failed has drawn numbers, and they are drawn again."""
    small = make(tmp_path / "small", tiny_llama, micro=4, dropout=0.3)
    torch.manual_seed(5)
    expected = losses(list(train(small)))
    large = make(tmp_path / "large", tiny_llama, micro=8, dropout=0.3)
    torch.manual_seed(5)
    with room_for(4):
        assert losses(list(train(large))) == expected


def test_memory_that_runs_out_later_leaves_the_curve_alone(
    tmp_path: Path, tiny_llama: Make
) -> None:
    whole = losses(list(train(make(tmp_path / "whole", tiny_llama, micro=8))))
    large = make(tmp_path / "large", tiny_llama, micro=8)
    with room_for(3, since=3):
        events = list(train(large))
    assert losses(events) == pytest.approx(whole, rel=1e-4)
    assert next(event["step"] for event in warnings(events)) > 1


def test_the_event_says_what_happened_in_words(tmp_path: Path, tiny_llama: Make) -> None:
    with room_for(4):
        events = list(train(make(tmp_path, tiny_llama, micro=8)))
    (told,) = warnings(events)
    assert events.index(told) == 0
    assert (told["stage"], told["step"], told["micro_batch_size"]) == (0, 1, 4)
    for words in ("Memory ran out in step 1 with 8 rows", "goes on, with 4 rows", "same result"):
        assert words in told["message"]


def test_numbers_that_would_change_nothing_are_passed_over(
    tmp_path: Path, tiny_llama: Make
) -> None:
    """Rows beyond those of a step: half of 64 is still all eight."""
    with room_for(4) as seen:
        (told,) = warnings(list(train(make(tmp_path, tiny_llama, micro=64))))
    assert (seen["failed"], told["micro_batch_size"]) == (1, 4)


def test_what_the_student_wrote_is_not_written_again(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for micro in (2, 8):
        made = make(tmp_path / str(micro), tiny_llama, micro=micro)
        made.on_policy = own_batches(made.rows)  # type: ignore[arg-type]
        with room_for(2):
            found.append(losses(list(train(made))))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


# --- what is remembered -------------------------------------------------------------------------


def test_later_steps_and_whoever_resumes_begin_with_fewer(tmp_path: Path, tiny_llama: Make) -> None:
    kept = tmp_path / FILE
    first = make(tmp_path / "run", tiny_llama, micro=8)
    first.at_once = RowsAtOnce(kept)
    wishes = iter([None, None, "pause"])
    with room_for(4):
        list(train(first, should_stop=lambda: next(wishes)))
    second = make(tmp_path / "run", tiny_llama, micro=8)
    second.at_once = RowsAtOnce(kept)
    with room_for(4) as seen:
        events = list(train(second))
    assert seen["failed"] == len(warnings(events)) == 0
    assert len(losses(events)) == 3
    assert RowsAtOnce(kept).of(first.optim) == 4
    smaller = first.optim.model_copy(update={"micro_batch_size": 3})
    assert RowsAtOnce(kept).of(smaller) == 3, "never more than the recipe says"
    assert RowsAtOnce(tmp_path / "another run").of(first.optim) == 8


def test_later_stages_of_a_run_begin_with_fewer(tmp_path: Path, tiny_teacher_dir: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"turn on light {n}", "response": "on off"} for n in range(12)]
    rows.write_text("\n".join(map(json.dumps, lines)))
    optim = {"max_steps": 2, "global_batch_size": 8, "micro_batch_size": 8}
    tuned = {"kind": "fine_tune", "model": str(tiny_teacher_dir), "optim": optim}
    made = recipe_yaml.parse(
        {
            "device": "cpu",
            "data": {"sources": [{"kind": "file", "path": str(rows)}], "held_out": 0.2},
            "stages": [tuned, tuned | {"model": "previous"}],
            "evaluation": {"rows": 1, "final_rows": 1, "samples": 1, "max_new_tokens": 2},
        }
    )
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    with room_for(4) as seen:
        events = list(pipeline.run(made, run))
    assert events[-1]["type"] == "run_finished"
    assert seen["failed"] == 1
    assert [(e["stage"], e["step"]) for e in warnings(events)] == [(0, 1)]


# --- where nothing is left to lower -------------------------------------------------------------


def test_not_even_one_row_ends_with_a_clear_error(tmp_path: Path, tiny_llama: Make) -> None:
    events: list[Any] = []
    with room_for(0), pytest.raises(OutOfMemory) as raised:
        events.extend(train(make(tmp_path, tiny_llama, micro=8)))
    assert raised.value.field == "data.max_seq_len"
    told = str(raised.value)
    assert len(told.splitlines()) == 2
    for words in ("in step 1", "a single row of", "not possible", "Lower data.max_seq_len", "LoRA"):
        assert words in told
    assert losses(events) == []


def test_other_errors_are_not_taken_for_it(tmp_path: Path, tiny_llama: Make) -> None:
    with room_for(4, error=RuntimeError("shapes cannot be multiplied")) as seen:
        with pytest.raises(RuntimeError, match="multiplied"):
            list(train(make(tmp_path, tiny_llama, micro=8)))
        assert seen["failed"] == 1


def test_an_optimiser_without_room_is_not_tried_again(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ERRORS["cuda"]

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(OutOfMemory, match=r"optimiser's step") as raised:
        list(train(make(tmp_path, tiny_llama, micro=8)))
    assert raised.value.field == "stages.0.student"


def test_one_of_several_processes_keeps_the_number_for_who_resumes(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for its gradients: it cannot begin again alone."""
    from distill_core.steps.rows_at_once import until_it_fits

    stage = make(tmp_path, tiny_llama, micro=8)
    kept = RowsAtOnce(tmp_path / FILE)

    class Lines:
        def __init__(self, rows: list[int]) -> None:
            self.rows = rows

    def split(size: int) -> Any:
        return [Lines(list(range(n, n + size))) for n in range(0, 8, size)]

    def compute(batches: Any) -> None:
        raise ERRORS["cuda"]

    monkeypatch.setattr(ranks, "count", lambda: 2)
    with pytest.raises(OutOfMemory, match="goes on with 4 rows at once"):
        list(
            until_it_fits(
                compute,
                split,
                kept,
                optim=stage.optim,
                device=torch.device("cpu"),
                stage=0,
                step=1,
            )
        )
    monkeypatch.undo()
    assert RowsAtOnce(tmp_path / FILE).of(stage.optim) == 4
