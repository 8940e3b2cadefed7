"""How a student is compared with its teacher: in chunks where the head allows it, else in full.

That the numbers are right is shown in `properties/`, over every term and every path.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, CohereConfig, Gemma2Config, GraniteConfig

from distill_core.checks.check_machine import _no_compiler
from distill_core.data.tokenize import IGNORE_INDEX
from distill_core.errors import RunError
from distill_core.forward import supervised
from distill_core.losses import row_block
from distill_core.losses.chunked import compared
from distill_core.recipe import CrossEntropyLoss, ForwardKLLoss, JSDLoss
from distill_core.trainer import train
from tests.core.definition import encoded, naive_loss
from tests.core.ways import TERMS, Case, gradients, stage_of

Make = Callable[..., Any]


@pytest.mark.parametrize("chunk_rows", [0, 30, None])
def test_c20_the_logits_in_memory_are_those_of_a_chunk(
    tmp_path: Path, tiny_llama: Make, chunk_rows: int | None
) -> None:
    # of one length, so that they come as one micro-batch
    rows = encoded(2)[1:] * 40
    supervised = sum(label != IGNORE_INDEX for row in rows for label in row.labels)
    assert supervised > 100
    made = stage_of(
        tmp_path,
        tiny_llama(hidden_size=24),  # nothing else in it is as wide as the vocabulary
        tiny_llama(hidden_size=24, seed=1),
        TERMS["both"],
        rows=rows,
        global_batch_size=40,
        micro_batch_size=40,
        loss_chunk_rows=chunk_rows,
    )
    with Widest(64) as seen:
        list(train(made))
    chunks = math.ceil(supervised / (chunk_rows or supervised))
    assert seen.rows == math.ceil(supervised / chunks)  # of like sizes


@pytest.mark.skipif(bool(_no_compiler("cpu")), reason="nothing to compile with")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_c20_a_compiled_loss_is_the_same_loss(
    tmp_path: Path, tiny_llama: Make, temperature: float
) -> None:
    terms = [ForwardKLLoss(weight=0.6, temperature=temperature), JSDLoss(weight=0.3, beta=0.3)]
    losses = [*terms, CrossEntropyLoss(weight=0.1)]
    made = stage_of(
        tmp_path,
        tiny_llama(),
        tiny_llama(layers=3, seed=1),
        losses,
        compile_loss=True,
        grad_clip_norm=1e6,
    )
    step_and_definition(made, losses)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.skipif(bool(_no_compiler("cpu")), reason="nothing to compile with")
def test_what_cannot_be_compiled_says_how_to_go_on(
    tmp_path: Path, tiny_llama: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise TorchDynamoException("no luck\nat all\nand a long trace")

    monkeypatch.setattr(row_block, "_compiled", lambda: broken)
    made = stage_of(
        tmp_path,
        tiny_llama(),
        tiny_llama(layers=3, seed=1),
        TERMS["both"],
        compile_loss=True,
    )
    with pytest.raises(RunError, match=r"could not be compiled.*\(no luck at all\).*compile_loss"):
        list(train(made))


class Widest(TorchDispatchMode):
    """Notes the most rows of any table that is as wide as the vocabulary."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.rows = width, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and one.shape[-1:] == (self.width,) and one.dim() == 2:
                self.rows = max(self.rows, len(one))
        return made


def step_and_definition(made: Any, named: str | list[Any]) -> None:
    """The step's loss and gradient are those of its definition."""
    terms = TERMS[named] if isinstance(named, str) else named
    reference = copy.deepcopy(made.student)
    loss = naive_loss(reference, copy.deepcopy(made.teacher.model), made.rows, terms)
    loss.backward()
    got, metrics = Case(made, made.rows, terms, reference).step()
    assert metrics["loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, value in gradients(reference).items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_head_that_is_more_than_a_matrix_is_compared_in_full(
    tmp_path: Path, tiny_llama: Make
) -> None:
    student = tiny_llama()
    student.get_output_embeddings().register_forward_hook(lambda module, given, out: 2 * out)
    made = stage_of(
        tmp_path,
        student,
        tiny_llama(layers=3, seed=1),
        TERMS["both"],
        loss_chunk_rows=3,
        grad_clip_norm=1e6,
    )
    step_and_definition(made, "both")


SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("family", "bend"),
    [
        (Gemma2Config, {"final_logit_softcapping": 0.5, "head_dim": 8}),
        (GraniteConfig, {"logits_scaling": 0.3}),
        (CohereConfig, {"logit_scale": 3.0}),
    ],
    ids=["gemma2", "granite", "cohere"],
)
def test_c8_scaled_or_capped_logits_are_compared_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: Any, bend: dict[str, Any], tied: bool
) -> None:
    torch.manual_seed(0)
    student, teacher = (
        AutoModelForCausalLM.from_config(
            family(**SMALL, **bend, num_hidden_layers=layers, tie_word_embeddings=tied)
        )
        for layers in (2, 3)
    )
    for model in (student, teacher):  # so that the cap is felt
        model.get_output_embeddings().weight.data.mul_(20.0)
    made = stage_of(
        tmp_path,
        student,
        teacher.eval(),
        TERMS["both"],
        loss_chunk_rows=3,
        grad_clip_norm=1e6,
    )
    chunked: list[Any] = []

    def spied(*given: Any, **more: Any) -> Any:
        chunked.append(compared(*given, **more))
        return chunked[-1]

    monkeypatch.setattr(supervised, "compared", spied)
    step_and_definition(made, "both")
    assert chunked
    assert made.packed == (family is not Gemma2Config)  # which caps scores of attention too


def test_an_adapter_on_the_head_is_learnt(tmp_path: Path, tiny_llama: Make) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    with warnings.catch_warnings():
        # peft asks transformers by an attribute's old name
        warnings.simplefilter("ignore", FutureWarning)
        student = get_peft_model(tiny_llama(), config)
    made = stage_of(
        tmp_path,
        student,
        tiny_llama(layers=3, seed=1),
        TERMS["both"],
        loss_chunk_rows=3,
        grad_clip_norm=1e6,
    )
    step_and_definition(made, "both")


@pytest.mark.parametrize("term", ["attention maps", "hidden_states"])
def test_terms_that_read_no_logits_ask_no_head(tmp_path: Path, tiny_llama: Make, term: str) -> None:
    made = stage_of(tmp_path, tiny_llama(), tiny_llama(layers=3, seed=1), TERMS[term])
    asked: list[str] = []
    for who, model in (("student", made.student), ("teacher", made.teacher.model)):  # type: ignore[union-attr]
        model.get_output_embeddings().register_forward_hook(
            lambda module, given, out, who=who: asked.append(who) if len(out) > 1 else None
        )
    list(train(made))
    assert asked == []
