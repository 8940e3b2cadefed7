"""One training step against references written here, over every term; then resuming."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_core import trainer
from distill_core.checkpoints import Checkpoints
from distill_core.data.batches import Batch, batch_order, collate
from distill_core.data.on_policy import OnPolicy
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, Span, TeacherSide
from distill_core.errors import NonFiniteError
from distill_core.losses.matching import match
from distill_core.losses.objective import Objective
from distill_core.network import Network
from distill_core.recipe import (
    AttentionLoss,
    CrossEntropyLoss,
    ForwardKLLoss,
    HiddenStatesLoss,
    LoraSettings,
    OptimSettings,
    TemperatureSchedule,
    WeightSchedule,
)
from distill_core.students.adapters import merged, with_adapter
from distill_core.teachers.local import LocalTeacher
from distill_core.trainer import TrainingStage, train
from tests.core.terms import TERMS as ALL_TERMS
from tests.core.terms import reference, span_reference

TERMS = {name: [term] for name, term in ALL_TERMS.items()} | {
    "three at once": [
        ForwardKLLoss(weight=0.6),
        HiddenStatesLoss(weight=0.3),
        AttentionLoss(weight=0.2),
    ],
    "both": [ForwardKLLoss(weight=0.6, temperature=2.0), CrossEntropyLoss(weight=0.4)],
}
MOVING = [
    ForwardKLLoss(
        weight=WeightSchedule(start=1.0, end=0.2),
        temperature=TemperatureSchedule(start=3.0, end=1.0, schedule="cosine", fraction=0.5),
    ),
    CrossEntropyLoss(weight=WeightSchedule(start=0.0, end=0.8)),
]
Make = Callable[..., Any]


@pytest.fixture(params=sorted(TERMS))
def terms(request: pytest.FixtureRequest) -> list[Any]:
    return TERMS[request.param]


def encoded(count: int, *, seed: int = 0) -> list[Encoded]:
    """Rows of unequal length, prompt and answer, every third one unlabelled."""
    random = torch.Generator().manual_seed(seed)
    made = []
    for row in range(count):
        prompt = torch.randint(3, 64, (int(2 + row % 4),), generator=random).tolist()
        answer = torch.randint(3, 64, (int(1 + (3 * row) % 7),), generator=random).tolist()
        labels = [IGNORE_INDEX] * len(prompt) + answer
        made.append(Encoded(prompt + answer, labels, labelled=row % 3 != 2, truncated=False))
    return made


STUDENT_IDS = np.array([(5 * number + 2) % 64 for number in range(64)])
STUDENT_IDS[[7, 20]] = -1
"""For each teacher's token the student's of the same text; two have none."""


def rows_for(losses: list[Any], rows: list[Encoded]) -> list[Encoded]:
    """The rows as the terms need them: with a teacher's side where one compares spans."""
    across = any(term.name == "cross_tokenizer" for term in losses)
    return [two_sided(row) for row in rows] if across else rows


def two_sided(row: Encoded) -> Encoded:
    """The same row for a teacher with other tokens: one for one, one for two, or two for one."""
    own = [label for label in row.labels if label != IGNORE_INDEX]
    ids, labels, spans = [9, 8, 7, 6][: 2 + len(own) % 3], [], []
    labels = [IGNORE_INDEX] * len(ids)
    place = turn = 0
    while place < len(own):
        matches = np.flatnonzero(own[place] == STUDENT_IDS)
        kind = turn % 3
        if kind == 0 and len(matches):
            taken, theirs, same = 1, [int(matches[0])], True
        elif kind == 1 and place + 1 < len(own):
            taken, theirs, same = 2, [(own[place] + 11) % 64], False
        else:
            taken, theirs, same = 1, [(own[place] + 5) % 64, (own[place] + 9) % 64], False
        first = sum(label != IGNORE_INDEX for label in labels)
        spans.append(Span(place, taken, first, len(theirs), same))
        ids, labels = [*ids, *theirs], [*labels, *theirs]
        place, turn = place + taken, turn + 1
    side = TeacherSide(ids, labels, spans, STUDENT_IDS)
    return replace(row, teacher=side)


