"""A loaded model as lm-eval asks it.

In: a network, its tokenizer, a batch size. Out: an lm-eval model. The network is the very one that
was loaded, whatever it was built of; lm-eval's own Hugging Face model tokenizes, batches and sums.
Imports lm-eval, which is optional: import it inside functions only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import PreTrainedModel

from distill_core.errors import DistillError
from distill_core.generate import generate_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SAMPLING = {"do_sample", "temperature"}


class AskedModel(HFLM):
    """`HFLM` around a network in memory, of any context length."""

    bars = True
    """Whether progress is drawn on stderr."""

    @property
    def max_gen_toks(self) -> int:
        """Longest answer where a task names none: half the context of a model with a short one."""
        return min(super().max_gen_toks, self.max_length // 2)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        """Nats of each continuation, and whether it is the likeliest."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not self.bars)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        """Nats of whole texts."""
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm or not self.bars)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        """Texts up to each request's stop sequences."""
        return super().generate_until(requests, disable_tqdm=disable_tqdm or not self.bars)


def asked_model(
    network: Any, tokenizer: PreTrainedTokenizerBase, *, batch_size: int, bars: bool = False
) -> AskedModel:
    """Wrap a network; one that is no model of transformers (a `Mixture`) answers through `Outside`.

    Args:
        network: In eval mode, on its device.
        tokenizer: Its own; gets a padding token where it has none.
        batch_size: Sequences at a time.
        bars: Draw progress on stderr.
    """
    asked = network
    if not isinstance(network, PreTrainedModel):
        asked = Outside(network, end_id=tokenizer.eos_token_id)
    elif network.generation_config is not None:
        # what the model's author thought long enough would go before what the task says
        network.generation_config.max_new_tokens = None
    log = logging.getLogger(HFLM.__module__)
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of models in memory: that is what is wanted here
    try:
        made = AskedModel(
            pretrained=asked, tokenizer=tokenizer, backend="causal", batch_size=batch_size
        )
    finally:
        log.setLevel(level)
    made.bars = bars
    return made


class Outside:
    """Gives a network that transformers does not know what lm-eval asks of a model.

    Args:
        network: Takes ids and a mask by name and returns logits, as causal language models do.
        end_id: The token that ends an answer.
    """

    def __init__(self, network: torch.nn.Module, *, end_id: int | None) -> None:
        self.network = network
        self.end_id = end_id

    @property
    def config(self) -> Any:
        """Of the network."""
        return self.network.config

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def num_parameters(self) -> int:
        """Weights of the network."""
        return sum(weight.numel() for weight in self.network.parameters())

    def __call__(self, input_ids: Tensor) -> Any:
        """Logits (B, T, V) of `input_ids[B, T]`, padded on the right."""
        return self.network(input_ids=input_ids)

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        max_length: int,
        stopping_criteria: Any,
        pad_token_id: int,
        use_cache: bool = True,
        **settings: Any,
    ) -> Tensor:
        """Continue `input_ids[B, T]`, padded on the left, to at most `max_length`: (B, T + new).

        Raises:
            DistillError: if a task asks for a way to sample that is not at hand.
        """
        if settings.keys() - _SAMPLING:
            raise DistillError(
                "Several teachers together can answer greedily or at a temperature; the task asks "
                f"for {', '.join(sorted(settings.keys() - _SAMPLING))}.\n"
                "Score each teacher by its own name, or change the task's generation_kwargs."
            )
        warmth = settings.get("temperature", 1.0) if settings.get("do_sample") else 0.0
        rows = zip(input_ids.tolist(), attention_mask.tolist(), strict=True)
        prompts = [
            [token for token, seen in zip(ids, mask, strict=True) if seen] for ids, mask in rows
        ]
        written = input_ids
        for following, is_open in generate_steps(
            self.network,  # type: ignore[arg-type]
            prompts,
            stop_ids=set() if self.end_id is None else {self.end_id},
            max_new_tokens=max_length - input_ids.shape[1],
            sampling_temperature=warmth,
        ):
            column = torch.where(is_open, following, pad_token_id)
            written = torch.cat([written, column[:, None]], dim=1)
            if any(bool(stop(written, None)) for stop in stopping_criteria):
                break
        return written
