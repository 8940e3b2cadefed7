"""A network as lm-eval asks it: nats and answers, against sums and loops of plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from distill_core.errors import DistillError
from distill_core.teachers.int8 import with_int8_layers
from distill_core.teachers.mixture import Mixture

PAIRS = [
    ("turn on the", " light"),
    ("turn off", " fan in the hall"),
    ("please", " dim the tv"),
    ("a b c d e f", " light"),
    ("turn on the", " fan"),
]
QUESTIONS = ["turn on the", "please dim", "a b c d e f g", "off"]


def asked(network: Any, tokenizer: Any, batch_size: int = 3) -> Any:
    from distill_core.harness.asked_model import asked_model

    return asked_model(network, tokenizer, batch_size=batch_size)


def requests(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=given, idx=0, metadata=("task", place, 1))
        for place, given in enumerate(arguments)
    ]


def nats_by_hand(
    networks: list[nn.Module], weights: list[float], tokenizer: Any, pair: tuple[str, str]
) -> tuple[float, bool]:
    """Log-likelihood of the second text after the first, one token at a time, no batch."""
    start, end = tokenizer.encode(pair[0]), tokenizer.encode("".join(pair))
    assert end[: len(start)] == start
    assert end[0] == tokenizer.bos_token_id
    assert end[1] != tokenizer.bos_token_id
    total, greedy = 0.0, True
    for place in range(len(start), len(end)):
        shares = sum(
            weight * network(input_ids=torch.tensor([end[:place]])).logits[0, -1].softmax(-1)
            for network, weight in zip(networks, weights, strict=True)
        )
        assert isinstance(shares, torch.Tensor)
        total += float(shares[end[place]].log())
        greedy = greedy and int(shares.argmax()) == end[place]
    return total, greedy


def answer_by_hand(network: nn.Module, tokenizer: Any, question: str, *, longest: int) -> list[int]:
    """Greedy ids up to the end token."""
    ids: list[int] = tokenizer.encode(question)
    written: list[int] = []
    while len(written) < longest:
        following = int(network(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
        if following == tokenizer.eos_token_id:
            break
        written.append(following)
    return written


@pytest.fixture
def network(tiny_llama: Callable[..., Any]) -> Any:
    return tiny_llama().eval().requires_grad_(False)


@pytest.fixture
def mixture(tiny_llama: Callable[..., Any], network: Any, tiny_tokenizer: Any) -> Any:
    other = tiny_llama(seed=7).eval().requires_grad_(False)
    return Mixture([network, other], weights=[0.75, 0.25], vocab_size=64).eval()


def test_nats_are_those_of_the_network(network: Any, tiny_tokenizer: Any) -> None:
    found = asked(network, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    for pair, (nats, greedy) in zip(PAIRS, found, strict=True):
        expected = nats_by_hand([network], [1.0], tiny_tokenizer, pair)
        assert nats == pytest.approx(expected[0], abs=1e-4)
        assert greedy == expected[1]


def test_nats_of_several_teachers_are_those_of_their_mixture(
    mixture: Any, tiny_tokenizer: Any
) -> None:
    found = asked(mixture, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    for pair, (nats, _) in zip(PAIRS, found, strict=True):
        members = list(mixture.members)
        expected = nats_by_hand(members, mixture.weights, tiny_tokenizer, pair)
        assert nats == pytest.approx(expected[0], abs=1e-4)


def test_a_teacher_in_whole_numbers_stays_as_it_is(network: Any, tiny_tokenizer: Any) -> None:
    """lm-eval ties weights anew, which must not bring an exact head back."""
    network.config.tie_word_embeddings = True
    network.tie_weights()
    quantised = with_int8_layers(network)
    before = quantised(input_ids=torch.tensor([[1, 5, 9, 7]])).logits
    found = asked(quantised, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    assert torch.equal(quantised(input_ids=torch.tensor([[1, 5, 9, 7]])).logits, before)
    expected = nats_by_hand([quantised], [1.0], tiny_tokenizer, PAIRS[1])
    assert found[1][0] == pytest.approx(expected[0], abs=1e-3)


@pytest.mark.parametrize("kind", ["network", "mixture"])
def test_answers_are_greedy_and_as_long_as_the_task_says(
    kind: str, tiny_tokenizer: Any, request: pytest.FixtureRequest
) -> None:
    one = request.getfixturevalue(kind)
    if kind == "network":
        one.generation_config.max_new_tokens = 20  # the author's own idea of long
    settings = {"until": ["never"], "max_gen_toks": 5}
    given = [(question, settings) for question in QUESTIONS]
    found = asked(one, tiny_tokenizer).generate_until(requests("generate_until", given))
    for question, text in zip(QUESTIONS, found, strict=True):
        expected = answer_by_hand(one, tiny_tokenizer, question, longest=5)
        assert text == tiny_tokenizer.decode(expected, skip_special_tokens=True)
    assert any(len(text.split()) == 5 for text in found)


@pytest.mark.parametrize("kind", ["network", "mixture"])
def test_answers_end_at_a_stop_sequence(
    kind: str, tiny_tokenizer: Any, request: pytest.FixtureRequest
) -> None:
    one = request.getfixturevalue(kind)
    whole = tiny_tokenizer.decode(
        answer_by_hand(one, tiny_tokenizer, QUESTIONS[0], longest=6), skip_special_tokens=True
    )
    stop = whole.split()[2]
    given = [(QUESTIONS[0], {"until": [stop], "max_gen_toks": 6})]
    found = asked(one, tiny_tokenizer).generate_until(requests("generate_until", given))
    assert found == [whole.split(stop)[0]]


def test_several_teachers_write_nothing_beyond_the_stop(mixture: Any) -> None:
    from distill_core.harness.asked_model import Outside

    ids = torch.tensor([[0, 1, 5], [1, 6, 7]])
    written = Outside(mixture, end_id=None).generate(
        ids,
        (ids != 0).long(),
        max_length=13,
        stopping_criteria=[lambda table, scores: table.shape[1] == 5],
        pad_token_id=0,
    )
    assert torch.equal(written[:, :3], ids)
    assert written.shape == (2, 5)
    for row, start in zip(written.tolist(), ([1, 5], [1, 6, 7]), strict=True):
        first = mixture(input_ids=torch.tensor([start])).logits[0, -1].argmax()
        assert row[3] == int(first)


def test_several_teachers_refuse_what_they_cannot_sample(mixture: Any, tiny_tokenizer: Any) -> None:
    settings = {"until": ["never"], "max_gen_toks": 2, "do_sample": True, "top_p": 0.5}
    given = requests("generate_until", [(QUESTIONS[0], settings)])
    with pytest.raises(DistillError, match="the task asks for top_p"):
        asked(mixture, tiny_tokenizer).generate_until(given)


def test_a_short_context_leaves_room_for_the_question(network: Any, tiny_tokenizer: Any) -> None:
    assert network.config.max_position_embeddings == 128
    assert asked(network, tiny_tokenizer).max_gen_toks == 64
    found = asked(network, tiny_tokenizer).generate_until(
        requests("generate_until", [("off", {"until": ["never"]})])
    )
    assert len(found) == 1


def test_bars_are_drawn_only_on_request(
    network: Any, tiny_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked(network, tiny_tokenizer).loglikelihood(requests("loglikelihood", PAIRS))
    assert capsys.readouterr().err == ""
