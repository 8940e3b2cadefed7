"""Every path of the engine on which a step can be computed, for tests of what must hold on all.

In: settings of terms and the name of a way. Out: a stage that is ready to train, and student,
teacher and rows as they are before the step that is looked at. A new path is one line in `WAYS`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from distill_core.checkpoints import Checkpoints
from distill_core.data.on_policy import OnPolicy
from distill_core.data.row_order import batch_order
from distill_core.data.tokenize import Encoded
from distill_core.losses.matching import match
from distill_core.losses.objective import Objective
from distill_core.recipe import (
    AttentionLoss,
    CrossEntropyLoss,
    ForwardKLLoss,
    HiddenCache,
    HiddenStatesLoss,
    LoraSettings,
    OptimSettings,
)
from distill_core.students.adapters import with_adapter
from distill_core.teachers.cached import PROVIDES, CachedTeacher, row_counts, row_keys
from distill_core.teachers.heads import Reader
from distill_core.teachers.int8 import with_int8_layers
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.mixture import Mixture
from distill_core.teachers.trimmed import TrimmedTeacher
from distill_core.trainer import TrainingStage, train
from tests.core.definition import Translated, encoded, rows_for
from tests.core.nets import tiny_llama
from tests.core.terms import LOGIT_TERMS
from tests.core.terms import TERMS as ALL_TERMS

TERMS: dict[str, list[Any]] = {name: [term] for name, term in ALL_TERMS.items()} | {
    "three at once": [
        ForwardKLLoss(weight=0.6),
        HiddenStatesLoss(weight=0.3),
        AttentionLoss(weight=0.2),
    ],
    "both": [ForwardKLLoss(weight=0.6, temperature=2.0), CrossEntropyLoss(weight=0.4)],
    "all of the logits": list({term.name: term for term in LOGIT_TERMS.values()}.values()),
    "maps and states": [AttentionLoss(distance="mse"), HiddenStatesLoss(weight=0.5)],
}
"""Every term alone, and some together."""

GROUPS = ("all of the logits", "maps and states", "value relations", "cross_tokenizer")
"""Every term once; several together where they read the same rows."""


def one_teacher() -> Any:
    return tiny_llama(layers=3, seed=1).eval()


def mixture() -> Any:
    members = [one_teacher(), tiny_llama(layers=1, hidden_size=16, seed=2).eval()]
    return Mixture(members, weights=[0.7, 0.3], vocab_size=64)


@dataclass(frozen=True)
class Way:
    """One path through the engine."""

    teacher: Callable[[], Any] = one_teacher
    adapter: LoraSettings | None = None
    micro_batch_size: int = 8
    resumed: bool = False
    """The step is the first one after a checkpoint."""
    on_policy: bool = False
    """The student writes the answers of every second row."""
    refuses: frozenset[str] = frozenset()
    """Names of terms that this path has no use for, and that checks refuse."""
    ids: tuple[int, ...] | None = None
    """The teacher's id of each of the student's tokens, where it has more of them."""
    loss_chunk_rows: int | None = None
    """Rows of logits at once; 0: all; None: what suits the device."""
    cached: str | None = None
    """The teacher is asked once about a row; what it said is read from disk, in this format."""
    rounding: float = 0.0
    """How far the teacher's own arithmetic makes values differ with the batch that a row is in."""


INSIDE = frozenset({"hidden_states", "attention"})
SPANS = frozenset({"cross_tokenizer"})

