"""A model's facts, from its configuration alone.

In: a name. Out: plain numbers and words. Builds models on the meta device, where they have shapes
and no weights; parameters are exact, tied embeddings counted once.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core import models
from distill_core.errors import ModelError
from distill_core.models import hub
from distill_core.models.classifiers import auto_class, head_labels, is_classifier, tasks_of
from distill_core.models.licences import licence_note
from distill_core.models.weights import first_line, quiet, weight_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BYTES_PER_PARAMETER = 4
_MODEL_FILES = ("config.json", "tokenizer_config.json", "chat_template.jinja", "README.md")


def listed() -> list[dict[str, Any]]:
    """Describe the built-in models, then those whose weights are on this disk."""
    found = []
    for name in models.names():
        try:
            found.append(facts(name))
        except ModelError:
            continue  # on this disk, but of a kind that cannot be taught
    return found


def facts(name: str, *, field: str = "") -> dict[str, Any]:
    """Describe a model (keys: `api.model_facts`); downloads at most small text files.

    Raises:
        HubUnreachable: if it is not on this disk and the hub does not answer within seconds.
        ModelError: if there is no such model, or no architecture that can be built.
    """
    folder = models.local_folder(name, field=field)
    if folder is not None:
        return dict(_folder_facts(name, folder, _stamp(folder), field))
    built_in = models.BUILT_IN.get(name)
    if built_in is not None:
        return dict(_known_facts(name))
    return dict(_hub_facts(name, field))


def config(name: str, *, field: str = "") -> PretrainedConfig:
    """A model's configuration; raises as `facts` does."""
    folder = models.local_folder(name, field=field)
    if folder is not None:
        return _folder_config(folder, _stamp(folder), field)
    built_in = models.BUILT_IN.get(name)
    if built_in is not None:
        return _known_config(name)
    return _hub_config(name, field)


def parameters(config: PretrainedConfig, *, field: str = "") -> int:
    """Number of weights of the network that `config` describes, its head included."""
    return _measure(_text(config), _Held(config), field)[0]


def linear_layers(config: PretrainedConfig) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of every linear layer but the head: where LoRA goes."""
    return _measure(_text(config), _Held(config), "")[1]


def head_width(config: PretrainedConfig) -> int:
    """How many logits the network gives: classes of a classifier, else the vocabulary's size."""
    return len(head_labels(config)) if is_classifier(config) else int(config.vocab_size or 0)


def _shape_facts(name: str, shape: PretrainedConfig, field: str) -> dict[str, Any]:
    count = parameters(shape, field=field)
    heads = getattr(shape, "num_attention_heads", None)
    return {
        "name": name,
        "parameters": count,
        "bytes": count * BYTES_PER_PARAMETER,
        "layers": getattr(shape, "num_hidden_layers", None),
        "hidden_size": getattr(shape, "hidden_size", None),
        "vocab_size": getattr(shape, "vocab_size", None),
        "max_seq_len": getattr(shape, "max_position_embeddings", None),
        "architecture": (getattr(shape, "architectures", None) or [type(shape).__name__])[0],
        "tasks": list(tasks_of(shape)),
        "labels": list(head_labels(shape)),
        "tied_embeddings": bool(getattr(shape, "tie_word_embeddings", False)),
        "attention_heads": heads,
        "key_value_heads": getattr(shape, "num_key_value_heads", None) or heads,
        "intermediate_size": getattr(shape, "intermediate_size", None)
        or getattr(shape, "n_inner", None)
        or getattr(shape, "hidden_dim", None)  # DistilBERT
        or 4 * (getattr(shape, "hidden_size", None) or 0),
    }


@functools.lru_cache(maxsize=64)
def _folder_facts(name: str, folder: Path, stamp: tuple[int, int], field: str) -> dict[str, Any]:
    built_in = models.BUILT_IN.get(name)
    card = _card(folder)
    licence = built_in.license if built_in else str(card.get("license") or "not stated")
    return {
        **_shape_facts(name, _folder_config(folder, stamp, field), field),
        "title": built_in.title if built_in else _title(name),
        "license": licence,
        "license_note": built_in.license_note if built_in else _note(name, licence),
        "has_chat_template": _has_template(folder),
        "offline": True,
        "download_bytes": 0,
        "file_bytes": sum(file.stat().st_size for file in weight_files(folder)),
    }


