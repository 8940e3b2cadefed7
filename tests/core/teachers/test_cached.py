"""C10: what a teacher has said is found by what it was asked, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core import models
from distill_core.data.batches import collate
from distill_core.data.classes import EncodedText
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, TeacherSide
from distill_core.errors import CacheError, ModelError
from distill_core.events import Event
from distill_core.forward.network import Wanted
from distill_core.generate import Continuation
from distill_core.losses.sparse import SparseRows
from distill_core.models.classifiers import with_labels
from distill_core.recipe import HiddenCache, SampledCache, TopKCache
from distill_core.teachers import cache_pass
from distill_core.teachers.cache_pass import Filled, Questions, Reading, fill
from distill_core.teachers.cache_store import RowStore
from distill_core.teachers.cached import CachedTeacher, row_counts, row_keys
from distill_core.teachers.local import LocalTeacher
from distill_core.teachers.mixture import Mixture
from distill_core.teachers.on_demand import OnDemandTeacher

CPU = torch.device("cpu")
KINDS = {"hidden": HiddenCache(), "top_k": TopKCache(k=9), "sampled": SampledCache(samples=20)}


def rows(count: int = 12, *, seed: int = 0) -> list[Encoded]:
    """Prompts and answers of unequal lengths."""
    random = torch.Generator().manual_seed(seed)
    made = []
    for row in range(count):
        prompt = torch.randint(3, 46, (2 + row % 3,), generator=random).tolist()
        answer = torch.randint(3, 46, (1 + row % 5,), generator=random).tolist()
        labels = [IGNORE_INDEX] * len(prompt) + answer
        made.append(Encoded(prompt + answer, labels, labelled=True, truncated=False))
    return made


ROWS = rows()
PROMPTS = [[1, 5, 6], [1, 9]]


class Counting(LocalTeacher):
    """Remembers how many it was."""

    loads = 0


@pytest.fixture
def ask(tmp_path: Path, tiny_llama: Callable[..., Any]) -> Callable[..., OnDemandTeacher]:
    def make(model: Any = None) -> OnDemandTeacher:
        def load() -> LocalTeacher:
            Counting.loads += 1
            network = model if model is not None else tiny_llama(seed=1)
            return Counting(network, vocab_size=49, stop_ids={2})

        return OnDemandTeacher(load, device=CPU, note=tmp_path / "teacher.json")

    Counting.loads = 0
    return make


@pytest.fixture
def opened(tmp_path: Path, tiny_tokenizer: Any) -> Callable[..., CachedTeacher]:
    def make(settings: Any = KINDS["hidden"], **more: Any) -> CachedTeacher:
        given = {"root": tmp_path / "kept", "teacher": {"weights": "abc"}, "temperature": 1.0}
        given |= {"classes": None, "device": CPU, "tokenizer": tiny_tokenizer} | more
        return CachedTeacher(settings, **given)

    return make


def run(
    cached: CachedTeacher, teacher: OnDemandTeacher, items: list[Any] = ROWS, **more: Any
) -> Filled:
    asks = {"compared": rows(3, seed=5), "prompts": PROMPTS, "max_new_tokens": 4} | more
    steps = fill(cached, teacher, rows=Reading(items, 0), held_out=Questions(**asks))
    done = finished(steps)
    teacher.unload()
    return done


def finished(steps: Generator[Event, None, Filled]) -> Filled:
    while True:
        try:
            assert next(steps)["phase"] == "caching teacher"
        except StopIteration as end:
            return end.value


def batch(places: list[int], items: list[Any] = ROWS, **how: Any) -> Any:
    return collate([items[place] for place in places], pad_token_id=0, rows=places, **how)


def values(found: Any) -> torch.Tensor:
    """Everything that a view tells, as one table."""
    if found.sparse is None:
        return found.logits
    rows_: SparseRows = found.sparse
    made = torch.zeros(len(rows_.ids), rows_.vocab_size)
    return made.scatter_add(1, rows_.ids, rows_.shares)


# --- exact to the precision of what is kept -------------------------------------------------------


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("fp16", 3e-3), ("bf16", 2e-2)])
def test_hidden_states_give_the_teachers_own_logits(
    ask: Any, opened: Any, precision: str, close: float
) -> None:
    cached, teacher = opened(HiddenCache(precision=precision)), ask()
    run(cached, teacher)
    for places in ([0], [3, 1, 7], list(range(12))):
        torch.testing.assert_close(
            cached.view(batch(places)).logits, ask().logits(batch(places)), atol=close, rtol=0
        )
    held_out = rows(3, seed=5)
    torch.testing.assert_close(
        cached.logits(batch([0, 2], held_out)),
        ask().logits(batch([0, 2], held_out)),
        atol=close,
        rtol=0,
    )


def test_several_teachers_keep_all_their_hidden_states(
    ask: Any, opened: Any, tiny_llama: Any
) -> None:
    members = [tiny_llama(seed=1), tiny_llama(seed=2, hidden_size=16)]
    mixture = Mixture(members, weights=[0.7, 0.3], vocab_size=49).eval()
    cached = opened(HiddenCache(precision="fp32"))
    run(cached, ask(mixture))
    asked = batch([5, 2, 11])
    torch.testing.assert_close(
        cached.view(asked).logits, ask(mixture).logits(asked), atol=1e-5, rtol=0
    )
    for kind in (TopKCache(k=9), SampledCache(samples=200)):
        some = opened(kind)
        run(some, ask(mixture))
        p = ask(mixture).logits(asked).softmax(-1)
        assert float((values(some.view(asked)) - p).abs().sum(-1).max()) < 1


def test_a_capped_head_is_kept_with_its_cap(ask: Any, opened: Any) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        final_logit_softcapping=0.5,
        attn_implementation="eager",
    )
    model = Gemma2ForCausalLM(config).eval()
    cached = opened(HiddenCache(precision="fp32"))
    run(cached, ask(model))
    torch.testing.assert_close(
        cached.view(batch([0, 1])).logits, ask(model).logits(batch([0, 1])), atol=1e-5, rtol=0
    )


def test_a_head_that_nobody_knows_is_refused(ask: Any, opened: Any, tiny_llama: Any) -> None:
    model = tiny_llama()
    forward = model.forward

    def odd(**given: Any) -> Any:
        output = forward(**given)
        output.logits = output.logits.sin()
        return output

    model.forward = odd
    with pytest.raises(ModelError, match="which no teacher cache knows"):
        run(opened(), ask(model))


def test_classifiers_keep_their_logits(ask: Any, opened: Any, tiny_encoder_config: Any) -> None:
    config = with_labels(tiny_encoder_config(), ("a", "b", "c"))
    model = models.new_model(config).eval()
    texts = [EncodedText([1, 7 + n, 9, 2], [0] * 4, n % 3, True, False) for n in range(5)]
    other = EncodedText(texts[0].input_ids, [0, 0, 1, 1], 0, True, False)
    cached = opened(HiddenCache(precision="fp32"), classes=("a", "b", "c"))
    run(cached, ask(model), [*texts, other], compared=texts[:2], prompts=[])
    asked = batch([4, 0, 5], [*texts, other])
    torch.testing.assert_close(
        cached.view(asked).logits, ask(model).logits(asked), atol=1e-5, rtol=0
    )
    assert row_keys(asked)[1] != row_keys(asked)[2], "the second text counts"


def test_numbers_too_large_for_the_format_are_told(ask: Any, opened: Any, tiny_llama: Any) -> None:
    model = tiny_llama(seed=1)
    model.model.norm.weight.data[:] = 1e6
    with pytest.raises(ModelError, match="which fp16 cannot hold") as caught:
        run(opened(), ask(model))
    assert caught.value.field == "teacher_cache.precision"
    run(opened(HiddenCache(precision="bf16")), ask(model))


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_held_out_rows_are_scored_exactly_whatever_is_learnt_from(
    ask: Any, opened: Any, tiny_llama: Any, kind: str
) -> None:
    model = tiny_llama(seed=1)
    model.model.norm.weight.data[:] = 1e6  # more than fp16 holds
    model.lm_head.weight.data.div_(1e6)
    cached = opened(KINDS[kind])
    run(cached, ask(model))
    asked = batch([0, 2], rows(3, seed=5))
    torch.testing.assert_close(cached.logits(asked), ask(model).logits(asked), atol=1e-5, rtol=0)


# --- C10 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_c10_order_padding_and_neighbours_do_not_matter(ask: Any, opened: Any, kind: str) -> None:
    cached = opened(KINDS[kind])
    run(cached, ask())
    whole = values(cached.view(batch(list(range(12)))))
    lines = batch(list(range(12))).supervised.nonzero()[:, 0]
    for places in ([7], [9, 2, 4], [4, 4]):
        for how in ({}, {"padding_side": "left"}, {"pad_to": 20}):
            found = values(cached.view(batch(places, **how)))
            expected = torch.cat([whole[lines == place] for place in places])
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_c10_the_targets_are_the_same_however_the_pass_went(
    ask: Any, opened: Any, tmp_path: Path, kind: str
) -> None:
    one, two = opened(KINDS[kind]), opened(KINDS[kind], root=tmp_path / "other")
    run(one, ask())
    run(two, ask(), ROWS[6:])
    run(two, ask(), [*reversed(ROWS), *ROWS])
    everything = batch(list(range(12)))
    torch.testing.assert_close(
        values(one.view(everything)), values(two.view(everything)), atol=2e-3, rtol=0
    )
    again = opened(KINDS[kind])
    assert torch.equal(values(again.view(everything)), values(one.view(everything)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_ahead_is_not_read_again(
    ask: Any, opened: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sided = [
        Encoded(
            item.input_ids, item.labels, True, False, teacher=TeacherSide(r.input_ids, r.labels)
        )
        for item, r in zip(ROWS, rows(12, seed=3), strict=True)
    ]
    for items in (ROWS, sided):
        cached = opened(KINDS[kind])
        run(cached, ask(), items)
        asked = batch([4, 0, 5], items)
        then = values(cached.view(asked))
        asked.for_teacher.kept = cached.known(asked)
        with monkeypatch.context() as patched:
            patched.setattr(RowStore, "read", None)
            assert torch.equal(values(cached.view(asked.to("cpu"))), then)
            ids = asked.for_teacher.with_ids(asked.for_teacher.input_ids)
            assert torch.equal(values(cached.view(ids)), then)


def test_a_batch_on_a_device_is_looked_up_without_reading_it_there() -> None:
    texts = [EncodedText([1, 7 + n, 9, 2], [0, 0, 1, 1], n, True, False) for n in range(3)]
    for asked in (batch([4, 0, 5]), batch([0, 2], texts)):
        away = asked.to("meta").to("meta")  # nothing can be read from there
        assert row_keys(away) == row_keys(asked)
        assert row_counts(away) == row_counts(asked)


def test_a_row_that_was_never_asked_is_an_error_not_a_guess(ask: Any, opened: Any) -> None:
    cached = opened()
    run(cached, ask())
    ids = [*ROWS[3].input_ids]
    ids[0] = 45
    other_ids = Encoded(ids, ROWS[3].labels, True, False)
    labels = [*ROWS[3].labels]
    labels[-1] = IGNORE_INDEX
    other_places = Encoded(ROWS[3].input_ids, labels, True, False)
    longer = Encoded([*ROWS[3].input_ids, 7], [*ROWS[3].labels, IGNORE_INDEX], True, False)
    for item in (other_ids, other_places, longer):
        with pytest.raises(CacheError, match="was never asked about it"):
            cached.view(batch([0], [item]))
    with pytest.raises(CacheError, match="was never asked about a held-out prompt"):
        cached.answers([[1, 2, 3]], max_new_tokens=4)


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": {"weights": "abd"}},
        {"teacher": {"weights": "abc", "precision": "int8"}},
        {"classes": ("a", "b")},
        {"temperature": 2.0},
    ],
    ids=str,
)
def test_another_teacher_format_or_temperature_knows_nothing(
    ask: Any, opened: Any, change: dict[str, Any]
) -> None:
    run(opened(TopKCache(k=9)), ask())
    with pytest.raises(CacheError, match="was never asked"):
        opened(TopKCache(k=9), **change).view(batch([0]))


def test_tokenizer_and_template_are_part_of_the_identity(
    ask: Any, opened: Any, tiny_tokenizer: Any
) -> None:
    import copy

    run(opened(), ask())
    template, wider = copy.deepcopy(tiny_tokenizer), copy.deepcopy(tiny_tokenizer)
    template.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    wider.add_tokens(["<new>"])
    for other in (template, wider):
        with pytest.raises(CacheError, match="was never asked"):
            opened(tokenizer=other).view(batch([0]))


def test_settings_are_live_and_hidden_states_serve_every_temperature(ask: Any, opened: Any) -> None:
    marks = {
        opened(settings).training.store.mark
        for settings in (
            HiddenCache(),
            HiddenCache(precision="fp32"),
            TopKCache(k=9),
            TopKCache(k=8),
            SampledCache(samples=9),
            SampledCache(samples=8),
        )
    }
    assert len(marks) == 6
    assert opened(temperature=3.0).training.store.mark == opened().training.store.mark
    for settings, width in ((TopKCache(k=3), 3), (TopKCache(k=5), 5)):
        cached = opened(settings)
        run(cached, ask())
        assert cached.view(batch([0, 1])).sparse.ids.shape[1] == width
    few, many = opened(SampledCache(samples=2)), opened(SampledCache(samples=200))
    for cached in (few, many):
        run(cached, ask())
    assert float(few.view(batch([4])).sparse.kept_mass.mean()) < float(
        many.view(batch([4])).sparse.kept_mass.mean()
    )


# --- the pass -------------------------------------------------------------------------------------


def test_the_teacher_is_loaded_only_if_something_is_missing(ask: Any, opened: Any) -> None:
    first = run(opened(), ask())
    assert (first.rows, first.asked, Counting.loads) == (12, 12, 1)
    assert first.tokens == sum(item.supervised_tokens for item in ROWS)
    assert first.bytes > first.tokens * 64
    second = run(opened(), ask(), ROWS[::-1])
    assert (second.rows, second.asked, Counting.loads) == (12, 0, 1)
    more = run(opened(), ask(), [*ROWS, *rows(2, seed=9)])
    assert (more.rows, more.asked, Counting.loads) == (14, 2, 2)


def test_two_runs_that_fill_one_cache_at_once_ask_once(
    ask: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_pass, "TOKENS", 16)
    monkeypatch.setattr(cache_pass, "_WAIT_S", 0.0)
    reading, nothing = Reading(ROWS, 0), Questions()
    one, other = (fill(opened(), ask(), rows=reading, held_out=nothing) for _ in range(2))
    assert "hidden states" in next(one)["message"]
    assert "another run" in next(other)["message"]
    assert "another run" in next(other)["message"]
    loads = Counting.loads
    finished(one)
    filled = finished(other)
    assert (filled.rows, filled.asked) == (12, 0)
    assert Counting.loads == loads
    assert len(list(opened().training.store.folder.glob("*.rows.safetensors"))) == 1


def test_answers_of_two_runs_are_kept_beside_each_other(opened: Any) -> None:
    one, other = opened().said, opened().said
    one.keep([[1]], [Continuation([5], 2)], 8)
    other.keep([[9]], [Continuation([6], None)], 8)
    found = opened().said
    assert found.read([1], 8) == Continuation([5], 2)
    assert found.read([9], 8) == Continuation([6], None)
    assert other.knows([1], 8)


def test_held_out_rows_are_scored_by_the_whole_distribution(ask: Any, opened: Any) -> None:
    for settings in KINDS.values():
        cached = opened(settings)
        run(cached, ask())
        asked = batch([0, 1], rows(3, seed=5))
        assert cached.logits(asked).shape[1] == 49
    assert Counting.loads == 3, "each kind asks for itself"
    run(opened(TopKCache(k=9)), ask())
    assert Counting.loads == 3


def test_held_out_prompts_are_answered_once(ask: Any, opened: Any) -> None:
    run(opened(), ask())
    found = opened().answers(PROMPTS[::-1], max_new_tokens=4)
    assert found == ask().answers(PROMPTS[::-1], max_new_tokens=4)
    with pytest.raises(CacheError):
        opened().answers(PROMPTS, max_new_tokens=5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_pass_that_was_cut_short_goes_on_to_the_same_targets(
    ask: Any, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(cache_pass, "TOKENS", 16)
    whole = opened(KINDS[kind], root=tmp_path / "whole")
    run(whole, ask())
    cached = opened(KINDS[kind])
    real, written = RowStore.add, []

    def dies(self: RowStore, key: bytes, arrays: Any) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(key)
        real(self, key, arrays)

    monkeypatch.setattr(RowStore, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        run(cached, ask())
    monkeypatch.setattr(RowStore, "add", real)
    resumed = opened(KINDS[kind])
    assert len(resumed.training.store) == 5, "what was done is kept"
    assert run(resumed, ask()).asked == 7
    everything = batch(list(range(12)))
    assert torch.equal(values(resumed.view(everything)), values(whole.view(everything)))


def test_a_file_that_was_cut_and_a_damaged_row_are_asked_again(
    ask: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = opened()
    run(cached, ask())
    before = values(cached.view(batch(list(range(12)))))
    for damage in (lambda b: b[:-40], lambda b: b[:-3] + bytes([b[-3] ^ 255]) + b[-2:]):
        for path in cached.training.store.folder.glob("*.rows.safetensors"):
            path.write_bytes(damage(path.read_bytes()))
        again = opened()
        assert run(again, ask()).asked > 0
        assert torch.equal(values(again.view(batch(list(range(12))))), before)


def test_heads_and_answers_that_were_damaged_are_asked_again(ask: Any, opened: Any) -> None:
    cached = opened()
    run(cached, ask())
    folder = cached.scoring.store.folder
    heads = (folder / "heads.safetensors").read_bytes()
    (folder / "heads.safetensors").write_bytes(heads[:-1] + bytes([heads[-1] ^ 1]))
    (folder / "said.json").write_text((folder / "said.json").read_text().replace("[", "[7,", 1))
    with pytest.raises(CacheError, match="no head"):
        opened().view(batch([0]))
    with pytest.raises(CacheError):
        opened().answers(PROMPTS, max_new_tokens=4)
    run(opened(), ask())
    assert opened().has_heads
    assert opened().answers(PROMPTS, max_new_tokens=4) == ask().answers(PROMPTS, max_new_tokens=4)


def test_a_full_disk_is_told_before_the_pass(
    ask: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    from distill_core.errors import DiskFullError

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 10))
    with pytest.raises(DiskFullError, match="The teacher cache needs"):
        run(opened(), ask())


def test_c12_the_pass_leaves_random_state_and_gradients_alone(ask: Any, opened: Any) -> None:
    state = torch.get_rng_state()
    teacher = ask()
    cached = opened(SampledCache(samples=4))
    run(cached, teacher)
    assert torch.equal(torch.get_rng_state(), state)
    assert not teacher.is_loaded
    found = cached.view(batch([0])).sparse
    assert not found.log_p.requires_grad


def test_its_inside_is_not_kept(opened: Any) -> None:
    opened().look_into(Wanted())
    with pytest.raises(ModelError, match="keeps no hidden states of the layers"):
        opened().look_into(Wanted(hidden_states=frozenset({1})))


def test_a_teacher_with_tokens_of_its_own_is_looked_up_by_those(ask: Any, opened: Any) -> None:
    sided = [
        Encoded(
            item.input_ids, item.labels, True, False, teacher=TeacherSide(r.input_ids, r.labels)
        )
        for item, r in zip(ROWS, rows(12, seed=3), strict=True)
    ]
    cached = opened(HiddenCache(precision="fp32"))
    run(cached, ask(), sided)
    asked = batch([2, 5], sided)
    torch.testing.assert_close(
        cached.view(asked).logits, ask().view(asked).logits, atol=1e-5, rtol=0
    )