WAYS: dict[str, Way] = {
    "plain": Way(),
    "lora": Way(adapter=LoraSettings(rank=4)),
    "accumulated": Way(micro_batch_size=3),
    "chunks of three": Way(loss_chunk_rows=3),
    "all logits at once": Way(loss_chunk_rows=0),
    "resumed": Way(resumed=True),
    "bf16 teacher": Way(lambda: one_teacher().bfloat16(), rounding=2e-2),
    "int8 teacher": Way(lambda: with_int8_layers(one_teacher()), rounding=5e-3),
    "mixture": Way(mixture, refuses=INSIDE),
    "cached": Way(cached="fp32", refuses=INSIDE),
    "cached mixture": Way(mixture, cached="fp32", refuses=INSIDE),
    # sorted probabilities jump where two that are nearly equal change places
    "cached in fp16": Way(cached="fp16", refuses=INSIDE | SPANS, rounding=5e-3),
    "on-policy": Way(on_policy=True, refuses=SPANS),
    "trimmed vocabulary": Way(
        lambda: tiny_llama(layers=3, seed=1, vocab_size=80).eval(),
        ids=tuple((7 * number + 3) % 80 for number in range(64)),
        refuses=SPANS,
    ),
}


def cases(*, alone: Iterable[str] = TERMS, grouped: Iterable[str] = GROUPS) -> list[Any]:
    """The plain way with each term alone, all others with each group that they take.

    For `pytest.mark.parametrize(("way", "terms"), cases())`.
    """
    found = [("plain", name) for name in alone if name not in GROUPS[:2]]
    for way_name, way in WAYS.items():
        if way_name != "plain":
            for name in grouped:
                if not way.refuses & {term.name for term in TERMS[name]}:
                    found.append((way_name, name))
    return found