@functools.lru_cache(maxsize=8)
def _known_facts(name: str) -> dict[str, Any]:
    built_in = models.BUILT_IN[name]
    return {
        **_shape_facts(name, _known_config(name), ""),
        "title": built_in.title,
        "license": built_in.license,
        "license_note": built_in.license_note,
        "has_chat_template": built_in.has_chat_template,
        "offline": False,
        "download_bytes": built_in.download_bytes,
        "file_bytes": 0,
    }


@functools.lru_cache(maxsize=32)
def _hub_facts(name: str, field: str) -> dict[str, Any]:
    info = hub.look_up(name, field=field)
    small = [file for file in info["files"] if file in _MODEL_FILES]
    folder = Path()
    for file in {"config.json", *small}:
        folder = hub.small_file(name, file, sha=info["sha"], field=field).parent
    return {
        **_shape_facts(name, _folder_config(folder, _stamp(folder), field), field),
        "title": _title(name),
        "license": info["license"],
        "license_note": _note(name, info["license"]),
        "has_chat_template": _has_template(folder),
        "offline": False,
        "download_bytes": info["download_bytes"],
        "file_bytes": 0,
    }


@functools.lru_cache(maxsize=32)
def _hub_config(name: str, field: str) -> PretrainedConfig:
    info = hub.look_up(name, field=field)
    folder = hub.small_file(name, "config.json", sha=info["sha"], field=field).parent
    return _folder_config(folder, _stamp(folder), field)


@functools.lru_cache(maxsize=64)
def _folder_config(folder: Path, stamp: tuple[int, int], field: str) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        with quiet():
            shape = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers raises many types here
        raise ModelError(
            f"The configuration in {folder} cannot be used: {first_line(error)}\n"
            "Choose an architecture that transformers knows; code from a model's author is never "
            "run here.",
            field=field,
        ) from None
    if not tasks_of(shape):
        raise ModelError(
            f"{shape.model_type} models neither write text token by token nor tell texts apart, so "
            "they cannot be taught here.\nChoose a causal language model such as Llama, Qwen, "
            "Mistral or GPT-2, or an encoder such as BERT.",
            field=field,
        )
    return shape


@functools.lru_cache(maxsize=8)
def _known_config(name: str) -> PretrainedConfig:
    from transformers import AutoConfig

    literal = dict(models.BUILT_IN[name].config)
    return AutoConfig.for_model(literal.pop("model_type"), **literal)


def _text(config: PretrainedConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


class _Held:
    """Carries a configuration past a cache whose key is its text."""

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)


@functools.lru_cache(maxsize=256)
def _measure(key: str, held: _Held, field: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Number of weights, and (inputs, outputs) of each linear layer but the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    try:
        with quiet(), torch.device("meta"):
            model = auto_class(held.config).from_config(held.config, trust_remote_code=False)
    except Exception as error:  # sizes that an architecture refuses, each in its own way
        raise ModelError(
            f"A {held.config.model_type} model of these sizes cannot be built: "
            f"{first_line(error)}\nChange layers, width or heads.",
            field=field,
        ) from None
    head = model.get_output_embeddings()
    body = model.base_model if is_classifier(held.config) else model
    linear = tuple(
        (module.weight.shape[1], module.weight.shape[0])
        for module in body.modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    )
    return sum(weight.numel() for weight in model.parameters()), linear


def _stamp(folder: Path) -> tuple[int, int]:
    """Changes when the folder's model does."""
    config = (folder / "config.json").stat()
    files = weight_files(folder)
    return config.st_mtime_ns, files[0].stat().st_mtime_ns if files else 0


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _card(folder: Path) -> dict[str, Any]:
    from huggingface_hub import metadata_load

    try:
        return metadata_load(folder / "README.md") or {}
    except (OSError, ValueError):
        return {}


def _note(name: str, licence: str) -> str:
    note = licence_note(name, licence)
    return note.text if note else ""


def _title(name: str) -> str:
    return Path(name).name or name