def stage(
    folder: Path,
    student: torch.nn.Module,
    teacher: Any,
    losses: list[Any],
    *,
    rows: list[Encoded] | None = None,
    steps: int = 1,
    **optim: Any,
) -> TrainingStage:
    asked = LocalTeacher(teacher, vocab_size=64, stop_ids={2}) if teacher else None
    matching = match(losses, student.config, teacher.config) if teacher else None
    if asked and matching:
        asked.look_into(matching.teacher)
    settings = {"global_batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-2} | optim
    return TrainingStage(
        index=0,
        student=student,
        teacher=asked,
        objective=Objective(losses, matching),
        rows=rows_for(losses, rows or encoded(8)),
        optim=OptimSettings(**settings),
        total_steps=steps,
        seed=0,
        vocab_size=64,
        pad_token_id=0,
        checkpoints=Checkpoints(folder / "checkpoints", keep=2),
        checkpoint_every=1000,
        evaluate_every=1000,
    )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def step_gradient(
    monkeypatch: pytest.MonkeyPatch, made: TrainingStage
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Gradient of the first step, unclipped and before the optimiser, and the metrics shown."""
    kept: dict[str, torch.Tensor] = {}

    def keep(self: Any, *args: Any, **kwargs: Any) -> None:
        kept.update(gradients(made.student))

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    made.optim = made.optim.model_copy(update={"grad_clip_norm": 1e6})
    events = [e for e in train(made) if e["type"] == "step"]
    return kept, events[0]["metrics"]


def naive_loss(student: Any, teacher: Any, rows: list[Encoded], losses: list[Any]) -> torch.Tensor:
    """The step's loss, row by row without padding or batches, straight from its definition."""
    values: dict[str, list[torch.Tensor]] = {term.name: [] for term in losses}
    for row in rows_for(losses, rows):
        ids = torch.tensor([row.input_ids])
        mine = inside(student, ids)
        with torch.no_grad():
            theirs = inside(teacher, ids)
        for term in losses:
            if term.name == "cross_tokenizer":
                values[term.name] += naive_spans(term, student, teacher, row)
        for place, label in enumerate(row.labels):
            if label == IGNORE_INDEX:
                continue
            before = place - 1  # the position whose next token is this one
            for term in losses:
                if term.name == "cross_tokenizer":
                    continue
                if term.name != "cross_entropy" or row.labelled:
                    value = naive_value(term, mine, theirs, before, label)
                    values[term.name].append(value)
    return sum(
        (term.weight * torch.stack(values[term.name]).mean() for term in losses), torch.zeros(())
    )


def naive_spans(term: Any, student: Any, teacher: Any, row: Encoded) -> list[torch.Tensor]:
    """The values of one row's spans, each side read by itself in its own ids."""
    assert row.teacher is not None
    mine = student(input_ids=torch.tensor([row.input_ids])).logits[0]
    with torch.no_grad():
        theirs = teacher(input_ids=torch.tensor([row.teacher.input_ids])).logits[0]
    own = [n for n, label in enumerate(row.labels) if label != IGNORE_INDEX]
    their = [n for n, label in enumerate(row.teacher.labels) if label != IGNORE_INDEX]
    found = []
    for span in row.teacher.spans or ():
        a = own[span.student_first :][: span.student_tokens]
        b = their[span.teacher_first :][: span.teacher_tokens]
        found.append(
            span_reference(
                term,
                torch.stack([mine[place - 1] for place in a]),
                torch.stack([theirs[place - 1] for place in b]),
                [row.labels[place] for place in a],
                [row.teacher.labels[place] for place in b],
                STUDENT_IDS.tolist() if span.coincides else None,
            )
        )
    return found


def inside(model: Any, ids: torch.Tensor) -> dict[str, Any]:
    """Everything of one row: logits, hidden states, attention and values by layer from 1."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("eager")
    values: dict[int, torch.Tensor] = {}
    hooks = [
        layer.self_attn.v_proj.register_forward_hook(
            lambda module, given, output, number=number: values.update({number: output[0]})
        )
        for number, layer in enumerate(base.model.layers, 1)
    ]
    out = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
    for hook in hooks:
        hook.remove()
    return {
        "logits": out.logits[0],
        "hidden": [states[0] for states in out.hidden_states],
        "maps": [None, *(maps[0] for maps in out.attentions)],
        "values": values,
    }


def naive_value(
    term: Any, mine: dict[str, Any], theirs: dict[str, Any], place: int, label: int
) -> torch.Tensor:
    """One term at one position, two layers against three: 1 from 2, 2 from 3."""
    if term.name not in ("hidden_states", "attention"):
        return reference(term, mine["logits"][place], theirs["logits"][place], label)
    found = []
    for a, b in [(1, 2), (2, 3)] if term.layers == "all" else [(2, 3)]:
        if term.name == "hidden_states":
            s, t = mine["hidden"][a][place], theirs["hidden"][b][place]
            if term.distance == "cosine":
                found.append(1 - (s @ t) / (s.norm() * t.norm()))
            else:
                s, t = (x / (x**2).mean().sqrt() for x in (s, t))
                found.append(((s - t) ** 2).mean())
            continue
        if term.compares == "maps":  # (H, keys that can be seen)
            s, t = mine["maps"][a][:, place, : place + 1], theirs["maps"][b][:, place, : place + 1]
        else:
            s, t = (naive_relation(x["values"][n], place) for x, n in ((mine, a), (theirs, b)))
        if term.distance == "mse":
            found.append(((s - t) ** 2).sum(-1).mean())
        else:
            found.append((t * (t / s).log()).sum(-1).mean())
    return torch.stack(found).mean()


def naive_relation(values: torch.Tensor, place: int, heads: int = 4) -> torch.Tensor:
    """(R, keys): how one position's values relate to those before, part by part."""
    width = values.shape[-1] // heads
    parts = [values[: place + 1, h * width : (h + 1) * width] for h in range(heads)]
    return torch.stack([(p @ p[-1] / width**0.5).softmax(-1) for p in parts])


# --- the step equals its definition -------------------------------------------------------------


@pytest.mark.parametrize("adapter", [None, LoraSettings(rank=4)], ids=["full", "lora"])
def test_value_and_gradient_equal_the_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Make, terms: Any, adapter: Any
) -> None:
    teacher = tiny_llama(layers=3, seed=1).eval()
    student = with_adapter(tiny_llama(), adapter, seed=0)
    reference = copy.deepcopy(student)
    rows = encoded(8)
    loss = naive_loss(reference, teacher, rows, terms)
    loss.backward()
    got, metrics = step_gradient(monkeypatch, stage(tmp_path, student, teacher, terms, rows=rows))
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    expected = gradients(reference)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("micro", [1, 2, 3, 4, 8])
def test_c4_accumulation_gives_the_same_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_llama: Make, terms: Any, micro: int
) -> None:
    teacher = tiny_llama(layers=3, seed=1)
    results = []
    for size in (8, micro):
        made = stage(tmp_path, tiny_llama(), teacher, terms, micro_batch_size=size)
        with monkeypatch.context() as patch:
            results.append(step_gradient(patch, made))
    (whole, whole_metrics), (split, split_metrics) = results
    for name, value in whole.items():
        torch.testing.assert_close(split[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for name in ("loss", "grad_norm"):
        assert split_metrics[name] == pytest.approx(whole_metrics[name], rel=1e-4)


# --- C1, C2: masks and shift --------------------------------------------------------------------


def loss_of(student: Any, teacher: Any, batch: Batch, losses: list[Any]) -> torch.Tensor:
    from accelerate import Accelerator

    given = stage(Path(), student, teacher, losses)
    objective = given.objective
    network = Network(
        student,
        vocab_size=64,
        wanted=objective.matching.student,
        projectors=objective.matching.projectors,
    )
    rows = trainer.supervised_rows(network, given.teacher, batch, objective, Accelerator(cpu=True))
    return objective(rows, totals=objective.token_counts(batch.counts()))[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", [1, 7])
def test_c1_padding_changes_neither_loss_nor_gradient(
    tiny_llama: Make, terms: Any, side: Any, pad: int
) -> None:
    student, teacher = tiny_llama(), tiny_llama(layers=3, seed=1)
    rows = rows_for(terms, encoded(4))
    longest = max(len(row.input_ids) for row in rows)
    plain = collate(rows, pad_token_id=0, rows=range(4))
    padded = collate(rows, pad_token_id=0, rows=range(4), padding_side=side, pad_to=longest + pad)
    results = []
    for batch in (plain, padded):
        student.zero_grad()
        loss = loss_of(student, teacher, batch, terms)
        loss.backward()
        results.append((loss.item(), gradients(student)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    for name, value in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_c1_what_stands_after_the_supervised_tokens_changes_nothing(
    tiny_llama: Make, terms: Any
) -> None:
    student, teacher = tiny_llama(), tiny_llama(layers=3, seed=1)
    labels = [IGNORE_INDEX, IGNORE_INDEX, 9, 11, IGNORE_INDEX, IGNORE_INDEX]
    values = []
    for tail in ([20, 21], [40, 5]):
        row = Encoded([7, 8, 9, 11, *tail], labels, labelled=True, truncated=False)
        batch = collate(rows_for(terms, [row]), pad_token_id=0, rows=[0])
        values.append(loss_of(student, teacher, batch, terms).item())
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_c2_exactly_the_positions_whose_next_token_is_labelled_contribute(
    tiny_llama: Make, terms: Any
) -> None:
    student, teacher = tiny_llama(), tiny_llama(layers=3, seed=1)
    row = Encoded([5, 6, 7, 8, 9], [IGNORE_INDEX, IGNORE_INDEX, 7, 8, IGNORE_INDEX], True, False)
    batch = collate(rows_for(terms, [row]), pad_token_id=0, rows=[0])
    assert batch.supervised.tolist() == [[False, True, True, False, False]]
    assert batch.targets.tolist() == [7, 8]
    expected = naive_loss(student, teacher, [row], terms).item()
    assert loss_of(student, teacher, batch, terms).item() == pytest.approx(expected, abs=1e-6)


def test_c5_padded_rows_of_the_embedding_never_change_the_loss(
    tiny_llama: Make, terms: Any
) -> None:
    student, teacher = tiny_llama(), tiny_llama(layers=3, seed=1)
    batch = collate(rows_for(terms, encoded(4)), pad_token_id=0, rows=range(4))
    before = loss_of(student, teacher, batch, terms).item()
    for model, size in ((student, 72), (teacher, 96)):
        model.resize_token_embeddings(size, mean_resizing=False)
        with torch.no_grad():
            model.get_output_embeddings().weight[64:] = 3.0
    assert loss_of(student, teacher, batch, terms).item() == pytest.approx(before, abs=1e-6)


# --- C12: the teacher's mode --------------------------------------------------------------------


def test_c12_teacher_stays_in_eval_mode_and_student_in_train_mode(
    tmp_path: Path, tiny_llama: Make
) -> None:
    teacher, student = tiny_llama(layers=3, seed=1), tiny_llama()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    modes = []
    forward = teacher.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        modes.append((teacher.training, torch.is_grad_enabled(), student.training))
        return forward(*args, **kwargs)

    made = stage(tmp_path, student, teacher, TERMS["both"], steps=3)
    teacher.train()  # somebody touches it
    teacher.base_model.forward, inner = watched, teacher.base_model.forward
    forward = inner
    list(train(made))
    assert modes
    assert set(modes) == {(False, False, True)}
    assert student.training
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])
    batch = collate(encoded(4), pad_token_id=0, rows=range(4))
    assert torch.equal(made.teacher.logits(batch), made.teacher.logits(batch))  # type: ignore


# --- C14: what is not finite --------------------------------------------------------------------


def test_c14_a_step_that_is_not_finite_is_refused_and_named(
    tmp_path: Path, tiny_llama: Make
) -> None:
    teacher, student = tiny_llama(layers=3, seed=1), tiny_llama()
    with torch.no_grad():
        teacher.get_output_embeddings().weight[5] = float("inf")
    made = stage(tmp_path, student, teacher, TERMS["both"], steps=9)
    made.origin = lambda row: f"rows.jsonl:{row + 1}"
    before = copy.deepcopy(student.state_dict())
    seen: list[Any] = []
    with pytest.raises(NonFiniteError, match=r"5 steps in a row .* forward_kl is not a finite"):
        seen.extend(train(made))
    assert [e["type"] for e in seen] == ["warning"] * 5
    assert "rows.jsonl:" in seen[0]["message"]
    assert "the step was not taken" in seen[0]["message"]
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])


# --- checkpoints, resume ------------------------------------------------------------------------


def losses_of(events: list[Any]) -> dict[int, float]:
    return {e["step"]: e["metrics"]["loss"] for e in events if e["type"] == "step"}


@pytest.mark.parametrize("name", ["both", "moving", "three at once"])
@pytest.mark.parametrize("adapter", [None, LoraSettings(rank=4, dropout=0.3)], ids=["full", "lora"])
def test_resuming_gives_the_losses_of_the_run_that_never_stopped(
    tmp_path: Path, tiny_llama: Make, adapter: Any, name: str
) -> None:
    losses = MOVING if name == "moving" else TERMS[name]
    teacher = tiny_llama(layers=3, hidden_size=48 if name == "three at once" else 32, seed=1)

    def make(folder: str) -> TrainingStage:
        torch.manual_seed(0)
        student = with_adapter(tiny_llama(), adapter, seed=0)
        return stage(tmp_path / folder, student, teacher, losses, rows=encoded(20), steps=12)

    whole = make("whole")
    expected = losses_of(list(train(whole)))
    first = make("cut")
    first.checkpoint_every = 4
    got = {}
    for happening in train(first):  # killed between two checkpoints
        got |= losses_of([happening])
        if happening.get("step") == 6 and happening["type"] == "step":
            break
    second = make("cut")
    torch.manual_seed(99)  # a new process has another random state
    resumed = list(train(second))
    assert min(losses_of(resumed)) == 5
    assert got | losses_of(resumed) == expected
    for (name, a), (_, b) in zip(
        merged(whole.student).state_dict().items(),
        merged(second.student).state_dict().items(),
        strict=True,
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("wish", "reason"), [("stop", "stopped"), ("pause", "paused")])
def test_a_wish_to_stop_saves_and_leaves(
    tmp_path: Path, tiny_llama: Make, wish: str, reason: str
) -> None:
    made = stage(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=9)
    wishes = iter([None, None, wish])
    events = list(train(made, should_stop=lambda: next(wishes)))
    assert [e["type"] for e in events] == ["step", "step", "step", "checkpoint", "run_stopped"]
    assert events[-1]["reason"] == reason
    assert made.checkpoints.steps() == [3]


def test_only_the_last_checkpoints_are_kept(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=9)
    made.checkpoint_every = 2
    list(train(made))
    assert made.checkpoints.steps() == [6, 8]


def test_the_same_seed_gives_the_same_student(tmp_path: Path, tiny_llama: Make) -> None:
    teacher = tiny_llama(seed=1)
    states = []
    for name in ("a", "b"):
        made = stage(tmp_path / name, tiny_llama(), teacher, TERMS["both"], steps=5)
        list(train(made))
        states.append(made.student.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


def test_what_moves_is_recorded_and_weighs_as_it_says(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage(tmp_path, tiny_llama(), tiny_llama(seed=1), MOVING, rows=encoded(20), steps=5)
    seen = [e["metrics"] for e in train(made) if e["type"] == "step"]
    weights = [metrics["weight_forward_kl"] for metrics in seen]
    assert weights == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert [metrics["weight_cross_entropy"] for metrics in seen] == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8]
    )
    assert [metrics["temperature_forward_kl"] for metrics in seen] == pytest.approx([3, 2, 1, 1, 1])
    for metrics in seen:
        for term in ("forward_kl", "cross_entropy"):
            expected = metrics[f"weight_{term}"] * metrics[term]
            assert metrics[f"weighted_{term}"] == pytest.approx(expected, rel=1e-6)
        both = metrics["weighted_forward_kl"] + metrics["weighted_cross_entropy"]
        assert metrics["loss"] == pytest.approx(both, rel=1e-6)


def test_a_step_takes_weights_and_temperatures_of_its_moment(
    tmp_path: Path, tiny_llama: Make
) -> None:
    """The last of five steps, from the same weights, equals a step with the plain numbers."""
    plain = [ForwardKLLoss(weight=0.2, temperature=1.0), CrossEntropyLoss(weight=0.8)]
    found = []
    for name, losses, steps, at in (("moving", MOVING, 5, 5), ("plain", plain, 1, 1)):
        student = tiny_llama()
        made = stage(
            tmp_path / name, student, tiny_llama(seed=1), losses, steps=steps, warmup_fraction=0.0
        )
        for happening in train(made):
            if happening["type"] == "step" and happening["step"] == at - 1:
                student.load_state_dict(tiny_llama().state_dict())
            if happening["type"] == "step" and happening["step"] == at:
                found.append(happening["metrics"]["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


# --- C20: no dead switch ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"weight_decay": 1.0},
        {"grad_clip_norm": 1e-3},
        {"schedule": "linear"},
        {"schedule": "constant"},
        {"warmup_fraction": 0.5},
        {"global_batch_size": 4},
    ],
    ids=str,
)
def test_c20_every_optimiser_setting_changes_the_weights(
    tmp_path: Path, tiny_llama: Make, change: dict[str, Any]
) -> None:
    teacher = tiny_llama(seed=1)
    states = []
    for name, extra in (("plain", {}), ("changed", change)):
        settings = {"warmup_fraction": 0.0} | extra
        made = stage(
            tmp_path / name,
            tiny_llama(),
            teacher,
            TERMS["both"],
            rows=encoded(20),
            steps=6,
            **settings,
        )
        list(train(made))
        states.append(torch.cat([p.flatten() for p in made.student.parameters()]))
    assert not torch.equal(states[0], states[1])


def test_metrics_carry_what_the_table_promises(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage(tmp_path, tiny_llama(), tiny_llama(seed=1), TERMS["both"], steps=2)
    metrics = next(e for e in train(made) if e["type"] == "step")["metrics"]
    weighted = metrics["weighted_forward_kl"] + metrics["weighted_cross_entropy"]
    assert metrics["loss"] == pytest.approx(weighted, rel=1e-6)
    assert metrics["weighted_forward_kl"] == pytest.approx(0.6 * metrics["forward_kl"], rel=1e-6)
    assert metrics["tokens_per_s"] > 0
    assert metrics["memory_bytes"] > 1e6


# --- batches that the student writes ------------------------------------------------------------


def own_batches(made: TrainingStage, fraction: float = 1.0) -> OnPolicy:
    """Every second row asks with its first tokens; the others are plain texts."""
    prompts = [row.input_ids[:2] if place % 2 else None for place, row in enumerate(made.rows)]
    return OnPolicy(prompts, fraction, 1.0, 5, frozenset({2}), 64, seed=0)


JUDGES = [name for name in sorted(TERMS) if not name.startswith("cross_")]


@pytest.mark.parametrize("name", JUDGES)
def test_c18_the_teacher_judges_the_student_s_own_answers_and_nothing_else_does(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    student, teacher = tiny_llama(seed=1), tiny_llama(layers=3, seed=2)
    rows = [replace(row, labelled=False) for row in encoded(8)]
    made = stage(tmp_path, student, teacher, TERMS[name], rows=rows, micro_batch_size=3)
    made.on_policy = own_batches(made)
    order = batch_order(8, global_batch_size=8, steps=1, seed=0)[0]
    given = [rows[place] for place in order]  # type: ignore[misc]
    written = made.on_policy.write(student, step=0, rows=order, given=given).rows
    assert sum(own is not row for own, row in zip(written, given, strict=True)) == 4
    reference = copy.deepcopy(student)
    judging = [term for term in TERMS[name] if term.name != "cross_entropy"]
    naive_loss(reference, teacher, written, judging).backward()
    found, metrics = step_gradient(monkeypatch, made)
    assert "cross_entropy" not in metrics
    for key, value in gradients(reference).items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_c18_a_label_among_the_rows_stays_one_beside_them(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight labelled rows the four plain texts keep their labels; the four others have none."""
    student, teacher = tiny_llama(seed=1), tiny_llama(seed=2)
    rows = [replace(row, labelled=True) for row in encoded(8)]
    made = stage(tmp_path, student, teacher, TERMS["both"], rows=rows)
    made.on_policy = own_batches(made)
    texts = [rows[place] for place in range(0, 8, 2)]
    label = CrossEntropyLoss(weight=1.0)
    expected = naive_loss(student, teacher, texts, [label]).item()
    _, metrics = step_gradient(monkeypatch, made)
    assert metrics["cross_entropy"] == pytest.approx(expected, rel=1e-5)
    assert metrics["own_answer_tokens"] > 0


def test_only_its_share_of_the_steps_is_the_student_s(tmp_path: Path, tiny_llama: Make) -> None:
    made = stage(tmp_path, tiny_llama(seed=1), tiny_llama(seed=2), TERMS["both"], steps=8)
    made.on_policy = own_batches(made, fraction=0.25)
    metrics = [event["metrics"] for event in train(made) if event["type"] == "step"]
    assert sum("own_answer_tokens" in shown for shown in metrics) == 2
    chosen = [made.on_policy.writes(step) for step in range(8)]
    assert ["own_answer_tokens" in shown for shown in metrics] == chosen
