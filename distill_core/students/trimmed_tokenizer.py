"""A tokenizer with fewer tokens that cuts the known texts into the same pieces.

In: a fast tokenizer and the ids that occur. Out: the ids to keep, in their new order; then the
tokenizer in the standard `tokenizer.json` format, with ids 0 … n−1. Byte-pair encoding, WordPiece,
Unigram and whole words; others are refused. Knows nothing of weights.

Why the pieces stay the same: each of these algorithms picks among the tokens that it has. With
fewer of them, the pick that was made before is still there and still the best, as long as every
token on the way to it is kept: the pairs that byte-pair encoding merges one after the other, and
the scores that Unigram gives to characters it does not know.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Json = dict[str, Any]

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
_LOCAL_KEYS = ("is_local", "local_files_only", "name_or_path", "_name_or_path")


def kept_tokens(
    tokenizer: PreTrainedTokenizerBase,
    used: Collection[int],
    *,
    extra_tokens: int = 0,
    also: Iterable[int] = (),
) -> list[int]:
    """The ids to keep, ascending: their places are the new ids.

    Those that are used; special tokens, whatever the tokenizer itself needs, and `also`; the
    alphabet (bytes or characters), so that any text can still be written; with byte-pair encoding
    the tokens that each kept one is merged from; then the first `extra_tokens` others.

    Raises:
        ModelError: if the tokenizer is of a kind that cannot be trimmed.
    """
    state = _state(tokenizer)
    model, added = state["model"], state["added_tokens"]
    vocabulary = _vocabulary(model)
    names = vocabulary | {entry["content"]: entry["id"] for entry in added}
    texts = {number: text for text, number in names.items()}
    keep = set(texts) & {*used, *also, *tokenizer.all_special_ids}
    keep |= {entry["id"] for entry in added if entry["special"]}
    keep |= {names[text] for text in _named_in(state["post_processor"]) if text in names}
    keep |= {vocabulary[text] for text in _needed(state, vocabulary) if text in vocabulary}
    whole = {entry["id"] for entry in added}  # matched in the text as they are, never merged
    merged_from = _ancestors(model)

    def way_to(number: int) -> set[int]:
        texts_on_it = () if number in whole else merged_from(texts[number])
        return {vocabulary[text] for text in texts_on_it}

    for number in list(keep):
        keep |= way_to(number)
    others = (number for number in sorted(vocabulary.values()) if number not in keep)
    for number, _ in zip(others, range(extra_tokens), strict=False):
        keep |= {number, *way_to(number)}
    return sorted(keep)


def trimmed_tokenizer(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]
) -> PreTrainedTokenizerBase:
    """The tokenizer with only `tokens` (as `kept_tokens` gives them), renumbered in their order.

    Raises:
        ModelError: if a token is not among them that the tokenizer puts around texts.
    """
    from distill_core.models.weights import load_tokenizer

    new_ids = {old: new for new, old in enumerate(tokens)}
    state = _state(tokenizer)
    for text in _named_in(state["post_processor"]):
        if tokenizer.convert_tokens_to_ids(text) not in new_ids:
            raise ModelError(
                f"One model puts {text} around every text, and the other's trimmed vocabulary has "
                "no such token.\nKeep the whole vocabulary: leave vocab_trim out.",
                field="vocab_trim",
            )
    state["model"] = _trimmed_model(state["model"], new_ids)
    state["added_tokens"] = sorted(
        (
            {**entry, "id": new_ids[entry["id"]]}
            for entry in state["added_tokens"]
            if entry["id"] in new_ids
        ),
        key=lambda entry: entry["id"],
    )
    state["post_processor"] = _renumbered(state["post_processor"], new_ids)
    if state.get("padding"):
        state["padding"]["pad_id"] = new_ids.get(state["padding"]["pad_id"], 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        for file in folder.iterdir():
            if file.name not in _FILES:  # older formats, with all tokens
                file.unlink()
        _rewrite(folder / "tokenizer_config.json", tokenizer, new_ids)
        text = json.dumps(state, ensure_ascii=False)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
        return load_tokenizer(folder)


def _rewrite(path: Path, tokenizer: PreTrainedTokenizerBase, new_ids: dict[int, int]) -> None:
    """Make the settings fit the new ids, and let tokenizer.json be read as it stands."""
    settings: Json = json.loads(path.read_text(encoding="utf-8"))
    settings = {key: value for key, value in settings.items() if key not in _LOCAL_KEYS}
    # the class of the teacher's tokenizer may build parts of it anew, from lists of its own
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["model_input_names"] = list(tokenizer.model_input_names)
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {
            str(new_ids[int(old)]): entry
            for old, entry in settings["added_tokens_decoder"].items()
            if int(old) in new_ids
        }
    path.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def _state(tokenizer: PreTrainedTokenizerBase) -> Json:
    """What tokenizer.json holds; refuses what cannot be trimmed."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: Json = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    model = state["model"]
    kind = model.get("type") or type(tokenizer).__name__
    if kind == "BPE" and (model["continuing_subword_prefix"] or model["end_of_word_suffix"]):
        kind = "BPE tokenizer with marks at word borders"
    if kind not in {"BPE", "WordPiece", "Unigram", "WordLevel"}:
        raise ModelError(
            f"The vocabulary of this {kind} cannot be trimmed.\nIt works for BPE, WordPiece, "
            "Unigram and word-level tokenizers in tokenizer.json; keep the whole vocabulary here.",
            field="vocab_trim",
        )
    return state


