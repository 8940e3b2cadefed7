"""Trains the starter's teacher: `python -m distill_core.starter.build --out assets/starter`.

In: a seed and a number of steps. Out: a folder that transformers loads: Llama weights, tokenizer,
and `build.json` with what was done and the exact match measured on held-out rows. Knows nothing of
recipes, runs or students.
"""

import argparse
import json
import logging
import math
import platform
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from distill_core.starter.splits import bucket, rows, teacher_stream
from distill_core.starter.tokenizer import train_tokenizer

__all__ = ["answer", "build", "exact_match", "make_teacher"]

log = logging.getLogger(__name__)

TOKENIZER_ROWS = 20_000
STEPS = 8_000
BLOCK_BATCHES = 32  # rows are drawn for so many batches at once and grouped by length
IGNORE_INDEX = -100
PROMPT = "<user> {}<assistant>"  # what the chat template renders, without its cost for each row


def make_teacher(
    tokenizer: PreTrainedTokenizerFast,
    *,
    layers: int = 5,
    hidden_size: int = 160,
    intermediate_size: int = 432,
) -> LlamaForCausalLM:
    """Return an untrained Llama for the tokenizer, with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    teacher = LlamaForCausalLM(config)
    teacher.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=64,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return teacher


def encode(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]
) -> list[tuple[list[int], int]]:
    """Return (token ids, number of prompt tokens) of each pair, as the chat template renders it."""
    prompts = [PROMPT.format(prompt) for prompt, _ in pairs]
    full = [
        f"{start}{response}{tokenizer.eos_token}"
        for start, (_, response) in zip(prompts, pairs, strict=True)
    ]
    lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
    return list(zip(tokenizer(full)["input_ids"], lengths, strict=True))


def practice(seed: int) -> Iterator[tuple[str, str]]:
    """Yield the teacher's rows without end, two thirds of those without a number left out.

    Numbers and clock times are learned last: more than half of the rows then have one.
    """
    for prompt, response in teacher_stream(seed):
        if bucket(prompt) % 3 == 0 or any(letter.isdigit() for letter in response):
            yield prompt, response


def batches(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (token ids, labels), both (size, T), without end; prompts and padding are ignored."""
    stream = practice(seed)
    shuffle = torch.Generator().manual_seed(seed)
    while True:
        block = encode(tokenizer, list(islice(stream, size * BLOCK_BATCHES)))
        block.sort(key=lambda row: len(row[0]))
        for index in torch.randperm(BLOCK_BATCHES, generator=shuffle).tolist():
            chosen = block[index * size : (index + 1) * size]
            width = max(len(ids) for ids, _ in chosen)
            token_ids = torch.full((size, width), tokenizer.pad_token_id)
            labels = torch.full((size, width), IGNORE_INDEX)
            for row, (ids, prompt_tokens) in enumerate(chosen):
                token_ids[row, : len(ids)] = torch.tensor(ids)
                labels[row, prompt_tokens : len(ids)] = torch.tensor(ids[prompt_tokens:])
            yield token_ids, labels


def supervised_loss(
    teacher: LlamaForCausalLM, token_ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy, nats per supervised token, of `token_ids` and `labels` (B, T).

    Padding stands on the right, where a causal model never looks: no attention mask is needed.
    """
    hidden = teacher.model(input_ids=token_ids[:, :-1], use_cache=False).last_hidden_state
    supervised = labels[:, 1:] != IGNORE_INDEX
    logits = teacher.lm_head(hidden[supervised])
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:][supervised])


def learning_rate_factor(step: int, *, steps: int, warmup: int = 200) -> float:
    """Return the share, 0–1, of the peak learning rate at a step: warm-up, then cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode()
def answer(
    teacher: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    *,
    batch_size: int = 250,
) -> list[str]:
    """Return the greedy answer to each prompt."""
    teacher.eval()
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        texts = [PROMPT.format(prompts[index]) for index in chosen]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        out = teacher.generate(  # type: ignore[misc]  # the mixin is typed for one protocol only
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        )
        new = out[:, batch["input_ids"].shape[1] :]
        decoded = tokenizer.batch_decode(new, skip_special_tokens=True)
        for index, text in zip(chosen, decoded, strict=True):
            answers[index] = text
    return answers


def exact_match(
    teacher: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, split_rows: list[dict[str, str]]
) -> float:
    """Return the share, 0–1, of rows that the teacher answers to the letter."""
    answers = answer(teacher, tokenizer, [row["prompt"] for row in split_rows])
    right = [a == row["response"] for a, row in zip(answers, split_rows, strict=True)]
    return sum(right) / len(right)


def build(
    out: Path, *, steps: int = STEPS, batch_size: int = 32, learning_rate: float = 2e-3, seed: int
) -> dict[str, object]:
    """Train the tokenizer and the teacher, write both, and return the contents of `build.json`."""
    started = time.perf_counter()
    torch.manual_seed(seed)
    sample = list(islice(teacher_stream(seed), TOKENIZER_ROWS))
    tokenizer = train_tokenizer([f" {prompt}" for prompt, _ in sample] + [r for _, r in sample])
    teacher = make_teacher(tokenizer)
    optimizer = torch.optim.AdamW(
        teacher.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps=steps)
    )
    facts: dict[str, object] = {
        "parameters": teacher.num_parameters(),
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
    teacher.train()
    stream = islice(batches(tokenizer, seed=seed, size=batch_size), steps)
    for step, (token_ids, labels) in enumerate(stream, start=1):
        loss = supervised_loss(teacher, token_ids, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            log.info("step %d/%d loss %.4f %.0f s", step, steps, loss.item(), _since(started))
        if step % 1_000 == 0 and step < steps:  # an interrupted build leaves a usable teacher
            score = exact_match(teacher, tokenizer, rows("development"))
            log.info("step %d development exact match %.3f", step, score)
            facts |= {"steps": step, "development_exact_match": score}
            _save(out, teacher, tokenizer, facts)
            teacher.train()
    facts |= {
        "steps": steps,
        "development_exact_match": exact_match(teacher, tokenizer, rows("development")),
        "held_out_exact_match": exact_match(teacher, tokenizer, rows("held_out")),
        "wall_s": round(_since(started)),
    }
    _save(out, teacher, tokenizer, facts)
    return facts


def _save(
    out: Path,
    teacher: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    facts: dict[str, object],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    teacher.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    (out / "build.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _since(started: float) -> float:
    return time.perf_counter() - started


def main() -> None:
    """Read the command line, build, and log the result."""
    parser = argparse.ArgumentParser(description="Train the starter's teacher.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(chosen.threads)
    facts = build(chosen.out, steps=chosen.steps, seed=chosen.seed)
    log.info("%s", json.dumps(facts))


if __name__ == "__main__":
    main()