@dataclass
class Case:
    """One way with one group of terms, just before the step that is looked at."""

    stage: TrainingStage
    rows: list[Encoded]
    """Those of the step, in its order, as they are trained on."""
    terms: list[Any]
    before: Any
    """The student as it is before the step, perhaps the very one that takes it."""

    @cached_property
    def student(self) -> Any:
        """A copy of the student as it is before the step."""
        return copy.deepcopy(self.before)

    @cached_property
    def teacher(self) -> Any:
        """A copy of the teacher, or mixture."""
        teacher: Any = self.stage.teacher
        model = copy.deepcopy(teacher.model)
        return Translated(model, teacher.ids) if isinstance(teacher, TrimmedTeacher) else model

    def step(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The step's gradient, unclipped and not yet applied, and the metrics shown."""
        kept: dict[str, torch.Tensor] = {}
        with not_applied(lambda: kept.update(gradients(self.stage.student))):
            happened = [event for event in train(self.stage) if event["type"] == "step"]
        return kept, happened[0]["metrics"]


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@contextmanager
def not_applied(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` in the place of the optimiser's steps."""
    step = torch.optim.AdamW.step

    def instead(self: Any, *args: Any, **kwargs: Any) -> None:
        look()

    torch.optim.AdamW.step = instead  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.optim.AdamW.step = step  # type: ignore[method-assign]


def stage_of(
    folder: Path,
    student: torch.nn.Module,
    teacher: Any,
    losses: list[Any],
    *,
    rows: list[Encoded] | None = None,
    steps: int = 1,
    ids: Sequence[int] | None = None,
    cache: Any = None,
    **optim: Any,
) -> TrainingStage:
    """A stage of eight rows a step, never evaluated, unless told otherwise."""
    asked: Any = None
    if teacher:
        asked = LocalTeacher(teacher, vocab_size=80 if ids else 64, stop_ids={2})
    if cache is not None:
        asked = AskedOnce(asked, folder, cache)
    if ids:
        asked = TrimmedTeacher(asked, torch.tensor(ids))
    matching = match(losses, student.config, teacher.config) if teacher else None
    if asked and matching:
        asked.look_into(matching.teacher)
    settings = {"global_batch_size": 8, "micro_batch_size": 8, "learning_rate": 1e-2} | optim
    return TrainingStage(
        index=0,
        student=student,
        teacher=asked,
        objective=Objective(
            losses, matching, kernels="compiled" if settings.get("compile_loss") else "plain"
        ),
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


class AskedOnce:
    """A teacher whose every view is read from a cache, which asks it about rows that are new."""

    def __init__(self, teacher: LocalTeacher, folder: Path, settings: Any) -> None:
        self.model = teacher.model
        self.provides = PROVIDES[settings.kind]
        self.cached = CachedTeacher(
            settings,
            root=folder / "kept",
            teacher={"weights": "of this test"},
            tokenizer=_Tokens(teacher.vocab_size),  # type: ignore[arg-type]
            temperature=1.0,
            classes=None,
            device=torch.device("cpu"),
        )
        self.reader = Reader(self.model, vocab_size=teacher.vocab_size)
        self.cached.keep_heads(self.reader.heads)
        self.alone = threading.Lock()
        """The next step is made ready by another thread."""

    def look_into(self, wanted: Any) -> None:
        self.cached.look_into(wanted)

    def longest_packed(self) -> int:
        return self.cached.longest_packed()

    def rows(self, batch: Any) -> Any:
        return self.cached.rows(batch)

    def logits(self, batch: Any) -> torch.Tensor:
        return self.cached.logits(batch)

    def view(self, batch: Any) -> Any:
        with self.alone:
            self._ask(batch)
            return self.cached.view(batch)

    def known(self, batch: Any) -> Any:
        with self.alone:
            self._ask(batch)
            return self.cached.known(batch)

    @torch.no_grad()
    def _ask(self, batch: Any) -> None:
        read, kept = batch.for_teacher, self.cached.training
        keys, counts = row_keys(read), row_counts(read)
        if any(key not in kept.store for key in keys):
            rows = self.reader.rows(read)
            found = kept.kind.kept(rows, self.reader.heads, keys=keys, counts=counts)
            for key, arrays in zip(keys, found, strict=True):
                kept.store.add(key, arrays)
            kept.store.flush()


class _Tokens(dict[str, int]):
    """As many tokens as there are, without a template."""

    chat_template = None

    def __init__(self, count: int) -> None:
        super().__init__({str(number): number for number in range(count)})

    def get_vocab(self) -> dict[str, int]:
        return dict(self)


def own_batches(rows: list[Encoded], fraction: float = 1.0) -> OnPolicy:
    """Every second row asks with its first tokens; the others are plain texts."""
    prompts = [row.input_ids[:2] if place % 2 else None for place, row in enumerate(rows)]
    return OnPolicy(prompts, fraction, 1.0, 5, frozenset({2}), 64, seed=0)


def as_it_is(model: Any) -> None:
    """Alter nothing."""


def case(
    folder: Path,
    way_name: str,
    terms: str | list[Any],
    *,
    rows: list[Encoded] | None = None,
    size: int = 8,
    alter: Callable[[Any], None] = as_it_is,
) -> Case:
    """Make a case of eight `rows`, or those given, `size` of them in the step.

    `alter` changes the student before it gets an adapter, and every teacher.
    """
    way, losses = WAYS[way_name], TERMS[terms] if isinstance(terms, str) else terms
    rows = rows or encoded(8)

    cache = HiddenCache(precision=way.cached) if way.cached else None  # type: ignore[arg-type]

    def make() -> TrainingStage:
        student, teacher = tiny_llama(), way.teacher()
        for model in (student, *getattr(teacher, "members", [teacher])):
            alter(model)
        return stage_of(
            folder,
            with_adapter(student, way.adapter, seed=0),
            teacher,
            losses,
            rows=rows,
            steps=2 if way.resumed else 1,
            ids=way.ids,
            cache=cache,
            global_batch_size=size,
            micro_batch_size=way.micro_batch_size,
            loss_chunk_rows=way.loss_chunk_rows,
            grad_clip_norm=1e6,
        )

    made, at = make(), 0
    student = made.student
    if way.resumed:
        list(train(made, should_stop=lambda: "stop"))
        made, at = make(), 1
    if way.on_policy:
        made.on_policy = own_batches(made.rows)  # type: ignore[arg-type]
    order = batch_order(len(rows), global_batch_size=size, steps=at + 1, seed=0)[at]
    taken: Any = [made.rows[row] for row in order]
    if made.on_policy is not None:
        taken = made.on_policy.write(student, step=at, rows=order, given=taken).rows
    return Case(made, taken, losses, student)
