"""Several models answer one prompt, side by side, token by token.

In: a run and a prompt. Out: a stream of plain dictionaries (shape: `api.compare`). Each model says
by its fingerprint whose weights answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from distill_core import device, runs
from distill_core.comparing import compare_classes, kept_models, lineup
from distill_core.data.batches import collate
from distill_core.data.sources import prepare
from distill_core.data.tokenize import IGNORE_INDEX, Encoded, encode_prompt, stop_token_ids
from distill_core.data.vocabularies import compare_maps
from distill_core.errors import RunError
from distill_core.forward.supervised import SupervisedLogits
from distill_core.generate import generate_steps
from distill_core.losses.divergences import forward_kl
from distill_core.losses.logit_rows import without_dropped
from distill_core.recipe import DataSettings
from distill_core.students.vocabulary import kept_ids

OTHER_RUN = "run:"
TOP = 5


def comparable(run_dir: Path) -> list[dict[str, Any]]:
    """List who can answer beside a run (shape: `api.comparable`)."""
    entries = []
    for found in lineup.read(run_dir):
        if lineup.exists(run_dir, found):
            entries.append(_entry(found.key, found.title, lineup.role(found.key), found))
    for folder in runs.folders(run_dir.parent):
        if folder == run_dir:
            continue
        for found in lineup.read(folder):
            if found.key == lineup.STUDENT and lineup.exists(folder, found):
                key = f"{OTHER_RUN}{folder.name}"
                entries.append(_entry(key, f"student of {folder.name}", "other", found))
    return entries


def _entry(key: str, title: str, role: str, found: lineup.Member) -> dict[str, Any]:
    return {
        "key": key,
        "title": title,
        "role": role,
        "parameters": found.parameters,
        "bytes": found.bytes,
    }


def held_out_prompts(run_dir: Path, *, limit: int) -> list[dict[str, Any]]:
    """Held-out prompts of a run's data, as the user wrote them: `{"prompt", "response"}`."""
    recipe = runs.load_recipe(run_dir)
    rows = prepare(recipe.data, seed=recipe.seed, task=recipe.task).held_out
    asked = [row for row in rows if row.response is not None][:limit]
    return [
        {"prompt": _bare(row.prompt_text, recipe.data), "response": row.response} for row in asked
    ]


