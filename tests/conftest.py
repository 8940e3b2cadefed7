"""Fixtures that all tests share: no network, fixed seeds, tiny models, a browser.

In: nothing. Out: fixtures. Knows nothing of the sources under test but the names of libraries.
"""

from __future__ import annotations

import gc
import ipaddress
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models are slower on several threads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("DISTILL_RUNS_DIR", None)

import numpy as np
import pytest
import torch

from tests.core import nets

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from transformers import BertConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


# --- no network, no chance ------------------------------------------------------------------


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = str(address[0])
    if host in {"localhost", ""}:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse every connection of this process that would leave the machine."""
    patch = pytest.MonkeyPatch()
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def refuse_or_call(self: socket.socket, address: Any) -> Any:
            if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_local(address):
                raise ConnectionRefusedError(f"tests reach no other machine: {address}")
            return call(self, address)

        return refuse_or_call

    patch.setattr(socket.socket, "connect", guarded(connect))
    patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


# --- no time lost ---------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _long_lived_objects_are_not_looked_at_again() -> None:
    """What imports have made, a million objects, is left out when the sources collect garbage."""
    gc.collect()  # garbage of earlier modules still says what it has not closed
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # else extensions complain at the end of what was never freed


# --- tiny models ----------------------------------------------------------------------------

TINY_WORDS = ["turn", "on", "off", "dim", "the", "light", "fan", "tv", "in", "kitchen", "hall"]
TINY_WORDS += ["to", "one", "two", "three", "please", "and"]


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of under 64 entries with <bos>, <eos> and <pad>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) not in TINY_WORDS]
    words = dict.fromkeys([*special, *TINY_WORDS, *letters, ":", ","])
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def tiny_llama() -> Callable[..., LlamaForCausalLM]:
    """Make a Llama with random weights: 2 layers × 32, vocabulary 64, unless told otherwise."""
    return nets.tiny_llama


@pytest.fixture(scope="session")
def tiny_teacher_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A folder with a tiny teacher (4 layers × 32) and its tokenizer; do not write into it."""
    folder = tmp_path_factory.mktemp("tiny-teacher")
    tiny_llama(layers=4).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_student_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_llama: Callable[..., LlamaForCausalLM],
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A folder with a tiny student (2 layers × 16) and the teacher's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-student")
    tiny_llama(hidden_size=16, seed=1).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder_tokenizer(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tiny tokenizer as an encoder has it: [CLS] text [SEP], and segments for pairs."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <eos> $B:1 <eos>:1",
        special_tokens=[("<bos>", 1), ("<eos>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        cls_token="<bos>",
        sep_token="<eos>",
        unk_token="<unk>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_encoder_config() -> Callable[..., BertConfig]:
    """Configure a BERT: 4 layers × 32, vocabulary 64, unless told otherwise."""
    from transformers import BertConfig

    def make(*, layers: int = 4, hidden_size: int = 32, **more: Any) -> BertConfig:
        return BertConfig(
            vocab_size=64,
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=64,
            **more,
        )

    return make


@pytest.fixture(scope="session")
def tiny_encoder_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder_config: Callable[..., BertConfig],
    tiny_encoder_tokenizer: PreTrainedTokenizerFast,
) -> Path:
    """A folder with a tiny encoder without a head, and its tokenizer; do not write into it."""
    from transformers import BertModel

    folder = tmp_path_factory.mktemp("tiny-encoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(tiny_encoder_config()).save_pretrained(folder)
    tiny_encoder_tokenizer.save_pretrained(folder)
    return folder


# --- a browser ------------------------------------------------------------------------------


def chromium_path() -> str | None:
    """The system's Chromium or Chrome; `CHROMIUM_PATH` names another one."""
    named = os.environ.get("CHROMIUM_PATH")
    return named or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one a module; without it tests are skipped here and fail in CI."""
    from playwright.sync_api import sync_playwright

    executable = chromium_path()
    if executable is None:
        message = "needs chromium: apt-get install chromium, or set CHROMIUM_PATH"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield browser
        browser.close()
