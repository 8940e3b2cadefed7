"""Losses chunk by chunk: value and gradient of autograd in float64, whatever the chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from distill_core.losses.chunked import Compared, Comparison, compared
from distill_core.losses.heads import Bend, Head
from distill_core.losses.logit_rows import DenseRows, HeadRows
from distill_core.losses.objective import LOSSES
from distill_core.losses.row_block import SLOPES
from distill_core.recipe import (
    CrossEntropyLoss,
    ForwardKLLoss,
    JSDLoss,
    ReverseKLLoss,
    SkewedForwardKLLoss,
    SkewedReverseKLLoss,
    TotalVariationLoss,
)
from distill_core.teachers.mixture import MixedRows, mixed
from tests.core.terms import LOGIT_TERMS, reference

WIDTH, VOCABULARY = 6, 11
TOGETHER = [
    ForwardKLLoss(temperature=2.0),
    ReverseKLLoss(),
    JSDLoss(beta=0.3, temperature=2.0),
    TotalVariationLoss(),
    CrossEntropyLoss(),
]
EDGES = [
    JSDLoss(beta=0.0),
    JSDLoss(beta=1.0, temperature=3.0),
    SkewedForwardKLLoss(skew=0.0),
    SkewedReverseKLLoss(skew=0.0, temperature=0.5),
    SkewedForwardKLLoss(skew=0.9, temperature=0.5),
    SkewedReverseKLLoss(skew=0.9, temperature=3.0),
]
PLAIN = Bend()
BENDS = [Bend(0.3), Bend(4.0), Bend(1.0, 0.8), Bend(3.0, 1.5)]


def exact(term: Any, student: Tensor, teacher: Tensor, target: int) -> Tensor:
    """The reference; at the ends of β, where its formula is 0, the KLs by name."""
    ends = {0.0: ForwardKLLoss, 1.0: ReverseKLLoss}
    if term.name == "jsd" and term.beta in ends:
        term = ends[term.beta](temperature=term.temperature)
    return reference(term, student, teacher, target)


class Pair:
    """A student's states and head, a teacher's logits, targets, and every third row unlabelled."""

    def __init__(
        self, rows: int, *, bias: bool = True, vocabulary: int = VOCABULARY, bend: Bend = PLAIN
    ) -> None:
        self.states = torch.randn(rows, WIDTH).requires_grad_()
        self.bend = bend
        self.head: nn.Module = nn.Linear(WIDTH, vocabulary, bias=bias)
        if not bend.is_none:
            self.head = Head(self.head, bend)
        self.teacher = 2 * torch.randn(rows, vocabulary)
        self.targets = torch.randint(VOCABULARY, (rows,))
        self.labelled = torch.arange(rows) % 3 != 2

    def shares(self, terms: list[Any]) -> dict[str, Tensor]:
        """What rows count: 0.7 for the first term, 1.7 for the second, and so on."""
        made = {}
        for number, term in enumerate(terms):
            rows = self.labelled if term.name == "cross_entropy" else torch.ones_like(self.labelled)
            made[term.name] = (0.7 + number) / max(1, len(rows)) * rows
        return made

    def compared(
        self, terms: list[Any], *, chunk_rows: int | None, teacher: Any = None
    ) -> Compared:
        asked = DenseRows(self.teacher) if teacher is None else teacher
        shares = self.shares(terms)
        comparison = Comparison(terms, shares, asked, self.targets, chunk_rows)
        return compared(self.states, self.head, comparison, vocab_size=VOCABULARY)

    def parts(self) -> list[Tensor]:
        return [self.states, *self.head.parameters()]

    def expected(self, terms: list[Any], *, theirs: Tensor | None = None) -> dict[str, Any]:
        """Loss, values and gradients, each row by itself in float64, by autograd."""
        theirs = (self.teacher if theirs is None else theirs).double()
        parts = [part.detach().double().requires_grad_() for part in self.parts()]
        logits = parts[0] @ parts[1].T
        if len(parts) == 3:
            logits = logits + parts[2]
        scale, cap = self.bend
        logits = logits[:, :VOCABULARY] * scale
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        shares, loss = self.shares(terms), torch.zeros((), dtype=torch.double)
        values: dict[str, list[float]] = {term.name: [] for term in terms}
        for row, target in enumerate(self.targets.tolist()):
            for term in terms:
                value = exact(term, logits[row], theirs[row, :VOCABULARY], target)
                values[term.name].append(float(value.detach()))
                loss = loss + float(shares[term.name][row]) * value
        return {
            "loss": float(loss.detach()),
            "values": values,
            "gradients": torch.autograd.grad(loss, parts, allow_unused=True),
        }


def assert_same(
    found: Compared, pair: Pair, expected: dict[str, Any], *, atol: float = 1e-6
) -> None:
    assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-5, abs=1e-6)
    assert list(found.values) == list(expected["values"])
    for name, values in expected["values"].items():
        assert found.values[name].tolist() == pytest.approx(values, rel=1e-4, abs=1e-5), name
    gradients = torch.autograd.grad(found.loss, pair.parts())
    for got, wanted in zip(gradients, expected["gradients"], strict=True):
        torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=atol)


def test_every_term_that_sees_one_row_at_a_time_can_be_chunked() -> None:
    others = {"cross_tokenizer", "hidden_states", "attention"}
    assert set(SLOPES) == set(LOSSES) - others
    assert {term.name for term in LOGIT_TERMS.values()} == set(SLOPES)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("term", [*LOGIT_TERMS.values(), *EDGES], ids=str)
def test_c8_each_term_has_the_value_and_the_gradient_of_its_formula(term: Any, bias: bool) -> None:
    pair = Pair(9, bias=bias)
    assert_same(pair.compared([term], chunk_rows=4), pair, pair.expected([term]))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bend", BENDS, ids=str)
@pytest.mark.parametrize("chunk_rows", [1, 4, None])
def test_c6_c8_a_scaled_or_capped_head_has_the_gradient_of_autograd(
    bend: Bend, bias: bool, chunk_rows: int | None
) -> None:
    pair = Pair(9, bias=bias, bend=bend)
    found = pair.compared(TOGETHER, chunk_rows=chunk_rows)
    assert_same(found, pair, pair.expected(TOGETHER))
    with torch.no_grad():  # nothing is learnt: the values are the same
        again = pair.compared(TOGETHER, chunk_rows=chunk_rows)
    assert again.loss.item() == pytest.approx(found.loss.item())


@pytest.mark.parametrize("bend", BENDS, ids=str)
def test_c6_a_teachers_scaled_or_capped_head_works_chunk_by_chunk(bend: Bend) -> None:
    pair, states = Pair(10), torch.randn(10, 4)
    head = Head(nn.Linear(4, VOCABULARY + 2), bend)
    theirs = states.double() @ head.linear.weight.double().T + head.linear.bias.double()
    theirs = (theirs * bend.scale).detach()
    if bend.cap is not None:
        theirs = bend.cap * torch.tanh(theirs / bend.cap)
    found = pair.compared(TOGETHER, chunk_rows=3, teacher=HeadRows(states, head, VOCABULARY))
    assert_same(found, pair, pair.expected(TOGETHER, theirs=theirs))


@pytest.mark.parametrize("term", LOGIT_TERMS.values(), ids=LOGIT_TERMS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_c3_the_value_shown_is_the_value_that_is_differentiated(
    term: Any, temperature: float
) -> None:
    if hasattr(term, "temperature"):
        term = term.model_copy(update={"temperature": temperature})
    pair = Pair(5)
    (gradient,) = torch.autograd.grad(pair.compared([term], chunk_rows=2).loss, [pair.states])
    pair.states.requires_grad_(False)
    for place in [(0, 0), (2, 3), (4, 5)]:
        sides = []
        for step in (1e-2, -1e-2):
            pair.states[place] += step
            told = pair.compared([term], chunk_rows=2).values[term.name]
            sides.append(float((pair.shares([term])[term.name] * told).double().sum()))
            pair.states[place] -= step
        slope = (sides[0] - sides[1]) / 2e-2
        assert float(gradient[place]) == pytest.approx(slope, rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("term", LOGIT_TERMS.values(), ids=LOGIT_TERMS)
def test_c7_equal_models_have_no_divergence_and_no_slope(term: Any) -> None:
    pair = Pair(7)
    own = HeadRows(pair.states.detach(), pair.head, VOCABULARY)
    found = pair.compared([term], chunk_rows=3, teacher=own)
    if term.name == "cross_entropy":
        return
    assert found.values[term.name].abs().max() <= 1e-6
    (gradient,) = torch.autograd.grad(found.loss, [pair.states])
    assert gradient.abs().max() <= 1e-6


def test_c5_rows_of_the_head_that_are_no_token_change_nothing_and_learn_nothing() -> None:
    pair = Pair(9, vocabulary=VOCABULARY + 5)
    with torch.no_grad():
        pair.head.weight[VOCABULARY:] = 7.0
    found = pair.compared(TOGETHER, chunk_rows=4)
    gradients = torch.autograd.grad(found.loss, pair.parts())
    expected = pair.expected(TOGETHER)
    assert found.loss.item() == pytest.approx(expected["loss"], rel=1e-5)
    for got, wanted in zip(gradients, expected["gradients"], strict=True):
        torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=1e-6)
    assert not gradients[1][VOCABULARY:].any()
    assert not gradients[2][VOCABULARY:].any()


def test_a_teacher_with_fewer_ids_is_compared_on_those_alone() -> None:
    pair, terms = Pair(6), [ForwardKLLoss(temperature=2.0), CrossEntropyLoss(), ReverseKLLoss()]
    narrow = pair.teacher[:, : VOCABULARY - 3]
    found = pair.compared(terms, chunk_rows=4, teacher=DenseRows(narrow))
    exact = [part.detach().double().requires_grad_() for part in pair.parts()]
    logits, shares = exact[0] @ exact[1].T + exact[2], pair.shares(terms)
    loss = sum(
        float(shares[term.name][row])
        * (
            reference(term, logits[row], logits[row].detach(), target)
            if term.name == "cross_entropy"
            else reference(term, logits[row, : VOCABULARY - 3], narrow[row], target)
        )
        for row, target in enumerate(pair.targets.tolist())
        for term in terms
    )
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    wanted = torch.autograd.grad(loss, exact)
    for got, one in zip(torch.autograd.grad(found.loss, pair.parts()), wanted, strict=True):
        torch.testing.assert_close(got, one.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_teachers_head_works_chunk_by_chunk(bias: bool) -> None:
    pair = Pair(10)
    states, head = torch.randn(10, 4), nn.Linear(4, VOCABULARY + 2, bias=bias)
    with torch.no_grad():
        theirs = head(states)
    found = pair.compared(TOGETHER, chunk_rows=3, teacher=HeadRows(states, head, VOCABULARY))
    assert_same(found, pair, pair.expected(TOGETHER, theirs=theirs))


def test_a_mixture_of_teachers_works_chunk_by_chunk() -> None:
    pair, heads = Pair(10), [nn.Linear(4, VOCABULARY), nn.Linear(4, VOCABULARY)]
    states = [torch.randn(10, 4), torch.randn(10, 4)]
    members = [HeadRows(x, head, VOCABULARY) for x, head in zip(states, heads, strict=True)]
    with torch.no_grad():
        theirs = mixed([head(x) for x, head in zip(states, heads, strict=True)], [0.3, 0.7])
    found = pair.compared(TOGETHER, chunk_rows=4, teacher=MixedRows(members, [0.3, 0.7]))
    assert_same(found, pair, pair.expected(TOGETHER, theirs=theirs))


def test_labels_alone_need_no_teacher() -> None:
    pair, term = Pair(5), CrossEntropyLoss()
    comparison = Comparison([term], pair.shares([term]), None, pair.targets, 2)
    found = compared(pair.states, pair.head, comparison, vocab_size=VOCABULARY)
    assert_same(found, pair, pair.expected([term]))


# --- what it is for: memory ---------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, Tensor):
                self.entries = max(self.entries, one.numel())
        return made


@pytest.mark.parametrize("chunk_rows", [4, 16])
def test_logits_of_all_rows_are_never_there_on_either_side(chunk_rows: int) -> None:
    rows, vocabulary = 256, 40
    states = torch.randn(rows, 3, requires_grad=True)
    head, theirs = nn.Linear(3, vocabulary), nn.Linear(3, vocabulary)
    asked = HeadRows(torch.randn(rows, 3), theirs, vocabulary)
    shares = {term.name: torch.ones(rows) for term in TOGETHER}
    targets = torch.zeros(rows, dtype=torch.long)
    with Largest() as seen:
        given = Comparison(TOGETHER, shares, asked, targets, chunk_rows)
        compared(states, head, given, vocab_size=vocabulary).loss.backward()
    assert seen.entries == max(chunk_rows * vocabulary, states.numel())


# --- gradients ----------------------------------------------------------------------------------


def test_gradients_follow_what_is_made_of_the_loss() -> None:
    pair = Pair(6)
    plain = torch.autograd.grad(pair.compared(TOGETHER, chunk_rows=4).loss, pair.parts())
    for factor in (0.0, 1.0, -2.5):
        loss = pair.compared(TOGETHER, chunk_rows=4).loss * factor
        for got, one in zip(torch.autograd.grad(loss, pair.parts()), plain, strict=True):
            torch.testing.assert_close(got, factor * one)


def test_gradients_are_handed_out_once() -> None:
    pair = Pair(4)
    loss = pair.compared(TOGETHER, chunk_rows=2).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out already"):
        loss.backward()


def test_a_frozen_head_gets_no_gradient_and_a_tied_one_both_parts() -> None:
    pair = Pair(5, bias=False)
    pair.head.requires_grad_(False)
    pair.compared(TOGETHER, chunk_rows=2).loss.backward()
    assert pair.states.grad is not None
    assert pair.head.weight.grad is None

    table = nn.Parameter(torch.randn(VOCABULARY, WIDTH))
    ids = torch.randint(VOCABULARY, (5,))
    results = []
    for chunk_rows in (5, 2):
        pair.head.weight, pair.states = table, nn.functional.embedding(ids, table)
        results.append(
            torch.autograd.grad(pair.compared(TOGETHER, chunk_rows=chunk_rows).loss, table)
        )
    exact = table.detach().double().requires_grad_()
    states = nn.functional.embedding(ids, exact)
    logits, shares = states @ exact.T, pair.shares(TOGETHER)
    loss = sum(
        float(shares[term.name][row]) * reference(term, logits[row], pair.teacher[row], target)
        for row, target in enumerate(pair.targets.tolist())
        for term in TOGETHER
    )
    (wanted,) = torch.autograd.grad(loss, exact)
    for (got,) in results:
        torch.testing.assert_close(got, wanted.float(), rtol=1e-4, atol=1e-6)


def test_nobody_learns_where_gradients_are_off() -> None:
    pair = Pair(5)
    with torch.no_grad():
        found = pair.compared(TOGETHER, chunk_rows=2)
    assert not found.loss.requires_grad
    assert found.loss.item() == pytest.approx(pair.expected(TOGETHER)["loss"], rel=1e-5)


def test_a_term_that_counts_nothing_for_now_is_still_told() -> None:
    pair = Pair(5)
    shares = pair.shares(TOGETHER)
    del shares["forward_kl"]
    given = Comparison(TOGETHER, shares, DenseRows(pair.teacher), pair.targets, 2)
    found = compared(pair.states, pair.head, given, vocab_size=VOCABULARY)
    expected = pair.expected([term for term in TOGETHER if term.name != "forward_kl"])
    assert found.values["forward_kl"].tolist() == pytest.approx(
        pair.expected([TOGETHER[0]])["values"]["forward_kl"], rel=1e-4
    )
    assert expected["values"].keys() < found.values.keys()


def test_without_rows_the_head_has_a_gradient_of_zero() -> None:
    pair = Pair(0)
    loss = pair.compared(TOGETHER, chunk_rows=2).loss
    gradients = torch.autograd.grad(loss, pair.parts())
    assert loss.item() == 0
    assert [tuple(one.shape) for one in gradients] == [tuple(p.shape) for p in pair.parts()]
    assert not any(one.any() for one in gradients)


# --- precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_c14_half_precision_logits_are_compared_in_fp32(dtype: torch.dtype) -> None:
    pair = Pair(40)
    low = [part.detach().to(dtype) for part in pair.parts()]
    pair.states = low[0].requires_grad_()
    pair.head.to(dtype)
    logits = (low[0] @ low[1].T + low[2]).detach()
    teacher = pair.teacher.to(dtype)
    found = pair.compared(TOGETHER, chunk_rows=7, teacher=DenseRows(teacher))
    gradients = torch.autograd.grad(found.loss, pair.parts())
    assert {one.dtype for one in gradients} == {dtype}
    for term in TOGETHER:
        told = found.values[term.name]
        assert told.dtype == torch.float32
        for row, target in enumerate(pair.targets.tolist()):
            exact = reference(term, logits[row].double(), teacher[row].double(), target)
            # the product with the head is rounded by both, not always alike
            assert told[row].item() == pytest.approx(exact.item(), rel=0.1, abs=0.02)


def test_under_autocast_the_head_multiplies_in_low_precision_and_learns_in_fp32() -> None:
    pair = Pair(30)
    exact = torch.autograd.grad(pair.compared(TOGETHER, chunk_rows=8).loss, pair.parts())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pair.compared(TOGETHER, chunk_rows=8)
    rounded = torch.autograd.grad(found.loss, pair.parts())
    assert {one.dtype for one in rounded} == {torch.float32}
    for got, one in zip(rounded, exact, strict=True):
        assert not torch.equal(got, one)
        torch.testing.assert_close(got, one, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("term", LOGIT_TERMS.values(), ids=LOGIT_TERMS)
def test_c14_rows_that_are_not_finite_are_told_at_their_place(term: Any) -> None:
    pair = Pair(9)
    with torch.no_grad():
        pair.states[5] = float("nan")
    told = pair.compared([term], chunk_rows=2).values[term.name]
    assert (~told.isfinite()).nonzero()[:, 0].tolist() == [5]


@pytest.mark.parametrize("term", [*LOGIT_TERMS.values(), *EDGES], ids=str)
def test_tokens_too_unlikely_for_fp32_do_no_harm(term: Any) -> None:
    pair = Pair(4, bias=False)
    with torch.no_grad():
        pair.states.fill_(1.0)
        pair.head.weight.zero_()
        pair.head.weight[:3, 0] = torch.tensor([-150.0, -240.0, 30.0])
    pair.teacher = torch.zeros(4, VOCABULARY)
    pair.teacher[:, 0], pair.teacher[:, 1] = -200.0, -130.0
    found = pair.compared([term], chunk_rows=3)
    assert torch.isfinite(found.values[term.name]).all()
    assert_same(found, pair, pair.expected([term]), atol=1e-5)