@dataclass
class _Pane:
    """One model's answer while it grows."""

    key: str
    loaded: lineup.Loaded
    prompt: list[int]
    stop_ids: set[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    seconds: float = 0.0
    first_s: float = 0.0
    stopped: bool = False


def compare(
    run_dir: Path,
    prompt: str,
    *,
    models: Sequence[str] | None,
    max_new_tokens: int,
    sampling_temperature: float,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Stream the answers (shape: `api.compare`); raises `RunError` for an unknown model."""
    if not prompt.strip():
        raise RunError("The prompt is empty. Type something to ask, or take a held-out prompt.")
    recipe = runs.load_recipe(run_dir)
    keys = list(models or [])
    if not keys:
        keys = [entry["key"] for entry in comparable(run_dir) if entry["role"] != "other"]
    if not keys:
        raise RunError(
            f"{run_dir.name} has no model yet that could answer. Wait until its first stage begins."
        )
    target = device.pick_device("auto")
    models_asked = []
    for key in keys:
        yield {"type": "loading", "model": key}
        loaded = _load(run_dir, key, target)
        compare_classes.check_task(key, loaded, recipe)
        models_asked.append((key, loaded))
        yield {
            "type": "loaded",
            "model": key,
            "title": loaded.member.title,
            "parameters": loaded.member.parameters,
            "bytes": loaded.member.bytes,
            "fingerprint": loaded.fingerprint,
        }
    if recipe.task == "text_classification":
        yield from compare_classes.read_together(models_asked, prompt, recipe)
        return
    panes = [
        _Pane(
            key,
            loaded,
            prompt_ids(prompt, recipe.data, loaded),
            stop_token_ids(loaded.tokenizer),
        )
        for key, loaded in models_asked
    ]
    yield from _stream(panes, max_new_tokens, sampling_temperature, seed)
    teacher = next((pane for pane in panes if pane.key == lineup.TEACHER), None)
    if teacher is not None:
        for pane in panes:
            if pane is not teacher:
                yield _tokens(pane, teacher)


def prompt_ids(prompt: str, data: DataSettings, loaded: lineup.Loaded) -> list[int]:
    """Token ids of a prompt as training rendered it: template and system prompt included."""
    text = prompt
    if data.prompt_template:
        text = data.prompt_template.replace("{prompt}", _bare(prompt, data))
    messages = [{"role": "user", "content": text}]
    if data.system_prompt:
        messages.insert(0, {"role": "system", "content": data.system_prompt})
    return encode_prompt(messages, loaded.tokenizer)


def _bare(prompt: str, data: DataSettings) -> str:
    """The prompt without the recipe's template around it."""
    if data.prompt_template and "{prompt}" in data.prompt_template:
        head, _, tail = data.prompt_template.partition("{prompt}")
        if prompt.startswith(head) and prompt.endswith(tail) and len(prompt) >= len(head + tail):
            return prompt[len(head) : len(prompt) - len(tail)]
    return prompt


def _load(run_dir: Path, key: str, target: torch.device) -> lineup.Loaded:
    """A member's model; of another run its student."""
    home, name = run_dir, key
    if key.startswith(OTHER_RUN):
        home, name = runs.resolve(key.removeprefix(OTHER_RUN), run_dir.parent), lineup.STUDENT
    found = lineup.member(home, name)
    return kept_models.load(home, found, device=target)


def _stream(
    panes: list[_Pane], max_new_tokens: int, sampling_temperature: float, seed: int
) -> Iterator[dict[str, Any]]:
    """One token of each model in turn, timed by its own clock; then each one's whole answer."""
    streams = {
        pane.key: generate_steps(
            pane.loaded.model,
            [pane.prompt],
            stop_ids=pane.stop_ids,
            max_new_tokens=max_new_tokens,
            sampling_temperature=sampling_temperature,
            seed=seed,
        )
        for pane in panes
    }
    while streams:
        for pane in panes:
            if pane.key not in streams:
                continue
            started = time.perf_counter()
            step = next(streams[pane.key], None)
            pane.seconds += time.perf_counter() - started
            pane.first_s = pane.first_s or pane.seconds
            if step is None:
                del streams[pane.key]
                yield _answer(pane)
                continue
            token = int(step[0])
            pane.ids.append(token)
            pane.stopped = token in pane.stop_ids
            text = _text(pane, pane.ids)
            if text.endswith("\ufffd"):
                continue  # half of a character: wait for its other bytes
            if len(text) > len(pane.text):
                grown, pane.text = text[len(pane.text) :], text
                yield {
                    "type": "token",
                    "model": pane.key,
                    "text": grown,
                    "index": len(pane.ids) - 1,
                }


def _answer(pane: _Pane) -> dict[str, Any]:
    return {
        "type": "answer",
        "model": pane.key,
        "text": _text(pane, pane.ids).strip(),
        "tokens": len(pane.ids),
        "tokens_per_s": len(pane.ids) / pane.seconds if pane.seconds else 0.0,
        "latency_ms": pane.seconds * 1000,
        "first_token_ms": pane.first_s * 1000,
        "stopped": pane.stopped,
    }


def _tokens(pane: _Pane, teacher: _Pane) -> dict[str, Any]:
    """How far the model's distribution is from the teacher's at each token of its own answer."""
    result: dict[str, Any] = {"type": "tokens", "model": pane.key}
    own, all_of = pane.loaded.tokenizer, teacher.loaded.tokenizer
    ids = kept_ids(own, all_of)
    same = ids is not None or compare_maps(all_of.get_vocab(), own.get_vocab()).comparable
    if not pane.ids or not same:
        note = "" if same else "Another tokenizer than the teacher's: no KL token by token."
        return result | {"mean_kl": None, "top1_agreement": None, "tokens": [], "note": note}
    mine, theirs = _answer_logits(pane, pane), _answer_logits(teacher, pane, ids)
    if ids is not None:  # the student has some of the teacher's tokens
        theirs, dropped = without_dropped(theirs, ids)
        result["dropped_mass"] = float(dropped.mean())
    divergence = forward_kl(mine, theirs)
    agree = mine.argmax(-1) == theirs.argmax(-1)
    tokens = [
        {
            "text": _token_text(pane, token),
            "kl": float(divergence[place]),
            "agree": bool(agree[place]),
            "student_top": _top(pane, mine[place]),
            "teacher_top": _top(pane, theirs[place]),
        }
        for place, token in enumerate(pane.ids)
    ]
    means = {"mean_kl": float(divergence.mean()), "top1_agreement": float(agree.float().mean())}
    return result | means | {"tokens": tokens}


@torch.no_grad()
def _answer_logits(judge: _Pane, pane: _Pane, own: torch.Tensor | None = None) -> torch.Tensor:
    """`judge`'s logits (N, V) before each of the N tokens of `pane`'s answer, in its own chat.

    `own`: its id of each of the pane's tokens; None where they are the same.
    """
    answer = pane.ids if own is None else own[pane.ids].tolist()
    ids = judge.prompt + answer
    labels = [IGNORE_INDEX] * len(judge.prompt) + answer
    row = Encoded(input_ids=ids, labels=labels, labelled=False, truncated=False)
    model = judge.loaded.model
    batch = collate([row], pad_token_id=0, rows=[0]).to(next(model.parameters()).device)
    network = SupervisedLogits(model, vocab_size=len(judge.loaded.tokenizer))
    return network.eval()(batch).float().cpu()


def _top(pane: _Pane, logits: torch.Tensor) -> list[dict[str, Any]]:
    best = logits.softmax(-1).topk(TOP)
    return [
        {"text": _token_text(pane, int(token)), "probability": float(probability)}
        for probability, token in zip(best.values, best.indices, strict=True)
    ]


def _token_text(pane: _Pane, token: int) -> str:
    if token in pane.stop_ids:
        return "⏎ end"
    return str(pane.loaded.tokenizer.decode([token]))


def _text(pane: _Pane, ids: list[int]) -> str:
    return str(pane.loaded.tokenizer.decode(ids, skip_special_tokens=True))
