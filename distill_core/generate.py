"""Generation: many prompts at once, token by token.

In: a model and prompts as token ids. Out: continuations as token ids. Greedy at
`sampling_temperature` 0, else sampled with a seed. Knows nothing of text, runs or files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def generate_steps(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    sampling_temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield per step the next ids (B,) and which rows were still open before it, (B,) bool.

    Prompts are padded on the left and masked; positions count real tokens only, so that a
    prompt's answer does not depend on its neighbours. Ends when every row has met a stop id.
    """
    device = next(model.parameters()).device
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, prompt in enumerate(prompts):
        ids[index, longest - len(prompt) :] = torch.tensor(prompt)
        mask[index, longest - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    stops = torch.tensor(sorted(stop_ids) or [-1], device=device)
    # a generator of its own: sampling must not move the random state of training
    random = torch.Generator(device="cpu").manual_seed(seed)
    is_open = torch.ones(len(prompts), dtype=torch.bool, device=device)
    cache = None
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        following = _choose(output.logits[:, -1], sampling_temperature, random)
        yield following, is_open
        is_open = is_open & ~torch.isin(following, stops)
        if not bool(is_open.any()):
            return
        ids = following[:, None]
        mask = functional.pad(mask, (0, 1), value=1)
        positions = positions[:, -1:] + 1


def generate(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    sampling_temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> list[list[int]]:
    """Continue each prompt; ids without the stop token, in the order of `prompts`.

    Prompts of like length are put in one batch, `batch_size` at a time.
    """
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        steps = generate_steps(
            model,
            [prompts[index] for index in chosen],
            stop_ids=stop_ids,
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            seed=seed + start,
        )
        columns, opens = zip(*((ids.cpu(), is_open.cpu()) for ids, is_open in steps), strict=True)
        table, open_table = torch.stack(columns, 1), torch.stack(opens, 1)
        for row, index in enumerate(chosen):
            kept = table[row][open_table[row]].tolist()
            answers[index] = kept[:-1] if kept and kept[-1] in stop_ids else kept
    return answers


def _choose(logits: Tensor, sampling_temperature: float, random: torch.Generator) -> Tensor:
    """Next ids (B,) from `logits[B, V]`."""
    if sampling_temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / sampling_temperature).softmax(-1).cpu()
    return torch.multinomial(probabilities, 1, generator=random)[:, 0].to(logits.device)