def _vocabulary(model: Json) -> dict[str, int]:
    if model["type"] == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _needed(state: Json, vocabulary: dict[str, int]) -> Iterator[str]:
    """Tokens without which some text could not be written, or would be cut differently."""
    from tokenizers.pre_tokenizers import ByteLevel

    model = state["model"]
    if model.get("unk_token"):
        yield model["unk_token"]
    if model["type"] == "WordLevel":
        return
    if "ByteLevel" in json.dumps([state["pre_tokenizer"], state["decoder"]]):
        yield from ByteLevel.alphabet()
        return
    falls_back = bool(model.get("byte_fallback"))
    if falls_back:
        yield from (f"<0x{byte:02X}>" for byte in range(256))
    prefix = model.get("continuing_subword_prefix") or ""
    for text in vocabulary:
        letter = text.removeprefix(prefix)
        if len(letter) == 1 and (not falls_back or letter.isascii() or letter == "▁"):
            yield text
    if model["type"] == "Unigram":
        pieces = model["vocab"]
        if model["unk_id"] is not None:
            yield pieces[model["unk_id"]][0]
        # an unknown character costs a little more than the lowest score of all
        yield min(pieces, key=lambda item: item[1])[0]


def _ancestors(model: Json) -> Callable[[str], Collection[str]]:
    """A function that gives the tokens which a token is merged from, step by step."""
    if model["type"] != "BPE":
        return lambda text: ()
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    vocabulary = model["vocab"]

    def merged_from(text: str) -> Collection[str]:
        parts = list(text)
        if any(part not in vocabulary for part in parts):
            return ()  # written with bytes, or taken whole
        seen = set(parts)
        while len(parts) > 1:
            pairs = [(ranks.get((a, b)), place) for place, (a, b) in enumerate(pairwise(parts))]
            found = [(rank, place) for rank, place in pairs if rank is not None]
            if not found:
                break
            place = min(found)[1]
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            seen.add(parts[place])
        return seen

    return merged_from


def _trimmed_model(model: Json, new_ids: dict[int, int]) -> Json:
    """The model with its kept tokens in their new order; merges whose three tokens stay."""
    if model["type"] == "Unigram":
        pairs = {new_ids[old]: item for old, item in enumerate(model["vocab"]) if old in new_ids}
        unknown = model["unk_id"]
        return {
            **model,
            "vocab": [pairs[number] for number in sorted(pairs)],
            "unk_id": None if unknown is None else new_ids[unknown],
        }
    kept = {text: new_ids[old] for text, old in model["vocab"].items() if old in new_ids}
    trimmed = {**model, "vocab": dict(sorted(kept.items(), key=lambda item: item[1]))}
    if model["type"] == "BPE":
        trimmed["merges"] = [
            [a, b] for a, b in model["merges"] if a in kept and b in kept and a + b in kept
        ]
    return trimmed


def _named_in(processor: Any) -> Iterator[str]:
    """Tokens that a post-processor puts around a text."""
    if isinstance(processor, list):
        for item in processor:
            yield from _named_in(item)
    elif isinstance(processor, dict):
        yield from (processor[key][0] for key in ("sep", "cls") if key in processor)
        for entry in (processor.get("special_tokens") or {}).values():
            yield from entry["tokens"]
        yield from _named_in(processor.get("processors"))


def _renumbered(processor: Any, new_ids: dict[int, int]) -> Any:
    """A post-processor with the new ids of the tokens that it writes."""
    if not isinstance(processor, dict):
        return processor
    changed = dict(processor)
    for key in ("sep", "cls"):
        if key in processor:
            text, number = processor[key]
            changed[key] = [text, new_ids[number]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: {**entry, "ids": [new_ids[number] for number in entry["ids"]]}
            for name, entry in processor["special_tokens"].items()
        }
    if "processors" in processor:
        changed["processors"] = [_renumbered(item, new_ids) for item in processor["processors"]]
    return changed
